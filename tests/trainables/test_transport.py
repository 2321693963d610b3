"""Optimal transport of ages against POT's dense plan, scipy's distance, explicit loops and cases worked by hand."""

from __future__ import annotations

import itertools

import numpy as np
import ot
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from scipy.stats import wasserstein_distance
from torch import Tensor

from trainables.evaluators import transport
from trainables.evaluators.entropy import histogram_entropy
from trainables.evaluators.entropy_bias import miller_madow


def barycentric(features: np.ndarray, ages: np.ndarray) -> np.ndarray:
    """By POT's dense plan, each feature value's mass sharing its ages."""
    plan = ot.emd_1d(features, ages, dense=True)
    mapped = plan.shape[0] * plan @ ages
    return np.array([mapped[features == value].mean() for value in features])


@pytest.mark.parametrize(("n", "m"), [(50, 50), (50, 37), (37, 50), (1, 9), (9, 1)])
@pytest.mark.parametrize("levels", [4, 1000])
def test_equals_the_dense_plan(n: int, m: int, levels: int) -> None:
    rng = np.random.default_rng(n * m + levels)
    features = rng.integers(0, levels, (3, n)).astype(np.float64)
    ages = rng.integers(0, 60, (3, m)).astype(np.float64)
    ours = transport.transported(torch.from_numpy(features), transport.age_by_rank(torch.from_numpy(ages), n))
    for s in range(3):
        np.testing.assert_allclose(ours[s], barycentric(features[s], ages[s]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shift", [0.0, 20.0])
def test_the_plan_costs_the_wasserstein_distance(shift: float) -> None:
    rng = np.random.default_rng(7)
    features = rng.normal(40 + shift, 15, (2, 400))
    ages = rng.integers(0, 90, (2, 400)).astype(np.float64)
    ours = transport.transported(torch.from_numpy(features), transport.age_by_rank(torch.from_numpy(ages), 400))
    for s in range(2):
        cost = np.abs(features[s] - ours[s].numpy()).mean()
        assert cost == pytest.approx(wasserstein_distance(features[s], ages[s]), rel=1e-9)


def test_by_hand() -> None:
    features = torch.tensor([[0.3, -1.0, 5.0, 0.3]])
    ages = torch.tensor([[40.0, 10.0, 20.0, 30.0]])
    by_rank = transport.age_by_rank(ages, 4)
    assert by_rank.tolist() == [[10, 20, 30, 40]]
    # the two equal features share the second and the third age
    assert transport.transported(features, by_rank).tolist() == [[25, 10, 40, 25]]
    # three ranks for two ages: the middle one is split between them
    assert transport.age_by_rank(torch.tensor([[10.0, 40.0]]), 3)[0].tolist() == pytest.approx([10, 25, 40])


def test_the_order_of_samples_says_nothing_where_features_are_equal() -> None:
    ages = torch.arange(100.0).unsqueeze(0)
    retrieved = transport.transported(torch.zeros(1, 100), transport.age_by_rank(ages, 100))
    assert retrieved.tolist() == [[pytest.approx(49.5)] * 100]


def test_a_diverged_replica_gets_no_age_and_leaves_its_neighbour_alone() -> None:
    features = torch.tensor([[1.0, float("nan"), 2.0], [1.0, 3.0, 2.0]])
    by_rank = transport.age_by_rank(torch.tensor([[10.0, 20.0, 30.0]] * 2), 3)
    retrieved = transport.transported(features, by_rank)
    assert retrieved[0].isnan().all()
    assert retrieved[1].tolist() == [10, 30, 20]


def test_orientation_follows_the_predicted_class() -> None:
    features = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    older = torch.tensor([0.0, 1.0, 2.0])
    logits = torch.stack([torch.stack([-x, x], -1) for x in (older, -older, older)])
    assert transport.orientation(features, logits).tolist() == [1, -1, 1]


def test_three_classes_are_ordered() -> None:
    features = torch.tensor([[1.0, 2.0, 3.0]])
    logits = 5 * torch.eye(3).flip(0).unsqueeze(0)
    assert transport.orientation(features, logits).tolist() == [-1]


def test_interpolation_equals_one_mean_per_coefficient() -> None:
    generator = torch.Generator().manual_seed(0)
    ages, means, retrieved = (100 * torch.rand(3, 40, generator=generator, dtype=torch.float64) for _ in range(3))
    errors = transport.interpolated_mse(ages, means, retrieved)
    assert errors.shape == (3, 101)
    for index, beta in enumerate(np.linspace(0, 1, 101)):
        expected = (beta * means + (1 - beta) * retrieved - ages).square().mean(1)
        torch.testing.assert_close(errors[:, index], expected, rtol=1e-12, atol=1e-9)


def test_class_ages_by_hand() -> None:
    ages = torch.tensor([[10.0, 20.0, 60.0], [10.0, 20.0, 60.0]])
    coarse = torch.tensor([[0, 0, 1], [2, 1, 2]])
    # a class that nobody is in has the mean of all
    assert transport.class_ages(ages, coarse, 3).tolist() == [[15, 60, 30], [30, 20, 35]]


def test_random_pairing_is_the_mean_over_all_pairs() -> None:
    rng = np.random.default_rng(1)
    ages, known = rng.integers(0, 90, (2, 13)).astype(float), rng.integers(0, 90, (2, 8)).astype(float)
    ours = transport.random_pairing_mse(torch.from_numpy(ages), torch.from_numpy(known))
    for s in range(2):
        pairs = [(a - b) ** 2 for a, b in itertools.product(ages[s], known[s])]
        assert ours[s].item() == pytest.approx(np.mean(pairs))


def test_a_feature_that_is_the_age_has_no_error_and_one_that_is_noise_has_that_of_random_pairs() -> None:
    generator = torch.Generator().manual_seed(3)
    ages = torch.randint(0, 100, (1, 20_000), generator=generator).double()
    by_rank = transport.age_by_rank(ages, 20_000)
    assert (transport.transported(ages / 7 - 3, by_rank) - ages).abs().max() < 1e-9
    noise = torch.randn(ages.shape, generator=generator)
    error = (transport.transported(noise, by_rank) - ages).square().mean(1)
    assert error.item() == pytest.approx(transport.random_pairing_mse(ages, ages).item(), rel=0.03)


def test_miller_madow_adds_half_the_occupied_bins_per_sample() -> None:
    features: Tensor = torch.randn(2, 300, 1, generator=torch.Generator().manual_seed(0))
    ours = miller_madow(features, 100)
    for s in range(2):
        counts, _ = np.histogram(features[s].numpy(), 100)
        expected = scipy_entropy(counts, base=2) + ((counts > 0).sum() - 1) / (2 * 300 * np.log(2))
        assert ours[s].item() == pytest.approx(expected, abs=0.02)


def test_miller_madow_is_nearer_to_the_truth_than_the_histogram() -> None:
    # uniform over 64 bins: 6 bits
    features = torch.rand(200, 150, 1, generator=torch.Generator().manual_seed(1))
    plain, corrected = histogram_entropy(features, 64).mean().item(), miller_madow(features, 64).mean().item()
    assert abs(corrected - 6) < abs(plain - 6) / 3
    assert miller_madow(torch.full((1, 10, 1), torch.nan), 64).isnan().all()


def test_features_of_logits_that_are_not_finite_have_no_orientation() -> None:
    features = torch.tensor([[1.0, 2, 3]]).repeat(2, 1)
    logits = torch.eye(3).repeat(2, 1, 1)
    logits[1, 2, 0] = torch.nan
    signs = transport.orientation(features, logits)
    assert signs[0] == 1 and signs[1].isnan()
