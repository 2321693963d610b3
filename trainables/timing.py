"""How long a trial will take on this machine, from a few real steps and one evaluation of each kind.

Nothing is kept of what is trained. Run as a program, ``python -m trainables.timing``, it reads a request from its
standard input and writes one `Timing` a trial to its standard output, all as JSON, so that the memory is the trial's
and a GPU is free again afterwards.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from threading import Thread
from typing import Any

import torch

from trainables import benchmarks, contract, criteria, kernel_choice, remote_data
from trainables.benchmarks import Data, make_options
from trainables.training import Training
from trainables.trial import Trial

#: seconds of steps, after the first, by which a step is timed
STEP_SECONDS = 1.5
#: seconds of evaluations by which one kind of them is timed, where it is done at more than a few epochs
EVALUATION_SECONDS = 0.5


@dataclass(frozen=True)
class Evaluations:
    """What is measured beside the training of one trial: ``seconds`` of all epochs and of the ``last`` one among them.

    ``values`` is how many numbers all replicas have by the end.
    """

    seconds: float
    last: float
    values: int


@dataclass(frozen=True)
class Timing:
    """Of one trial, all its replicas together, in seconds.

    ``setup`` is before the first step, data included; ``epochs`` all steps of all epochs, a teacher's included;
    ``evaluations`` all that is measured; ``memory`` is in bytes, of the process on a CPU, of the GPU on one.
    """

    setup: float
    epochs: float
    evaluations: Evaluations
    memory: int

    @property
    def seconds(self) -> float:
        """A whole trial, without its tracking."""
        return self.setup + self.epochs + self.evaluations.seconds


def measure(trial: Trial, device: str = "cpu", data: Data | None = None, known: Evaluations | None = None) -> Timing:
    """Time ``trial`` on ``device``; ``data`` is the benchmark's where it is loaded already.

    ``known`` evaluations, of a trial that measures the same, are not timed again. Raises what a training raises.
    """
    started = time.perf_counter()
    training = Training(trial, device, data)
    setup = _since(started, training)
    # kept on this machine, so that no trial takes the time for it again
    kernel_choice.settle(training)
    epochs, metrics = _epochs(training)
    return Timing(setup, epochs, known or _evaluations(training, metrics), _memory(training))


def _epochs(training: Training) -> tuple[float, int]:
    """Seconds of all epochs, its teacher's too, from some steps; and how many metrics each epoch has of training."""
    before = _epochs(training.teacher)[0] if training.teacher is not None else 0.0
    whole = training.parts["train"]
    size = training.recipe.batch_size
    try:
        # the first step allocates, and compiles where that is asked for
        training.parts["train"] = whole[:, :size]
        training._train_epoch(1)
        taken, count, epoch, seen = 0.0, size, 1, False
        while True:
            training.parts["train"] = part = whole[:, :count]
            # where the learning rate changes with each epoch, a recorded step is recorded anew in each
            epoch = epoch % training.recipe.epochs + 1
            started = time.perf_counter()
            metrics = training._train_epoch(epoch)
            spent = _since(started, training)
            if training.is_recorded and not seen:
                # the first recording is tried out, once a trial
                seen = True
                continue
            taken += spent
            if taken >= STEP_SECONDS:
                break
            count = min(whole.shape[1], 2 * count)
    finally:
        training.parts["train"] = whole
    return before + spent / part.shape[1] * whole.shape[1] * training.recipe.epochs, len(metrics)


def _evaluations(training: Training, beside: int) -> Evaluations:
    """All evaluations of a trial: each set of evaluators that come due together is timed at one of its epochs.

    ``beside`` them so many metrics are measured at each epoch, of training.
    """
    epochs = training.recipe.epochs
    kinds: dict[tuple[str, ...], list[int]] = {}
    for epoch in range(1, epochs + 1):
        training.epoch = epoch
        kinds.setdefault(training.evaluation.due(training._snapshot()), []).append(epoch)
    # the last epoch measures all, and what is drawn or computed once is then there for the others, as it is in a trial
    seconds, values = 0.0, 0
    training.epoch = epochs
    last, metrics = _evaluation(training, 0.0)
    started = time.perf_counter()
    training.arrays()
    last += _since(started, training)
    for at in kinds.values():
        others = [epoch for epoch in at if epoch < epochs]
        if others:
            training.epoch = others[0]
            each, count = _evaluation(training, EVALUATION_SECONDS if len(others) > 3 else 0.0)
            seconds += each * len(others)
            values += (count + beside) * len(others)
    training.epoch = 0
    return Evaluations(seconds + last, last, (values + metrics + beside) * len(training.trial.seeds))


def _evaluation(training: Training, at_least: float) -> tuple[float, int]:
    """Seconds of an evaluation at the training's epoch, the mean of as many as take ``at_least``, and its metrics."""
    started, times = time.perf_counter(), 0
    while True:
        metrics = training._evaluate()
        times += 1
        spent = _since(started, training)
        if spent >= at_least:
            return spent / times, len(metrics)


def _since(started: float, training: Training) -> float:
    if training.device.type == "cuda":
        torch.cuda.synchronize(training.device)
    return time.perf_counter() - started


def _memory(training: Training) -> int:
    if training.device.type == "cuda":
        return torch.cuda.max_memory_reserved(training.device)
    # in kilobytes, save on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def serve(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A `Timing` of each of ``request``'s trials, as plain types; evaluations that are alike are timed once.

    The request: trials (`Trial.to_dict`), device, threads, and begun, when the process was asked for, in seconds since
    1970: its start counts as setup, as that of a trial's own process does.
    """
    torch.set_num_threads(request["threads"])
    start = max(0.0, time.time() - request["begun"])
    loaded: dict[str, tuple[Data, float]] = {}
    known: dict[str, Evaluations] = {}
    found = []
    for values in request["trials"]:
        trial = Trial.from_dict(values)
        benchmark = benchmarks.find(trial.benchmark)
        trial = replace(trial, options=remote_data.fetched(benchmark.Options, trial.options))
        options = make_options(benchmark.Options, trial.options)
        recipe = benchmark.recipe(trial.protocol, options).override(trial.training)
        dtype = getattr(torch, recipe.dtype)
        source = json.dumps([trial.benchmark, trial.options, str(dtype)], sort_keys=True, default=str)
        if source not in loaded:
            begun = time.perf_counter()
            data = contract.load(benchmark, options, dtype)
            loaded[source] = data, time.perf_counter() - begun
        data, reading = loaded[source]
        # cross-entropy's last epoch measures floors as well
        floored = criteria.find(trial.criterion).is_reference
        alike = json.dumps([source, trial.training, trial.seeds, trial.cadence, floored], sort_keys=True, default=str)
        timing = measure(trial, request["device"], data, known.get(alike))
        known.setdefault(alike, timing.evaluations)
        found.append(asdict(replace(timing, setup=timing.setup + reading)) | {"start": start, "count": recipe.epochs})
    return found


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, killed say, so that it does not go on for nobody."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    # where code of a user's own is looked for, as the command does
    sys.path.append("")
    print(json.dumps(serve(json.load(sys.stdin))))
