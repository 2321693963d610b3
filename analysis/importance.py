"""Which hyperparameters a search's objective depends on, by Optuna's importance (PED-ANOVA), from the store alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from analysis import selection
from analysis.declarations import Hyperparameter
from analysis.runs import Study

#: points of a criterion below which nothing is said
FEWEST = 10


@lru_cache(maxsize=4)
def by_criterion(study: Study) -> Mapping[str, Mapping[str, float]]:
    """criterion -> name of hyperparameter or setting -> its share, the largest first; all shares are 1 together.

    Of searched criteria with `FEWEST` points or more and two hyperparameters or more that were searched. After Watanabe
    et al. (2023), PED-ANOVA, as `optuna.importance.get_param_importances` computes it from the points' mean objective;
    points outside a constraint count like others.
    """
    found = {}
    for name, (_, points) in selection.search(study).items():
        rows = points[[value is not None for value in points["objective"]]]
        axes = (*study.criterion(name).hyperparameters, *study.varied)
        searched = [each for each in axes if rows[each.name].nunique() > 1 and rows[each.name].notna().all()]
        if len(rows) >= FEWEST and len(searched) > 1:
            found[name] = _shares(study, rows, searched)
    return found


def _shares(study: Study, rows: pd.DataFrame, searched: list[Hyperparameter]) -> Mapping[str, float]:
    distributions = {each.name: _distribution(rows[each.name], each.log) for each in searched}
    direction = ((study.settings.get("search") or {}).get("objective") or {}).get("direction", "maximize")
    level = optuna.logging.get_verbosity()
    # a study that is made is announced
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(direction=direction)
    optuna.logging.set_verbosity(level)
    for _, row in rows.iterrows():
        params = {each: row[each] for each in distributions}
        made.add_trial(
            optuna.create_trial(params=params, distributions=distributions, value=float(row["objective"].mean))
        )
    shares: Mapping[str, float] = optuna.importance.get_param_importances(made)
    return shares


def _distribution(values: pd.Series, log: bool) -> BaseDistribution:
    """The range that was searched, as far as points reach."""
    if not pd.api.types.is_numeric_dtype(values):
        return CategoricalDistribution(sorted(set(values)))
    low, high = float(values.min()), float(values.max())
    return FloatDistribution(low, high, log=log and low > 0)
