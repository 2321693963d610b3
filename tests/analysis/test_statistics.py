"""Intervals, paired differences and bands, against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.statistics import band, decimals, estimate, paired


@pytest.fixture
def seeds() -> tuple[pd.Series, pd.Series]:
    random = np.random.default_rng(1)
    shared = random.normal(0.1, 0.02, 10)
    return pd.Series(shared + random.normal(0.01, 0.005, 10)), pd.Series(shared)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_interval_is_scipys(seeds: tuple[pd.Series, pd.Series], level: float) -> None:
    values = seeds[0]
    low, high = stats.t.interval(level, len(values) - 1, values.mean(), stats.sem(values))
    found = estimate(values, 10, level)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert (found.n, found.complete) == (10, True)


def test_interval_of_two_seeds_by_hand() -> None:
    # sd = sqrt(2)/10, sem = 1/10, t(1, 97.5%) = 12.7062047364
    found = estimate([0.0, 0.2], 2)
    assert found.mean == pytest.approx(0.1)
    assert found.half == pytest.approx(1.27062047364)


def test_no_interval_without_every_planned_seed() -> None:
    found = estimate([0.1, 0.2, np.nan], 3)
    assert (found.n, found.complete) == (2, False)
    assert str(found) == "0.15 (n = 2 of 3)"
    assert str(estimate([0.25], 1)) == "0.25 (n = 1 of 1)"
    assert str(estimate([np.nan], 4)) == "n = 0 of 4"
    assert np.isnan(estimate([0.25], 1).half)


def test_paired_difference_is_scipys(seeds: tuple[pd.Series, pd.Series]) -> None:
    first, second = seeds
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    found = paired(first, second, 10)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    # pairing uses what the seeds share: the unpaired interval is wider
    assert found.half < estimate(first, 10).half


def test_paired_difference_takes_the_seeds_of_both() -> None:
    first = pd.Series({0: 1.0, 1: 2.0, 2: 4.0, 5: 9.0})
    second = pd.Series({2: 1.0, 1: 1.5, 0: np.inf, 7: 9.0})
    found = paired(first, second, 4)
    assert (found.mean, found.n, found.complete) == (1.75, 2, False)
    assert str(found) == "1.75 (n = 2 of 4)"


def test_equal_differences_leave_nothing_to_test() -> None:
    values = pd.Series([1.0, 2.0, 4.0])
    assert paired(values, values, 3).p == 1.0
    assert paired(values + 0.5, values, 3).p == 0.0


def test_difference_in_words() -> None:
    first, second = pd.Series([0.10, 0.11, 0.12]), pd.Series([0.20, 0.22, 0.21])
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    text = f"{-0.1:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}], p = {expected.pvalue:.3f}"
    assert str(paired(first, second, 3)) == text.replace("-", "−")


def test_band_is_the_interval_of_every_epoch() -> None:
    values = pd.DataFrame(np.random.default_rng(2).normal(size=(5, 4)), index=range(1, 6))
    values.iloc[3, 1] = np.nan
    found = band(values, 4)
    for epoch in (1, 2, 3, 5):
        expected = estimate(values.loc[epoch], 4)
        row = found.loc[epoch, ["mean", "low", "high"]]
        assert list(row) == pytest.approx([expected.mean, expected.low, expected.high])
    # the epoch that lacks a seed keeps its mean and has no interval
    assert found.loc[4, "n"] == 3
    assert found.loc[4, "mean"] == pytest.approx(values.loc[4].mean())
    assert found.loc[4, ["low", "high"]].isna().all()


@pytest.mark.parametrize(
    ("mean", "half", "places"), [(0.1, 0.0010, 4), (0.1, 0.065, 3), (152.3, 3.2, 1), (0.5, 0.0, 4), (0.076, 1e-12, 5)]
)
def test_decimals(mean: float, half: float, places: int) -> None:
    assert decimals(mean, half) == places
