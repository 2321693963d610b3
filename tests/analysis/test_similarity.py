"""Linear CKA against its definition by kernels, and what it does not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import similarity
from benchmarks.verdicts import Trial, made

RANDOM = np.random.default_rng(0)
FIRST, SECOND = RANDOM.normal(size=(30, 4)) + 3, RANDOM.normal(size=(30, 7))
SECOND[:, :2] += FIRST[:, :2]


def hsic(first: np.ndarray, second: np.ndarray) -> float:
    centring = np.eye(len(first)) - 1 / len(first)
    return float(np.trace(first @ first.T @ centring @ second @ second.T @ centring))


def test_cka_is_the_normalised_hsic_of_linear_kernels() -> None:
    expected = hsic(FIRST, SECOND) / np.sqrt(hsic(FIRST, FIRST) * hsic(SECOND, SECOND))
    assert similarity.linear_cka(FIRST, SECOND) == pytest.approx(expected) and 0.1 < expected < 0.9


def test_cka_knows_no_rotation_and_no_scale() -> None:
    rotation = np.linalg.qr(RANDOM.normal(size=(4, 4)))[0]
    assert similarity.linear_cka(FIRST, 5 * FIRST @ rotation - 2) == pytest.approx(1)
    assert np.isnan(similarity.linear_cka(FIRST, np.ones((30, 2))))


def test_trials_are_compared_on_seeds_of_both() -> None:
    trials: list[Trial] = [("ce", {}, "baseline"), ("ls", {"sigma": 0.4}, "baseline")]
    values = {"accuracy/coarse": np.ones((2, 3, 1))}
    diverged = np.full_like(FIRST, np.nan)
    arrays = {
        (0, 0): {"features": FIRST},
        (1, 0): {"features": SECOND},
        (0, 1): {"features": FIRST},
        (1, 1): {"features": diverged},
        (0, 2): {"features": FIRST},
        (1, 2): {"features": FIRST[:5]},
    }
    similarities = similarity.of_trials(made("own", trials, values, arrays=arrays), 0, 1)
    assert similarities.to_dict() == {0: pytest.approx(similarity.linear_cka(FIRST, SECOND))}


def test_features_that_are_kept_of_every_benchmark_are_compared_where_it_keeps_none() -> None:
    trials: list[Trial] = [("ce", {}, "baseline"), ("ls", {"sigma": 0.4}, "baseline")]
    halves = FIRST.astype(np.float16), SECOND.astype(np.float16)
    arrays = {(trial, 0): {"heldout-features": half} for trial, half in enumerate(halves)}
    found = similarity.of_trials(made("own", trials, {"a": np.ones((2, 1, 1))}, arrays=arrays), 0, 1)
    assert found[0] == pytest.approx(similarity.linear_cka(FIRST, SECOND), abs=1e-3)
