"""Runs and resumes a study on Ray Tune.

A launch is idempotent: whatever an earlier one finished is kept, whatever it left open goes on from its
checkpoint. Each launch is a fresh Tune experiment in the study's folder ``tune/``; before and after it the
folder's snapshots are made one, which holds each finished trial once and nothing else.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from analysis.addresses import absolute, masked, without_login
from study.errors import UserError
from study.file import plan
from study.file.spec import StudySpec
from study.home import SPEC, Home
from study.launch import cluster
from study.launch.observer import Guarded
from study.record import moved, tracking
from study.servers import logins
from study.servers.reach import object_store
from trainables.storage import Folder, Held
from trainables.trial import Trial

log = logging.getLogger(__name__)

LOCK, HOLDER, TUNE = "lock", "driver.json", "tune"
#: exit code of a process that lost its cluster: nothing can be raised where Ray hangs
LOST = 2
#: states in Optuna of trials that a launch leaves as they ended
NOT_RUN_AGAIN = ("FAIL", "PRUNED")
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

    def message(self, text: str) -> None:
        """What the user should know of a trial that goes on."""
        ...


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

    def message(self, text: str) -> None:
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
    folder = home.files(spec.name, spec)
    # a later launch may be from another directory
    spec = spec.model_copy(update={key: absolute(uri) for key, uri in logins.servers(spec).items()})
    if folder != Folder(str(home.study(spec.name))):
        # the home's copy of the study file says where the rest is
        spec = spec.model_copy(update={"storage": home.storage(spec).address})
    with _held(folder, spec.name):
        with _storing(folder):
            _keep_spec(spec, folder, home)
        _keep_at_home(spec, home)
        with cluster.connect(spec.resources, address):
            cluster.require_shared(folder, home.tracking_uri(spec))
            return _launch(spec, home, Guarded(observer or Silent()), retry_failed, cadence or Cadence())


def load_spec(home: Home, name: str) -> StudySpec:
    """The file of a study that was run before, its paths as they are now; `UserError` where there is none."""
    path, folder = home.study(name) / SPEC, home.files(name)
    kept: bytes | None
    if path.is_file():
        kept = _reading(path)
    else:
        with _storing(folder):
            _require_reached(folder)
            kept = folder.read(SPEC)
    if kept is None:
        known = sorted(each.parent.name for each in (home.root / "studies").glob(f"*/{SPEC}"))
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
        raise UserError(f"there is no study {name!r} in {home.root}; {hint}")
    return logins.restored(moved.rebase(_read_spec(kept, home.study(name) / SPEC), home), home.study(name))


def _read_spec(content: bytes, where: Any) -> StudySpec:
    try:
        return StudySpec.from_yaml(content.decode("utf-8"), str(where))
    except UnicodeDecodeError:
        raise UserError(f"{where}: not a text file in UTF-8; convert it, or run the study under another name") from None


def is_running(home: Home, name: str, spec: StudySpec | None = None) -> bool:
    """Whether some process holds the study; takes up to 10 s in an object store."""
    folder = home.files(name, spec)
    with _storing(folder):
        _require_reached(folder)
        return folder.is_locked(LOCK)


def _launch(spec: StudySpec, home: Home, observer: Observer, retry_failed: bool, cadence: Cadence) -> Outcome:
    # optuna and ray take seconds to import, and the command line must answer before that
    from ray import tune

    from study.launch import search
    from study.launch.placement import Capacity
    from trainables.trainable import STOP, train_trial

    folder = home.files(spec.name, spec)
    with _storing(folder):
        folder.remove(STOP)
    study = search.open_study(spec, home)
    if retry_failed:
        search.retry_failed(study)
    tracked = tracking.open_study(spec, home, search.study_identity(study), cadence.patience)
    # a trial of which MLflow lacks anything sends it from its checkpoint
    held = tracking.holdings(tracked)
    failed = {number: trial for number, trial in search.attempts(study).items() if trial.state.name in NOT_RUN_AGAIN}
    with _storing(folder):
        settled = settle(folder / TUNE, _ended(study)) & (failed.keys() | held.whole)
    for number in sorted(failed.keys() - held.there):
        _send_again(spec, study, folder, tracked, number, failed[number])
    searcher = search.StudySearcher(
        spec, study, Capacity.read, settled, tracked.open_shards, partial(_end_shards, folder, tracked)
    )

    observer.started(plan.planned(spec))
    for number, trial in search.attempts(study).items():
        if trial.state.is_finished() and number in settled:
            attributes = trial.user_attrs
            observer.trial_started(number, search.named(trial), attributes[search.ROLE])
            state = "failed" if trial.state.name == "FAIL" else "done"
            observer.trial_ended(number, state, attributes.get(search.REASON), attributes.get(search.MEANS, {}))

    follower = _follower(searcher, observer, tracked, folder)
    trainable = tune.with_parameters(
        train_trial,
        folder=folder,
        open_tracker=tracked.open_trial,
        required=search.required_metrics(spec),
        workplace=str(Path.cwd()),
        checkpoint_seconds=cadence.checkpoint,
        report_seconds=cadence.report,
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, _resources),
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
            **folder.tune(),
            # the searcher tries again, since it may be with a larger share
            failure_config=tune.FailureConfig(max_failures=0),
            callbacks=[follower],
            verbose=0,
        ),
    )
    # a failed trial is told by the observer
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

    def wind_up() -> Outcome:
        with search.answering(home.optuna_uri(spec)):
            ended, outcome = _ended(study), _outcome(spec, study, searcher.stopping)
        # first, since a disk that is full stops at what follows
        _close(tracked, follower, outcome)
        with _storing(folder):
            settle(folder / TUNE, ended)
        return outcome

    def abandon(head: str) -> None:
        # said first, as Ray may end this process meanwhile
        sentence = f"error: the Ray cluster's head {head} was lost; bring it back and resume the study"
        print(sentence, file=sys.stderr, flush=True)
        try:
            wind_up()
        finally:
            os._exit(LOST)

    try:
        with _stopping(searcher, folder), cluster.watching(abandon):
            tuner.fit()
    except Exception as error:
        # whatever Tune's loop raises: a database that went away in the searcher, a full disk, a lost cluster
        why = masked((str(error).strip() or type(error).__name__).splitlines()[-1])
        if searcher.problem:
            raise UserError(searcher.problem) from error
        raise UserError(f"Ray Tune stopped ({why[:300]}); set that right and resume the study") from error
    finally:
        outcome = wind_up()
    if searcher.problem:
        raise UserError(searcher.problem)
    return outcome


def _send_again(
    spec: StudySpec, study: Any, folder: Folder, tracked: tracking.Tracking, number: int, trial: Any
) -> None:
    """Give MLflow, which lacks runs of a trial that is not run again, what the trial's checkpoints hold."""
    from study.launch import search
    from study.launch.placement import split
    from trainables.trainable import place, read_checkpoint, recall

    attributes = trial.user_attrs
    if search.HYPERPARAMETER_VALUES not in attributes:
        return
    whole = plan.trial_for(spec, attributes[search.CRITERION], attributes[search.HYPERPARAMETER_VALUES])
    parts = split(whole.seeds, int(study.user_attrs.get(search.SHARDS, 1)))
    config = {"number": number, "role": attributes[search.ROLE]}
    for position, seeds in enumerate(parts):
        part, shard = replace(whole, seeds=seeds), (position, len(parts))
        checkpoint = read_checkpoint(place(folder, number, shard), part)
        # without one it ended before it had anything to tell
        if checkpoint is None:
            continue
        tracked.open_shards({**config, "shard": (0, 1), "trial": whole.to_dict()})
        tracker = tracked.open_trial({**config, "shard": shard, "trial": part.to_dict()})
        recall(tracker, checkpoint)
        tracker.add(checkpoint["records"])
        tracker.flush(now=True)
    status = "FAILED" if trial.state.name == "FAIL" else "KILLED"
    tracking.close_trial(tracked, number, status, attributes.get(search.REASON, ""))


def _resources(config: Mapping[str, Any]) -> Any:
    """What Tune gives the trial of ``config``."""
    from ray.tune import PlacementGroupFactory

    bundle = {"CPU": config["cpus"], "GPU": config["gpus"]}
    return PlacementGroupFactory([{kind: amount for kind, amount in bundle.items() if amount}])


def _end_shards(
    folder: Folder, tracked: tracking.Tracking, whole: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]
) -> None:
    """Give the trial's own run the means over all shards, from their checkpoints, and end it."""
    from trainables.trainable import place, read_checkpoint

    parts = []
    for config in shards:
        checkpoint = read_checkpoint(place(folder, config["number"], config["shard"]), Trial.from_dict(config["trial"]))
        if checkpoint is None:
            raise UserError(f"a checkpoint of trial {config['number']} in {folder} is gone; resume the study")
        parts.append(checkpoint["records"])
    tracker = tracked.open_trial(whole)
    tracker.add([_merged(records) for records in zip(*parts, strict=True)])
    tracker.complete({}, {})
    tracker.finish()


def _merged(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One epoch's records of all shards as one of the whole trial."""
    metrics = {
        name: [value for record in records for value in record["metrics"][name]] for name in records[0]["metrics"]
    }
    return {"epoch": records[0]["epoch"], "metrics": metrics, "time": max(record["time"] for record in records)}


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
    from study.launch import search

    states = [trial.state.name for trial in search.attempts(study).values()]
    done, failed = sum(states.count(name) for name in ("COMPLETE", "PRUNED")), states.count("FAIL")
    return Outcome(done, failed, max(0, plan.planned(spec) - done - failed), interrupted)


def _ended(study: Any) -> set[int]:
    from study.launch import search

    return {number for number, trial in search.attempts(study).items() if trial.state.is_finished()}


def settle(folder: Folder, ended: set[int]) -> set[int]:
    """Make one snapshot of all in Tune's folder, with each of the ``ended`` trials that they hold once.

    A trial in shards has a row for each. Rows of trials that go on in a later launch are dropped, and so are those of
    attempts that were followed by another one and a snapshot that a kill left half-written. Returns the numbers of
    the trials that the snapshot holds whole.
    """
    rows: dict[tuple[int, int], Any] = {}
    begun: dict[tuple[int, int], tuple[int, float]] = {}
    counts: dict[int, int] = {}
    newest: dict[str, Any] = {}
    launches = [
        name
        for name in folder.names()
        if name.startswith("experiment_state-") and name.endswith(".json") and name != WHOLE
    ]
    for launch, name in enumerate([WHOLE, *launches]):
        try:
            newest = json.loads(folder.read(name) or b"")
        except ValueError:
            continue
        for row in newest["trial_data"]:
            state = json.loads(row[0])
            number, (position, count) = state["config"]["number"], state["config"].get("shard", (0, 1))
            # Tune writes attempts of one launch in any order
            start = launch, json.loads(row[1]).get("start_time") or 0.0
            is_last = start >= begun.get((number, position), start)
            if number in ended and state["status"] in ("TERMINATED", "ERROR") and is_last:
                rows[number, position], begun[number, position] = row, start
                counts[number] = count
    if newest:
        folder.write(WHOLE, json.dumps({**newest, "trial_data": [rows[key] for key in sorted(rows)]}).encode())
    for name in launches:
        folder.remove(name)
    return {number for number, count in counts.items() if all((number, position) in rows for position in range(count))}


def _follower(searcher: Any, observer: Observer, tracked: tracking.Tracking, folder: Folder) -> Any:
    from ray.tune import Callback

    from trainables.trainable import DECLARED, STOP

    class Follower(Callback):
        """Passes Tune's events on: to the observer, and failures with their reason to Optuna and MLflow."""

        def __init__(self) -> None:
            #: metrics whose declarations are kept with the study
            self._declared: set[str] = set()
            #: failed in this launch: number -> reason
            self.failures: dict[int, str] = {}
            self._started: set[int] = set()
            #: number -> shard -> its last result
            self._results: dict[int, dict[int, dict[str, Any]]] = {}

        def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
            # Tune keeps its callbacks in a file, and ours know the servers' logins; nothing reads them from there
            return Callback, ()

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            number, described = trial.config["number"], trial.config["trial"]
            if number not in self._started and number not in self.failures:
                self._started.add(number)
                label = plan.label(described["criterion"], described["hyperparameters"])
                observer.trial_started(number, label, trial.config["role"])

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            self._declare(result.get(DECLARED, []))
            if "epoch" in result:
                number, (position, count) = result["number"], trial.config["shard"]
                shards = self._results.setdefault(number, {})
                shards[position] = result
                # a shard may report on after its trial has ended with another one
                if len(shards) == count and number in self._started:
                    slowest = min(shards.values(), key=lambda each: each["epoch"])
                    observer.epoch(number, slowest["epoch"], result["epochs"], self._trial_means(number))

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            result = trial.last_result or {}
            number = trial.config["number"]
            if result.get("out_of_memory"):
                self._failed(trial, "out of memory", "memory")
            elif result.get("finished"):
                if searcher.is_complete(number):
                    self._end(number, "done")
            elif result.get("interrupted") or searcher.stopping:
                self._end(number, "interrupted")
            else:
                reason = f"stopped early after epoch {result.get('epoch', 0)}"
                self._close(number, "KILLED", reason)
                self._end(number, "stopped early", reason)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self._failed(trial, *_reason(trial))

        def _failed(self, trial: Any, reason: str, cause: str) -> None:
            noted = searcher.fail(trial.trial_id, reason, cause)
            if noted is None:
                return
            piece, share = noted
            if cause == "storage":
                # the others need not find out at their ends
                with suppress(OSError):
                    folder.write(STOP, b"")
                self._end(piece.number, "interrupted")
            elif share is not None:
                seeds = "" if piece.shard[1] == 1 else f" (seeds {', '.join(map(str, piece.seeds))})"
                given = f" with {share} in place of {piece.share}" if share != piece.share else ""
                text = f"{reason}; tried again{given}"
                observer.message(f"trial {piece.number}{seeds}: {text}")
                self._note(piece.number, text)
            elif piece.number not in self.failures:
                self.failures[piece.number] = reason
                self._close(piece.number, "FAILED", reason)
                self._end(piece.number, "failed", reason)

        def _end(self, number: int, state: str, reason: str | None = None) -> None:
            """Say once that a trial ended, whatever its shards do."""
            if number in self._started:
                self._started.discard(number)
                observer.trial_ended(number, state, reason, self._trial_means(number))

        def _trial_means(self, number: int) -> dict[str, float]:
            """Means over the seeds of all shards, each at the last epoch that it has reported."""
            shards = [(len(_seeds(each)), _means(each)) for each in self._results.get(number, {}).values()]
            names = set.intersection(*(set(means) for _, means in shards)) if shards else set()
            total = sum(seeds for seeds, _ in shards)
            return {name: sum(seeds * means[name] for seeds, means in shards) / total for name in sorted(names)}

        def _declare(self, metrics: Sequence[Mapping[str, Any]]) -> None:
            """Keep with the study what its metrics are, the first time that a trial tells of them."""
            fresh = [each for each in metrics if each["name"] not in self._declared]
            if not fresh:
                return
            try:
                tracking.declare_metrics(tracked, fresh)
                self._declared |= {str(each["name"]) for each in fresh}
            except tracking.TrackingError as error:
                log.warning("%s; the metrics are declared at the next report", error)

        def _note(self, number: int, text: str) -> None:
            try:
                tracking.note_retry(tracked, number, text)
            except tracking.TrackingError as error:
                log.warning("%s; the retry of trial %d is not noted there", error, number)

        def _close(self, number: int, status: str, reason: str) -> None:
            try:
                tracking.close_trial(tracked, number, status, reason)
            except tracking.TrackingError as error:
                log.warning("%s; tried again at the end of the study", error)

    return Follower()


def _seeds(result: Mapping[str, Any]) -> Sequence[int]:
    seeds: Sequence[int] = result["config"]["trial"]["seeds"]
    return seeds


def _means(result: Mapping[str, Any]) -> dict[str, float]:
    flat = {name: value for name, value in result.items() if name.startswith("mean/")}
    return {name.removeprefix("mean/"): value for name, value in flat.items()}


def _reason(trial: Any) -> tuple[str, str]:
    """Why a trial of Tune failed, in one line, and which of the searcher's causes that is."""
    from ray import cloudpickle
    from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayTaskError

    from trainables.benchmarks import DataError
    from trainables.trainable import PredecessorError, StorageError, TrialError

    try:
        # Tune's own reading looks where the file is copied to later
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    # an error of a user's own may not come out of its pickle
    except Exception as unreadable:
        return f"unknown, since its error cannot be read ({unreadable})", "error"
    if isinstance(error, OutOfMemoryError) or (
        isinstance(error, RayActorError) and "running low on memory" in str(error)
    ):
        return "out of memory on its node", "memory"
    # the first minute after a node was lost, Ray only knows that it does not answer
    if isinstance(error, ActorUnavailableError):
        return "its node does not answer", "node"
    if isinstance(error, RayActorError):
        # Ray tells a lost node in its message alone
        if "its node has died" in str(error):
            return "its node was lost", "node"
        return "the trial's process died: killed, or out of memory", "error"
    cause = error.cause if isinstance(error, RayTaskError) else error
    message = masked((str(cause).strip().splitlines() or [""])[0])
    # what is trained is kept, and the other trials would fail alike
    if isinstance(cause, StorageError | tracking.TrackingError):
        return message, "storage"
    if isinstance(cause, PredecessorError):
        return message, "node"
    if isinstance(cause, UserError | DataError | TrialError):
        return message, "refusal"
    return f"{type(cause).__name__}: {message}", "error"


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
    position, count = trial.config["shard"]
    return f"{trial.config['number']:05d}" + (f"-{position + 1}-of-{count}" if count > 1 else "") + f"-{trial.trial_id}"


def _require_reached(folder: Folder) -> None:
    """An object store answers: its client would try for minutes, with Ctrl-C shut out."""
    if not folder.on_disk:
        object_store(folder.address, "stored_files")


@contextmanager
def _storing(folder: Folder) -> Iterator[None]:
    """Turns a storage that fails into one sentence."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).splitlines()[0]
        raise UserError(
            f"the study's storage {folder} cannot be used ({why}); set that right, or name another"
        ) from error


@contextmanager
def _held(folder: Folder, name: str) -> Iterator[None]:
    """Holds the study: two drivers would ask Optuna and write checkpoints beside each other."""
    held = ExitStack()
    with _storing(folder):
        try:
            held.enter_context(folder.lock(LOCK, 0))
        except Held:
            try:
                holder = json.loads(folder.read(HOLDER) or b"")
                who = f"process {holder['pid']} on {holder['host']}"
            except (ValueError, KeyError):
                who = "another process"
            raise UserError(f"study {name!r} is being run by {who}; wait for it or end it first") from None
    try:
        with _storing(folder):
            folder.write(HOLDER, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
    finally:
        with _storing(folder):
            held.close()


#: keys of a study file that may change between launches
CHANGEABLE = {"description", "resources", "concurrency", "max_failures", "storage"}


def _keep_spec(spec: StudySpec, folder: Folder, home: Home | None = None) -> None:
    """Keep the resolved study file; one that was run under the same name must be the same in all that matters.

    Paths that moved with the ``home`` are the same.
    """
    kept = folder.read(SPEC)
    if kept is not None:
        earlier = _read_spec(kept, folder / SPEC)
        before, now = (moved.rebase(earlier, home) if home else earlier).model_dump(), spec.model_dump()
        # a login may change, and is not for others to read
        for values in (before, now):
            for key in ("tracking_uri", "storage_uri"):
                values[key] = values[key] and without_login(values[key])
        for key in before:
            if key not in CHANGEABLE and before[key] != now[key]:
                raise UserError(
                    f"study {spec.name!r} was started with another {key} ({before[key]!r}); "
                    "choose another name, or resume it as it was"
                )
    folder.write(SPEC, logins.without_passwords(spec).to_yaml().encode())


def _keep_at_home(spec: StudySpec, home: Home) -> None:
    """The study file as `load_spec` reads it, wherever the storage is, with the logins beside it."""
    here = home.study(spec.name)
    try:
        here.mkdir(parents=True, exist_ok=True)
        moved.keep(logins.without_passwords(spec).to_yaml(), home, spec.name)
        logins.keep(spec, here)
    except OSError as error:
        raise UserError(f"the study home's folder {here} cannot be written to ({error.strerror})") from None


def _reading(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None


@contextmanager
def _stopping(searcher: Any, folder: Folder) -> Iterator[None]:
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
