"""Means over seeds: Student-t intervals, paired differences with an exact test beside, bands along training.

An interval belongs to all planned seeds. Where one is missing (failed, not trained yet, or not finite) the mean is
given with how many seeds it rests on, and no interval.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special, stats

LEVEL = 0.95
#: two-sided p at which a verdict is given
ALPHA = 0.05
#: seeds up to which every pattern of signs is gone through; of more, `RESAMPLES` drawn ones are
EXACT_SEEDS, RESAMPLES = 20, 99_999
#: decimal places that a number is printed with at most
MOST_DECIMALS = 7
#: differences that spread by less than this share of the values are equal but for rounding
ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds. ``half`` is the half-width of its interval at ``level``, NaN for fewer than two seeds."""

    mean: float
    half: float
    n: int
    planned: int
    level: float = LEVEL

    @property
    def complete(self) -> bool:
        """Whether every planned seed counts, and an interval exists."""
        return self.n == self.planned and self.n >= 2

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def __str__(self) -> str:
        """``0.0820 ± 0.0010``; where seeds are missing ``0.082 (n = 7 of 10)``, or ``n = 0 of 10``."""
        if self.n == 0:
            return f"n = 0 of {self.planned}"
        if not self.complete:
            return _minus(f"{self.mean:.3g} (n = {self.n} of {self.planned})")
        digits = decimals(self.mean, self.half)
        return _minus(f"{_fixed(self.mean, digits)} ± {_fixed(self.half, digits, 1)}")


@dataclass(frozen=True)
class Difference(Estimate):
    """A mean of differences on the same seeds, with two tests that it is 0, both two-sided.

    ``p`` is the paired t-test's: NaN for fewer than two seeds, and where the differences are all equal, since these
    leave no variance to test against. ``exact`` is the sign-flip test's (see `sign_flip`). ``values`` are the
    differences by seed. ``corrected`` is the half-width of the interval for seeds whose training samples overlap (see
    `resampled`), NaN where they don't.
    """

    p: float = np.nan
    exact: float = np.nan
    values: tuple[float, ...] = ()
    corrected: float = np.nan

    def resampled(self, ratio: float) -> Difference:
        """With the corrected resampled interval, for seeds that split one data set anew: n_test/n_train is ``ratio``.

        The variance of the mean is s²·(1/n + ratio) in place of s²/n, since training samples overlap. After Nadeau and
        Bengio (2003), Machine Learning 52.
        """
        return replace(self, corrected=self.half * math.sqrt(1 + self.n * ratio))

    def less(self, shift: float) -> Difference:
        """The same differences, each less ``shift``."""
        return one_sample([value - shift for value in self.values], self.planned, self.level)

    @property
    def bounds(self) -> str:
        """``−0.020 [−0.022, −0.018]``, or ``−0.02000 ± 1e-09`` where no place tells the bounds apart."""
        if not self.complete:
            return super().__str__()
        digits = decimals(self.mean, self.half)
        mean = _fixed(self.mean, digits, sign="+")
        if np.isnan(self.p):
            return _minus(f"{mean}, the same for every seed: exact p = {self.exact:.3g}")
        if self._are_one(digits):
            return _minus(f"{mean} ± {_fixed(self.half, digits, 1)}")
        return _minus(f"{mean} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]")

    def __str__(self) -> str:
        """`bounds` and ``, p < 0.001``, and where there is one ``; corrected [−0.025, −0.015]``."""
        if not self.complete or np.isnan(self.p):
            return self.bounds
        text = f"{self.bounds}, {p_text(self.p)}"
        digits = decimals(self.mean, self.half)
        if np.isfinite(self.corrected) and not self._are_one(digits):
            low, high = (f"{self.mean + side * self.corrected:+.{digits}f}" for side in (-1, 1))
            text += f"; corrected [{low}, {high}]"
        return _minus(text)

    def _are_one(self, digits: int) -> bool:
        """Whether so many places don't tell the bounds apart."""
        return not float(f"{self.half:.{digits}f}")


def p_text(p: float) -> str:
    """``p = 0.012``, or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


@dataclass(frozen=True)
class Ratio:
    """A ratio of two means over the same seeds, with Fieller's interval, which need not lie evenly about it."""

    value: float
    low: float
    high: float
    n: int
    planned: int
    level: float = LEVEL

    @property
    def complete(self) -> bool:
        """Whether every planned seed counts, and an interval exists."""
        return self.n == self.planned and self.n >= 2

    def __str__(self) -> str:
        """``84% [78, 90]``; where seeds are missing ``84% (n = 7 of 10)``."""
        if not self.complete:
            return _minus(f"{100 * self.value:.0f}% (n = {self.n} of {self.planned})")
        return _minus(f"{100 * self.value:.0f}% [{100 * self.low:.0f}, {100 * self.high:.0f}]")


def ratio(numerator: pd.Series, denominator: pd.Series, planned: int, level: float = LEVEL) -> Ratio | None:
    """Ratio of the means of ``numerator`` and ``denominator`` over the seeds (the index) that both have.

    The interval holds every ratio ρ that the paired t-test of numerator − ρ·denominator does not reject. None where
    fewer than two seeds have both, or where the denominator's own mean is not told from 0, since every ratio of its
    sign is then possible. After Fieller (1954), Journal of the Royal Statistical Society B 16.
    """
    pairs = pd.concat([numerator, denominator], axis=1, join="inner").dropna().to_numpy(float)
    pairs = pairs[np.isfinite(pairs).all(1)]
    n = len(pairs)
    if n < 2:
        return None
    above, below = pairs.mean(0)
    bound = special.stdtrit(n - 1, (1 + level) / 2) ** 2 * np.cov(pairs, rowvar=False) / n
    # the interval's ends are the roots of a·ρ² − 2b·ρ + c
    a, b, c = below**2 - bound[1, 1], above * below - bound[0, 1], above**2 - bound[0, 0]
    if a <= 0:
        return None
    half = math.sqrt(max(0.0, b**2 - a * c)) / a
    return Ratio(above / below, b / a - half, b / a + half, n, planned, level)


def estimate(values: ArrayLike, planned: int, level: float = LEVEL) -> Estimate:
    """Mean of ``values``, one per seed, with its Student-t interval on n − 1 degrees of freedom.

    Values that are not finite don't count: n says so. ``planned`` is how many seeds there should be.
    """
    mean, half, n = _interval(np.asarray(values, dtype=float), level)
    return Estimate(mean, half, n, planned, level)


def paired(first: pd.Series, second: pd.Series, planned: int, level: float = LEVEL) -> Difference:
    """Mean of ``first − second`` over the seeds (the index) that both have, with interval and tests."""
    if not first.index.equals(second.index):
        common = first.index.intersection(second.index)
        first, second = first[common], second[common]
    pairs = np.abs([first.to_numpy(float), second.to_numpy(float)])
    scale = float(pairs.max(where=np.isfinite(pairs), initial=0))
    return one_sample(first.to_numpy(float) - second.to_numpy(float), planned, level, scale)


def one_sample(values: ArrayLike, planned: int, level: float = LEVEL, scale: float = 0.0) -> Difference:
    """Mean of ``values``, one per seed, with its interval and the tests that it is 0.

    ``scale`` is the size of the numbers that the values were computed from, by which rounding is told from variance.
    """
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    mean, half, n = _interval(numbers, level)
    p = exact = np.nan
    if n >= 2:
        exact = sign_flip(numbers)
        if _varies(numbers, scale):
            p = float(2 * special.stdtr(n - 1, -abs(mean) / _error(numbers)))
    return Difference(mean, half, n, planned, level, p, exact, tuple(map(float, numbers)))


def sign_flip(values: ArrayLike, larger: bool = False) -> float:
    """p of the exact test that ``values`` are symmetric about 0, by the size of their mean; ``larger``: one-sided.

    The share of the 2^n patterns of signs whose mean is as far from 0, so never below 2^(1−n), one-sided 2^−n. Beyond
    `EXACT_SEEDS` values it is that of `RESAMPLES` drawn patterns. After Fisher (1935), The Design of Experiments, §21.
    """
    values = np.asarray(values, dtype=float)
    if len(values) > EXACT_SEEDS:
        test = stats.permutation_test(
            (values,),
            lambda sample, axis: sample.mean(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=1000,
            alternative="greater" if larger else "two-sided",
            rng=np.random.default_rng(0),
        )
        return float(test.pvalue)
    # sums of the same numbers in another order differ by rounding
    least = (values.sum() if larger else abs(values.sum())) - 1e-9 * np.abs(values).sum()
    if not larger and least <= 0:
        return 1.0
    # of the sums of one half of the values, sorted, those that take each of the other half's as far
    half = len(values) // 2
    first, second = _signed_sums(values[:half]), np.sort(_signed_sums(values[half:]))
    reached = len(first) * len(second) - np.searchsorted(second, least - first).sum()
    return float((1 if larger else 2) * reached / 2 ** len(values))


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """The sums (2^n) of ``values`` (n) under every pattern of signs."""
    sums: np.ndarray = _patterns(len(values)) @ values
    return sums


@cache
def _patterns(n: int) -> np.ndarray:
    """Every pattern (2^n, n) of signs, as 1 and −1."""
    return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)


def sign_flip_best(values: ArrayLike, option: int) -> float:
    """p of the exact test of the ``option`` that was singled out of all columns of ``values`` (seeds × options).

    The share of the patterns of signs, one sign a seed for all options alike, in which any option's mean is as far from
    0, in units of its own spread, as that of ``option`` is: however it was singled out, one of nothing but noise is
    found in at most so many cases, and options that go together count as less than so many. Patterns as of `sign_flip`.
    After Westfall and Young (1993), Resampling-based multiple testing.
    """
    given = np.asarray(values, dtype=float)
    # the sum of squares is the same in every pattern, so that a t-statistic rises with the mean alone
    sizes = np.linalg.norm(given, axis=0)
    scaled: np.ndarray = np.divide(given, sizes, out=np.zeros_like(given), where=sizes > 0)
    seeds = len(scaled)
    if seeds > EXACT_SEEDS:
        patterns = np.random.default_rng(0).integers(0, 2, (RESAMPLES, seeds), np.int8)
    else:
        # the pattern with all signs turned has the same distances: the first seed keeps its own
        patterns = (np.arange(2 ** max(seeds - 1, 0))[:, None] >> np.arange(seeds)[None]).astype(np.int8) & 1
    least = abs(scaled[:, option].sum()) - 1e-9
    counts = [
        (np.abs((1 - 2.0 * part) @ scaled).max(1) >= least).sum()
        for part in np.array_split(patterns, 1 + len(patterns) // 2**14)
    ]
    drawn = seeds > EXACT_SEEDS
    return float((sum(counts) + drawn) / (len(patterns) + drawn))


def below(value: Difference, bound: float) -> tuple[float, float]:
    """One-sided p that the mean is at or above ``bound``: of the t-test (NaN without variance), and the exact one."""
    return _below(np.array(value.values) - bound)


def within(value: Difference, width: float) -> tuple[float, float]:
    """p of the equivalence test that the mean lies within ± ``width``: of t-tests (NaN without variance), and exact.

    Two one-sided tests (TOST), of which the larger p counts. After Schuirmann (1987), J. Pharmacokinetics Biopharm. 15.
    """
    (high, high_exact), (low, low_exact) = below(value, width), _below(-np.array(value.values) - width)
    return float(np.maximum(high, low)), max(high_exact, low_exact)


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's adjusted p of a family of tests, in their order: the chance of one false finding among all is held.

    After Holm (1979), Scandinavian Journal of Statistics 6. Those that are NaN stay so and don't count.
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)[: int(np.isfinite(p).sum())]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def smallest_p(n: int, larger: bool = False) -> float:
    """The smallest p that `sign_flip` can give ``n`` values: 2^(1−n), one-sided 2^−n."""
    return 2.0 ** (-n if larger else 1 - n)


def chosen_on_others(values: pd.DataFrame, largest: bool = False) -> pd.Series:
    """By seed, the row of ``values`` (options × seeds) whose mean over the other seeds is smallest, or ``largest``.

    Whoever takes the best of what he tests finds one in noise alone. None where the other seeds have no value. What is
    measured there has no bias; but the choices share seeds, so that an interval over it is too narrow, and a test finds
    two to five times as much as it should: a verdict needs `chosen_apart`.
    """
    chosen: dict[object, object] = {}
    for seed in values:
        means = values.drop(columns=[seed]).mean(axis=1)
        known = means.notna().any()
        chosen[seed] = (means.idxmax() if largest else means.idxmin()) if known else None
    return pd.Series(chosen, dtype=object)


def chosen_apart(values: pd.DataFrame, largest: bool = False) -> pd.Series:
    """The row of ``values`` (options × seeds) that is best over the first two fifths of the seeds, for the others.

    By seed, for those alone that are left to test on (see `left_to_test`). Best is the smallest mean, or the
    ``largest``.
    """
    seeds = sorted(values.columns)
    choosing = len(seeds) - left_to_test(len(seeds))
    places = values.columns.tolist()
    numbers = values.to_numpy(float)[:, [places.index(seed) for seed in seeds[:choosing]]]
    counts = (~np.isnan(numbers)).sum(axis=1)
    means = np.divide(np.nansum(numbers, axis=1), counts, out=np.full(len(numbers), np.nan), where=counts > 0)
    known = bool(np.isfinite(means).any())
    best = values.index[int(np.nanargmax(means) if largest else np.nanargmin(means))] if known else None
    return pd.Series(best, index=seeds[choosing:], dtype=object)


def left_to_test(seeds: int) -> int:
    """How many of so many seeds are left to test what the others chose: of ten six, the fewest that can decide."""
    return seeds - 2 * seeds // 5


def at(values: pd.DataFrame, chosen: pd.Series) -> pd.Series:
    """By seed, ``values`` (options × seeds) at the option that was chosen for that seed; NaN where there is none."""
    numbers = values.to_numpy(float)
    columns: dict[Any, int] = {seed: place for place, seed in enumerate(values.columns)}
    rows = {option: numbers[place] for place, option in enumerate(values.index)}
    known = [rows[option][columns[seed]] if option in rows else np.nan for seed, option in chosen.items()]
    return pd.Series(known, chosen.index, dtype=float)


def band(values: pd.DataFrame, planned: int, level: float = LEVEL) -> pd.DataFrame:
    """Mean and interval epoch by epoch of ``values`` (epochs × seeds): columns mean, low, high, n.

    ``low`` and ``high`` are NaN at epochs that lack a planned seed.
    """
    finite = values.where(np.isfinite(values))
    n = finite.notna().sum(axis=1)
    mean = finite.mean(axis=1)
    half = finite.std(axis=1) / np.sqrt(n) * stats.t.ppf((1 + level) / 2, (n - 1).clip(lower=1))
    half = half.where((n == planned) & (n >= 2))
    return pd.DataFrame({"mean": mean, "low": mean - half, "high": mean + half, "n": n})


def decimals(mean: float, half: float) -> int:
    """Decimal places at which ``half`` has two significant digits, or ``mean`` four where that is fewer.

    0 to `MOST_DECIMALS`, at which ``half`` keeps one digit at least where they show one.
    """
    places = [digits - 1 - np.floor(np.log10(abs(value))) for value, digits in ((half, 2), (mean, 4)) if value]
    needed = min(places, default=4)
    first = -np.floor(np.log10(abs(half))) if half else 0
    return int(np.clip(max(needed, first) if first <= MOST_DECIMALS else needed, 0, MOST_DECIMALS))


def _fixed(value: float, digits: int, significant: int = 3, sign: str = "-") -> str:
    """``value`` to so many places, or to so many ``significant`` digits where those would show a 0 that it is not."""
    text = f"{value:{sign}.{digits}f}"
    # beside a wide interval a mean may well be 0.0
    hidden = value and not float(text) and (significant == 1 or digits == MOST_DECIMALS)
    return f"{value:{sign}.{significant}g}" if hidden else text


def _minus(text: str) -> str:
    """``text`` with minus signs in place of hyphens, exponents excepted."""
    return re.sub(r"(?<!e)-(?=\d)", "−", text)


def _below(less: np.ndarray) -> tuple[float, float]:
    """One-sided p that the mean of ``less`` is at or above 0: of the t-test, and the exact one."""
    known = len(less) >= 2 and _varies(less)
    p = float(special.stdtr(len(less) - 1, less.mean() / _error(less))) if known else np.nan
    return p, sign_flip(-less, larger=True)


def _varies(values: np.ndarray, scale: float = 0.0) -> bool:
    """Whether ``values`` spread by more than rounding of numbers of that ``scale``, or of their own."""
    return bool(np.ptp(values) > ROUNDING * max(scale, float(np.abs(values).max())))


def _error(values: np.ndarray) -> float:
    """Standard error of the mean; `scipy.stats.sem` takes forty times as long, `np.std` twice."""
    off = values - values.sum() / len(values)
    return math.sqrt(off @ off / (len(values) - 1) / len(values))


def _interval(values: np.ndarray, level: float) -> tuple[float, float, int]:
    values = values[np.isfinite(values)]
    n = len(values)
    if n == 0:
        return np.nan, np.nan, 0
    if n == 1:
        return float(values[0]), np.nan, 1
    return float(values.mean()), _quantile(n - 1, level) * _error(values), n


@cache
def _quantile(freedom: int, level: float) -> float:
    """Of Student's t: how far from 0 its middle ``level`` reaches."""
    return float(special.stdtrit(freedom, (1 + level) / 2))
