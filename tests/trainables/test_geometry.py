"""The geometry of classes on hand-worked cases and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from trainables.evaluators import geometry


def test_hand_worked() -> None:
    """Classes at 0, 3 and 4 on a line, samples one unit to either side."""
    features = torch.tensor([[-1.0, 1, 2, 4, 3, 5]]).unsqueeze(-1)
    labels = torch.tensor([[0, 0, 1, 1, 2, 2]])
    means = geometry.class_means(features, labels, 3)
    assert means.flatten().tolist() == [0, 3, 4]
    mean_distance = (3 + 4 + 1) / 3
    assert geometry.between_within(features, labels, means).item() == pytest.approx(mean_distance / 1)
    assert geometry.pair_distance(means, 1, 2).item() == pytest.approx(1 / mean_distance)


def test_against_scipy_by_replica() -> None:
    g = torch.Generator().manual_seed(0)
    features = torch.randn(3, 50, 6, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 4, (3, 50), generator=g)
    means = geometry.class_means(features, labels, 4)
    ratio, pair = geometry.between_within(features, labels, means), geometry.pair_distance(means, 3, 1)
    for s in range(3):
        x, y = features[s].numpy(), labels[s].numpy()
        centres = np.stack([x[y == c].mean(0) for c in range(4)])
        np.testing.assert_allclose(means[s], centres, atol=1e-12)
        within = np.mean([np.linalg.norm(row - centres[c]) for row, c in zip(x, y, strict=True)])
        assert ratio[s].item() == pytest.approx(pdist(centres).mean() / within)
        assert pair[s].item() == pytest.approx(np.linalg.norm(centres[3] - centres[1]) / pdist(centres).mean())
