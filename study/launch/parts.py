"""What a trial's seeds are trained in: shards beside each other, and additions that the study was given later.

The seeds that a trial began with are addition 0; each has a place of its own for checkpoints, so that what was trained
stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from study.file.plan import settings_of, trial_for
from study.launch.placement import split
from study.record.trials import ADDITION, CRITERION, REPEATS, ROLE, SHARDS, additions, identity, seeds_in
from trainables.assignment import WHOLE, Assignment, Shard

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from study.file.spec import StudySpec


def assigned(spec: StudySpec, study: optuna.Study, frozen: FrozenTrial, values: Mapping[str, Any]) -> Assignment:
    """What an Optuna trial trains at the ``values`` of its settings: a trial, or further seeds of one."""
    attributes = frozen.user_attrs
    trial = trial_for(spec, attributes[CRITERION], values, attributes[ROLE])
    trial = replace(trial, seeds=seeds_in(spec, study, frozen))
    settings = settings_of(spec, trial)
    more = {"repeats": attributes.get(REPEATS), "addition": attributes.get(ADDITION, 0)}
    return Assignment(identity(frozen), attributes[ROLE], trial, settings=settings, **more)


def whole(spec: StudySpec, study: optuna.Study, given: Assignment) -> Assignment:
    """The trial of which ``given`` is a part, with all its seeds."""
    seeds = tuple(seed for each in additions(spec, study, given.number) for seed in each)
    return replace(given, trial=replace(given.trial, seeds=seeds), shard=WHOLE, addition=0)


def parts(spec: StudySpec, study: optuna.Study, given: Assignment) -> list[Assignment]:
    """All parts of the trial of which ``given`` is one, in the order of its seeds."""
    found = []
    for addition, seeds in enumerate(additions(spec, study, given.number)):
        pieces = split(seeds, _shards(spec, study, len(seeds)))
        for position, piece in enumerate(pieces):
            trial, shard = replace(given.trial, seeds=piece), Shard(position, len(pieces))
            found.append(replace(given, trial=trial, shard=shard, addition=addition))
    return found


def _shards(spec: StudySpec, study: optuna.Study, seeds: int) -> int:
    """Into how many shards so many seeds are split; the first launch has settled that for the study."""
    if spec.seeds_per_shard != "auto":
        return math.ceil(seeds / spec.seeds_per_shard)
    return min(seeds, int(study.user_attrs.get(SHARDS, 1)))
