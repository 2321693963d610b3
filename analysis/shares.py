"""Floors and ceiling of what is read from features, and which share of the way between them a criterion keeps.

The floors are metrics that declare what they are the floors of; the ceiling is the trial of a criterion that declares
to read fine labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import pandas as pd

from analysis import selection, statistics
from analysis.runs import Study
from analysis.statistics import Estimate, Ratio


@lru_cache(maxsize=16)
def floors(study: Study, metric: str) -> Mapping[str, pd.Series]:
    """What was measured in place of the trained network -> ``metric`` of it, by seed; those that no trial has aside."""
    found = {}
    for each in study.metrics.values():
        if each.floor_of == metric:
            # they are measured in one trial; of more, seed by seed in the first that has it
            values = selection.values(study, each.name).bfill().head(1)
            if len(values):
                found[each.group] = values.iloc[0].dropna()
    return found


def ceiling(study: Study) -> int | None:
    """The trial that was trained on the fine labels; of several the first."""
    chosen = selection.headline(study)
    return next((choice.trial for name, choice in chosen.items() if study.criterion(name).fine), None)


def is_ceiling(study: Study, trial: int) -> bool:
    """Whether ``trial`` was trained on fine labels."""
    criteria = study.trials.set_index("trial")["criterion"]
    return study.criterion(criteria[trial]).fine


def share(study: Study, metric: str, trial: int, floor: str) -> Ratio | None:
    """(x − floor) / (ceiling − floor) of the last epoch's ``metric``, where ``floor`` is a key of `floors`.

    None where floor or ceiling were not measured, and where the ceiling is not surely better than the floor.
    """
    top, bottom = ceiling(study), floors(study, metric).get(floor)
    values = selection.values(study, metric)
    if top is None or bottom is None or not {top, trial} <= set(values.index):
        return None
    by_trial = values.T
    way = by_trial[top] - bottom
    if (way.mean() < 0) != (study.metric(metric).better == "lower"):
        return None
    return statistics.ratio(by_trial[trial] - bottom, way, selection.planned(study, trial))


def rows(study: Study, metrics: Iterable[str]) -> dict[str, dict[str, Estimate]]:
    """A row for each floor: how it is called -> metric -> its mean over seeds, for a table of means."""
    found: dict[str, dict[str, Estimate]] = {}
    for metric in metrics:
        for name, values in floors(study, metric).items():
            found.setdefault(name, {})[metric] = statistics.estimate(values.to_numpy(), _seeds(study))
    return found


def above(study: Study, metrics: Iterable[str]) -> str:
    """What it means where a floor is better than the ceiling, in a sentence; empty where none of ``metrics`` has that.

    The first floor, from which shares are counted, is not looked at: without a way above it there is no share.
    """
    top, found = ceiling(study), dict[str, list[str]]()
    for metric in metrics:
        values = selection.values(study, metric)
        if top is None or top not in values.index:
            continue
        sign = -1 if study.metric(metric).better == "lower" else 1
        for words, floor in list(floors(study, metric).items())[1:]:
            if sign * floor.mean() > sign * values.loc[top].mean():
                found.setdefault(words, []).append(study.metric(metric).label)
    return " ".join(
        f"{words.capitalize()} are above the ceiling by {', '.join(labels)}: more of the fine labels can be read from "
        "the inputs as they are than from the features of even that network, and no criterion can be expected to reach "
        "them; where the fine labels are what counts, keep the inputs too."
        for words, labels in found.items()
    )


def _seeds(study: Study) -> int:
    """How many seeds the reference, in whose trial floors are measured, should have."""
    reference = selection.headline(study).get(study.reference)
    return 0 if reference is None else selection.planned(study, reference.trial)
