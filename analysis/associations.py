"""Whether two metrics go with each other, judged free of trend.

Along training most metrics drift, and two independent series that drift correlate strongly. So a verdict comes from
what drift alone cannot give: the changes from epoch to epoch, and the settings at the last epoch.
"""

from __future__ import annotations

from math import factorial

import numpy as np
import pandas as pd
from scipy import stats

from analysis import claims, selection, statistics, trajectories
from analysis.claims import FAILS, HOLDS, NO_VERDICT, UNTESTED, Evidence, Verdict
from analysis.runs import Study

#: settings up to which every order is gone through; of more, `RESAMPLES` drawn ones are
EXACT_SETTINGS, RESAMPLES = 7, 9_999


def increments(first: pd.DataFrame, second: pd.DataFrame) -> pd.Series:
    """Spearman's correlation of the changes of two metrics (epochs × seeds) between the epochs of both, by seed.

    NaN where one changes by the same at every epoch.
    """
    epochs = first.index.intersection(second.index)
    changes = [_unrounded(each.loc[epochs]).diff().iloc[1:].round(12) for each in (first, second)]
    return trajectories.rank_correlations(*changes)


def across_settings(study: Study, first: str, second: str) -> tuple[float, float, int]:
    """Spearman's correlation of two metrics over the settings, its exact p (two-sided), and how many settings.

    Each setting counts once, by its mean over seeds at the last epoch: its seeds share what the setting does. p is
    the share of the orders of the settings whose correlation is as far from 0.
    """
    tables = [selection.summary(study, metric) for metric in (first, second)]
    trials = [trial for trial in tables[0] if all(trial in table and table[trial].complete for table in tables)]
    x, y = (stats.rankdata([table[trial].mean for trial in trials]) for table in tables)
    if len(trials) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan, np.nan, len(trials)
    found = stats.permutation_test(
        (x,),
        lambda order, axis=-1: _pearson(order, y, axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=RESAMPLES if len(trials) > EXACT_SETTINGS else np.inf,
        batch=6000,
        rng=np.random.default_rng(0),
    )
    return float(found.statistic), float(found.pvalue), len(trials)


def by_increments(study: Study, first: str, second: str, criterion: str, sign: int) -> Verdict:
    """Along the criterion's training, the changes of two metrics correlate with that ``sign``."""
    measure = f"rank correlation of the changes from epoch to epoch, {_named(study, first, second, criterion)}"
    curves = [trajectories.by_criterion(study, metric).get(criterion) for metric in (first, second)]
    if curves[0] is None or curves[1] is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    if len(curves[0].index.intersection(curves[1].index)) < 4:
        return Verdict(measure, UNTESTED, "needs four epochs")
    found = statistics.one_sample(increments(curves[0], curves[1]), wanted(study, criterion))
    return claims.conclude(study, measure, claims.decide(found, sign), str(found), (criterion,))


def by_settings(study: Study, first: str, second: str, sign: int) -> Verdict:
    """At the last epoch, over the settings that were run, two metrics correlate with that ``sign``."""
    measure = f"rank correlation over the settings at the last epoch, {_named(study, first, second)}"
    correlation, p, settings = across_settings(study, first, second)
    if np.isnan(correlation):
        return Verdict(measure, UNTESTED, "needs three settings of which both were measured")
    note = "" if 2 / factorial(settings) <= statistics.ALPHA else f"{settings} settings cannot decide"
    evidence = Evidence(HOLDS if correlation * sign > 0 else FAILS, p, p, note)
    return claims.conclude(study, measure, evidence, f"{correlation:.3f} over {settings} settings")


def along_training(study: Study, first: str, second: str, criterion: str, method: str = "spearman") -> Verdict:
    """The paper's own form: the correlation along training, which drift alone gives; a number without a verdict."""
    kind = "rank correlation" if method == "spearman" else "correlation"
    measure = f"{kind} along training, {_named(study, first, second, criterion)}"
    curves = [trajectories.by_criterion(study, metric).get(criterion) for metric in (first, second)]
    if curves[0] is None or curves[1] is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    epochs = curves[0].index.intersection(curves[1].index)
    values = curves[0].loc[epochs].corrwith(curves[1].loc[epochs], method=method)  # type: ignore[arg-type]
    found = statistics.estimate(values, wanted(study, criterion))
    return Verdict(measure, NO_VERDICT, f"{found}; independent series that drift correlate too")


def wanted(study: Study, criterion: str) -> int:
    """How many seeds the trial that speaks for ``criterion`` should have."""
    return selection.planned(study, selection.headline(study)[criterion].trial)


def _unrounded(values: pd.DataFrame) -> pd.DataFrame:
    """By seed in units of its range, in which rounding is far below the twelfth digit."""
    span = values.max() - values.min()
    return values / span.where(span > 0, 1.0)


def _pearson(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    centred = [each - each.mean(axis=axis, keepdims=True) for each in (first, second)]
    scale = np.sqrt((centred[0] ** 2).sum(axis=axis) * (centred[1] ** 2).sum(axis=axis))
    return np.asarray((centred[0] * centred[1]).sum(axis=axis) / scale)


def _named(study: Study, first: str, second: str, criterion: str = "") -> str:
    names = f"{study.metric(first).label} and {study.metric(second).label}"
    return f"{names}, {study.criterion(criterion).label}" if criterion else names
