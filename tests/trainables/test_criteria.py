"""The criteria of the paper against torch, autograd and finite differences; what each criterion declares."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn import functional

from trainables import criteria
from trainables.anchors import (
    ASSIGNMENTS,
    assignment_entropy,
    chance_entropy,
    draw_anchors,
    exponential_noise,
    similarity,
)
from trainables.criteria.ce import cross_entropy
from trainables.criteria.confidence_penalty import confidence_penalty
from trainables.criteria.fierce import regularised
from trainables.criteria.ls import label_smoothing
from trainables.replicas import stream, streams

S, B, C, D, E = 3, 40, 4, 6, 8
DOCUMENT = Path(__file__).parents[2] / "docs" / "criteria.md"
EPSILON = 1e-12


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = stream(0, "test")
    logits = torch.randn(S, B, C, generator=generator, dtype=torch.float64)
    return logits, torch.randint(C, (S, B), generator=generator)


def noise_for(seed: int = 1) -> torch.Tensor:
    return exponential_noise((B, E), streams(range(seed, seed + S), "gumbel"), torch.float64, torch.device("cpu"))


@pytest.mark.parametrize("name", criteria.names())
def test_what_a_criterion_declares_holds_together_and_is_documented(name: str) -> None:
    kind = criteria.find(name)
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    row = next((line for line in lines if line.startswith(f"| `{name}` |")), "")
    assert row, f"docs/criteria.md has no row of {name}: formula, hyperparameters and source"
    for hyperparameter in kind.hyperparameters:
        assert hyperparameter.problem(hyperparameter.default) is None
        assert math.isfinite(hyperparameter.low), "a search needs a bound"
        assert hyperparameter.symbol in row, f"docs/criteria.md, row of {name}: no {hyperparameter.symbol}"
    symbols = [hyperparameter.symbol for hyperparameter in kind.hyperparameters]
    assert len(set(symbols)) == len(symbols)
    places = [criteria.find(other).position for other in criteria.names()]
    assert places.count(kind.position) == 1, f"position {kind.position} is taken; the largest is {max(places)}"


def test_cross_entropy_is_torchs(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = batch
    expected = torch.stack([functional.cross_entropy(z, y) for z, y in zip(*batch, strict=True)])
    torch.testing.assert_close(cross_entropy(logits, targets), expected)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.4])
def test_paper_smoothing_is_torchs_at_sigma_c_over_c_minus_1(
    batch: tuple[torch.Tensor, torch.Tensor], sigma: float
) -> None:
    logits, targets = batch
    expected = torch.stack(
        [functional.cross_entropy(z, y, label_smoothing=sigma * C / (C - 1)) for z, y in zip(*batch, strict=True)]
    )
    torch.testing.assert_close(label_smoothing(logits, targets, sigma, "others"), expected)


def test_two_classes_at_sigma_04_is_torchs_at_08() -> None:
    logits = torch.randn(1, B, 2, generator=stream(0, "two"))
    targets = torch.arange(B).reshape(1, B) % 2
    expected = functional.cross_entropy(logits[0], targets[0], label_smoothing=0.8)
    torch.testing.assert_close(label_smoothing(logits, targets, 0.4, "others")[0], expected)


def test_released_smoothing_is_torchs(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = batch
    expected = torch.stack([functional.cross_entropy(z, y, label_smoothing=0.4) for z, y in zip(*batch, strict=True)])
    torch.testing.assert_close(label_smoothing(logits, targets, 0.4, "uniform"), expected)


def test_each_replica_may_have_its_own_sigma(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = batch
    together = label_smoothing(logits, targets, torch.tensor([0.0, 0.1, 0.4], dtype=torch.float64))
    alone = [label_smoothing(logits, targets, sigma)[s] for s, sigma in enumerate((0.0, 0.1, 0.4))]
    torch.testing.assert_close(together, torch.stack(alone))


def test_confidence_penalty_is_ce_less_the_categorical_entropy(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = batch
    expected = cross_entropy(logits, targets) - 0.3 * torch.distributions.Categorical(logits=logits).entropy().mean(1)
    torch.testing.assert_close(confidence_penalty(logits, targets, 0.3), expected)


def explicit_entropy(
    logits: torch.Tensor, noise: torch.Tensor, temperature: float, assignment: str = "sampled"
) -> torch.Tensor:
    """Eq. 10 to 13 written out, with the stop-gradient operator as ``detach``."""
    soft = torch.softmax((logits - noise.log()) / temperature, -1)
    chosen = {"nearest": logits, "sampled": soft, "soft": soft}[assignment].argmax(-1)
    hard = functional.one_hot(chosen, E).to(soft.dtype)
    rows = soft if assignment == "soft" else (hard - soft).detach() + soft
    p = rows.mean(1)
    return -(p * torch.log2(p + EPSILON)).sum(-1)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_assignment_entropy_equals_an_explicit_straight_through(temperature: float, assignment: str) -> None:
    logits = torch.randn(S, B, E, generator=stream(0, "logits"), dtype=torch.float64, requires_grad=True)
    noise, weights = noise_for(), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    value = assignment_entropy(logits, noise, temperature, EPSILON, assignment)
    (gradient,) = torch.autograd.grad((weights * value).sum(), logits)
    expected_value = explicit_entropy(logits, noise, temperature, assignment)
    (expected,) = torch.autograd.grad((weights * expected_value).sum(), logits)
    torch.testing.assert_close(value, expected_value)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_soft_assignment_equals_finite_differences(temperature: float) -> None:
    logits = torch.randn(1, 5, E, generator=stream(0, "few"), dtype=torch.float64, requires_grad=True)
    noise = exponential_noise((5, E), streams([4], "gumbel"), torch.float64, torch.device("cpu"))
    assert torch.autograd.gradcheck(lambda z: assignment_entropy(z, noise, temperature, EPSILON, "soft"), logits)


def test_collapsed_features_have_no_entropy_where_the_nearest_anchor_is_taken() -> None:
    """Eq. 10 gives 0 bits for features in one point; with a cosine, the sampled one-hots look like chance."""
    e, samples = 100, 200
    point = torch.rand(1, 1, D, generator=stream(0, "point"), dtype=torch.float64).expand(1, samples, D)
    anchors = draw_anchors("uniform", e, D, streams([0], "anchors")).double()
    logits = similarity(point, anchors, "cosine")
    noise = exponential_noise((samples, e), streams([1], "gumbel"), torch.float64, torch.device("cpu"))
    assert assignment_entropy(logits, noise, 1.0, EPSILON, "nearest").item() == pytest.approx(0.0, abs=1e-9)
    sampled = assignment_entropy(logits, noise, 1.0, EPSILON, "sampled").item()
    assert sampled == pytest.approx(chance_entropy(samples, e), abs=0.15)


@pytest.mark.parametrize(("samples", "e"), [(7, 3), (200, 100)])
def test_entropy_by_chance_is_that_of_uniform_draws(samples: int, e: int) -> None:
    rng = np.random.default_rng(0)
    draws = scipy.stats.entropy(rng.multinomial(samples, np.full(e, 1 / e), 20_000), base=2, axis=1)
    assert chance_entropy(samples, e) == pytest.approx(draws.mean(), abs=5 * scipy.stats.sem(draws))


def test_gradient_equals_finite_differences_of_the_soft_version() -> None:
    """H is linearised at the one-hot p; the soft assignment is differentiated numerically."""
    logits = torch.randn(1, 5, E, generator=stream(0, "few"), dtype=torch.float64)
    noise = exponential_noise((5, E), streams([4], "gumbel"), torch.float64, torch.device("cpu"))
    hard = functional.one_hot((logits - noise.log()).argmax(-1), E).double().mean(1)
    slope = -(torch.log2(hard + EPSILON) + hard / (hard + EPSILON) / math.log(2))

    def linearised(values: torch.Tensor) -> float:
        return float((torch.softmax(values - noise.log(), -1).mean(1) * slope).sum())

    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(assignment_entropy(leaf, noise).sum(), leaf)
    step = 1e-6
    for position in [(0, 0, 0), (0, 2, 3), (0, 4, 7)]:
        moved = torch.zeros_like(logits)
        moved[position] = step
        numeric = (linearised(logits + moved) - linearised(logits - moved)) / (2 * step)
        assert float(gradient[position]) == pytest.approx(numeric, rel=1e-6, abs=1e-9)


def test_the_sampled_assignment_has_the_softmax_frequencies() -> None:
    """The Gumbel-max trick: argmax(l + g) is distributed as softmax(l)."""
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0], dtype=torch.float64)
    draws = 200_000
    noise = exponential_noise((draws, 4), streams([0], "gumbel"), torch.float64, torch.device("cpu"))[0]
    counts = torch.bincount((logits - noise.log()).argmax(-1), minlength=4) / draws
    p = torch.softmax(logits, 0)
    assert torch.all((counts - p).abs() < 5 * torch.sqrt(p * (1 - p) / draws))


def test_fierce_forms(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = batch
    features = torch.randn(S, B, D, generator=stream(0, "features"), dtype=torch.float64)
    anchors = draw_anchors("uniform", E, D, streams(range(S), "anchors")).double()
    noise = noise_for()
    bits = explicit_entropy(similarity(features, anchors, "cosine"), noise, 1.0)
    ce = cross_entropy(logits, targets)
    torch.testing.assert_close(regularised(ce, bits, 0.7, E), ce - 0.7 * bits)
    torch.testing.assert_close(regularised(ce, bits, 0.25, E, "weighted"), ce / 1.25 + 0.2 * (3.0 - bits))
