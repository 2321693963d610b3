"""Anchors, similarities and entropies against scipy, torch and hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn import functional

from trainables.anchors import assignment_entropy, draw_anchors, entropy, nearest_anchor_entropy, similarity
from trainables.replicas import streams


def test_kinds_of_anchors() -> None:
    generators = streams([0, 1], "anchors")
    uniform = draw_anchors("uniform", 50, 20, generators)
    assert uniform.shape == (2, 50, 20)
    assert uniform.min() >= 0 and 0.95 < uniform.max() <= 1
    centred = draw_anchors("centred", 50, 20, generators)
    assert centred.abs().max() <= 1 / 50 and centred.min() < -0.9 / 50
    assert draw_anchors("grid", 4, 1, generators)[1].flatten().tolist() == [1, 2, 3, 4]
    assert draw_anchors("centred-grid", 4, 1, generators)[1].flatten().tolist() == [-1.5, -0.5, 0.5, 1.5]
    with pytest.raises(ValueError, match="line"):
        draw_anchors("grid", 4, 2, generators)


def test_a_replicas_anchors_depend_on_its_seed_alone() -> None:
    together = draw_anchors("uniform", 5, 3, streams([0, 1, 2], "anchors"))
    alone = draw_anchors("uniform", 5, 3, streams([2], "anchors"))
    assert torch.equal(together[2], alone[0])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("d", [1, 7])
def test_similarities(d: int) -> None:
    features, anchors = torch.randn(2, 9, d), torch.randn(2, 5, d)
    r, a = features[:, :, None], anchors[:, None]
    torch.testing.assert_close(similarity(features, anchors, "cosine"), functional.cosine_similarity(r, a, dim=-1))
    torch.testing.assert_close(similarity(features, anchors, "dot"), (r * a).sum(-1))
    torch.testing.assert_close(similarity(features, anchors, "squared-distance"), -((r - a) ** 2).sum(-1))


def test_entropy_is_scipys_in_bits() -> None:
    counts = np.array([[3.0, 0, 5, 1], [1, 1, 1, 1], [0, 7, 0, 0]])
    expected = scipy.stats.entropy(counts, base=2, axis=1)
    np.testing.assert_allclose(entropy(torch.tensor(counts)).numpy(), expected, atol=1e-12)


def test_nearest_anchor_entropy_by_hand() -> None:
    # samples choose anchors 0, 0, 1, 2: p = (1/2, 1/4, 1/4)
    similarities = torch.tensor([[[9.0, 1, 1], [5, 1, 1], [0, 1, 0], [0, 0, 2]]])
    assert nearest_anchor_entropy(similarities).tolist() == [1.5]


def test_the_entropy_of_similarities_that_are_not_finite_is_nan() -> None:
    similarities = torch.tensor([[[9.0, 1], [5, 7]], [[9.0, 1], [torch.nan, 7]], [[-torch.inf, -torch.inf], [5, 7]]])
    assert nearest_anchor_entropy(similarities)[0] == 1
    assert nearest_anchor_entropy(similarities).isnan().tolist() == [False, True, True]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_the_entropy_of_an_assignment_that_is_not_finite_is_nan(temperature: float, value: float) -> None:
    logits, noise = torch.randn(3, 6, 4), torch.rand(3, 6, 4) + 0.1
    healthy = assignment_entropy(logits, noise, temperature)
    logits[1, 2, 3] = value
    bits = assignment_entropy(logits, noise, temperature)
    assert bits[1].isnan()
    assert torch.equal(bits[[0, 2]], healthy[[0, 2]])


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_squared_distances_keep_their_digits_far_from_zero(offset: float) -> None:
    """200 features among 100 anchors, all about one far point, against numbers of twice the digits."""
    generator = torch.Generator().manual_seed(0)
    features, anchors = (offset + torch.randn(2, n, 20, generator=generator) for n in (200, 100))
    features.requires_grad_()
    exact = features.detach().double().requires_grad_()
    computed = similarity(features, anchors, "squared-distance")
    expected = -((exact[:, :, None] - anchors.double()[:, None]) ** 2).sum(-1)
    torch.testing.assert_close(computed.double(), expected, rtol=1e-4, atol=1e-3)
    assert torch.equal(computed.argmax(-1), expected.argmax(-1))
    weights = torch.randn(computed.shape, generator=generator)
    (computed * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(features.grad.double(), exact.grad, rtol=1e-4, atol=1e-2)


def test_no_squared_distance_is_below_zero() -> None:
    points = torch.randn(1, 50, 30, generator=torch.Generator().manual_seed(1))
    assert (similarity(points, points, "squared-distance") <= 0).all()
