"""Which points of a study are trained together, as one program (`trainables.points`) in one Tune trial.

Each of them stays a trial of its own everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from study.file.settings import is_setting

if TYPE_CHECKING:
    from study.file.spec import StudySpec
    from trainables.assignment import Assignment
    from trainables.trial import Trial


def most(spec: StudySpec) -> int:
    """How many points of a study are trained together at most."""
    return spec.points_per_trial


def company(given: Assignment) -> str:
    """The same text for assignments that can be trained together: the same part of trials that differ in numbers."""
    # the trainables stand on torch
    from trainables import points

    return f"{tuple(given.shard)} {given.addition} {points.company(given.trial)}"


def of_trials(trials: Sequence[Trial], most: int) -> list[list[Trial]]:
    """The groups of up to ``most`` in which ``trials`` are given, in the order of each one's first."""
    if most == 1:
        return [[trial] for trial in trials]
    from trainables import points

    groups: list[list[Trial]] = []
    last: dict[str, list[Trial]] = {}
    for trial in trials:
        group = last.get(key := points.company(trial))
        if group is None or len(group) == most:
            group = last[key] = []
            groups.append(group)
        group.append(trial)
    return groups


def proposed(spec: StudySpec, criterion: str) -> bool:
    """Whether proposals for ``criterion`` can be trained together: what is searched is taken by replica."""
    from trainables import criteria

    assert spec.search is not None
    taken = {each.name for each in criteria.find(criterion).hyperparameters if each.by_replica}
    return all(not is_setting(name) and name in taken for name in spec.search.space(criterion))
