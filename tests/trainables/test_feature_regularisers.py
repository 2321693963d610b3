"""VCReg and SIGReg against numpy, scipy's integrals and closed forms."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch.nn import functional

from trainables import criteria
from trainables.criteria.sigreg import SIGReg, directions
from trainables.criteria.vcreg import EPSILON, VCReg, variance_and_covariance
from trainables.criterion import Batch, Criterion, Setup
from trainables.epps_pulley import CHUNK_VALUES, epps_pulley, mean_over_slices
from trainables.replicas import stream, streams
from trainables.training import Training
from trainables.trial import Recipe, Trial

S, B, C, D = 3, 40, 4, 6


def drawn(*shape: int, name: str = "features") -> torch.Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


def batch(features: torch.Tensor) -> Batch:
    seeds = range(len(features))
    logits = drawn(*features.shape[:2], C, name="logits")
    targets = torch.randint(C, features.shape[:2], generator=stream(0, "targets"))
    return Batch(logits, features, targets, lambda name: streams(seeds, name, 1))


def made(kind: type[Criterion], **values: float) -> Criterion:
    recipe = Recipe(1, B, 0.1)
    return kind(Setup(tuple(range(S)), kind.settle(values, recipe), recipe, torch.zeros(S, 2, D), D, C))


def plain_ce(given: Batch, s: int) -> float:
    return float(functional.cross_entropy(given.logits[s], given.targets[s]))


def test_vcreg_is_its_formula_in_numpy() -> None:
    given = batch(drawn(S, B, D) * torch.linspace(0.2, 1.5, D, dtype=torch.float64) + 3)
    losses = made(VCReg, variance=0.7, covariance=0.3)(given)
    for s in range(S):
        covariance = np.cov(given.features[s].numpy(), rowvar=False)
        narrow = np.mean([max(0.0, 1 - math.sqrt(covariance[j, j] + EPSILON)) for j in range(D)])
        pairs = [covariance[i, j] ** 2 for i, j in itertools.permutations(range(D), 2)]
        assert float(losses[s]) == pytest.approx(plain_ce(given, s) + 0.7 * narrow + 0.3 * np.mean(pairs), rel=1e-10)


def test_defaults_are_the_source_s() -> None:
    recipe = Recipe(1, B, 0.1, hyperparameters={"lambda": 1.0, "beta": 0.1, "e": 100})
    # what a recipe says of FIERCE's λ and of the confidence penalty's β is not of these
    assert VCReg.settle({}, recipe) == {"variance": 0.16, "covariance": 0.01}
    assert SIGReg.settle({}, recipe) == {"strength": 0.05, "slices": 1024}


@pytest.mark.parametrize("features", [torch.zeros(2, 8, 3), torch.ones(2, 1, 3), torch.rand(2, 8, 1)])
def test_vcreg_has_a_finite_gradient_where_features_are_dead_alone_or_one(features: torch.Tensor) -> None:
    leaf = features.double().requires_grad_()
    terms = variance_and_covariance(leaf)
    (gradient,) = torch.autograd.grad(sum(term.sum() for term in terms), leaf)
    assert all(tensor.isfinite().all() for tensor in (*terms, gradient))


def test_vcreg_widens_the_features_and_takes_their_correlation_away() -> None:
    mixing = drawn(D, D, name="mixing")
    leaf = (0.1 * drawn(1, 200, D) @ mixing).requires_grad_()
    step = torch.optim.Adam([leaf], lr=0.02)
    for _ in range(400):
        step.zero_grad()
        sum(term.sum() for term in variance_and_covariance(leaf)).backward()  # type: ignore[union-attr]
        step.step()
    covariance = torch.cov(leaf[0].detach().T)
    assert (covariance.diagonal() > 0.98).all()
    assert (covariance - torch.diag(covariance.diagonal())).abs().max() < 0.02


def by_quadrature(sample: np.ndarray) -> float:
    """N·∫ |φ̂ − φ|²·exp(−t²/2) dt over −3..3, integrated by scipy."""

    def integrand(t: float) -> float:
        return float(abs(np.exp(1j * t * sample).mean() - math.exp(-(t**2) / 2)) ** 2 * math.exp(-(t**2) / 2))

    return len(sample) * scipy.integrate.quad(integrand, -3, 3, limit=200)[0]


def on_the_knots(sample: np.ndarray) -> float:
    t = np.linspace(0, 3, 17)
    difference = np.exp(1j * t[:, None] * sample).mean(1) - np.exp(-(t**2) / 2)
    return 2 * len(sample) * scipy.integrate.trapezoid(np.abs(difference) ** 2 * np.exp(-(t**2) / 2), t)


@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential", "random"])
def test_the_statistic_is_its_definition(draw: str) -> None:
    samples = getattr(np.random.default_rng(3), draw)((2, 30, 5))
    statistics = epps_pulley(torch.from_numpy(samples))
    for s in range(2):
        slices = [samples[s, :, m] for m in range(5)]
        assert float(statistics[s]) == pytest.approx(np.mean([on_the_knots(values) for values in slices]), rel=1e-10)
        assert float(statistics[s]) == pytest.approx(np.mean([by_quadrature(values) for values in slices]), rel=5e-3)


def test_of_samples_at_zero_the_integral_has_a_closed_form() -> None:
    """φ̂ = 1: N·∫ (1 − e^{−t²/2})²·e^{−t²/2} dt = N·Σ_j c_j·√(2π/a_j)·(2Φ(3√a_j) − 1), a = 1, 2, 3, c = 1, −2, 1."""
    samples = 7
    terms = [
        c * math.sqrt(2 * math.pi / a) * (2 * scipy.stats.norm.cdf(3 * math.sqrt(a)) - 1)
        for a, c in ((1, 1), (2, -2), (3, 1))
    ]
    statistic = float(epps_pulley(torch.zeros(1, samples, 4, dtype=torch.float64)))
    assert statistic == pytest.approx(samples * sum(terms), rel=2e-3)


def test_its_gradient_equals_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = drawn(2, 6, 5).requires_grad_()
    assert torch.autograd.gradcheck(epps_pulley, leaf)
    # in chunks of two slices, the last of one
    whole = epps_pulley(leaf)
    monkeypatch.setitem(CHUNK_VALUES, "cpu", 2 * 6)
    torch.testing.assert_close(epps_pulley(leaf), whole)
    assert torch.autograd.gradcheck(epps_pulley, leaf)


def test_in_single_precision_the_recurrence_loses_little() -> None:
    values = 3 * drawn(1, 200, 50)
    torch.testing.assert_close(epps_pulley(values.float()).double(), epps_pulley(values), rtol=1e-4, atol=0)


def test_sigreg_is_cross_entropy_and_the_mean_over_its_slices() -> None:
    given = batch(drawn(S, B, D))
    criterion = made(SIGReg, strength=0.3, slices=16)
    losses = criterion(given)
    for s in range(S):
        slices = torch.randn(D, 16, generator=stream(s, "slices", 1), dtype=torch.float64)
        projected = (given.features[s] @ (slices / slices.norm(dim=0))).numpy()
        statistic = np.mean([on_the_knots(projected[:, m]) for m in range(16)])
        assert float(losses[s]) == pytest.approx(plain_ce(given, s) + 0.3 * statistic, rel=1e-10)
        assert float(criterion.measured["normality/batch"][s]) == pytest.approx(statistic, rel=1e-10)


def on_a_line(lengths: np.ndarray, d: int) -> float:
    """The mean over all slices for samples on one line: over u₁ of a unit vector, of density ∝ (1 − u²)^((d−3)/2)."""

    def density(u: float) -> float:
        return float((1 - u**2) ** ((d - 3) / 2))

    whole = scipy.integrate.quad(density, 0, 1)[0]
    return float(scipy.integrate.quad(lambda u: density(u) * on_the_knots(lengths * u), 0, 1, limit=200)[0] / whole)


@pytest.mark.parametrize("d", [3, 8, 100, 300])
def test_the_mean_over_all_slices_is_an_integral_where_samples_are_on_a_line(d: int) -> None:
    lengths = np.array([0.0, 1.0, -2.5, 7.0, 40.0]) * math.sqrt(d) / 5
    along = functional.normalize(drawn(d), dim=0)
    statistic = mean_over_slices(torch.from_numpy(lengths)[None, :, None] * along)
    assert float(statistic) == pytest.approx(on_a_line(lengths, d), rel=1e-6)


def test_in_the_plane_the_mean_over_all_slices_is_that_over_equal_angles() -> None:
    samples = 2 * drawn(S, B, 2) + 0.5
    angle = torch.arange(256, dtype=torch.float64) * math.pi / 256
    slices = torch.stack([angle.cos(), angle.sin()]).expand(S, 2, 256)
    torch.testing.assert_close(mean_over_slices(samples), epps_pulley(samples @ slices), rtol=1e-6, atol=0)


def test_random_slices_estimate_the_mean_over_all() -> None:
    samples = 1.5 * drawn(1, B, D)
    along = epps_pulley(samples @ directions(D, 20_000, [stream(0, "slices")], samples))
    torch.testing.assert_close(mean_over_slices(samples), along, rtol=0.02, atol=0)


def test_the_gradient_of_the_mean_over_all_slices_equals_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = drawn(2, 6, 5).requires_grad_()
    assert torch.autograd.gradcheck(mean_over_slices, leaf)
    # in blocks of four rows, the last of two
    whole = mean_over_slices(leaf)
    monkeypatch.setitem(CHUNK_VALUES, "cpu", 4 * 6)
    torch.testing.assert_close(mean_over_slices(leaf), whole)
    assert torch.autograd.gradcheck(mean_over_slices, leaf)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, 1e12])
def test_in_single_precision_the_mean_over_all_slices_loses_little(scale: float) -> None:
    leaf = (scale * drawn(1, 200, 50)).float().requires_grad_()
    statistic = mean_over_slices(leaf)
    (gradient,) = torch.autograd.grad(statistic.sum(), leaf)
    assert gradient.isfinite().all()
    torch.testing.assert_close(statistic.double(), mean_over_slices(leaf.double()), rtol=1e-4, atol=1e-4)


def test_slices_are_uniform_on_the_sphere() -> None:
    unit = directions(3, 50_000, [stream(0, "slices")], torch.zeros(1, dtype=torch.float64))[0]
    torch.testing.assert_close(unit.norm(dim=0), torch.ones(50_000, dtype=torch.float64))
    # on the sphere of three dimensions each coordinate is uniform over −1..1 (Archimedes)
    assert all(scipy.stats.kstest(row, "uniform", (-1, 2)).pvalue > 1e-3 for row in unit.numpy())


def test_sigreg_draws_features_to_a_standard_normal_distribution() -> None:
    leaf = (0.7 + 0.3 * drawn(1, 256, 3)).requires_grad_()
    step = torch.optim.Adam([leaf], lr=0.02)
    for epoch in range(300):
        slices = directions(3, 64, streams([0], "slices", epoch), leaf)
        step.zero_grad()
        epps_pulley(torch.bmm(leaf, slices)).sum().backward()
        step.step()
    features = leaf[0].detach()
    assert features.mean(0).abs().max() < 0.1
    torch.testing.assert_close(torch.cov(features.T), torch.eye(3, dtype=torch.float64), rtol=0, atol=0.15)


@pytest.mark.parametrize(("name", "values"), [("vcreg", {}), ("sigreg", {}), ("sigreg", {"slices": 0})])
def test_nan_of_a_replica_is_its_own(name: str, values: dict[str, float]) -> None:
    features = drawn(S, B, D)
    healthy = made(criteria.find(name), **values)(batch(features))
    features[1, 2, 3] = torch.nan
    spoilt = made(criteria.find(name), **values)(batch(features))
    assert math.isnan(float(spoilt[1])) and not healthy.isnan().any()
    assert torch.equal(spoilt[[0, 2]], healthy[[0, 2]])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("vcreg", {"variance": 1e6, "covariance": 1e6}),
        ("vcreg", {"variance": 0, "covariance": 0}),
        ("sigreg", {"strength": 1e6, "slices": 4}),
        ("sigreg", {"strength": 0, "slices": 1}),
        ("sigreg", {"strength": 1e6, "slices": 0}),
    ],
)
def test_extreme_weights_train(name: str, values: dict[str, Any]) -> None:
    trial = Trial("tests.tiny:Tiny", name, (0, 1), hyperparameters=values, training={"epochs": 2})
    for record in Training(trial).run():
        assert all(math.isfinite(value) for value in record.metrics["loss/train"])
    if not any(list(values.values())[:1]):
        reference = Trial("tests.tiny:Tiny", "ce", (0, 1), training={"epochs": 2})
        *_, last = Training(reference).run()
        assert record.metrics["loss/train"] == pytest.approx(last.metrics["loss/train"], rel=1e-6)
