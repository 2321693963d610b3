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


def test_an_absent_class_is_left_out() -> None:
    """Of five classes the second replica's part lacks two; what is there has the distances of its three alone."""
    features = torch.tensor([[-1.0, 1, 2, 4, 3, 5, 9, 0, 7]]).unsqueeze(-1).repeat(2, 1, 1)
    labels = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 4, 4], [0, 0, 2, 2, 3, 3, 3, 3, 3]])
    means = geometry.class_means(features, labels, 5)
    ratio = geometry.between_within(features, labels, means)
    alone = torch.tensor([[0, 0, 1, 1, 2, 2, 2, 2, 2]])
    expected = geometry.between_within(features[:1], alone, geometry.class_means(features[:1], alone, 3))
    assert ratio[1].item() == pytest.approx(expected.item())
    assert geometry.pair_distance(means, 0, 2)[1].item() == pytest.approx(
        geometry.pair_distance(geometry.class_means(features[:1], alone, 3), 0, 1).item()
    )
    assert geometry.pair_distance(means, 0, 1).isnan().tolist() == [False, True]
    # what is not finite is not absent
    features[0, 0] = torch.nan
    means = geometry.class_means(features, labels, 5)
    assert geometry.between_within(features, labels, means).isnan().tolist() == [True, False]
    assert geometry.pair_distance(means, 2, 3).isnan().tolist() == [True, False]


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
