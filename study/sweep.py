"""Runs and resumes a study on Ray Tune.

A launch is idempotent: whatever an earlier one finished is kept, whatever it left open goes on from its
checkpoint. Each launch is a fresh Tune experiment in the study's folder ``tune/``; before and after it the
folder's snapshots are made one, which holds each finished trial once and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from filelock import FileLock, Timeout

from study import cluster, plan, tracking
from study.errors import UserError
from study.home import Home
from study.spec import StudySpec

log = logging.getLogger(__name__)

SPEC, LOCK, HOLDER, TUNE = "study.yaml", "lock", "driver.json", "tune"
#: the one snapshot that is left of all launches; Tune's own are named by the second, and the last name is the newest
WHOLE = "experiment_state-whole.json"


@dataclass(frozen=True)
class Outcome:
    """How many of the planned trials are done, failed and missing, and whether the launch was interrupted."""

    done: int
    failed: int
    missing: int
    interrupted: bool


class Observer(Protocol):
    """Follows a study as it runs. ``state`` is ``done``, ``failed``, ``interrupted`` or ``stopped early``."""

    def started(self, planned: int) -> None: ...

    def trial_started(self, number: int, label: str, role: str) -> None: ...

    def epoch(self, number: int, epoch: int, epochs: int, means: Mapping[str, float]) -> None: ...

    def trial_ended(self, number: int, state: str, reason: str | None, means: Mapping[str, float]) -> None: ...


class Silent:
    """An observer that says nothing."""

    def started(self, planned: int) -> None:
        pass

    def trial_started(self, number: int, label: str, role: str) -> None:
        pass

    def epoch(self, number: int, epoch: int, epochs: int, means: Mapping[str, float]) -> None:
        pass

    def trial_ended(self, number: int, state: str, reason: str | None, means: Mapping[str, float]) -> None:
        pass


@dataclass(frozen=True)
class Cadence:
    """How often a trial saves itself and reports, in seconds, and how long its end waits for the tracking server."""

    checkpoint: float = 15.0
    report: float = 1.0
    patience: float = 300.0


def run(
    spec: StudySpec,
    home: Home,
    observer: Observer | None = None,
    address: str | None = None,
    *,
    retry_failed: bool = False,
    cadence: Cadence | None = None,
) -> Outcome:
    """Start the study, or continue it where an earlier launch left it.

    ``address`` is a Ray cluster's; without it Ray runs on this machine for the time being. With ``retry_failed``,
    trials that failed are tried again from their checkpoints. Ctrl-C and SIGTERM let each trial finish its epoch
    and save itself; a second one ends at once, and what was trained since the last checkpoint is trained again.
    Raises `UserError` where the study is being run already, stands with another file, or cannot be tracked.
    """
    home.prepare()
    folder = home.study(spec.name)
    with _held(folder, spec.name):
        _keep_spec(spec, folder / SPEC)
        with cluster.connect(spec.resources, address):
            return _launch(spec, home, observer or Silent(), retry_failed, cadence or Cadence())


def load_spec(home: Home, name: str) -> StudySpec:
    """The file of a study that was run before; `UserError` where there is none."""
    path = home.study(name) / SPEC
    if not path.is_file():
        known = sorted(each.parent.name for each in (home.root / "studies").glob(f"*/{SPEC}"))
        listed = ", ".join(known) if known else "none"
        raise UserError(f"there is no study {name!r} in {home.root}; known: {listed}")
    return StudySpec.from_yaml(path.read_text())


def is_running(home: Home, name: str) -> bool:
    """Whether some process holds the study."""
    lock = FileLock(home.study(name) / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def _launch(spec: StudySpec, home: Home, observer: Observer, retry_failed: bool, cadence: Cadence) -> Outcome:
    # optuna and ray take seconds to import, and the command line must answer before that
    from ray import tune

    from study import search
    from trainables.trainable import STOP, train_trial

    folder = home.study(spec.name)
    (folder / STOP).unlink(missing_ok=True)
    study = search.open_study(spec, home)
    if retry_failed:
        search.retry_failed(study)
    tracked = replace(tracking.open_study(spec, home), patience=cadence.patience)
    # a trial that MLflow does not hold as finished sends what is missing from its checkpoint
    failed = {number for number, trial in search.attempts(study).items() if trial.state.name in ("FAIL", "PRUNED")}
    settled = settle(folder / TUNE, _ended(study)) & (failed | tracking.finished_trials(tracked))
    searcher = search.StudySearcher(spec, study, partial(cluster.slots, spec.resources), settled)

    observer.started(plan.planned(spec))
    for number, trial in search.attempts(study).items():
        if trial.state.is_finished() and number in settled:
            attributes = trial.user_attrs
            name = plan.label(attributes[search.CRITERION], attributes[search.HYPERPARAMETER_VALUES])
            observer.trial_started(number, name, attributes[search.ROLE])
            state = "failed" if trial.state.name == "FAIL" else "done"
            observer.trial_ended(number, state, attributes.get(search.REASON), attributes.get(search.MEANS, {}))

    follower = _follower(searcher, observer, tracked)
    trainable = tune.with_parameters(
        train_trial,
        folder=folder,
        open_tracker=tracked.open_trial,
        required=search.required_metrics(spec),
        checkpoint_seconds=cadence.checkpoint,
        report_seconds=cadence.report,
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": spec.resources.cpus, "gpu": spec.resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=_scheduler(spec),
            # the searcher says when it is over
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_folder_name,
            trial_dirname_creator=_folder_name,
        ),
        run_config=tune.RunConfig(
            name=TUNE,
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=spec.max_failures),
            callbacks=[follower],
            verbose=0,
        ),
    )
    # a failed trial is told by the observer
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        with _stopping(searcher, folder / STOP):
            tuner.fit()
    except Exception as error:
        # whatever Tune's loop raises: a database that went away in the searcher, a full disk, a lost cluster
        why = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UserError(f"Ray Tune stopped ({why[:300]}); set that right and resume the study") from error
    finally:
        with search.answering(home.optuna_uri(spec)):
            settle(folder / TUNE, _ended(study))
            outcome = _outcome(spec, study, searcher.stopping)
        _close(tracked, follower, outcome)
    if searcher.problem:
        raise UserError(searcher.problem)
    return outcome


def _close(tracked: tracking.Tracking, follower: Any, outcome: Outcome) -> None:
    """Leave no run RUNNING; a server that is away is told at the next launch."""
    try:
        for number, reason in follower.failures.items():
            tracking.close_trial(tracked, number, "FAILED", reason)
        tracking.close_open_trials(tracked, "interrupted; resume the study to go on")
        status = "FINISHED" if not (outcome.failed or outcome.missing) else "KILLED" if outcome.missing else "FAILED"
        tracking.close_study(tracked, status)
    except tracking.TrackingError as error:
        log.warning("%s; resume the study once it answers", error)


def _outcome(spec: StudySpec, study: Any, interrupted: bool) -> Outcome:
    from study import search

    states = [trial.state.name for trial in search.attempts(study).values()]
    done, failed = sum(states.count(name) for name in ("COMPLETE", "PRUNED")), states.count("FAIL")
    return Outcome(done, failed, max(0, plan.planned(spec) - done - failed), interrupted)


def _ended(study: Any) -> set[int]:
    from study import search

    return {number for number, trial in search.attempts(study).items() if trial.state.is_finished()}


def settle(folder: Path, ended: set[int]) -> set[int]:
    """Make one snapshot of all in Tune's folder, with each of the ``ended`` trials that they hold once.

    Rows of trials that go on in a later launch are dropped, and so is a snapshot that a kill left half-written.
    Returns the numbers of the trials that the snapshot holds.
    """
    whole = folder / WHOLE
    rows: dict[int, Any] = {}
    newest: dict[str, Any] = {}
    launches = sorted(path for path in folder.glob("experiment_state-*.json") if path != whole)
    for path in [whole, *launches]:
        try:
            newest = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            continue
        for row in newest["trial_data"]:
            state = json.loads(row[0])
            number = state["config"]["number"]
            if number in ended and state["status"] in ("TERMINATED", "ERROR"):
                rows[number] = row
    if newest:
        aside = whole.with_suffix(".tmp")
        aside.write_text(json.dumps({**newest, "trial_data": [rows[number] for number in sorted(rows)]}))
        aside.replace(whole)
    for path in launches:
        path.unlink()
    return set(rows)


def _follower(searcher: Any, observer: Observer, tracked: tracking.Tracking) -> Any:
    from ray.tune import Callback

    class Follower(Callback):
        """Passes Tune's events on: to the observer, and failures with their reason to Optuna and MLflow."""

        def __init__(self) -> None:
            #: failed in this launch: number -> reason
            self.failures: dict[int, str] = {}

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            described = trial.config["trial"]
            label = plan.label(described["criterion"], described["hyperparameters"])
            observer.trial_started(trial.config["number"], label, trial.config["role"])

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            if "epoch" in result:
                observer.epoch(result["number"], result["epoch"], result["epochs"], _means(result))

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            result = trial.last_result or {}
            number = trial.config["number"]
            if result.get("finished"):
                observer.trial_ended(number, "done", None, _means(result))
            elif result.get("interrupted") or searcher.stopping:
                observer.trial_ended(number, "interrupted", None, _means(result))
            else:
                reason = f"stopped early after epoch {result.get('epoch', 0)}"
                self._close(number, "KILLED", reason)
                observer.trial_ended(number, "stopped early", reason, _means(result))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            reason = _reason(trial)
            number = searcher.fail(trial.trial_id, reason)
            if number is not None:
                self.failures[number] = reason
                self._close(number, "FAILED", reason)
                observer.trial_ended(number, "failed", reason, _means(trial.last_result or {}))

        def _close(self, number: int, status: str, reason: str) -> None:
            try:
                tracking.close_trial(tracked, number, status, reason)
            except tracking.TrackingError as error:
                log.warning("%s; tried again at the end of the study", error)

    return Follower()


def _means(result: Mapping[str, Any]) -> dict[str, float]:
    flat = {name: value for name, value in result.items() if name.startswith("mean/")}
    return {name.removeprefix("mean/"): value for name, value in flat.items()}


def _reason(trial: Any) -> str:
    """Why a trial of Tune failed, in one line."""
    from ray import cloudpickle
    from ray.exceptions import RayActorError, RayTaskError

    from trainables.benchmarks import DataError
    from trainables.trainable import TrialError

    try:
        # Tune's own reading looks where the file is copied to later
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    # an error of a user's own may not come out of its pickle
    except Exception as unreadable:
        return f"unknown, since its error cannot be read ({unreadable})"
    if isinstance(error, RayActorError):
        return "the trial's process died: killed, or out of memory"
    cause = error.cause if isinstance(error, RayTaskError) else error
    message = (str(cause).strip().splitlines() or [""])[0]
    return message if isinstance(cause, UserError | DataError | TrialError) else f"{type(cause).__name__}: {message}"


def _scheduler(spec: StudySpec) -> Any:
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

    if spec.search is None or spec.search.pruner is None:
        return FIFOScheduler()
    pruner, objective = spec.search.pruner, spec.search.objective
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=f"mean/{objective.metric}",
        mode="min" if objective.direction == "minimize" else "max",
        max_t=plan.recipe(spec).epochs,
        grace_period=pruner.grace_period,
        reduction_factor=pruner.reduction_factor,
        brackets=pruner.brackets,
    )


def _folder_name(trial: Any) -> str:
    return f"{trial.config['number']:05d}"


@contextmanager
def _held(folder: Path, name: str) -> Iterator[None]:
    """Holds the study: two drivers would ask Optuna and write checkpoints beside each other."""
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / LOCK), folder / HOLDER
    try:
        lock.acquire(blocking=False)
    except Timeout:
        try:
            held = json.loads(holder.read_text())
            who = f"process {held['pid']} on {held['host']}"
        except (OSError, ValueError, KeyError):
            who = "another process"
        raise UserError(f"study {name!r} is being run by {who}; wait for it or end it first") from None
    try:
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        lock.release()


#: keys of a study file that may change between launches
CHANGEABLE = {"description", "resources", "concurrency", "max_failures"}


def _keep_spec(spec: StudySpec, path: Path) -> None:
    """Keep the resolved study file; one that was run under the same name must be the same in all that matters."""
    if path.is_file():
        before, now = StudySpec.from_yaml(path.read_text()).model_dump(), spec.model_dump()
        for key in before:
            if key not in CHANGEABLE and before[key] != now[key]:
                raise UserError(
                    f"study {spec.name!r} was started with another {key} ({before[key]!r}); "
                    "choose another name, or resume it as it was"
                )
    aside = path.with_suffix(".tmp")
    aside.write_text(spec.to_yaml())
    aside.replace(path)


@contextmanager
def _stopping(searcher: Any, stop: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the trials to save themselves and return; the second one is a KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if searcher.stopping:
            raise KeyboardInterrupt
        searcher.stopping = True
        stop.touch()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
