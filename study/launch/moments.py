"""Means over a trial's seeds with their standard errors, of seeds that are trained at different times too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

#: by metric: the mean over seeds, and its standard error, which one seed has not
Moments = tuple[Mapping[str, float], Mapping[str, float]]
#: the same as Optuna's database has it: None stands for what is not finite
Kept = tuple[Mapping[str, float | None], Mapping[str, float | None]]


def kept(values: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers that JSON can hold: not finite is null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def moments_of(values: Mapping[str, Sequence[float]]) -> Moments:
    """The moments of ``values``, metric -> one a seed."""
    means = {name: sum(each) / len(each) for name, each in values.items()}
    errors = {
        name: float(np.std(each, ddof=1) / math.sqrt(len(each))) for name, each in values.items() if len(each) > 1
    }
    return means, errors


def pooled(first: Kept, count: int, second: Moments, more: int) -> Moments:
    """The moments of ``count`` seeds and ``more`` others together, of the metrics that both have."""
    means: dict[str, float] = {}
    errors: dict[str, float] = {}
    total = count + more
    for name in (name for name in second[0] if name in first[0]):
        parts = [
            (seeds, _number(known[name]), _number(spread.get(name, 0.0)))
            for seeds, (known, spread) in ((count, first), (more, second))
        ]
        mean = sum(seeds * each for seeds, each, _ in parts) / total
        # a standard error is that of a variance by n - 1
        squares = sum(seeds * (seeds - 1) * error**2 + seeds * (each - mean) ** 2 for seeds, each, error in parts)
        means[name], errors[name] = mean, math.sqrt(squares / (total - 1) / total)
    return means, errors


def _number(value: float | None) -> float:
    return math.nan if value is None else value
