"""Which points of a study are trained together, as one program (`trainables.points`) in one Tune trial.

Each of them stays a trial of its own everywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from study.file.plan import fixed_points, seeds_of, trial_for
from study.file.settings import is_setting

if TYPE_CHECKING:
    import optuna

    from study.file.spec import StudySpec
    from trainables.assignment import Assignment
    from trainables.trial import Trial


#: the study's attribute in Optuna of how many points are worth training together, by criterion, as a trial has found
FOUND = "points"
#: samplers whose proposals do not depend on what earlier ones led to
UNLEARNED = ("random", "qmc")


def most(spec: StudySpec) -> int:
    """How many points of a study are trained together at most, as its file has it; 1 where trials find that out."""
    return 1 if spec.points_per_trial == "auto" else spec.points_per_trial


def is_found(spec: StudySpec) -> bool:
    """Whether trials find out how many points are trained together; beside a pruner each is by itself."""
    return spec.points_per_trial == "auto" and not (spec.search and spec.search.pruner)


class Sizes:
    """How many points are trained together at most, by criterion, as a launch learns of it."""

    def __init__(self, spec: StudySpec, study: optuna.Study) -> None:
        self._spec, self._study = spec, study
        self._limit: int | None = None
        self._found: dict[str, int] = dict(study.user_attrs.get(FOUND, {}))
        self.are_found = is_found(spec)

    def of(self, criterion: str) -> int:
        """Of fixed points."""
        size = self._found.get(criterion, 1) if self.are_found else most(self._spec)
        return size if self._limit is None else min(size, self._limit)

    def proposed(self, criterion: str) -> int:
        """Of proposals, which are drawn before one of them is trained."""
        assert self._spec.search is not None
        unlearned = self._spec.search.sampler in UNLEARNED
        return self.of(criterion) if proposed(self._spec, criterion) and (unlearned or not self.are_found) else 1

    def is_wanted(self, criterion: str) -> bool:
        """Whether a trial of the criterion is to find it out."""
        from trainables import criteria

        taken = criteria.find(criterion).taken_by_replica() if self.are_found else ()
        return bool(taken) and criterion not in self._found

    def learn(self, criterion: str, size: int) -> None:
        """Take what a trial found, for later launches too."""
        if self._found.get(criterion) != size:
            self._found[criterion] = size
            self._study.set_user_attr(FOUND, self._found)

    def limit(self, size: int) -> None:
        """From now on no more than that, since memory ran out for more."""
        self._limit = size if self._limit is None else min(self._limit, size)


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
    taken = {each.name for each in criteria.find(criterion).taken_by_replica()}
    return all(not is_setting(name) and name in taken for name in spec.search.space(criterion))


def planned(spec: StudySpec) -> Iterator[tuple[Trial, int, int]]:
    """A trial, how many points are trained together with it, itself among them, and how many such groups there are.

    Those of a search are at the defaults. Where trials find out how many go together, each is by itself here.
    """
    fixed, size = [point.trial for point in fixed_points(spec)], most(spec)
    for together in of_trials(fixed, size):
        yield together[0], len(together), 1
    if spec.search is None:
        return
    for criterion in spec.search.criteria:
        at_once = min(size, spec.search.trials) if proposed(spec, criterion) else 1
        yield trial_for(spec, criterion, {}), at_once, spec.search.trials // at_once
        if rest := spec.search.trials % at_once:
            yield trial_for(spec, criterion, {}), rest, 1
    if spec.search.confirm:
        confirmed = [replace(trial, seeds=seeds_of(spec, "confirm")) for trial in fixed]
        confirmed += [trial_for(spec, criterion, {}, "confirm") for criterion in spec.search.criteria]
        for together in of_trials(confirmed, size):
            yield together[0], len(together), 1
