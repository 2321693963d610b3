"""What Tune's events become: lines of the observer, and ends of trials in Optuna and MLflow."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayTaskError
from ray.tune import Callback

from analysis import schema
from analysis.addresses import masked
from study.errors import UserError
from study.file import plan
from study.launch import snapshots
from study.launch.observer import Observer
from study.launch.pieces import Cause, Piece
from study.launch.search import StudySearcher
from study.record import tracking
from study.record.tracker import Tracking
from study.servers.mlflow import TrackingError
from trainables import assignment
from trainables.assignment import Assignment, Result
from trainables.benchmarks import DataError
from trainables.storage import Folder
from trainables.trainable import (
    STOP,
    STOPPED_SECONDS,
    CodeError,
    PredecessorError,
    StorageError,
    TrialError,
    place,
    wait_until_left,
)

log = logging.getLogger(__name__)


class Follower(Callback):
    """Passes Tune's events on: to the observer, and failures with their reason to Optuna and MLflow.

    ``folder`` is the study's, where trials are told to stop once its storage fails.
    """

    def __init__(self, searcher: StudySearcher, observer: Observer, tracked: Tracking, folder: Folder) -> None:
        self._searcher, self._observer, self._tracked, self._folder = searcher, observer, tracked, folder
        #: metrics whose declarations are kept with the study, and whether each is known to be of held-out samples
        self._declared: dict[str, bool] = {}
        #: failed in this launch: number -> reason
        self.failures: dict[int, str] = {}
        self._started: set[int] = set()
        #: tracebacks that were shown
        self._told: set[str] = set()
        #: trials' folders that a scheduler has stopped the work in, and when
        self._stopped: list[tuple[float, Folder]] = []
        #: number -> addition and shard -> its last result and how many seeds that is of
        self._results: dict[int, dict[tuple[int, int], tuple[Result, int]]] = {}

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        # Tune pickles its callbacks to a file that nothing reads: an empty one keeps the servers' logins out of it
        return Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for given in assignment.from_config(trial.config):
            if given.number not in self._started and given.number not in self.failures:
                self._started.add(given.number)
                label = plan.label(given.trial.criterion, {**given.trial.hyperparameters, **given.settings})
                self._observer.trial_started(given.number, label, given.role)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        for given, told in _points(trial, result):
            self._tell_epoch(given, told)

    def _tell_epoch(self, given: Assignment, told: Result) -> None:
        self._declare(told.declared)
        if told.epoch:
            shards = self._results.setdefault(given.number, {})
            shards[given.addition, given.shard.position] = told, len(given.trial.seeds)
            beside = [shard for (addition, _), (shard, _) in shards.items() if addition == given.addition]
            # a trial ends when one of its shards fails, and the others may still report after that
            if len(beside) == given.shard.parts and given.number in self._started:
                slowest = min(shard.epoch for shard in beside)
                self._observer.epoch(given.number, slowest, told.epochs, self._trial_means(given.number))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        short_of_memory = False
        for given, told in _points(trial, trial.last_result):
            number = given.number
            if told.failure:
                if self._searcher.refuse(trial.trial_id, number, told.failure):
                    self._give_up(number, told.failure)
            elif told.out_of_memory:
                short_of_memory = True
            elif told.finished:
                if self._searcher.is_complete(number):
                    self._end(number, "done")
            elif told.interrupted or self._searcher.stopping:
                self._end(number, "interrupted")
            else:
                reason = f"stopped early after epoch {told.epoch}"
                self._stopped.append((time.monotonic(), place(self._folder, given)))
                self._close(number, "KILLED", reason)
                self._end(number, "stopped early", reason)
        if short_of_memory:
            self._failed(trial, "out of memory", "memory")
        snapshots.lighten(trial)

    def wait_for_stopped(self) -> None:
        """Wait for the last records of trials that a scheduler stopped, which Tune lets go of at once."""
        for since, here in self._stopped:
            left = since + STOPPED_SECONDS - time.monotonic()
            if left > 0:
                wait_until_left(here, left)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed(trial, *reason_of(trial), frames_of(trial))
        snapshots.lighten(trial)

    def _failed(self, trial: Any, reason: str, cause: Cause, frames: str = "") -> None:
        noted = self._searcher.fail(trial.trial_id, reason, cause)
        if noted and cause == "storage":
            # the other trials would fail in the same way, so they are told to stop
            with suppress(OSError):
                self._folder.write(STOP, b"")
        for piece, following in noted:
            if cause == "storage":
                self._end(piece.number, "interrupted")
            elif following is not None:
                seeds = "" if not piece.assignment.is_part else f" (seeds {', '.join(map(str, piece.seeds))})"
                text = f"{reason}; tried again{_how(piece, following)}"
                self._observer.message(f"trial {piece.number}{seeds}: {text}")
                self._note(piece.number, tracking.RETRIED, text)
                self._tell_frames(piece.number, frames)
            else:
                self._give_up(piece.number, reason, frames)

    def _give_up(self, number: int, reason: str, frames: str = "") -> None:
        """Say once that a trial failed for good."""
        if number not in self.failures:
            self.failures[number] = reason
            self._close(number, "FAILED", reason)
            self._end(number, "failed", reason)
            self._tell_frames(number, frames)

    def _tell_frames(self, number: int, frames: str) -> None:
        """Say once, and keep with each trial, where in the user's own code an error arose."""
        if not frames:
            return
        if frames not in self._told:
            self._told.add(frames)
            self._observer.message(frames.rstrip())
        self._note(number, schema.TRACEBACK, frames)

    def _end(self, number: int, state: str, reason: str | None = None) -> None:
        """Say once that a trial ended, whatever its shards do."""
        if number in self._started:
            self._started.discard(number)
            self._observer.trial_ended(number, state, reason, self._trial_means(number))

    def _trial_means(self, number: int) -> dict[str, float]:
        """Means over the seeds of all shards, each at the last epoch that it has reported."""
        shards = [(seeds, told.means) for told, seeds in self._results.get(number, {}).values()]
        names = set.intersection(*(set(means) for _, means in shards)) if shards else set()
        total = sum(seeds for seeds, _ in shards)
        return {name: sum(seeds * means[name] for seeds, means in shards) / total for name in sorted(names)}

    def _declare(self, metrics: Sequence[Mapping[str, str | bool]]) -> None:
        """Keep with the study what its metrics are, the first time that a trial tells of them.

        Which are of held-out samples is told once they have been measured.
        """
        fresh = {
            name: metric
            for name, metric in ((str(metric["name"]), metric) for metric in metrics)
            if name not in self._declared or (metric.get("heldout") and not self._declared[name])
        }
        if not fresh:
            return
        try:
            tracking.declare_metrics(self._tracked, list(fresh.values()))
            self._declared |= {name: bool(metric.get("heldout")) for name, metric in fresh.items()}
        except TrackingError as error:
            log.warning("%s; the metrics are declared at the next report", error)

    def _note(self, number: int, tag: str, text: str) -> None:
        try:
            tracking.note(self._tracked, number, tag, text)
        except TrackingError as error:
            log.warning("%s; %s of trial %d is not noted there", error, tag, number)

    def _close(self, number: int, status: str, reason: str) -> None:
        try:
            tracking.close_trial(self._tracked, number, status, reason)
        except TrackingError as error:
            log.warning("%s; tried again at the end of the study", error)


def _points(trial: Any, result: Mapping[str, Any] | None) -> list[tuple[Assignment, Result]]:
    """What a trial of Tune works at, each with what it told."""
    given = assignment.from_config(trial.config)
    return list(zip(given, assignment.from_tune(result, len(given)), strict=True))


def _how(piece: Piece, following: Piece) -> str:
    """What is different in the next attempt at a piece, in words."""
    if following.most is not None and following.most != piece.most:
        return " by itself" if following.most == 1 else f" in a group of {following.most} at most"
    return f" with {following.share} in place of {piece.share}" if following.share != piece.share else ""


def reason_of(trial: Any) -> tuple[str, Cause]:
    """Why a trial of Tune failed, in one line, and which of the searcher's causes that is."""
    try:
        # Tune's own function reads the copy of this file, which may not be there yet
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    # a user's own class of error may fail to unpickle, with whatever error
    except Exception as unreadable:
        return f"unknown, since its error cannot be read ({unreadable})", "error"
    if isinstance(error, OutOfMemoryError) or (
        isinstance(error, RayActorError) and "running low on memory" in str(error)
    ):
        return "out of memory on its node", "memory"
    # for a minute after a node was lost, Ray reports its actors as unavailable
    if isinstance(error, ActorUnavailableError):
        return "its node does not answer", "node"
    if isinstance(error, RayActorError):
        # Ray has no class of its own for a lost node: only the message tells
        if "its node has died" in str(error):
            return "its node was lost", "node"
        return "the trial's process died: killed, or out of memory", "error"
    cause = error.cause if isinstance(error, RayTaskError) else error
    message = masked((str(cause).strip().splitlines() or [""])[0])
    # the server failed and not the trial: what is trained is kept, and the study stops
    if isinstance(cause, StorageError | TrackingError):
        return message, "storage"
    if isinstance(cause, PredecessorError):
        return message, "node"
    if isinstance(cause, UserError | DataError | TrialError):
        return message, "refusal"
    if isinstance(cause, CodeError):
        return message, "error"
    return f"{type(cause).__name__}: {message}", "error"


def frames_of(trial: Any) -> str:
    """The traceback in code of the user's own that a trial of Tune failed by; empty where there is none."""
    try:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    # see `reason_of`
    except Exception:
        return ""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return masked(getattr(cause, "frames", ""))
