"""Means over seeds: Student-t intervals, paired differences, bands along training.

An interval belongs to all planned seeds. Where one is missing (failed, not trained yet, or not finite) the mean is
given with how many seeds it rests on, and no interval.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95


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
        return _minus(f"{self.mean:.{digits}f} ± {self.half:.{digits}f}")


@dataclass(frozen=True)
class Difference(Estimate):
    """A mean of differences on the same seeds; ``p`` of the paired t-test, two-sided, NaN for fewer than two."""

    p: float = np.nan

    def __str__(self) -> str:
        """``−0.020 [−0.022, −0.018], p < 0.001``."""
        if not self.complete:
            return super().__str__()
        digits = decimals(self.mean, self.half)
        low, mean, high = (f"{value:+.{digits}f}" for value in (self.low, self.mean, self.high))
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return _minus(f"{mean} [{low}, {high}], {p}")


def estimate(values: ArrayLike, planned: int, level: float = LEVEL) -> Estimate:
    """Mean of ``values``, one per seed, with its Student-t interval on n − 1 degrees of freedom.

    Values that are not finite don't count: n says so. ``planned`` is how many seeds there should be.
    """
    mean, half, n = _interval(np.asarray(values, dtype=float), level)
    return Estimate(mean, half, n, planned, level)


def paired(first: pd.Series, second: pd.Series, planned: int, level: float = LEVEL) -> Difference:
    """Mean of ``first − second`` over the seeds (the index) that both have, with interval and paired t-test."""
    difference = first - second
    finite = difference[np.isfinite(difference)]
    mean, half, n = _interval(finite.to_numpy(float), level)
    p = np.nan
    if n >= 2:
        error = float(stats.sem(finite))
        # differences that are all equal leave no variance to test against
        p = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error > 0 else float(mean == 0)
    return Difference(mean, half, n, planned, level, p)


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
    """Decimal places at which ``half`` has two significant digits, or ``mean`` four where that is fewer; 0 to 7."""
    places = [digits - 1 - np.floor(np.log10(abs(value))) for value, digits in ((half, 2), (mean, 4)) if value]
    return int(np.clip(min(places, default=4), 0, 7))


def _minus(text: str) -> str:
    """``text`` with minus signs in place of hyphens, exponents excepted."""
    return re.sub(r"(?<!e)-(?=\d)", "−", text)


def _interval(values: np.ndarray, level: float) -> tuple[float, float, int]:
    values = values[np.isfinite(values)]
    n = len(values)
    if n == 0:
        return np.nan, np.nan, 0
    if n == 1:
        return float(values[0]), np.nan, 1
    half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return float(values.mean()), float(half), n
