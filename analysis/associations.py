"""Whether two metrics go with each other, judged free of what all seeds and settings share.

Along training most metrics drift or level off, and over the values of a hyperparameter most metrics follow it: two that
have nothing to do with each other correlate strongly. So a verdict comes from what such a course cannot give. Is the
correlation on the same seed another than between different seeds, which share the course, the setting and the epoch?
"""

from __future__ import annotations

from functools import cache
from itertools import permutations
from math import factorial

import numpy as np
import pandas as pd
from scipy import stats

from analysis import claims, selection, statistics, trajectories
from analysis.claims import FAILS, HOLDS, NO_VERDICT, UNDECIDED, UNTESTED, Evidence, Verdict
from analysis.runs import Study

#: seeds up to which every order is gone through; of more, `RESAMPLES` drawn ones are
EXACT_SEEDS, RESAMPLES = 7, 9_999


def increments(first: pd.DataFrame, second: pd.DataFrame) -> np.ndarray:
    """Spearman's correlation (S, S) of the changes of ``first`` under each seed with those of ``second`` under each.

    Changes are those between the epochs of both (epochs × seeds), less their mean over the seeds at that epoch. Seeds
    with a value that is not finite are left out; NaN where the changes of one do not vary.
    """
    epochs, seeds = first.index.intersection(second.index), first.columns.intersection(second.columns)
    tables = [_taken(curves, epochs, seeds) for curves in (first, second)]
    whole = np.isfinite(tables).all(axis=(0, 1))
    scores = []
    for values in (table[:, whole] for table in tables):
        changes = np.diff(values, axis=0)
        span = np.ptp(values, axis=0).max(initial=0) or 1.0
        # in units of their range rounding is far below the twelfth digit
        own = ((changes - changes.mean(axis=1, keepdims=True)) / span).round(12)
        scores.append(standard(own))
    return np.asarray(scores[0].T @ scores[1])


def across_seeds(study: Study, first: str, second: str) -> tuple[np.ndarray, int]:
    """The same (S, S) for two metrics over the seeds within a setting at the last epoch, and of how many settings.

    A seed's row and column hold what it adds to the settings' mean correlation, times the number of seeds. Only
    settings with all their seeds count, and those of the most frequent seeds.
    """
    tables = [selection.values(study, metric) for metric in (first, second)]
    planned = {trial: selection.planned_seeds(study, int(trial)) for trial in tables[0].index}
    if not planned:
        return np.full((0, 0), np.nan), 0
    common = max(planned.values(), key=list(planned.values()).count)
    rows = [trial for trial, seeds in planned.items() if seeds == common]
    # a setting that lacks a seed, or where one metric is the same for all, has ranks that are NaN
    x, y = (standard(table.reindex(index=rows, columns=list(common)).to_numpy(float).T) for table in tables)
    known = np.isfinite(x).all(axis=0) & np.isfinite(y).all(axis=0)
    x, y = x[:, known], y[:, known]
    return len(common) * x @ y.T / max(1, known.sum()), int(known.sum())


def same_seed(correlations: np.ndarray) -> tuple[float, float, float]:
    """Mean of ``correlations`` (S, S) on the same seed, that between different ones, and the exact p that both agree.

    p, two-sided, is the share of the ways to pair the seeds whose mean is as far from that over all pairs. NaN where
    a correlation is.
    """
    seeds = len(correlations)
    if seeds < 2 or not np.isfinite(correlations).all():
        return np.nan, np.nan, np.nan
    means = correlations.ravel()[_pairings(seeds)].sum(axis=0) / seeds
    same, centre = float(np.trace(correlations)) / seeds, float(correlations.mean())
    # sums of the same numbers in another order differ by rounding
    p = float(np.mean(np.abs(means - centre) >= abs(same - centre) - 1e-12))
    return same, (seeds * centre - same) / (seeds - 1), p


def by_increments(study: Study, first: str, second: str, criterion: str, sign: int) -> Verdict:
    """Along the criterion's training, the changes of two metrics correlate with that ``sign`` beyond a common course.

    A course is what the seeds share: a trend, a level that is approached, a drop of the learning rate.
    """
    measure = f"rank correlation of the changes from epoch to epoch, {_named(study, first, second, criterion)}"
    curves = [trajectories.by_criterion(study, metric).get(criterion) for metric in (first, second)]
    if curves[0] is None or curves[1] is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    if len(curves[0].index.intersection(curves[1].index)) < 4:
        return Verdict(measure, UNTESTED, "needs four epochs")
    return _judge(study, measure, increments(curves[0], curves[1]), wanted(study, criterion), sign, "", (criterion,))


def by_seeds(study: Study, first: str, second: str, sign: int) -> Verdict:
    """At the last epoch, over the seeds within each setting, two metrics correlate with that ``sign``."""
    measure = f"rank correlation over the seeds of a setting at the last epoch, {_named(study, first, second)}"
    correlations, settings = across_seeds(study, first, second)
    if not settings:
        return Verdict(measure, UNTESTED, "needs a setting with all its seeds of which both were measured")
    return _judge(study, measure, correlations, len(correlations), sign, f", mean of {settings} settings")


def over_settings(study: Study, first: str, second: str) -> Verdict:
    """At the last epoch, over the settings that were run: a number without a verdict, since both follow a setting."""
    measure = f"rank correlation over the settings at the last epoch, {_named(study, first, second)}"
    tables = [selection.summary(study, metric) for metric in (first, second)]
    trials = [trial for trial in tables[0] if all(trial in table and table[trial].complete for table in tables)]
    x, y = ([table[trial].mean for trial in trials] for table in tables)
    if len(trials) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Verdict(measure, UNTESTED, "needs three settings of which both were measured")
    correlation = f"{stats.spearmanr(x, y).statistic:.3f} over {len(trials)} settings".replace("-", "−")
    return Verdict(
        measure, NO_VERDICT, f"{correlation}; metrics that follow a hyperparameter each for itself correlate too"
    )


def along_training(study: Study, first: str, second: str, criterion: str, method: str = "spearman") -> Verdict:
    """The paper's own form: the correlation along training, which drift alone gives; a number without a verdict."""
    kind = "rank correlation" if method == "spearman" else "correlation"
    measure = f"{kind} along training, {_named(study, first, second, criterion)}"
    curves = [trajectories.by_criterion(study, metric).get(criterion) for metric in (first, second)]
    if curves[0] is None or curves[1] is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    first_curves, second_curves = curves[0].align(curves[1], join="inner")
    scores = [standard(curves.to_numpy(float), method == "spearman") for curves in (first_curves, second_curves)]
    correlation = statistics.estimate((scores[0] * scores[1]).sum(axis=0), wanted(study, criterion))
    return Verdict(measure, NO_VERDICT, f"{correlation}; independent series that drift correlate too")


def wanted(study: Study, criterion: str) -> int:
    """How many seeds the trial that speaks for ``criterion`` should have."""
    return selection.planned(study, selection.headline(study)[criterion].trial)


def _judge(
    study: Study,
    measure: str,
    correlations: np.ndarray,
    planned: int,
    sign: int,
    note: str,
    criteria: tuple[str, ...] = (),
) -> Verdict:
    same, different, p = same_seed(correlations)
    if np.isnan(p) or len(correlations) < planned:
        why = "does not vary" if len(correlations) == planned else f"n = {len(correlations)} of {planned}"
        return claims.conclude(study, measure, Evidence(UNDECIDED), why, criteria)
    few = "" if 1 / factorial(planned) <= statistics.ALPHA else f"{planned} seeds cannot decide"
    evidence = Evidence(HOLDS if (same - different) * sign > 0 else FAILS, p, p, few)
    numbers = f"{same:+.3f}{note or f', between different seeds {different:+.3f}'}".replace("-", "−")
    return claims.conclude(study, measure, evidence, numbers, criteria)


@cache
def _pairings(seeds: int) -> np.ndarray:
    """Ways to pair so many seeds with themselves, the first each with itself: places in a table, a column a way."""
    if seeds <= EXACT_SEEDS:
        orders = np.array(list(permutations(range(seeds))))
    else:
        orders = np.tile(np.arange(seeds), (RESAMPLES + 1, 1))
        np.random.default_rng(0).permuted(orders[1:], axis=1, out=orders[1:])
    return np.ascontiguousarray((seeds * np.arange(seeds) + orders).T)


def _taken(curves: pd.DataFrame, epochs: pd.Index, seeds: pd.Index) -> np.ndarray:
    """``curves`` at these epochs and seeds; to look up what is all of them takes half of a page's time."""
    alike = len(epochs) == len(curves.index) and seeds.equals(curves.columns)
    return (curves if alike else curves.loc[epochs, seeds]).to_numpy(float)


def standard(values: np.ndarray, ranks: bool = True) -> np.ndarray:
    """Ranks down the columns, or the values, with mean 0 and length 1, so that products are correlations.

    NaN where all of a column are equal, or one is not finite.
    """
    values = np.where(np.isfinite(values), values, np.nan)
    values = stats.rankdata(values, axis=0) if ranks and values.size else values
    centred = values - values.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    return np.asarray(np.divide(centred, length, out=np.full_like(centred, np.nan), where=length > 0))


def _named(study: Study, first: str, second: str, criterion: str = "") -> str:
    names = f"{study.metric(first).label} and {study.metric(second).label}"
    return f"{names}, {study.criterion(criterion).label}" if criterion else names
