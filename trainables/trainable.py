"""The function that Ray Tune calls on its allocated CPUs or GPU: one trial, resumable at any epoch."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from filelock import FileLock, Timeout
from ray import tune
from torch import Tensor

from trainables.training import Training
from trainables.trial import Trial

log = logging.getLogger(__name__)

#: file in a trial's folder
CHECKPOINT = "checkpoint.pt"
#: file in the study's folder: while it is there, trials save themselves at the epoch's end and return
STOP = "stop"
#: how long a trial waits for a predecessor that still writes in its folder
PREDECESSOR_SECONDS = 120.0
#: a checkpoint is written at most this often, in multiples of the time that the last one took
CHECKPOINT_SHARE = 20.0


class TrialError(RuntimeError):
    """A trial that cannot count, said in one sentence."""


class Tracker(Protocol):
    """Where a trial's trajectories go. Records are mappings with epoch, metrics (S values each) and time (ms)."""

    def describe(self, training: Training) -> None:
        """What is only known once data and network stand: data, recipe, device."""
        ...

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Take records; they may be sent later."""
        ...

    def flush(self) -> None:
        """Send what is due; does not raise where the server is away, since the records are kept."""
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
    folder: str | Path,
    open_tracker: Callable[[Mapping[str, Any]], Tracker],
    required: Sequence[str] = (),
    checkpoint_seconds: float = 15.0,
    report_seconds: float = 1.0,
) -> None:
    """Train ``config["trial"]`` (`Trial.to_dict`) as number ``config["number"]`` of the study in ``folder``.

    Continues from ``trials/<number>/checkpoint.pt``, which is written every ``checkpoint_seconds`` at an epoch's
    end (0: at each) and holds all records so far: whatever the tracker lacks is sent from there. Reports to Tune
    at the first epoch, then every ``report_seconds``, then when all is done: epoch, epochs, finished, interrupted,
    and by metric ``mean/…`` and, of two seeds or more, the standard error ``se/…``. Raises `TrialError` where a
    ``required`` metric is missing or not finite for some seed.
    """
    folder, number, trial = Path(folder), int(config["number"]), Trial.from_dict(config["trial"])
    place = folder / "trials" / str(number)
    place.mkdir(parents=True, exist_ok=True)
    with _alone(place):
        if (folder / STOP).exists():
            tune.report({"number": number, "interrupted": True, "finished": False})
            return
        device = _take_device()
        tracker = open_tracker(config)
        checkpoint = _read_checkpoint(place / CHECKPOINT, trial)
        records: list[dict[str, Any]] = checkpoint["records"] if checkpoint else []
        tracker.add(records)
        if checkpoint and checkpoint["finished"]:
            tracker.complete({}, {})
            tracker.finish()
            tune.report(_summary(number, trial, records, finished=True))
            return

        training = Training(trial, device)
        if checkpoint:
            training.load(checkpoint["state"])
        # the checkpoint's tensors would otherwise stay in memory for the whole trial
        del checkpoint
        tracker.describe(training)
        save = _Saver(place / CHECKPOINT, trial, checkpoint_seconds)
        reported = -math.inf
        for record in training.run():
            entry = {"epoch": record.epoch, "metrics": record.metrics, "time": time.time_ns() // 1_000_000}
            records.append(entry)
            tracker.add([entry])
            last, stopping = record.epoch == training.recipe.epochs, (folder / STOP).exists()
            if last or stopping or save.due():
                save(records, training.state())
            tracker.flush()
            if last:
                break
            if stopping:
                tune.report(_summary(number, trial, records, training.recipe.epochs, interrupted=True))
                return
            if time.monotonic() - reported >= report_seconds:
                tune.report(_summary(number, trial, records, training.recipe.epochs))
                reported = time.monotonic()

        tracker.complete(training.arrays(), training.weights())
        _require(required, records, trial)
        tracker.finish()
        save(records, None)
        tune.report(_summary(number, trial, records, finished=True))


class _Saver:
    """Writes a trial's checkpoint aside, flushes it to disk and renames it."""

    def __init__(self, path: Path, trial: Trial, seconds: float) -> None:
        self.path, self.trial, self.seconds = path, trial.to_dict(), seconds
        self.written, self.took = time.monotonic(), 0.0

    def due(self) -> bool:
        wait = max(self.seconds, CHECKPOINT_SHARE * self.took) if self.seconds else 0.0
        return time.monotonic() - self.written >= wait

    def __call__(self, records: list[dict[str, Any]], state: Mapping[str, Any] | None) -> None:
        """``state`` is None once the trial has finished: then the records are all that is kept."""
        started = time.monotonic()
        aside = self.path.with_suffix(".tmp")
        with aside.open("wb") as file:
            values = {"trial": self.trial, "records": records, "state": state, "finished": state is None}
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path)
        self.written = time.monotonic()
        self.took = self.written - started


def _read_checkpoint(path: Path, trial: Trial) -> dict[str, Any] | None:
    """The checkpoint, or None where there is none that can be continued from: then the trial starts over."""
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    # a damaged file raises whatever its first bad byte leads to; everything in it is computed again alike
    except Exception as error:
        log.warning("%s cannot be read (%s); the trial starts over", path, error)
        return None
    if checkpoint["trial"] != trial.to_dict():
        log.warning("%s belongs to another trial; the trial starts over", path)
        return None
    return checkpoint


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Holds the trial's folder: a worker that outlived its driver must not write beside its successor."""
    lock = FileLock(place / "lock")
    try:
        lock.acquire(timeout=PREDECESSOR_SECONDS)
    except Timeout:
        raise TrialError(
            f"another process has been training in {place} for {PREDECESSOR_SECONDS:.0f} s; end it, then resume"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _take_device() -> str:
    """Uses as many threads as Tune gave CPUs, and the GPU where it gave a share of one."""
    given = tune.get_context().get_trial_resources().required_resources
    torch.set_num_threads(max(1, int(given.get("CPU", 1))))
    if not given.get("GPU"):
        return "cpu"
    if not torch.cuda.is_available():
        raise TrialError(
            "the trial was given a GPU that torch cannot use; install a CUDA build or set resources.gpus=0"
        )
    return "cuda"


def _require(names: Sequence[str], records: Sequence[Mapping[str, Any]], trial: Trial) -> None:
    last = records[-1]["metrics"]
    for name in names:
        if name not in last:
            raise TrialError(f"{name} is not measured at the last epoch; measured are {', '.join(sorted(last))}")
        odd = [str(seed) for seed, value in zip(trial.seeds, last[name], strict=True) if not math.isfinite(value)]
        if odd:
            raise TrialError(f"{name} is not finite at the last epoch for seed{'s' * (len(odd) > 1)} {', '.join(odd)}")


def _summary(
    number: int,
    trial: Trial,
    records: Sequence[Mapping[str, Any]],
    epochs: int | None = None,
    *,
    finished: bool = False,
    interrupted: bool = False,
) -> dict[str, Any]:
    """What Tune is told: each metric of the last record, mean over the seeds and its standard error."""
    last = records[-1]
    told = {
        "number": number,
        "epoch": last["epoch"],
        "epochs": epochs or last["epoch"],
        "finished": finished,
        "interrupted": interrupted,
    }
    replicas = len(trial.seeds)
    for name, values in last["metrics"].items():
        told[f"mean/{name}"] = sum(values) / replicas
        if replicas > 1:
            told[f"se/{name}"] = float(np.std(values, ddof=1) / math.sqrt(replicas))
    return told
