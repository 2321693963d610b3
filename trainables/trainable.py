"""The function that Ray Tune calls on its allocated CPUs or GPU: a trial or several, resumable at any epoch."""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ray import tune
from torch import Tensor

from trainables import kernel_choice, points_choice, remote_data
from trainables.assignment import Assignment, Facts, Result, from_config, to_tune
from trainables.benchmarks import DataError, find
from trainables.contract_words import first_line
from trainables.own_code import own_place, own_traceback
from trainables.points import Apart, Points
from trainables.storage import Folder, Held
from trainables.training import Record, Training
from trainables.trial import Trial

log = logging.getLogger(__name__)

#: file in a trial's folder
CHECKPOINT = "checkpoint.pt"
#: file in the study's folder: while it is there, trials save themselves at the epoch's end and return
STOP = "stop"
#: files in the study's folder begin so: the fingerprint of the data that trials of the same options are trained on
FINGERPRINT = "fingerprint"
#: how long a trial waits for a predecessor that still writes in its folder: Ray on a node that is cut off ends its
#: workers three minutes after the cut, of which one has gone by when another node is given the trial
PREDECESSOR_SECONDS = 180.0
#: a checkpoint is written at most this often, in multiples of the time that the last one took
CHECKPOINT_SHARE = 20.0
#: how long the records of a trial that a scheduler stopped, which are being sent then, are waited for
STOPPED_SECONDS = 30.0
#: seconds between two looks for `STOP` where that is a request to an object store
STOP_SECONDS = 5.0
#: GPU memory of a process before its first tensor
CONTEXT_BYTES = 600 * 2**20


class TrialError(RuntimeError):
    """A trial that cannot count, said in one sentence."""


class PredecessorError(TrialError):
    """The trial's folder is another process's: on a node that was cut off, say, and still has to notice it."""


class StorageError(TrialError):
    """The study's storage takes nothing more; the trial itself is not to blame."""


class CodeError(RuntimeError):
    """What code of the user's own raised: the sentence names the error and its place.

    In its stead, since it may not come out of a pickle, and its frames never do. ``frames`` is the traceback from the
    first of them on, which a `TrialError` or `DataError` that came of own code has as well.
    """

    frames = ""


class Tracker(Protocol):
    """Where a trial's trajectories go."""

    def describe(self, training: Training) -> Facts:
        """Take what is only known once data and network stand: data, recipe, device. Returns it, for the checkpoint."""
        ...

    def recall(self, facts: Facts) -> None:
        """Take what `describe` returned when the trial was trained."""
        ...

    def add(self, records: Sequence[Record]) -> None:
        """Take records; they may be sent later."""
        ...

    def flush(self, now: bool = False) -> None:
        """Send what is due, or all ``now``; does not raise where the server is away, since the records are kept."""
        ...

    def complete(self, arrays: Mapping[str, np.ndarray], weights: Mapping[str, Tensor]) -> None:
        """Send everything, artifacts too; raises where that cannot be done in a bounded time."""
        ...

    def finish(self) -> None:
        """Mark the trial as finished."""
        ...


def train_trial(
    config: Mapping[str, Any],
    *,
    folder: Folder,
    open_tracker: Callable[[Assignment], Tracker],
    required: Sequence[str] = (),
    checkpoint_seconds: float = 15.0,
    report_seconds: float = 1.0,
    workplace: str | None = None,
    advises: bool = False,
) -> None:
    """Train the trial of ``config`` of the study in ``folder``, or the points (`trainables.assignment.to_config`).

    Points that stand at one epoch are one program (`trainables.points`), others are trained one after another; each has
    the tracker and the checkpoint that it has alone, so that it goes on in whatever company. A trial continues from the
    `CHECKPOINT` in `place`, which is written every ``checkpoint_seconds`` at an epoch's end (0: at each) and holds all
    records so far: whatever the tracker lacks is sent from there. Reports what `trainables.assignment.to_tune` makes of
    a `Result` a trial, at the first epoch, then every ``report_seconds``, then when all is done; the first and the last
    report also have the metrics' declarations. Where memory runs out, or a ``required`` metric is missing or not finite
    for some seed, it reports that. Where it ``advises``, a trial by itself finds out and reports, before it trains, how
    many points are worth training together (`trainables.points_choice`). Raises `StorageError` where ``folder`` cannot
    be written. Works in the directory ``workplace`` where this machine has it: relative paths, in options as in code of
    a user's own, mean what they mean there.
    """
    if workplace is not None and Path(workplace).is_dir():
        os.chdir(workplace)
    # Tune ends the process at once where a scheduler stops the trial, and this thread has records to send then
    if threading.current_thread() is not threading.main_thread():
        atexit.register(threading.current_thread().join, STOPPED_SECONDS)
    assignments = from_config(config)
    stop = _Stop(folder)
    with ExitStack() as held:
        for assignment in assignments:
            held.enter_context(_alone(place(folder, assignment)))
        held.enter_context(_telling_frames())
        if stop():
            tune.report(to_tune(assignments, [Result(interrupted=True)] * len(assignments)))
            return
        device = _take_device()
        points = [_Point(folder, assignment, open_tracker, checkpoint_seconds) for assignment in assignments]
        work = _Work(folder, device, points, required, stop, report_seconds, advises and len(points) == 1)
        for point in points:
            if point.is_finished:
                point.tell_again()
        for together in _programs([point for point in points if not point.is_finished]):
            if not work.train(together):
                break
        work.report()


class _Point:
    """One of the trials that a Tune trial works at: its checkpoint and its tracker, and what Tune is told of it."""

    def __init__(
        self, folder: Folder, assignment: Assignment, open_tracker: Callable[[Assignment], Tracker], seconds: float
    ) -> None:
        self.assignment, self.trial = assignment, assignment.trial
        self.tracker = open_tracker(assignment)
        self.save = _Saver(place(folder, assignment), self.trial, seconds)
        #: what an earlier attempt has left, until that is taken up
        self.checkpoint = read_checkpoint(self.save.here, self.trial)
        self.records = list(self.checkpoint.records) if self.checkpoint else []
        self.result = Result()
        self.tracker.add(self.records)

    @property
    def is_finished(self) -> bool:
        return self.result.finished or (self.checkpoint is not None and self.checkpoint.finished)

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to be said of it."""
        return self.is_finished or bool(self.result.failure)

    def tell_again(self) -> None:
        """Give the tracker what it lacks of a trial that has finished."""
        assert self.checkpoint is not None
        recall(self.tracker, self.checkpoint)
        self.tracker.complete(self.checkpoint.arrays, {})
        self.tracker.finish()
        self.result = _last(self.records, self.checkpoint.declared)

    def take_state(self) -> Mapping[str, Any] | None:
        """From which to go on; not kept here, or its tensors would stay in memory for the whole trial."""
        state = self.checkpoint.state if self.checkpoint else None
        self.checkpoint = None
        return state

    def add(self, record: Record) -> None:
        self.records.append(record)
        self.tracker.add([record])

    def summarise(self, epochs: int, declared: Sequence[Mapping[str, str | bool]] = ()) -> None:
        """Have Tune told of the last epoch."""
        self.result = replace(_summary(self.records[-1], epochs), declared=declared)

    def finish(self, required: Sequence[str], arrays: Mapping[str, np.ndarray], weights: Mapping[str, Tensor]) -> None:
        """End it after its last epoch: as finished, or as one that cannot count."""
        self.tracker.complete(arrays, weights)
        if failure := _lacking(required, self.records, self.trial):
            self.result = Result(failure=failure)
            return
        self.tracker.finish()
        self.save.finished(self.records, arrays)
        self.result = _last(self.records, self.save.declared)


def _programs(points: Sequence[_Point]) -> list[list[_Point]]:
    """The points by what they can be trained beside: those that nothing was trained of, or of one epoch and kernel."""
    alike: dict[str, list[_Point]] = {}
    for point in points:
        state = point.checkpoint.state if point.checkpoint else None
        alike.setdefault(str(state and (state["epoch"], state.get("kernel"))), []).append(point)
    return list(alike.values())


class _Work:
    """The training of the ``points`` of one Tune trial, program by program, and its reports."""

    def __init__(
        self,
        folder: Folder,
        device: str,
        points: Sequence[_Point],
        required: Sequence[str],
        stop: _Stop,
        report_seconds: float,
        advises: bool,
    ) -> None:
        self._advises = advises
        self._folder, self._device, self._points = folder, device, points
        self._required, self._stop, self._seconds = required, stop, report_seconds
        self._reported = -math.inf

    def report(self) -> None:
        """Tell Tune of all points."""
        tune.report(to_tune([point.assignment for point in self._points], [point.result for point in self._points]))
        self._reported = time.monotonic()

    def train(self, points: Sequence[_Point]) -> bool:
        """Train those ``points`` as one program to their ends; False where something ended all work before that.

        What it was stands in the results then, and was not reported yet.
        """
        try:
            return self._train(points)
        except Apart as error:
            log.info("%s", error)
        except (RuntimeError, MemoryError) as error:
            if not kernel_choice.out_of_memory(error):
                raise
            for point in self._points:
                if not point.has_ended:
                    point.result = Result(out_of_memory=True)
            return False
        finally:
            # torch keeps freed GPU memory for this process, and the next trial may run in another one
            if self._device == "cuda":
                torch.cuda.empty_cache()
        # here, where no error keeps what was made for all of them in memory
        return all(self.train([point]) for point in points)

    def _train(self, points: Sequence[_Point]) -> bool:
        program = self._begun(points)
        training = program.training
        declared = points[0].save.declared
        # a teacher's epochs have no records, but are not trained twice
        for _ in program.prepare():
            stopping = self._stop()
            if stopping or _due(points):
                _save(points, program)
            if stopping:
                return self._interrupt()
        epochs, told = training.recipe.epochs, False
        for records in program.run():
            # data of which nothing was trained may still be mended
            if not points[0].records:
                self._folder.write(_fingerprint_file(points[0].trial), training.data.fingerprint.encode())
            for point, record in zip(points, records, strict=True):
                point.add(record)
            last, stopping = training.epoch == epochs, self._stop()
            if last or stopping or _due(points):
                _save(points, program)
            for point in points:
                point.tracker.flush()
            if last:
                break
            if stopping:
                for point in points:
                    point.summarise(epochs)
                return self._interrupt()
            if not told or time.monotonic() - self._reported >= self._seconds:
                for point in points:
                    point.summarise(epochs, () if told else declared)
                self._report_from_work()
                told = True
        arrays, weights = program.arrays(), program.weights()
        for point, own_arrays, own_weights in zip(points, arrays, weights, strict=True):
            # which metrics are of held-out samples shows when they are measured
            point.save.declared = [metric.to_dict() for metric in training.metrics]
            point.finish(self._required, own_arrays, own_weights)
        return True

    def _begun(self, points: Sequence[_Point]) -> Points:
        """The program of the points, at the epoch at which these stand."""
        trial = points[0].trial
        options = remote_data.fetched(find(trial.benchmark).Options, trial.options)
        program = Points([replace(point.trial, options=options) for point in points], self._device)
        training = program.training
        _require_same_data(self._folder, trial, training.data.fingerprint)
        states = [state for point in points if (state := point.take_state()) is not None]
        if states:
            program.load(states)
        else:
            kernel_choice.settle(training, self._folder)
        if self._advises:
            points[0].result = Result(points=points_choice.settle(training, self._folder))
            self._report_from_work()
        for point in points:
            point.save.facts = asdict(point.tracker.describe(training))
            point.save.declared = [metric.to_dict() for metric in training.metrics]
        return program

    def _report_from_work(self) -> None:
        try:
            self.report()
        # a scheduler stops a trial by ending this thread here, for good, so all records are sent first
        except SystemExit:
            for point in self._points:
                point.tracker.flush(now=True)
            raise

    def _interrupt(self) -> bool:
        for point in self._points:
            if not point.has_ended:
                point.result = replace(point.result, interrupted=True)
        return False


def _due(points: Sequence[_Point]) -> bool:
    """Whether the points of one program are to be saved: at the same epoch, so that they go on together."""
    return points[0].save.due(len(points))


def _save(points: Sequence[_Point], program: Points) -> None:
    for point, state in zip(points, program.states(), strict=True):
        point.save(point.records, state)


def _fingerprint_file(trial: Trial) -> str:
    """Options that vary within a study may make other data of the same files."""
    options = json.dumps(dict(trial.options), sort_keys=True, default=str)
    return f"{FINGERPRINT}-{hashlib.sha256(options.encode()).hexdigest()[:16]}"


def _require_same_data(folder: Folder, trial: Trial, fingerprint: str) -> None:
    """`TrialError` where one of the same options in the study's ``folder`` was trained on another ``fingerprint``.

    A launch compares what lies where it is started; a cluster's nodes may hold something else under the same path.
    """
    kept = (folder.read(_fingerprint_file(trial)) or b"").decode()
    if kept and fingerprint and kept != fingerprint:
        raise TrialError(
            f"the data here is not what the study was trained on: its fingerprint was {kept[:12]}, and is "
            f"{fingerprint[:12]}; put the same data on every node, or train it under another name by --name, or anew "
            "with --replace"
        )


def place(folder: Folder, assignment: Assignment) -> Folder:
    """Where the trial, or a part of it, keeps its checkpoint and lock."""
    whole, shard = folder / "trials" / str(assignment.number), assignment.shard
    if assignment.addition:
        whole = whole / f"addition-{assignment.addition}"
    return whole if shard.parts == 1 else whole / f"shard-{shard.position + 1}-of-{shard.parts}"


class _Stop:
    """Whether the study is told to stop."""

    def __init__(self, folder: Folder) -> None:
        self._folder, self._seen, self._looked = folder, False, -math.inf

    def __call__(self) -> bool:
        if not self._seen and (self._folder.on_disk or time.monotonic() - self._looked >= STOP_SECONDS):
            self._seen, self._looked = self._folder.exists(STOP), time.monotonic()
        return self._seen


class _Saver:
    """Writes a trial's checkpoint to the folder ``here``, every so many ``seconds``.

    ``facts`` and ``declared``, which stand in it, are known once the training stands.
    """

    def __init__(self, here: Folder, trial: Trial, seconds: float) -> None:
        self.here, self.trial, self.seconds = here, trial.to_dict(), seconds
        self.facts: Mapping[str, Any] | None = None
        self.declared: Sequence[Mapping[str, str | bool]] = []
        self.written, self.took = time.monotonic(), 0.0

    def due(self, beside: int = 1) -> bool:
        """Whether it is time, where so many are written one after another."""
        wait = max(self.seconds, CHECKPOINT_SHARE * self.took * beside) if self.seconds else 0.0
        return time.monotonic() - self.written >= wait

    def __call__(self, records: Sequence[Record], state: Mapping[str, Any]) -> None:
        """A disk or store that fails costs no more than the epochs since the last checkpoint."""
        started = time.monotonic()
        try:
            self._write(records, {"state": state, "finished": False})
        except (OSError, RuntimeError) as error:
            _require_writing(error)
            log.warning("%s cannot be written (%s); the trial goes on", self.here / CHECKPOINT, error)
        self.written = time.monotonic()
        self.took = self.written - started

    def finished(self, records: Sequence[Record], arrays: Mapping[str, np.ndarray]) -> None:
        """Once the trial has finished, the records and arrays are all that is kept, for a tracker that loses them."""
        tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}
        try:
            self._write(records, {"state": None, "finished": True, "arrays": tensors})
        except (OSError, RuntimeError) as error:
            _require_writing(error)
            raise StorageError(f"{self.here / CHECKPOINT} cannot be written ({error})") from error

    def _write(self, records: Sequence[Record], values: Mapping[str, object]) -> None:
        told = [record.to_dict() for record in records]
        kept = {"trial": self.trial, "facts": self.facts, "metrics": list(self.declared), "records": told, **values}
        with self.here.writing(CHECKPOINT) as file:
            torch.save(kept, file)


@dataclass(frozen=True)
class Checkpoint:
    """What a trial's checkpoint holds: see `read_checkpoint`."""

    records: Sequence[Record]
    finished: bool
    #: the training's, None once the trial has finished
    state: Mapping[str, Any] | None
    #: what the tracker told of itself, None in a checkpoint of before that was kept
    facts: Facts | None
    #: the metrics' declarations
    declared: Sequence[Mapping[str, str | bool]]
    #: of a trial that has finished; none in a checkpoint of before they were kept
    arrays: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Checkpoint:
        """The checkpoint that the file's ``values`` are, of this release or an earlier one."""
        return cls(
            records=[Record(**record) for record in values["records"]],
            finished=values["finished"],
            state=values["state"],
            facts=Facts(**values["facts"]) if values.get("facts") else None,
            declared=values.get("metrics", []),
            arrays={name: array.numpy() for name, array in values.get("arrays", {}).items()},
        )


def recall(tracker: Tracker, checkpoint: Checkpoint) -> None:
    """Give the tracker the facts that the checkpoint holds."""
    if checkpoint.facts:
        tracker.recall(checkpoint.facts)


def _require_writing(error: Exception) -> None:
    """Raise ``error`` again unless a disk or store is to blame; torch turns a full disk into an error of its own."""
    if (
        not isinstance(error, OSError)
        and "PytorchStreamWriter" not in str(error)
        and "unexpected pos" not in str(error)
    ):
        raise error


def read_checkpoint(here: Folder, trial: Trial) -> Checkpoint | None:
    """The checkpoint in ``here``; None where there is none to continue from, and the trial starts over."""
    try:
        with here.reading(CHECKPOINT) as file:
            values: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    # a damaged file may raise any error; what it held is computed again with the same numbers
    except Exception as error:
        log.warning("%s cannot be read (%s); the trial starts over", here / CHECKPOINT, error)
        return None
    if _placeless(values["trial"]) != _placeless(trial.to_dict()):
        log.warning("%s belongs to another trial; the trial starts over", here / CHECKPOINT)
        return None
    return Checkpoint.of(values)


def _placeless(trial: Mapping[str, Any]) -> dict[str, Any]:
    """The trial with the names alone of the files in its options: they may be moved between two launches."""
    options = {
        name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for name, value in trial["options"].items()
    }
    return {**trial, "options": options}


@contextmanager
def _alone(here: Folder) -> Iterator[None]:
    """Holds the trial's folder: a worker that outlived its driver must not write beside its successor."""
    with ExitStack() as held:
        try:
            held.enter_context(here.lock("lock", PREDECESSOR_SECONDS))
        except Held as error:
            raise PredecessorError(f"{error} for over {PREDECESSOR_SECONDS:.0f} s; end that one, then resume") from None
        except OSError as error:
            raise StorageError(f"{here} cannot be written ({error})") from error
        yield


def wait_until_left(here: Folder, seconds: float) -> None:
    """Wait until no process works in the trial's folder any more, so many ``seconds`` at most."""
    with suppress(OSError), here.lock("lock", seconds):
        pass


@contextmanager
def _telling_frames() -> Iterator[None]:
    """An error that arose in code of the user's own tells where, to another process too: see `CodeError`."""
    try:
        yield
    except Exception as error:
        frames = own_traceback(error)
        if not frames:
            raise
        if isinstance(error, DataError | TrialError):
            error.frames = frames  # type: ignore[union-attr]
            raise
        told = CodeError(f"{type(error).__name__}: {first_line(error)} ({own_place(error)})")
        told.frames = frames
        raise told from error


def _take_device() -> str:
    """Uses as many threads as Tune gave CPUs, and the GPU where it gave a share of one."""
    given = tune.get_context().get_trial_resources().required_resources
    torch.set_num_threads(max(1, int(given.get("CPU", 1))))
    share = float(given.get("GPU", 0))
    if not share:
        return "cpu"
    if not torch.cuda.is_available():
        raise TrialError(
            "the trial was given a GPU that torch cannot use; install a CUDA build or set resources.gpus=0"
        )
    # trials share the GPU, so one that outgrows its share must fail before it takes its neighbours' memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    torch.cuda.reset_peak_memory_stats()
    return "cuda"


def _gpu_memory() -> float:
    """Share of the GPU's memory that this process has taken at most, 0 without a GPU."""
    if not torch.cuda.is_initialized():
        return 0.0
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return (torch.cuda.max_memory_reserved() + CONTEXT_BYTES) / total


def _lacking(names: Sequence[str], records: Sequence[Record], trial: Trial) -> str:
    """Why a trial cannot count that must have measured the metrics of these names; empty where it can."""
    last = records[-1].metrics
    for name in names:
        if name not in last:
            return f"{name} is not measured at the last epoch; measured are {', '.join(sorted(last))}"
        odd = [str(seed) for seed, value in zip(trial.seeds, last[name], strict=True) if not math.isfinite(value)]
        if odd:
            return f"{name} is not finite at the last epoch for seed{'s' * (len(odd) > 1)} {', '.join(odd)}"
    return ""


def _summary(record: Record, epochs: int) -> Result:
    """What Tune is told of a trial of so many ``epochs`` after the epoch of ``record``."""
    means = {name: sum(values) / len(values) for name, values in record.metrics.items()}
    return Result(record.epoch, epochs, memory=_gpu_memory(), means=means)


def _last(records: Sequence[Record], declared: Sequence[Mapping[str, str | bool]]) -> Result:
    """What Tune is told of a trial that has finished."""
    summary = _summary(records[-1], records[-1].epoch)
    return replace(summary, finished=True, values=records[-1].metrics, declared=declared)
