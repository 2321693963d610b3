"""Intervals, paired differences and bands, against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.statistics import (
    at,
    band,
    chosen_apart,
    chosen_on_others,
    decimals,
    estimate,
    holm,
    left_to_test,
    one_sample,
    paired,
    sign_flip,
    smallest_p,
    within,
)


@pytest.fixture
def seeds() -> tuple[pd.Series, pd.Series]:
    random = np.random.default_rng(1)
    shared = random.normal(0.1, 0.02, 10)
    return pd.Series(shared + random.normal(0.01, 0.005, 10)), pd.Series(shared)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_interval_is_scipys(seeds: tuple[pd.Series, pd.Series], level: float) -> None:
    values = seeds[0]
    low, high = stats.t.interval(level, len(values) - 1, values.mean(), stats.sem(values))
    interval = estimate(values, 10, level)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)
    assert (interval.n, interval.complete) == (10, True)


def test_interval_of_two_seeds_by_hand() -> None:
    # sd = sqrt(2)/10, sem = 1/10, t(1, 97.5%) = 12.7062047364
    interval = estimate([0.0, 0.2], 2)
    assert interval.mean == pytest.approx(0.1)
    assert interval.half == pytest.approx(1.27062047364)


def test_no_interval_without_every_planned_seed() -> None:
    interval = estimate([0.1, 0.2, np.nan], 3)
    assert (interval.n, interval.complete) == (2, False)
    assert str(interval) == "0.15 (n = 2 of 3)"
    assert str(estimate([0.25], 1)) == "0.25 (n = 1 of 1)"
    assert str(estimate([np.nan], 4)) == "n = 0 of 4"
    assert np.isnan(estimate([0.25], 1).half)


def test_paired_difference_is_scipys(seeds: tuple[pd.Series, pd.Series]) -> None:
    first, second = seeds
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    difference = paired(first, second, 10)
    assert difference.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    # pairing uses what the seeds share: the unpaired interval is wider
    assert difference.half < estimate(first, 10).half


def test_paired_difference_takes_the_seeds_of_both() -> None:
    first = pd.Series({0: 1.0, 1: 2.0, 2: 4.0, 5: 9.0})
    second = pd.Series({2: 1.0, 1: 1.5, 0: np.inf, 7: 9.0})
    difference = paired(first, second, 4)
    assert (difference.mean, difference.n, difference.complete) == (1.75, 2, False)
    assert str(difference) == "1.75 (n = 2 of 4)"


def test_equal_differences_leave_no_variance_to_test_against() -> None:
    values = pd.Series([1.0, 2.0, 4.0])
    assert np.isnan(paired(values, values, 3).p) and paired(values, values, 3).exact == 1
    # 1.1 − 0.1 and 2.1 − 1.1 differ by rounding
    difference = paired(pd.Series([1.1, 2.1]), pd.Series([0.1, 1.1]), 2)
    assert np.isnan(difference.p) and difference.exact == 0.5
    assert "the same for every seed: exact p = 0.5" in str(difference)


def test_less_shifts_every_seed() -> None:
    difference = one_sample([0.1, 0.2, 0.4, 0.3], 4).less(0.3)
    expected = stats.ttest_1samp([0.1, 0.2, 0.4, 0.3], 0.3)
    assert (difference.mean, difference.p) == (pytest.approx(-0.05), pytest.approx(expected.pvalue))


def test_difference_in_words() -> None:
    first, second = pd.Series([0.10, 0.11, 0.12]), pd.Series([0.20, 0.22, 0.21])
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    text = f"{-0.1:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}], p = {expected.pvalue:.3f}"
    assert str(paired(first, second, 3)) == text.replace("-", "−")


def test_corrected_interval_by_hand() -> None:
    """1, 2, 3, 4 on 30 : 70 splits: s² = 5/3, t(3) = 3.1824, half = 3.1824·√(5/3·(1/4 + 3/7)) = 3.3844."""
    value = one_sample([1.0, 2.0, 3.0, 4.0], planned=4).resampled(3 / 7)
    assert value.corrected == pytest.approx(3.3844, abs=1e-4)
    # the mean, the plain interval and the tests stay
    assert value.half == pytest.approx(3.1824 * (5 / 12) ** 0.5, abs=1e-4)
    assert str(value) == "+2.5 [+0.4, +4.6], p = 0.030; corrected [−0.9, +5.9]"


def test_band_is_the_interval_of_every_epoch() -> None:
    values = pd.DataFrame(np.random.default_rng(2).normal(size=(5, 4)), index=range(1, 6))
    values.iloc[3, 1] = np.nan
    table = band(values, 4)
    for epoch in (1, 2, 3, 5):
        expected = estimate(values.loc[epoch], 4)
        row = table.loc[epoch, ["mean", "low", "high"]]
        assert list(row) == pytest.approx([expected.mean, expected.low, expected.high])
    # the epoch that lacks a seed keeps its mean and has no interval
    assert table.loc[4, "n"] == 3
    assert table.loc[4, "mean"] == pytest.approx(values.loc[4].mean())
    assert table.loc[4, ["low", "high"]].isna().all()


@pytest.mark.parametrize(
    ("mean", "half", "places"),
    [(0.1, 0.0010, 4), (0.1, 0.065, 3), (152.3, 3.2, 1), (0.5, 0.0, 4), (0.076, 1e-12, 5), (25.31, 0.001, 3)],
)
def test_decimals(mean: float, half: float, places: int) -> None:
    assert decimals(mean, half) == places


@pytest.mark.parametrize("n", [2, 5, 9])
def test_sign_flip_is_scipys(n: int) -> None:
    values = np.random.default_rng(n).normal(0.5, 1, n)
    for larger, alternative in ((False, "two-sided"), (True, "greater")):
        expected = stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative
        )
        # scipy doubles the smaller tail, which the symmetry makes the same
        assert sign_flip(values, larger) == pytest.approx(expected.pvalue, rel=1e-12)


def test_sign_flip_by_hand() -> None:
    # of ±1 ±2 ±3, sums of 6 or more from 0: 6 and −6; of 4 or more: 6, 4, −4, −6
    assert sign_flip([1, 2, 3]) == 2 / 8
    assert sign_flip([-1, 2, 3]) == 4 / 8
    assert sign_flip([1, 2, 3], larger=True) == 1 / 8
    assert sign_flip([0, 0, 0]) == 1
    assert [sign_flip([0.01] * n) for n in (2, 3, 5, 10)] == [0.5, 0.25, 0.0625, 2 / 1024]
    assert [smallest_p(n) for n in (3, 5, 10)] == [0.25, 0.0625, 2 / 1024]


def test_sign_flip_of_many_seeds_draws_patterns() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, 25)
    assert sign_flip(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)
    assert sign_flip(np.ones(25)) < 0.001


def test_a_small_half_width_is_not_zero() -> None:
    # t(1, 97.5%) = 12.706: 12.706 · 0.0001
    assert str(estimate([25.3099, 25.3101], 2)) == "25.310 ± 0.001"
    assert str(estimate([25.31, 25.31 + 1e-9], 2)).endswith("± 6e-09")
    assert str(estimate([25.31, 25.31], 2)) == "25.31 ± 0.00"
    # smaller than any place
    assert str(estimate([1e-9, 1.2e-9], 2)) == "1.1e-09 ± 1e-09"
    assert str(one_sample([1e-9, 1.1e-9, 1.3e-9], 3)) == "+1.13e-09 ± 4e-10, p = 0.006"
    assert str(one_sample([-0.02, -0.02 - 1e-10, -0.02], 3)).startswith("−0.02000 ± 1e-10, p < 0.001")
    assert str(one_sample([1e-12] * 3, 3)).startswith("+1e-12, the same for every seed")
    assert str(estimate([-5.0, 5.002], 2)) == "0 ± 64"


def test_equivalence_is_two_one_sided_tests() -> None:
    values = np.random.default_rng(3).normal(0.01, 0.02, 10)
    # as statsmodels' ttost_paired has it: the larger p of two one-sided t-tests against the bounds
    above = stats.ttest_1samp(values, -0.03, alternative="greater").pvalue
    under = stats.ttest_1samp(values, 0.03, alternative="less").pvalue
    p, exact = within(one_sample(values, 10), 0.03)
    assert p == pytest.approx(max(above, under), rel=1e-9)
    assert exact == max(sign_flip(values + 0.03, larger=True), sign_flip(0.03 - values, larger=True))


def test_holm_by_hand() -> None:
    # .01·4, .02·3, .03·2 (not below the one before), .5·1
    assert holm([0.02, 0.5, np.nan, 0.01, 0.03]) == pytest.approx([0.06, 0.5, np.nan, 0.04, 0.06], nan_ok=True)
    assert holm([0.4, 0.9]).tolist() == [0.8, 0.9]
    assert len(holm([])) == 0


@pytest.mark.slow
def test_noise_has_no_best_when_others_choose_it() -> None:
    noise = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 400)))
    gaps = at(noise, chosen_on_others(noise))
    assert abs(gaps.mean()) < 3 * stats.sem(gaps) < 0.2
    # by hand: without seed 0 the second row is lowest, without seed 1 the first
    table = pd.DataFrame({0: [1.0, 9.0], 1: [5.0, 2.0]}, index=["a", "b"])
    assert chosen_on_others(table).tolist() == ["b", "a"]
    assert at(table, chosen_on_others(table)).tolist() == [9.0, 5.0]


@pytest.mark.parametrize(("seeds", "left"), [(1, 1), (2, 2), (5, 3), (10, 6), (20, 12)])
def test_choosing_and_testing_share_no_seed(seeds: int, left: int) -> None:
    values = pd.DataFrame(np.random.default_rng(seeds).normal(size=(30, seeds)))
    chosen = chosen_apart(values)
    assert left_to_test(seeds) == left and list(chosen.index) == list(range(seeds))[-left:]
    if left < seeds:
        assert set(chosen) == {values.iloc[:, : seeds - left].mean(axis=1).idxmin()}
    else:
        assert at(values, chosen).isna().all()


def test_of_noise_a_choice_apart_finds_as_much_as_it_should() -> None:
    random, studies = np.random.default_rng(0), 400
    rejected = 0
    for _ in range(studies):
        noise = pd.DataFrame(random.normal(size=(30, 10)))
        gap = noise.iloc[-1] - at(noise, chosen_apart(noise))
        rejected += one_sample(gap.dropna(), 6).p <= 0.05
    # chosen on all other seeds it is 17%
    assert rejected <= stats.binom.ppf(0.999, studies, 0.05)
