"""A study's trials in Optuna's database.

Every trial, baselines and grid points included, is a trial of one Optuna study, and its number is the trial's identity
everywhere.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.file.plan import Point, fixed_points, label, name_of, planned, seeds_of, settings_of, trial_for, values_of
from study.file.settings import coded
from study.file.spec import StudySpec
from study.servers.database import open_storage, optuna_errors

if TYPE_CHECKING:
    from study.home import Home

#: a trial's user attributes in Optuna; settings that differ from the study's own stand among the hyperparameters
ROLE, CRITERION, HYPERPARAMETER_VALUES, LABEL = "role", "criterion", "hyperparameters", "label"
MEANS, STANDARD_ERRORS, REASON, TUNE_TRIAL = "means", "standard_errors", "reason", "tune_trial_id"
#: a second attempt at a failed trial, and what trains further seeds of one, are Optuna trials of their own, but keep
#: the first one's number elsewhere
RETRY_OF = "retry_of"
#: the seeds of an Optuna trial; and of one that trains seeds which the study was given later, how many times that was
SEEDS, ADDITION = "seeds", "addition"
#: set where the trial's criterion reads fine labels, so that it is a ceiling and no rival
READS_FINE = "reads_fine"
#: the trial that is trained again on fresh seeds, an attribute of one that confirms
REPEATS = "repeats"
#: the study's user attributes: into how many shards its trials are split, and the share of a GPU's memory they took
SHARDS, GPU_MEMORY = "shards", "gpu_memory"
#: another of them: what tells the study from others of its name
IDENTITY = "identity"
#: and the seeds of trials that don't tell theirs, once the study has others
FIRST_SEEDS = "first_seeds"
#: and the benchmark's main metric with its better direction, once a trial has measured it: [name, lower or higher]
MAIN_METRIC = "main_metric"
#: and how many fixed points there are, which a list of studies cannot count without what trains them
FIXED_POINTS = "fixed_points"
#: and what the search chose to be confirmed, once it has ended: criterion -> number, without those that found nothing
CHOSEN = "chosen"
#: fixed points that wait in Optuna at most: it reads each trial that is not finished again at every turn
WAITING = 32


def open_study(spec: StudySpec, home: Home) -> optuna.Study:
    """The Optuna study of ``spec``, made where it does not exist, with its first fixed points enqueued."""
    direction = spec.search.objective.direction if spec.search else "maximize"
    storage = open_storage(home.optuna_uri(spec))
    with optuna_errors(home.optuna_uri(spec)):
        study = optuna.create_study(storage=storage, study_name=spec.name, direction=direction, load_if_exists=True)
        if spec.search:
            study.set_metric_names([spec.search.objective.metric])
        if not study_identity(study):
            study.set_user_attr(IDENTITY, uuid.uuid4().hex)
        if study.user_attrs.get(FIXED_POINTS) != (fixed := len(fixed_points(spec))):
            study.set_user_attr(FIXED_POINTS, fixed)
        _give_seeds(spec, study)
        for point in absent_points(spec, study)[:WAITING]:
            enqueue(spec, study, point)
    return study


def enqueue(spec: StudySpec, study: optuna.Study, point: Point) -> None:
    """Give Optuna the fixed point, which waits there for its turn."""
    trial = point.trial
    values = {**trial.hyperparameters, **settings_of(spec, trial)}
    study.enqueue_trial({name: coded(value) for name, value in values.items()}, user_attrs=_attributes(spec, point))


def study_identity(study: optuna.Study) -> str:
    """What tells the study from others of its name, in other databases."""
    return str(study.user_attrs.get(IDENTITY, ""))


def load_study(spec: StudySpec, home: Home) -> optuna.Study | None:
    """The Optuna study of ``spec`` as it stands, or None where it was never started."""
    storage = open_storage(home.optuna_uri(spec))
    with optuna_errors(home.optuna_uri(spec)):
        try:
            return optuna.load_study(storage=storage, study_name=spec.name)
        except KeyError:
            return None


def absent_points(spec: StudySpec, study: optuna.Study) -> list[Point]:
    """What Optuna does not hold: further seeds of its trials, fixed points, and those that confirm, once known.

    The reference's further seeds come first, since others may be compared with it.
    """
    held = {_key(trial.user_attrs) for trial in study.get_trials(deepcopy=False)}
    points = [*fixed_points(spec), *confirming_points(spec, study)]
    return [*further_seeds(spec, study), *(point for point in points if key(spec, point) not in held)]


def further_seeds(spec: StudySpec, study: optuna.Study) -> list[Point]:
    """For each trial that is done on fewer seeds than the study has by now: the seeds that it lacks."""
    from trainables import criteria

    held, points = attempts(study), []
    for number, seeds in lacking_seeds(spec, study).items():
        last = held[number].user_attrs
        trial = trial_for(spec, last[CRITERION], last[HYPERPARAMETER_VALUES], last[ROLE])
        point = Point(last[ROLE], replace(trial, seeds=seeds), extends=number, addition=last.get(ADDITION, 0) + 1)
        points.append(point)
    return sorted(points, key=lambda point: point.trial.criterion != criteria.reference() or point.role != "baseline")


def lacking_seeds(spec: StudySpec, study: optuna.Study) -> dict[int, tuple[int, ...]]:
    """Number -> the seeds that the study has by now, and that trial, done on others, has not been given."""
    given, lacking = _given(spec, study), {}
    for number, trial in attempts(study).items():
        if trial.state == TrialState.COMPLETE and trial.user_attrs[ROLE] != "confirm":
            held = {seed for seeds in given[number].values() for seed in seeds}
            if missing := tuple(seed for seed in spec.seeds if seed not in held):
                lacking[number] = missing
    return lacking


def additions(spec: StudySpec, study: optuna.Study, number: int) -> list[tuple[int, ...]]:
    """The seeds of trial ``number``: those it began with, then those that were added, each time."""
    given = _given(spec, study)[number]
    return [given[position] for position in sorted(given)]


def _given(spec: StudySpec, study: optuna.Study) -> dict[int, dict[int, tuple[int, ...]]]:
    """Number -> addition -> its seeds."""
    given: dict[int, dict[int, tuple[int, ...]]] = {}
    for trial in study.get_trials(deepcopy=False):
        given.setdefault(identity(trial), {})[trial.user_attrs.get(ADDITION, 0)] = seeds_in(spec, study, trial)
    return given


def seeds_in(spec: StudySpec, study: optuna.Study, trial: FrozenTrial) -> tuple[int, ...]:
    """The seeds of one Optuna trial."""
    attributes = trial.user_attrs
    if SEEDS in attributes:
        return tuple(attributes[SEEDS])
    if attributes[ROLE] == "confirm":
        return seeds_of(spec, "confirm")
    return tuple(study.user_attrs.get(FIRST_SEEDS, spec.seeds))


def note_seeds(spec: StudySpec, study: optuna.Study) -> None:
    """Write down which seeds the trials of ``study``, of which ``spec`` is the file so far, have been given."""
    if FIRST_SEEDS not in study.user_attrs:
        study.set_user_attr(FIRST_SEEDS, list(spec.seeds))


def _give_seeds(spec: StudySpec, study: optuna.Study) -> None:
    """Give trials that wait, and have nothing trained, all seeds that the study has by now."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        is_begun = RETRY_OF in trial.user_attrs or trial.user_attrs[ROLE] == "confirm"
        if not is_begun and seeds_in(spec, study, trial) != spec.seeds:
            # a trial made of it would draw its parameters
            study._storage.set_trial_user_attr(trial._trial_id, SEEDS, list(spec.seeds))


def choose(spec: StudySpec, study: optuna.Study) -> dict[str, int]:
    """The best feasible point of each searched criterion, by number; a criterion without one is left out.

    Every process comes to the same, so that whichever asks first may write it down.
    """
    assert spec.search is not None
    sign = 1 if spec.search.objective.direction == "minimize" else -1
    best: dict[str, tuple[float, int]] = {}
    for number, trial in attempts(study).items():
        attributes = trial.user_attrs
        if attributes[ROLE] != "search" or trial.state != TrialState.COMPLETE:
            continue
        if trial.value is None or any(violation > 0 for violation in trial.constraints.values()):
            continue
        criterion, point = attributes[CRITERION], (sign * trial.value, number)
        best[criterion] = min(best.get(criterion, point), point)
    return {criterion: best[criterion][1] for criterion in spec.search.criteria if criterion in best}


def confirming_points(spec: StudySpec, study: optuna.Study) -> list[Point]:
    """What is trained on fresh seeds: the baselines and what the search chose; none while, or where, it chose none."""
    held = attempts(study)
    points = []
    for number in _repeated(study):
        attributes = held[number].user_attrs
        trial = trial_for(spec, attributes[CRITERION], attributes[HYPERPARAMETER_VALUES], "confirm")
        points.append(Point("confirm", trial, repeats=number))
    return points


def _repeated(study: optuna.Study) -> list[int]:
    """The trials that are trained again on fresh seeds, by number."""
    chosen = study.user_attrs.get(CHOSEN)
    if not chosen:
        return []
    held = attempts(study)
    baselines = [number for number, trial in sorted(held.items()) if trial.user_attrs[ROLE] == "baseline"]
    distinct = {}
    for number in [*baselines, *chosen.values()]:
        attributes = held[number].user_attrs
        # a choice that is a baseline's setting is trained once, as the choice
        distinct[json.dumps([attributes[CRITERION], attributes[HYPERPARAMETER_VALUES]])] = number
    return list(distinct.values())


def planned_trials(spec: StudySpec, study: optuna.Study) -> int:
    """How many trials the study has when it is complete, as far as that is known."""
    known = CHOSEN in study.user_attrs
    return planned(spec, len(_repeated(study)) if known else None, fixed=study.user_attrs.get(FIXED_POINTS))


def note_main_metric(spec: StudySpec, study: optuna.Study, declared: Sequence[Mapping[str, str | bool]]) -> None:
    """Write down by what trials are compared, of the metrics that one has measured and ``declared``; unless it stands.

    That is what is kept of the fine labels, else the first main metric of the benchmark's page with a better direction.
    Who lists studies has neither the declarations nor the page at hand.
    """
    if MAIN_METRIC in study.user_attrs or not declared:
        return
    # figures take a second to import
    from analysis import declarations, pages

    metrics = declarations.read_metrics(json.dumps(list(declared)).encode())
    try:
        first = pages.find(spec.benchmark.name).metrics
    # one's own page may be what cannot be imported
    except pages.PageError:
        first = ()
    directed = (name for name in first if name in metrics and metrics[name].better != "none")
    if name := declarations.by_fine(metrics, metrics, first) or next(directed, ""):
        study.set_user_attr(MAIN_METRIC, [name, metrics[name].better])


def unconfirmed(spec: StudySpec, study: optuna.Study) -> list[str]:
    """The searched criteria of which nothing is confirmed, since the search ended without a feasible point."""
    if spec.search is None or CHOSEN not in study.user_attrs:
        return []
    return [criterion for criterion in spec.search.criteria if criterion not in study.user_attrs[CHOSEN]]


def _attributes(spec: StudySpec, point: Point) -> dict[str, Any]:
    from trainables import criteria

    more: dict[str, Any] = {} if point.repeats is None else {REPEATS: point.repeats}
    if point.extends is not None:
        more |= {RETRY_OF: point.extends, ADDITION: point.addition}
    if criteria.find(point.trial.criterion).reads_fine:
        more[READS_FINE] = True
    return {
        ROLE: point.role,
        CRITERION: point.trial.criterion,
        HYPERPARAMETER_VALUES: values_of(spec, point.trial),
        LABEL: name_of(spec, point.trial),
        SEEDS: list(point.trial.seeds),
        **more,
    }


def named(trial: FrozenTrial) -> str:
    """The trial's label, as it was when the trial was made: where that is read, its criterion need not be at hand."""
    attributes = trial.user_attrs
    criterion, values = attributes[CRITERION], attributes.get(HYPERPARAMETER_VALUES)
    if LABEL in attributes:
        return str(attributes[LABEL])
    return str(criterion) if values is None else label(criterion, values)


def key(spec: StudySpec, point: Point) -> str:
    """What tells the point from the study's others."""
    return _key(_attributes(spec, point))


def key_of(trial: FrozenTrial) -> str:
    """The key of the point that the trial is of."""
    return _key(trial.user_attrs)


def _key(attributes: dict[str, Any]) -> str:
    return json.dumps([attributes.get(ROLE), attributes.get(CRITERION), attributes.get(HYPERPARAMETER_VALUES)])


def identity(trial: FrozenTrial) -> int:
    """The number under which the trial is known outside Optuna."""
    return int(trial.user_attrs.get(RETRY_OF, trial.number))


def attempts(study: optuna.Study) -> dict[int, FrozenTrial]:
    """Every trial's last attempt, by the trial's number."""
    return {identity(trial): trial for trial in study.get_trials(deepcopy=False)}


def retry_failed(study: optuna.Study) -> list[int]:
    """Enqueue another attempt at every trial that failed; their numbers."""
    failed = {number: trial for number, trial in attempts(study).items() if trial.state == TrialState.FAIL}
    for number, trial in failed.items():
        names = (ROLE, CRITERION, HYPERPARAMETER_VALUES, REPEATS, SEEDS, ADDITION, READS_FINE)
        kept = {name: trial.user_attrs[name] for name in names if name in trial.user_attrs}
        kept[LABEL] = named(trial)
        values = {name: coded(value) for name, value in kept[HYPERPARAMETER_VALUES].items()}
        study.enqueue_trial(values, user_attrs={**kept, RETRY_OF: number})
    return sorted(failed)
