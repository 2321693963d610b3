"""Which trial speaks for a criterion, and which point a search found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis import statistics
from analysis.declarations import by_fine
from analysis.runs import Study, laid_out, spread
from analysis.statistics import Difference, Estimate

#: seeds from which on one standard error is a bound to rely on
ENOUGH_SEEDS = 5


@dataclass(frozen=True)
class Choice:
    """A trial and the reason why it was taken; ``searched``: on the study's own results, by a search or otherwise."""

    trial: int
    label: str
    why: str
    searched: bool = False


@lru_cache(maxsize=64)
def values(study: Study, metric: str) -> pd.DataFrame:
    """``metric`` at the last epoch, of replicas that are done: trials × seeds, NaN where a seed lacks it."""
    rows = study.ends.get(metric)
    if rows is None:
        return spread(study.final.iloc[:0], "trial", "seed")
    return laid_out({"trial": rows["trial"], "seed": rows["seed"]}, rows["value"])


def planned(study: Study, trial: int) -> int:
    """How many seeds ``trial`` should have."""
    return len(planned_seeds(study, trial))


def planned_seeds(study: Study, trial: int) -> tuple[int, ...]:
    """The seeds that ``trial`` should have."""
    return _planned(study)[trial]


@lru_cache(maxsize=4)
def _planned(study: Study) -> Mapping[int, tuple[int, ...]]:
    return dict(zip(study.trials["trial"], study.trials["planned"], strict=True))


@lru_cache(maxsize=64)
def summary(study: Study, metric: str) -> Mapping[int, Estimate]:
    """Mean over seeds of ``metric`` at the last epoch, by trial; trials without a value are left out."""
    table = values(study, metric)
    numbers = zip(table.index.tolist(), table.to_numpy(), strict=True)
    return {trial: statistics.estimate(row, planned(study, trial)) for trial, row in numbers}


@lru_cache(maxsize=64)
def by_trial(study: Study, metric: str) -> Mapping[int, pd.Series]:
    """The rows of `values`: of each trial ``metric`` at the last epoch, by seed."""
    rows = values(study, metric).T
    trials: list[Any] = rows.columns.tolist()
    return {trial: rows[trial] for trial in trials}


# a page asks for the same few again and again
@lru_cache(maxsize=512)
def difference(study: Study, metric: str, first: int, second: int) -> Difference | None:
    """Paired difference of two trials at the last epoch, on the seeds of both; None where one lacks ``metric``."""
    rows = by_trial(study, metric)
    if first not in rows or second not in rows:
        return None
    wanted = max(planned(study, first), planned(study, second))
    return corrected(study, metric, first, statistics.paired(rows[first], rows[second], wanted))


def corrected(study: Study, metric: str, trial: int, value: Difference) -> Difference:
    """``value`` with its corrected interval, where ``metric`` is of held-out samples that each seed draws anew."""
    drawn = study.parts.get(trial)
    if drawn is None or not drawn.redrawn or not study.metric(metric).heldout:
        return value
    return value.resampled(drawn.sizes["heldout"] / drawn.sizes["train"])


@lru_cache(maxsize=4)
def settings(study: Study) -> Mapping[int, tuple[str, ...]]:
    """By trial, its values of the settings that vary, as text; trials of equal ones are alike but for the criterion."""
    names = [each.name for each in study.varied]
    trials = study.trials
    rows = trials[names].astype(str).itertuples(index=False, name=None) if names else ((),) * len(trials)
    return dict(zip(trials["trial"], rows, strict=True))


def counterpart(study: Study, trial: int) -> int | None:
    """The trial of the reference criterion that ``trial`` is compared with; None where there is none like it.

    Where settings vary, one of the same settings; where a search chose the settings of either, what speaks for the
    reference, and for what speaks for its own criterion alone.
    """
    chosen = headline(study)
    reference = chosen.get(study.reference)
    if reference is None or not study.varied:
        return None if reference is None else reference.trial
    own = settings(study)
    rows = study.trials[study.trials["criterion"] == study.reference]
    alike = [int(each) for each in rows["trial"] if own[each] == own[trial]]
    if any(choice.searched for choice in chosen.values()) or study.part == "confirm":
        is_chosen = trial in {choice.trial for choice in chosen.values()}
        return reference.trial if is_chosen else next(iter(alike), None)
    return reference.trial if reference.trial in alike else next(iter(alike), None)


def compared(study: Study) -> str:
    """What trials of other settings are compared with, in a sentence; empty where no setting varies."""
    if not study.varied:
        return ""
    names = " and ".join(each.symbol for each in study.varied)
    label = study.criterion(study.reference).label
    chosen = headline(study)
    own = {choice.trial: settings(study)[choice.trial] for choice in chosen.values()}
    sentence = f"Each is compared with {label} at the same {names}; what has none is left out."
    if len(set(own.values())) > 1:
        words = "; ".join(choice.label for choice in chosen.values())
        sentence = f"{names} differ between criteria, each at the settings that were chosen for it: {words}. {sentence}"
    return sentence


def _alike(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the settings that most criteria have, the first of several: criteria are compared at equal ones."""
    own = table["trial"].map(settings(study))
    criteria = table.groupby(own, sort=False)["criterion"].nunique()
    common = table[own == criteria.idxmax()] if len(criteria) else table
    # a criterion that has no such trial keeps its own, which its label tells apart
    return table[table.index.isin(common.index) | ~table["criterion"].isin(common["criterion"])]


@lru_cache(maxsize=4)
def headline(study: Study) -> Mapping[str, Choice]:
    """The trial that speaks for each criterion, in the order of figures and tables.

    The paper's setting where it was run; else the search's best point; else the setting closest to the paper's. Where
    the paper has none, the best on validation samples, and the first where these were not measured. Where a grid varies
    training settings, all at the same ones. Among the trials that confirm a search, its choice.
    """
    measured = study.final["trial"].unique()
    if study.part == "confirm":
        return _confirmed(study, study.trials[study.trials["trial"].isin(measured)])
    # rows of few columns are cheap to take
    table = study.trials[["trial", "criterion", "label", *study.hyperparameters]]
    table = table[table["trial"].isin(measured)]
    searched = {criterion: choice for criterion, (choice, _) in search(study).items() if choice is not None}
    if study.varied and not searched:
        table = _alike(study, table)
    chosen = {}
    for criterion in sorted(set(table["criterion"]), key=study.rank):
        rows = table[table["criterion"] == criterion]
        setting = study.page.settings.get(criterion, {})
        distance = _distance(rows, setting)
        nearest = rows.loc[distance.idxmin()]
        if len(rows) == 1:
            why = "the only setting" if not study.varied else "the only one of its settings"
        elif setting and distance.min() < 1e-9 and not (study.varied and criterion in searched):
            why = "the paper's setting"
        elif criterion in searched:
            chosen[criterion] = searched[criterion]
            continue
        elif setting:
            why = "the setting closest to the paper's"
        elif (best := best_on_validation(study, rows["trial"])) is not None:
            by = study.metric(validation_of(study, fine_metric(study))).label
            why = f"the best of {len(rows)} settings by {by}"
            label = str(rows.loc[rows["trial"] == best, "label"].iloc[0])
            chosen[criterion] = Choice(best, label, why, searched=True)
            continue
        else:
            why = f"the first of {len(rows)} settings"
        chosen[criterion] = Choice(int(nearest["trial"]), nearest["label"], why)
    return chosen


@lru_cache(maxsize=4)
def fine_metric(study: Study) -> str:
    """The metric of held-out samples that says how much of the fine labels is kept; empty where none was measured.

    What a search chooses by, else the first main one of the page, else the first that the study declares, a linear
    probe's before others and those with a twin on validation samples before those without.
    """
    searched = scored_by(study) or objective_metric(study)
    if searched and study.metric(searched).judges and searched in study.ends:
        return searched
    return by_fine(study.metrics, study.ends, study.page.metrics)


def validation_of(study: Study, metric: str) -> str:
    """The twin of ``metric`` on validation samples that the study declares and a trial has; else empty."""
    twins = (each.name for each in study.metrics.values() if metric and each.twin_of == metric)
    return next((name for name in twins if summary(study, name)), "")


def best_on_validation(study: Study, trials: Iterable[int]) -> int | None:
    """Of ``trials`` the one with the best mean of `fine_metric` on validation samples; None where that is not known.

    Trials that lack a planned seed are left out.
    """
    metric = fine_metric(study)
    found = summary(study, validation_of(study, metric)) if validation_of(study, metric) else {}
    means = {
        int(trial): found[trial].mean for trial in trials if trial in found and found[trial].n == found[trial].planned
    }
    sign = -1 if study.metric(metric).better == "lower" else 1
    return max(means, key=lambda trial: sign * means[trial], default=None)


def search(study: Study) -> dict[str, tuple[Choice | None, pd.DataFrame]]:
    """The searched criteria, each with its best feasible point (None without one) and all its points.

    Points: the columns of `Study.trials`, objective (Estimate or None), limit (the constrained metric's Estimate or
    None), feasible. A point that lacks a planned seed is never the best. One that was confirmed stays the best, though
    a trial that was repeated since may be better.
    """
    settings = study.settings.get("search") or {}
    objective = settings.get("objective") or {}
    if not objective:
        return {}
    metric = objective_metric(study)
    # stores of before 0.2 have no direction beside label_free
    sign = -1 if objective.get("direction", "maximize") == "maximize" else 1
    limited, bound = constraint(study)
    objectives, limits = summary(study, metric), summary(study, limited) if limited else {}
    confirmed = set(study.confirmation.trials["repeats"])
    searched: dict[str, tuple[Choice | None, pd.DataFrame]] = {}
    for criterion in settings.get("criteria", {}):
        points = study.trials[(study.trials["criterion"] == criterion) & (study.trials["role"] == "search")].copy()
        points["objective"] = pd.Series([objectives.get(trial) for trial in points["trial"]], points.index, object)
        points["limit"] = pd.Series([limits.get(trial) for trial in points["trial"]], points.index, object)
        points["feasible"] = [_feasible(limit, limited, bound) for limit in points["limit"]]
        ranked = [
            (row.trial not in confirmed, sign * row.objective.mean, row.trial, row.label)
            for row in points.itertuples()
            if row.objective is not None and row.objective.n == row.objective.planned and row.feasible
        ]
        best = min(ranked, default=None)
        why = f"the best of {len(points)} searched points by {metric}"
        searched[criterion] = (Choice(int(best[-2]), best[-1], why, searched=True) if best else None, points)
    return searched


def _confirmed(study: Study, table: pd.DataFrame) -> dict[str, Choice]:
    """By criterion, the trial of ``table`` that repeats what the search chose, else the first that it has."""
    whole = study.whole.trials
    searched = set(whole.loc[whole["role"] == "search", "trial"])
    chosen = {}
    for criterion in sorted(set(table["criterion"]), key=study.rank):
        rows = table[table["criterion"] == criterion]
        repeated = rows[rows["repeats"].isin(searched)]
        row = (repeated if len(repeated) else rows).iloc[0]
        why = "chosen by the search, on fresh seeds" if len(repeated) else "on fresh seeds"
        chosen[criterion] = Choice(int(row["trial"]), row["label"], why)
    return chosen


def objective_metric(study: Study) -> str:
    """The metric that the search chooses by; empty without a search."""
    objective = (study.settings.get("search") or {}).get("objective") or {}
    return str(objective.get("metric") or "entropy/features") if objective else ""


def scored_by(study: Study) -> str:
    """The held-out metric that scores what was chosen on validation samples; empty where the choice is not by those."""
    return study.metric(objective_metric(study)).twin_of


def chosen_where_scored(study: Study) -> str:
    """What is wrong with a choice by fine labels of the samples that it is scored on, in a sentence; else empty."""
    metric = objective_metric(study)
    twin = next((other.name for other in study.metrics.values() if metric and other.twin_of == metric), "")
    if not study.metric(metric).fine or scored_by(study):
        return ""
    by = f", by {twin}" if twin else ""
    return (
        f"The search chose by {metric}, which reads fine labels of the very samples that the choice is scored on, so "
        f"that its value is flattered: choose on a validation part instead{by}."
    )


def few_seeds(study: Study) -> str:
    """What a label-free search of few seeds cannot tell, in a sentence; empty where it has `ENOUGH_SEEDS` or more."""
    objective = (study.settings.get("search") or {}).get("objective") or {}
    rows = study.trials[study.trials["criterion"] == study.reference]
    seeds = max((len(seeds) for seeds in rows["planned"]), default=0)
    if not objective.get("label_free") or seeds >= ENOUGH_SEEDS:
        return ""
    if seeds < 2:
        return "One seed has no standard error to stay within, so no point is feasible: train two seeds at least."
    return (
        f"The standard error of {seeds} seeds is uncertain, and the accuracy that the rule allows to lose may be "
        f"large: train {ENOUGH_SEEDS} seeds or more."
    )


def rule(study: Study) -> str:
    """The search's objective and constraint in words; empty without a search."""
    settings = study.settings.get("search") or {}
    objective = settings.get("objective") or {}
    if not objective:
        return ""
    reference = study.criterion(study.reference).label
    if objective.get("label_free"):
        metric = objective.get("metric") or "entropy/features"
        extreme = "smallest" if objective.get("direction") == "minimize" else "largest"
        named = f"rule {objective['rule']}: " if objective.get("rule") else ""
        return (
            f"{named}{extreme} {metric} whose accuracy/validation stays within one standard error of {reference}'s "
            "(no fine label is used)"
        )
    words = "lowest" if objective.get("direction") == "minimize" else "highest"
    text = f"{words} {objective['metric']}"
    limit = settings.get("constraint")
    if not limit:
        return text
    metric = limit.get("metric") or "accuracy/coarse"
    if limit.get("at_least") is not None:
        return f"{text} with {metric} at least {limit['at_least']:g}"
    return f"{text} with {metric} at most {limit['within_of_ce']:g} below {reference}'s"


def constraint(study: Study) -> tuple[str, float]:
    """A search's constrained metric and its lowest feasible mean; ("", −inf) without a constraint."""
    settings = study.settings.get("search") or {}
    label_free = bool((settings.get("objective") or {}).get("label_free"))
    limit = settings.get("constraint") or {}
    if not label_free and not limit:
        return "", -np.inf
    metric = "accuracy/validation" if label_free else str(limit.get("metric") or "accuracy/coarse")
    if limit.get("at_least") is not None:
        return metric, float(limit["at_least"])
    rows = values(study, metric).reindex(_compared_with(study)).dropna(how="all")
    if rows.empty:
        return metric, np.nan
    ce = rows.iloc[0].dropna().to_numpy(float)
    # of one seed there is no standard error, hence nothing is feasible
    slack = (stats.sem(ce) if len(ce) > 1 else np.nan) if label_free else float(limit["within_of_ce"])
    return metric, float(ce.mean() - slack)


def _compared_with(study: Study) -> pd.Series:
    """The trials of the reference criterion that a search compares with: baselines, where it has any."""
    own = study.trials[study.trials["criterion"] == study.reference]
    baselines = own[own["role"] == "baseline"]
    found: pd.Series = (baselines if len(baselines) else own)["trial"]
    return found


def _feasible(limit: Estimate | None, metric: str, bound: float) -> bool:
    return not metric or (limit is not None and limit.mean >= bound)


def _distance(rows: pd.DataFrame, setting: Mapping[str, float]) -> pd.Series:
    """How far settings are from the paper's, as a sum of |log ratios|; 0 counts as a thousandth."""
    distance = pd.Series(0.0, rows.index)
    for name, value in setting.items():
        distance += np.abs(np.log(rows[name].clip(lower=1e-3 * value) / value))
    return distance
