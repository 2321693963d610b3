"""How far a study is: done, running, failed and missing, by trial and seed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from analysis import schema
from analysis.addresses import sqlite_path, without_password
from study.errors import UserError
from study.file import plan
from study.home import Home
from study.record import files, tracking
from study.servers.checks import check_database

if TYPE_CHECKING:
    import optuna
    from mlflow.entities import Run

    from study.file.spec import StudySpec

#: what is shown of a study that optimises nothing, where its page names no metric
PLAIN = ("accuracy/coarse", "accuracy/train")

State = Literal["done", "running", "failed", "missing"]


@dataclass(frozen=True)
class TrialStatus:
    """One planned trial; ``number`` is None while a search has not proposed it.

    ``seeds`` are the replicas' states by what the tracking holds: a trial that is done in Optuna, but whose runs
    are not all there, shows it here.
    """

    number: int | None
    role: str
    label: str
    state: State
    reason: str | None
    seeds: Mapping[int, State]
    #: epochs that every replica has in the tracking store, of so many
    epoch: int
    epochs: int
    #: by metric: of a trial that is done the means over its seeds, of another those of the last values so far
    means: Mapping[str, float]


@dataclass(frozen=True)
class StudyStatus:
    """A study: whether some process runs it, where it is tracked, and its planned trials.

    ``metric`` is the search's objective, else the main one; ``note`` what is to be known of all its numbers.
    """

    name: str
    running: bool
    tracking_uri: str
    epochs: int
    trials: tuple[TrialStatus, ...]
    metric: str = ""
    note: str = ""

    def count(self, state: State) -> int:
        """How many trials are in ``state``."""
        return sum(trial.state == state for trial in self.trials)

    def count_replicas(self, state: State) -> int:
        """How many replicas, over all planned trials, are in ``state``."""
        return sum(seed_state == state for trial in self.trials for seed_state in trial.seeds.values())


def read(home: Home, name: str) -> StudyStatus:
    """The status of the study ``name``; raises `UserError` where it is unknown or its tracking does not answer.

    Trials are as Optuna holds them; where its database is not known to this machine or does not answer, as their runs
    in MLflow stand. A trial that was interrupted, and that no process trains any more, is missing: a resume goes on
    with it.
    """
    # pandas, optuna and mlflow take seconds to import
    from analysis import versions
    from study.record import lookup

    spec, is_here = lookup.find_spec(home, name)
    uri = home.tracking_uri(spec)
    runs = lookup.runs(uri, name)
    epochs = _epochs(spec, runs)
    study = optuna_study(spec, home)
    if study is not None and not _same(study, lookup.identity(runs)):
        # the study in MLflow has another identity: it was run elsewhere under the same name
        study = None
        if is_here and (tracked := lookup.tracked_spec(uri, name)):
            spec, is_here = tracked, False
    running = files.is_running(home, name, spec) if is_here else lookup.is_running(runs)
    replicas = tracking.read_runs(uri, name)
    trials, absent = _from_optuna(spec, study) if study is not None else _from_mlflow(spec, runs)
    rows, so_far = [], _so_far(runs)
    for trial in trials:
        seeds = plan.seeds_of(spec, trial.role)
        own = trial.epochs or epochs
        held = [replicas.get((trial.number, seed), ("", 0)) for seed in seeds]
        rows.append(
            TrialStatus(
                number=trial.number,
                role=trial.role,
                label=trial.label,
                state="missing" if trial.state == "running" and not running else trial.state,
                reason=trial.reason,
                seeds={seed: _replica(status, running) for seed, (status, _) in zip(seeds, held, strict=True)},
                epoch=min(own if epoch is None else epoch for _, epoch in held),
                epochs=own,
                means=trial.means or so_far.get(trial.number, {}),
            )
        )
    rows += [_missing(spec, point.role, plan.name_of(spec, point.trial), epochs) for point in absent or ()]
    if absent is None:
        rows += [_missing(spec, "–", "not begun yet", epochs) for _ in range(_planned(runs) - len(rows))]
    else:
        planned = _planned_in_optuna(spec, study) if study is not None else _planned(runs) or plan.planned(spec)
        confirming = planned - plan.planned(spec, 0) - sum(row.role == "confirm" for row in rows)
        rows += [_missing(spec, "search", "not proposed yet", epochs) for _ in range(planned - confirming - len(rows))]
        rows += [_missing(spec, "confirm", "waits for the search to end", epochs) for _ in range(confirming)]
    shown = _main_metric(spec, {metric for row in rows for metric in row.means})
    return StudyStatus(name, running, without_password(uri), epochs, tuple(rows), shown, versions.note(runs))


def _so_far(runs: Sequence[Run]) -> dict[int, dict[str, float]]:
    """Number -> metric -> mean over the seeds of the last value that each has; the trial's own, where they have none.

    A study may keep no metrics with its seeds' runs.
    """
    values: dict[int, list[Mapping[str, float]]] = {}
    own: dict[int, list[Mapping[str, float]]] = {}
    for run in runs:
        if run.data.tags.get(schema.LEVEL) in ("seed", "trial") and run.data.metrics:
            held = values if run.data.tags[schema.LEVEL] == "seed" else own
            plain = {name: value for name, value in run.data.metrics.items() if not _is_error(name)}
            held.setdefault(int(run.data.tags[schema.TRIAL]), []).append(plain)
    return {
        number: {
            name: sum(metrics[name] for metrics in seeds) / len(seeds)
            for name in sorted(set.intersection(*map(set, seeds)))
        }
        for number, seeds in (own | values).items()
    }


def _is_error(metric: str) -> bool:
    """Whether it is a standard error over seeds, and not what was measured."""
    return metric.startswith(schema.STANDARD_ERROR)


def _main_metric(spec: StudySpec, measured: Collection[str]) -> str:
    """The search's objective, else the first of the benchmark's page that is ``measured``, else the coarse accuracy."""
    if spec.search is not None:
        return spec.search.objective.metric
    # figures take a second to import
    from analysis import pages

    try:
        wanted = pages.find(spec.benchmark.name).metrics
    except pages.PageError:
        wanted = ()
    return next((metric for metric in (*wanted, *PLAIN) if metric in measured), "")


def _missing(spec: StudySpec, role: str, label: str, epochs: int) -> TrialStatus:
    """A planned trial of which nothing is there."""
    seeds: dict[int, State] = dict.fromkeys(plan.seeds_of(spec, role), "missing")
    return TrialStatus(None, role, label, "missing", None, seeds, 0, epochs, {})


def _planned_in_optuna(spec: StudySpec, study: optuna.Study) -> int:
    from study.record import trials

    return trials.planned_trials(spec, study)


def _epochs(spec: StudySpec, runs: Sequence[Run]) -> int:
    """The epochs of a trial, as the file or its runs say; the benchmark is asked where neither does."""
    stated = (run.data.params["training.epochs"] for run in runs if "training.epochs" in run.data.params)
    if (epochs := spec.training.get("epochs") or next(stated, None)) is not None:
        return int(epochs)
    try:
        return plan.recipe(spec).epochs
    # a network that is an option, and cannot be imported, is a ValueError
    except (LookupError, ValueError) as error:
        said = error.args[0] if error.args else error
        raise UserError(f"{said}; say this where the benchmark of study {spec.name!r} can be imported") from None


def _planned(runs: Sequence[Run]) -> int:
    """How many trials the study's own run announces."""
    return max((int(run.data.tags.get(schema.PLANNED_TRIALS, 0)) for run in runs), default=0)


def _if_importable(points: Callable[[], list[plan.Point]]) -> list[plan.Point] | None:
    """The ``points``, None where a criterion, benchmark or network that they are made from is not on this machine."""
    try:
        return points()
    except (LookupError, ValueError):
        return None


@dataclass(frozen=True)
class _Trial:
    """A trial as Optuna or MLflow holds it."""

    number: int
    role: str
    label: str
    state: State
    reason: str | None
    means: Mapping[str, float]
    #: its own, where epochs vary; else None
    epochs: int | None


def optuna_study(spec: StudySpec, home: Home) -> optuna.Study | None:
    """The study as Optuna's database holds it, None where it cannot say."""
    from study.record import trials

    uri = home.optuna_uri(spec)
    path = sqlite_path(uri)
    # SQLite makes an empty database of a path that it opens, so one that is not there is not opened
    if path is not None and not path.is_file():
        return None
    try:
        check_database(uri, "optuna_uri")
        return trials.load_study(spec, home)
    except UserError:
        return None


def _same(study: optuna.Study, identity: str) -> bool:
    """Whether Optuna's study is the one whose ``identity`` MLflow holds, as far as both are known."""
    from study.record import trials

    return not identity or trials.study_identity(study) in ("", identity)


def _from_optuna(spec: StudySpec, study: optuna.Study) -> tuple[list[_Trial], list[plan.Point] | None]:
    """The trials, and the fixed points that are not among them, None where these cannot be told."""
    from study.record import trials

    ends: dict[str, State] = {"COMPLETE": "done", "PRUNED": "done", "FAIL": "failed", "RUNNING": "running"}
    rows, lacking = [], trials.lacking_seeds(spec, study)
    for number, trial in trials.attempts(study).items():
        attributes = trial.user_attrs
        means = {key: value for key, value in attributes.get(trials.MEANS, {}).items() if value is not None}
        state = "missing" if number in lacking else ends.get(trial.state.name, "missing")
        rows.append(
            _Trial(
                number,
                attributes[trials.ROLE],
                trials.named(trial),
                state,
                attributes.get(trials.REASON),
                means,
                attributes.get(trials.HYPERPARAMETER_VALUES, {}).get("training.epochs"),
            )
        )
    return rows, _if_importable(lambda: [each for each in trials.absent_points(spec, study) if each.extends is None])


def _from_mlflow(spec: StudySpec, runs: Sequence[Run]) -> tuple[list[_Trial], list[plan.Point] | None]:
    """The trials by their own runs, and the fixed points that are not among them, None where these cannot be told."""
    ends: dict[str, State] = {"FINISHED": "done", "FAILED": "failed", "RUNNING": "running"}
    trials: dict[int, _Trial] = {}
    settings = []
    for run in runs:
        tags, params = run.data.tags, run.data.params
        if tags.get(schema.LEVEL) != "trial":
            continue
        number, reason = int(tags[schema.TRIAL]), tags.get(schema.REASON)
        state = ends.get(run.info.status, "missing")
        if run.info.status == "KILLED" and reason is not None and reason.startswith("stopped early"):
            state = "done"
        epochs = int(params["training.epochs"]) if "training.epochs" in params else None
        held = run.data.metrics.items()
        means = {name: value for name, value in held if not _is_error(name)}
        trials[number] = _Trial(number, tags[schema.ROLE], run.info.run_name, state, reason, means, epochs)
        settings.append((tags[schema.ROLE], tags[schema.CRITERION], params))

    def is_held(point: plan.Point) -> bool:
        values = {**point.trial.hyperparameters, **plan.settings_of(spec, point.trial)}
        wanted = {name: str(value) for name, value in values.items()}
        return any(
            (role, criterion) == (point.role, point.trial.criterion) and wanted.items() <= params.items()
            for role, criterion, params in settings
        )

    absent = _if_importable(lambda: [point for point in plan.fixed_points(spec) if not is_held(point)])
    return [trials[number] for number in sorted(trials)], absent


def _replica(status: str, running: bool) -> State:
    states: dict[str, State] = {"FINISHED": "done", "FAILED": "failed", "RUNNING": "running" if running else "missing"}
    return states.get(status, "missing")
