"""Entropies of the feature space against numpy, scipy and scikit-learn, and in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from scipy.stats import ortho_group
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances
from torch import Tensor

from trainables.evaluators.entropy import anchor_entropy, histogram_entropy, scale, spectral_entropy

S, N, D, E = 3, 400, 6, 9


@pytest.fixture
def features() -> Tensor:
    g = torch.Generator().manual_seed(2)
    spread = torch.tensor([1.0, 3.0, 0.2, 1.0, 0.01, 2.0], dtype=torch.float64)
    return torch.relu(torch.randn(S, N, D, generator=g, dtype=torch.float64) * spread + 0.3)


@pytest.mark.parametrize("bins", [10, 100])
def test_histogram_entropy_equals_numpys_histogram(features: Tensor, bins: int) -> None:
    expected = [scipy_entropy(np.histogram(replica.numpy(), bins)[0], base=2) for replica in features]
    np.testing.assert_allclose(histogram_entropy(features, bins), expected, rtol=1e-12)


def test_histogram_entropy_in_closed_form() -> None:
    # each of ten bins holds one value, the largest one in the last
    even = torch.linspace(0, 1, 11)[:-1].reshape(1, 5, 2) + 0.05
    assert histogram_entropy(even).item() == pytest.approx(math.log2(10))
    halves = torch.tensor([[[0.0], [1.0]]])
    assert histogram_entropy(halves).item() == 1
    assert histogram_entropy(torch.full((1, 5, 2), 7.0)).item() == 0


def test_spectral_entropy_equals_that_of_the_principal_components(features: Tensor) -> None:
    expected = [scipy_entropy(PCA().fit(replica).explained_variance_ratio_, base=2) for replica in features]
    np.testing.assert_allclose(spectral_entropy(features), expected, rtol=1e-9)


def test_spectral_entropy_ignores_rotation_scale_and_place(features: Tensor) -> None:
    rotation = torch.from_numpy(ortho_group.rvs(D, random_state=1))
    np.testing.assert_allclose(spectral_entropy(5 * features @ rotation + 40), spectral_entropy(features), rtol=1e-9)


def test_spectral_entropy_in_closed_form() -> None:
    # ± each of k unit vectors: k equal eigenvalues
    corners = torch.cat([torch.eye(6)[:4], -torch.eye(6)[:4]]).unsqueeze(0)
    assert spectral_entropy(corners).item() == pytest.approx(2)
    line = torch.arange(9.0).reshape(1, 9, 1) * torch.ones(1, 1, 5)
    assert spectral_entropy(line).item() == pytest.approx(0, abs=1e-5)
    assert spectral_entropy(torch.full((1, 9, 5), 3.0)).item() == 0


@pytest.mark.parametrize("similarity", ["cosine", "squared-distance", "dot"])
def test_anchor_entropy_equals_counting_the_nearest_anchors(features: Tensor, similarity: str) -> None:
    anchors = torch.rand(S, E, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = []
    for r, a in zip(features.numpy(), anchors.numpy(), strict=True):
        if similarity == "dot":
            nearest = np.array([max(range(E), key=lambda i: sum(row * a[i])) for row in r])
        else:
            metric = "cosine" if similarity == "cosine" else "euclidean"
            nearest = pairwise_distances(r, a, metric=metric).argmin(1)
        expected.append(scipy_entropy(np.bincount(nearest, minlength=E), base=2))
    np.testing.assert_allclose(anchor_entropy(features, anchors, similarity), expected, rtol=1e-9)
    assert min(expected) > 0


def test_anchor_entropy_in_closed_form() -> None:
    anchors = torch.eye(4).unsqueeze(0)
    even = torch.eye(4).repeat(3, 1).unsqueeze(0)
    assert anchor_entropy(even, anchors, "cosine").item() == pytest.approx(2)
    assert anchor_entropy(even[:, :1].expand(1, 7, 4), anchors, "dot").item() == 0


def test_scale_is_numpys_deviation_of_all_values(features: Tensor) -> None:
    np.testing.assert_allclose(scale(features), [replica.numpy().std() for replica in features], rtol=1e-12)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("measure", [histogram_entropy, spectral_entropy, scale])
def test_a_diverged_replica_gives_nan_and_harms_no_other(
    features: Tensor, measure: Callable[[Tensor], Tensor], value: float
) -> None:
    healthy = measure(features)
    features[1, 7, 2] = value
    measured = measure(features)
    assert measured[1].isnan()
    np.testing.assert_array_equal(measured[[0, 2]], healthy[[0, 2]])


@pytest.mark.parametrize("similarity", ["cosine", "squared-distance", "dot"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
def test_anchor_entropy_of_what_overflows_is_nan(features: Tensor, similarity: str, value: float) -> None:
    """1e200 is finite, its square and its length are not."""
    anchors = torch.rand(S, E, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    healthy = anchor_entropy(features, anchors, similarity)
    features[1, 7, 2] = value
    measured = anchor_entropy(features, anchors, similarity)
    assert measured[1].isnan()
    np.testing.assert_array_equal(measured[[0, 2]], healthy[[0, 2]])


def test_histogram_entropy_at_the_ends_of_the_type() -> None:
    """Values whose range overflows, and values too near to each other for their type to tell by how much."""
    most, least = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny
    far = torch.tensor([-most, 0.0, most]).reshape(1, 3, 1)
    assert histogram_entropy(far).isnan()
    near = torch.tensor([0.0, least, 2 * least, 0.0]).reshape(1, 4, 1)
    assert histogram_entropy(near).item() == 0
