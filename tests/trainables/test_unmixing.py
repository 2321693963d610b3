"""Unmixing errors and probes against numpy, scikit-learn and torch's own layers, one replica at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from trainables.evaluators.unmixing import Probe, least_squares_mse, probe_mse, raw_mse, standardize

S, N, H, D, M = 3, 450, 130, 12, 4
Parts = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def parts() -> Parts:
    """Features after a ReLU and abundances: train (S, N, ·), then held-out (S, H, ·)."""
    g = torch.Generator().manual_seed(5)
    features = torch.relu(torch.randn(S, N + H, D, generator=g, dtype=torch.float64))
    mixing = torch.randn(S, D, M, generator=g, dtype=torch.float64)
    noise = torch.randn(S, N + H, M, generator=g, dtype=torch.float64)
    targets = torch.softmax(features @ mixing + 0.3 * noise, -1)
    return features[:, :N], targets[:, :N], features[:, N:], targets[:, N:]


def numpy_least_squares(x: Tensor, y: Tensor, heldout: Tensor, wanted: Tensor) -> float:
    ones = np.ones((len(x), 1)), np.ones((len(heldout), 1))
    weights, *_ = np.linalg.lstsq(np.hstack([x.double(), ones[0]]), y.double().numpy(), rcond=None)
    return float(np.square(np.hstack([heldout.double(), ones[1]]) @ weights - wanted.double().numpy()).mean())


def test_raw_mse_sums_over_materials() -> None:
    probabilities = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    abundances = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]])
    # (.25 + .25 + .0625 + .0625) / 2 samples
    assert raw_mse(probabilities, abundances).tolist() == [0.3125]


def test_raw_mse_is_m_times_scikit_learns(parts: Parts) -> None:
    wanted = parts[1]
    guess = wanted.flip(1)
    expected = [M * mean_squared_error(a, b) for a, b in zip(wanted, guess, strict=True)]
    np.testing.assert_allclose(raw_mse(guess, wanted), expected, rtol=1e-12)


def test_least_squares_equals_numpy_and_scikit_learn(parts: Parts) -> None:
    measured = least_squares_mse(*parts)
    np.testing.assert_allclose(measured, [numpy_least_squares(*p) for p in zip(*parts, strict=True)], rtol=1e-10)
    x, y, heldout, wanted = (p[0] for p in parts)
    fitted = LinearRegression().fit(x, y)
    assert measured[0].item() == pytest.approx(mean_squared_error(wanted, fitted.predict(heldout)), rel=1e-10)


def dead(x: Tensor, heldout: Tensor) -> None:
    """Units that fire for no training sample, one of them for held-out ones."""
    x[..., :5] = 0
    heldout[..., :4] = 0


def repeated(x: Tensor, heldout: Tensor) -> None:
    for part in (x, heldout):
        part[..., 3] = part[..., 2]


def constant(x: Tensor, heldout: Tensor) -> None:
    for part in (x, heldout):
        part[..., 3] = 2.5


def ill_conditioned(x: Tensor, heldout: Tensor) -> None:
    """A direction 10⁻⁹ as long as the others counts: its square would be lost in a Gram matrix."""
    for part in (x, heldout):
        part[..., 3] = part[..., 2] + 1e-9 * part[..., 3]


@pytest.mark.parametrize("damage", [dead, repeated, constant, ill_conditioned])
def test_least_squares_has_numpys_minimum_norm_solution(parts: Parts, damage: Callable[[Tensor, Tensor], None]) -> None:
    damage(parts[0], parts[2])
    expected = [numpy_least_squares(*p) for p in zip(*parts, strict=True)]
    np.testing.assert_allclose(least_squares_mse(*parts), expected, rtol=1e-6)


def test_least_squares_with_fewer_samples_than_features(parts: Parts) -> None:
    for samples in (6, D + 2):
        few = (parts[0][:, :samples], parts[1][:, :samples], *parts[2:])
        expected = [numpy_least_squares(*p) for p in zip(*few, strict=True)]
        np.testing.assert_allclose(least_squares_mse(*few), expected, rtol=1e-8)


def test_float32_features_are_solved_in_float64(parts: Parts) -> None:
    x, y, heldout, wanted = single = tuple(p.float() for p in parts)
    measured = least_squares_mse(x, y, heldout, wanted)
    assert measured.dtype == torch.float32
    np.testing.assert_allclose(measured, [numpy_least_squares(*p) for p in zip(*single, strict=True)], rtol=1e-6)


def test_standardize_equals_scikit_learns_scaler(parts: Parts) -> None:
    train, _, heldout, _ = parts
    constant(train, heldout)
    scaled = standardize(train, heldout)
    for s in range(S):
        scaler = StandardScaler().fit(train[s])
        np.testing.assert_allclose(scaled[0][s], scaler.transform(train[s]), atol=1e-12)
        np.testing.assert_allclose(scaled[1][s], scaler.transform(heldout[s]), atol=1e-12)


@pytest.mark.parametrize("value", [0.1, 300.7, -1e-3])
@pytest.mark.parametrize("samples", [9408, 1001])
def test_a_constant_feature_is_standardized_to_zero(value: float, samples: int) -> None:
    """In float32 the mean of equal numbers differs from them, and so would each from its mean by one deviation."""
    train, heldout = torch.full((2, samples, 3), value), torch.full((2, 50, 3), value)
    train[..., 0] = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    fitted, scored = standardize(train, heldout)
    assert (fitted[..., 1:] == 0).all() and (scored[..., 1:] == 0).all()
    torch.testing.assert_close(fitted[..., 0].std(1, correction=0), torch.ones(2))


def torch_probe(parts: Parts, seed: int, learning_rate: float, epochs: int) -> list[float]:
    """The probe of one replica with torch's own layer, loss, optimizer and schedule."""
    x, y, heldout, wanted = parts
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(D, M).double()
    drawn = (2 * torch.rand(M, D + 1, generator=generator) - 1) / D**0.5
    with torch.no_grad():
        layer.weight.copy_(drawn[:, :D])
        layer.bias.copy_(drawn[:, D])
    optimizer = torch.optim.Adam(layer.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 4, epochs // 2, 3 * epochs // 4], 0.1)
    errors = []
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(200):
            optimizer.zero_grad()
            nn.functional.mse_loss(torch.softmax(layer(x[rows]), -1), y[rows]).backward()
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            errors.append(mean_squared_error(wanted, torch.softmax(layer(heldout), -1)))
    return errors


def probe(parts: Parts, generators: list[torch.Generator], learning_rate: float, epochs: int) -> Tensor:
    """The errors (S, epochs) of one probe on the features as they are."""
    return probe_mse(*parts, generators, [Probe(learning_rate)], epochs=epochs)[0]


@pytest.mark.parametrize("learning_rate", [0.1, 0.01])
def test_probe_equals_torchs_layer_loss_and_adam(parts: Parts, learning_rate: float) -> None:
    generators = [torch.Generator().manual_seed(s) for s in range(S)]
    measured = probe(parts, generators, learning_rate, epochs=8)
    assert measured.shape == (S, 8)
    for s, own in enumerate(zip(*parts, strict=True)):
        np.testing.assert_allclose(measured[s], torch_probe(own, s, learning_rate, 8), rtol=1e-9)


@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_probes_of_one_pass_equal_torchs_each_with_its_features_and_rate(parts: Parts, shift: float) -> None:
    x, y, heldout, wanted = parts
    constant(x, heldout)
    x += shift
    heldout += shift
    fitted, scored = standardize(x, heldout)
    generators = [torch.Generator().manual_seed(s) for s in range(S)]
    probes = [Probe(0.1), Probe(0.01, standardized=True)]
    measured = probe_mse(x, y, heldout, wanted, generators, probes, epochs=8)
    assert measured.shape == (2, S, 8)
    for p, (version, rate) in enumerate([((x, y, heldout, wanted), 0.1), ((fitted, y, scored, wanted), 0.01)]):
        for s, own in enumerate(zip(*version, strict=True)):
            np.testing.assert_allclose(measured[p, s], torch_probe(own, s, rate, 8), rtol=1e-9)


def test_probe_reads_a_softmax_of_the_features(parts: Parts) -> None:
    generators = [torch.Generator().manual_seed(s) for s in range(S)]
    errors = probe(parts, generators, 0.1, epochs=120)
    constant_guess = (parts[3] - parts[1].mean(1, keepdim=True)).square().mean((1, 2))
    assert (errors[:, -1] < 0.1 * constant_guess).all()


def test_a_replica_does_not_depend_on_its_neighbours(parts: Parts) -> None:
    generators = [torch.Generator().manual_seed(s) for s in range(S)]
    together = probe(parts, generators, 0.1, epochs=3)
    x, y, heldout, wanted = (p[1:2] for p in parts)
    alone = probe((x, y, heldout, wanted), [torch.Generator().manual_seed(1)], 0.1, epochs=3)
    np.testing.assert_allclose(alone[0], together[1], rtol=1e-12)
    np.testing.assert_allclose(least_squares_mse(x, y, heldout, wanted)[0], least_squares_mse(*parts)[1], rtol=1e-12)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_replica_gives_nan_and_harms_no_other(parts: Parts, value: float) -> None:
    healthy = least_squares_mse(*parts)[[0, 2]]
    parts[0][1, 3, 3] = value
    measured = least_squares_mse(*parts)
    assert measured[1].isnan()
    np.testing.assert_array_equal(measured[[0, 2]], healthy)
    errors = probe(parts, [torch.Generator() for _ in range(S)], 0.1, epochs=2)
    assert errors[1].isnan().all()
    assert errors[[0, 2]].isfinite().all()
