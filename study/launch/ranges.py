"""What is searched, as Optuna has it: distributions of a study file's ranges, and values drawn from them."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from study.file.search import Range
from study.file.settings import coded


def distribution(interval: Range, whole: bool) -> BaseDistribution:
    """Optuna's distribution of a range, of ``whole`` numbers where it says so."""
    if interval.choices is not None:
        return CategoricalDistribution([coded(value) for value in interval.choices])
    assert interval.low is not None and interval.high is not None
    if whole:
        step = 1 if interval.step is None else int(interval.step)
        return IntDistribution(int(interval.low), int(interval.high), interval.log, step)
    return FloatDistribution(interval.low, interval.high, interval.log, interval.step)


def holds(distribution: BaseDistribution, value: Any) -> bool:
    """Whether ``value`` is one of the distribution's; Optuna's own check wants to know its place among choices."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return bool(distribution._contains(distribution.to_internal_repr(value)))


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """A value of the distribution, which the trial keeps under ``name``."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
