"""Runs and resumes a study on Ray Tune.

A launch is idempotent: whatever an earlier one finished is kept, whatever it left open goes on from its
checkpoint. Each launch is a fresh Tune experiment in the study's folder ``tune/``; before and after it the
folder's snapshots are made one, which holds each finished trial once and nothing else.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from analysis.addresses import absolute, masked
from study.errors import UserError
from study.file.spec import StudySpec
from study.home import Home
from study.launch import cluster, continuing, snapshots
from study.launch.observer import Guarded, Observer, Silent
from study.record import code, tracking
from study.record.files import held, keep_at_home, keep_spec, require_settled, storing
from study.record.tracker import Tracking
from study.servers import logins
from study.servers.mlflow import TrackingError
from study.servers.reach import is_local
from trainables.assignment import from_config
from trainables.storage import Folder

if TYPE_CHECKING:
    import optuna

    from study.launch.follower import Follower
    from study.launch.search import StudySearcher

log = logging.getLogger(__name__)

#: exit code of a process that lost its cluster: nothing can be raised where Ray hangs
LOST = 2
#: states in Optuna of trials that a launch leaves as they ended
NOT_RUN_AGAIN = ("FAIL", "PRUNED")


@dataclass(frozen=True)
class Outcome:
    """How many of the planned trials are done, failed and missing, and whether the launch was interrupted."""

    done: int
    failed: int
    missing: int
    interrupted: bool


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
    require_settled(home, spec.name)
    folder = home.files(spec.name, spec)
    # a later launch may be from another directory
    spec = spec.model_copy(update={key: absolute(uri) for key, uri in logins.servers(spec).items()})
    if folder != Folder(str(home.study(spec.name))):
        # the home's copy of the study file says where the rest is
        spec = spec.model_copy(update={"storage": home.storage(spec).address})
    with held(folder, spec.name):
        watched = Guarded(observer or Silent())
        study, trained_with = continuing.take_up(spec, folder, home, watched)
        with storing(folder):
            keep_spec(spec, folder)
            code.keep(trained_with, folder)
        keep_at_home(spec, home)
        if outcome := _nothing_left(spec, home, watched, retry_failed):
            return outcome
        if is_local(address or os.environ.get("RAY_ADDRESS")):
            continuing.require_same_data(spec, folder, home, study, trained_with.data)
        with cluster.connect(spec.resources, address):
            cluster.require_shared(folder, home.tracking_uri(spec))
            return _launch(spec, home, watched, retry_failed, cadence or Cadence())


def _nothing_left(spec: StudySpec, home: Home, observer: Observer, retry_failed: bool) -> Outcome | None:
    """How the study ended, where all its trials have and MLflow lacks nothing of them; else None: Ray is needed."""
    # optuna takes seconds to import
    from study.record import trials
    from study.servers.database import optuna_errors

    study = trials.load_study(spec, home)
    if study is None:
        return None
    with optuna_errors(home.optuna_uri(spec)):
        ended, outcome = _ended(study), _outcome(spec, study, False)
        if outcome.missing or (outcome.failed and retry_failed):
            return None
        if ended != trials.attempts(study).keys() or trials.absent_points(spec, study):
            return None
    study = trials.open_study(spec, home)
    tracked = tracking.open_study(spec, home, trials.study_identity(study))
    if _settled(spec, study, home.files(spec.name, spec), tracked) != ended:
        # the launch that follows may fail before it ends the run that was opened here
        tracking.close_study(tracked, "KILLED")
        return None
    planned = trials.planned_trials(spec, study)
    observer.started(planned)
    _tell_settled(observer, study, ended)
    _tell_unconfirmed(observer, spec, study)
    tracking.close_study(tracked, _status(outcome), planned)
    return outcome


def _status(outcome: Outcome) -> str:
    """What the study's run in MLflow ends as."""
    return "FINISHED" if not (outcome.failed or outcome.missing) else "KILLED" if outcome.missing else "FAILED"


def _launch(spec: StudySpec, home: Home, observer: Observer, retry_failed: bool, cadence: Cadence) -> Outcome:
    # optuna and ray take seconds to import, and the command line must answer before that
    from study.launch import checkpoints, search
    from study.launch.follower import Follower
    from study.launch.placement import Capacity
    from study.record import trials
    from study.servers.database import optuna_errors
    from trainables.trainable import STOP

    folder = home.files(spec.name, spec)
    with storing(folder):
        folder.remove(STOP)
    study = trials.open_study(spec, home)
    if retry_failed:
        trials.retry_failed(study)
    tracked = tracking.open_study(spec, home, trials.study_identity(study), cadence.patience)
    settled = _settled(spec, study, folder, tracked)
    end_parts = partial(checkpoints.end_parts, folder, tracked)
    searcher = search.StudySearcher(spec, study, Capacity.read, settled, tracked.open_shards, end_parts)
    observer.started(trials.planned_trials(spec, study))
    _tell_settled(observer, study, settled)
    follower = Follower(searcher, observer, tracked, folder)
    tuner = _tuner(spec, folder, tracked, searcher, follower, cadence)

    def wind_up() -> Outcome:
        with optuna_errors(home.optuna_uri(spec)):
            ended, outcome = _ended(study), _outcome(spec, study, searcher.stopping)
        # the snapshots' rewriting fails on a full disk, so the runs in MLflow are ended before it
        _close(tracked, follower, outcome, trials.planned_trials(spec, study))
        with storing(folder):
            snapshots.settle(folder / snapshots.TUNE, ended)
        return outcome

    try:
        with _stopping(searcher, folder), cluster.watching(partial(_abandon, wind_up)):
            tuner.fit()
            follower.wait_for_stopped()
    except Exception as error:
        # whatever Tune's loop raises: a database that went away in the searcher, a full disk, a lost cluster
        why = masked(_told(error))
        if searcher.problem:
            raise UserError(searcher.problem) from error
        raise UserError(f"Ray Tune stopped ({why[:300]}); set that right and resume the study") from error
    finally:
        outcome = wind_up()
    if searcher.problem:
        raise UserError(searcher.problem)
    _tell_unconfirmed(observer, spec, study)
    return outcome


def _told(error: Exception) -> str:
    """The line of what Tune's loop raised that says the most: where memory ran out, Ray's last one is an advice."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    if any("out of memory" in line for line in lines):
        return "the memory of a node ran out, and Ray ended a process: let other work there end, or lower concurrency"
    return lines[-1]


def _settled(spec: StudySpec, study: optuna.Study, folder: Folder, tracked: Tracking) -> set[int]:
    """The trials that are over and need nothing more; MLflow is sent what it lacks of those not run again."""
    from study.launch import checkpoints
    from study.record import trials

    # a trial whose runs lack something is opened once more, and sends it from its checkpoint
    there = tracking.holdings(tracked)
    failed = {number: trial for number, trial in trials.attempts(study).items() if trial.state.name in NOT_RUN_AGAIN}
    with storing(folder):
        settled = snapshots.settle(folder / snapshots.TUNE, _ended(study)) & (failed.keys() | there.whole)
    for number in sorted(failed.keys() - there.there):
        checkpoints.send_again(spec, study, folder, tracked, number, failed[number])
    return settled


def _tell_settled(observer: Observer, study: optuna.Study, settled: Collection[int]) -> None:
    """Show the trials that earlier launches have ended as if they ended now."""
    from study.record import trials

    for number, trial in trials.attempts(study).items():
        if trial.state.is_finished() and number in settled:
            attributes = trial.user_attrs
            observer.trial_started(number, trials.named(trial), attributes[trials.ROLE])
            state = "failed" if trial.state.name == "FAIL" else "done"
            observer.trial_ended(number, state, attributes.get(trials.REASON), attributes.get(trials.MEANS, {}))


def _tell_unconfirmed(observer: Observer, spec: StudySpec, study: optuna.Study) -> None:
    from study.record import trials

    for criterion in trials.unconfirmed(spec, study):
        observer.message(f"no searched point of {criterion} is feasible, so that none of it is confirmed")


def _tuner(
    spec: StudySpec,
    folder: Folder,
    tracked: Tracking,
    searcher: StudySearcher,
    follower: Follower,
    cadence: Cadence,
) -> Any:
    from ray import tune

    from study.launch import groups, pruning
    from study.launch.search import required_metrics
    from trainables.trainable import train_trial

    # Tune logs a failed trial with its traceback, which the observer tells in one sentence
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    trainable = tune.with_parameters(
        train_trial,
        folder=folder,
        open_tracker=tracked.open_trial,
        required=required_metrics(spec),
        workplace=str(Path.cwd()),
        checkpoint_seconds=cadence.checkpoint,
        report_seconds=cadence.report,
        advises=groups.is_found(spec),
    )
    return tune.Tuner(
        tune.with_resources(trainable, _resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=pruning.scheduler(spec),
            # unlimited: the searcher says when the study is over
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_folder_name,
            trial_dirname_creator=_folder_name,
        ),
        run_config=tune.RunConfig(
            name=snapshots.TUNE,
            **folder.tune(),
            # Tune would try again with the same share; the searcher may give a larger one
            failure_config=tune.FailureConfig(max_failures=0),
            callbacks=[follower],
            verbose=0,
        ),
    )


def _abandon(wind_up: Callable[[], object], head: str) -> None:
    """End this process, whose cluster was lost, with the study left so that it can be resumed."""
    # Ray may end this process while it winds up, so the sentence is printed before that
    sentence = f"error: the Ray cluster's head {head} was lost; bring it back and resume the study"
    print(sentence, file=sys.stderr, flush=True)
    try:
        wind_up()
    finally:
        os._exit(LOST)


def _resources(config: dict[str, Any]) -> Any:
    """What Tune gives the trial of ``config``."""
    from ray.tune import PlacementGroupFactory

    share = from_config(config)[0].share
    assert share is not None
    bundle = {"CPU": share.cpus, "GPU": share.gpus}
    return PlacementGroupFactory([{kind: amount for kind, amount in bundle.items() if amount}])


def _close(tracked: Tracking, follower: Follower, outcome: Outcome, planned: int) -> None:
    """Leave no run RUNNING; a server that is away is told at the next launch."""
    try:
        for number, reason in follower.failures.items():
            tracking.close_trial(tracked, number, "FAILED", reason)
        tracking.close_open_trials(tracked, "interrupted; resume the study to go on")
        tracking.close_study(tracked, _status(outcome), planned)
    except TrackingError as error:
        log.warning("%s; resume the study once it answers", error)


def _outcome(spec: StudySpec, study: optuna.Study, interrupted: bool) -> Outcome:
    from study.record import trials

    states = [trial.state.name for trial in trials.attempts(study).values()]
    done, failed = sum(states.count(name) for name in ("COMPLETE", "PRUNED")), states.count("FAIL")
    done -= len(trials.lacking_seeds(spec, study))
    return Outcome(done, failed, max(0, trials.planned_trials(spec, study) - done - failed), interrupted)


def _ended(study: optuna.Study) -> set[int]:
    from study.record import trials

    return {number for number, trial in trials.attempts(study).items() if trial.state.is_finished()}


def _folder_name(trial: Any) -> str:
    given, *others = from_config(trial.config)
    part = f"-{given.shard.position + 1}-of-{given.shard.parts}" if given.shard.parts > 1 else ""
    more = f"-and-{len(others)}-more" if others else ""
    return f"{given.number:05d}{more}{part}-{trial.trial_id}"


@contextmanager
def _stopping(searcher: StudySearcher, folder: Folder) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the trials to save themselves and return; the second one is a KeyboardInterrupt."""
    from trainables.trainable import STOP

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if searcher.stopping:
            raise KeyboardInterrupt
        searcher.stopping = True
        folder.write(STOP, b"")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
