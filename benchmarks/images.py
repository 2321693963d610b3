"""Training on images: images per second by criterion and by how the replicas share the device; hours for a table.

Whole epochs of a benchmark's own training on data that lies on the device, without evaluation. The replicas are
``grouped`` in one network, ``looped`` one after another in one process, or, with ``--processes``, ``separate``: a
process each, all at the same time. The share of peak is that of one large matrix product in the same precision.

    python -m benchmarks.images --benchmark age --data UTKFace_64px.zip --device cuda --bf16 --batch 256 --processes
    python -m benchmarks.images --benchmark cifar10-few-shot --data cifar10_jpeg.zip --width 64 --device cuda --bf16
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from benchmarks.machine import describe, matrix_rate
from benchmarks.resnet import FORWARD_AND_BACKWARD, multiply_adds
from trainables.resnet import ReplicatedResNet18
from trainables.training import Training
from trainables.trial import Trial


def epoch_seconds(training: Training, epoch: int) -> float:
    """Of one epoch of training steps."""
    started = time.perf_counter()
    training._train_epoch(epoch)
    if training.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def one_of_many(trial: Trial, device: str, threads: int, epochs: int, barrier: Barrier) -> None:
    """A process with one replica: meets the others before and after the epochs that count."""
    torch.set_num_threads(threads)
    training = Training(trial, device)
    epoch_seconds(training, 1)
    barrier.wait()
    for epoch in range(2, epochs + 2):
        epoch_seconds(training, epoch)
    barrier.wait()


def separate_seconds(trial: Trial, device: str, threads: int, epochs: int) -> float:
    """Of one epoch of all replicas, a process each."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(trial.seeds) + 1)
    workers = [
        context.Process(target=one_of_many, args=(replace(trial, seeds=(seed,)), device, threads, epochs, barrier))
        for seed in trial.seeds
    ]
    for worker in workers:
        worker.start()
    barrier.wait()
    started = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return seconds / epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="age", choices=["age", "cifar-fs", "cub", "cifar10-few-shot", "cifar10"])
    parser.add_argument("--data", default="simulated")
    parser.add_argument("--samples", type=int, help="images (age), or images of a class; all by default")
    parser.add_argument("--size", type=int, help="edge in pixels; the benchmark's by default")
    parser.add_argument("--width", type=int, help="maps of the first layer; the benchmark's by default")
    parser.add_argument("--batch", type=int, help="the recipe's by default")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--criteria", nargs="+", default=["ce", "ls", "fierce"])
    parser.add_argument("--modes", nargs="+", default=["grouped", "looped"])
    parser.add_argument("--processes", action="store_true", help="also a process a replica")
    parser.add_argument("--epochs", type=int, default=3, help="that are timed, after one that warms up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true", help="on a GPU; a CPU always has them last")
    given = parser.parse_args()
    if given.bf16 and given.device == "cpu":
        parser.error("--bf16 needs a GPU as --device: on a CPU a training computes in float32")
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    settings = {"batch_size": given.batch, "mixed_precision": given.bf16, "compile": given.compile}
    options = {
        "data": given.data if given.data == "simulated" else str(Path(given.data).resolve()),
        "samples": given.samples,
        "size": given.size,
        "width": given.width,
        "channels_last": given.channels_last or None,
    }
    rate = matrix_rate(torch.device(given.device), torch.bfloat16 if given.bf16 else torch.float32)
    print(describe())
    print(f"{given.benchmark}, {given.seeds} seeds, bf16 {given.bf16}; one 3000 × 3000 product: {rate:.0f} GFLOP/s")
    print("mode      criterion            s per epoch  images/s  ratio to ce  share of one large product")

    def trial(criterion: str, mode: str) -> Trial:
        stated = {name: value for name, value in {**options, "mode": mode}.items() if value is not None}
        training = {name: value for name, value in settings.items() if value is not None}
        return Trial(given.benchmark, criterion, tuple(range(given.seeds)), options=stated, training=training)

    def show(mode: str, criterion: str, seconds: float, ratio: float | None) -> None:
        relative = "" if ratio is None else f"{ratio:.3f}"
        images = given.seeds * train / seconds
        share = images * operations / 1e9 / rate
        print(f"{mode:8}  {criterion:18}  {seconds:12.2f}  {images:8.0f}  {relative:>11}  {share:26.1%}", flush=True)

    fastest: dict[str, float] = {}
    for mode in given.modes:
        trainings = {criterion: Training(trial(criterion, mode), given.device) for criterion in given.criteria}
        first = next(iter(trainings.values()))
        assert isinstance(first.network, ReplicatedResNet18)
        size = first.benchmark.batch(first.data.inputs[:1].unsqueeze(0), first.options, False, []).shape[-1]
        operations = 2 * FORWARD_AND_BACKWARD * multiply_adds(first.network, size)
        train, epochs = first.parts["train"].shape[1], first.recipe.epochs
        seconds: dict[str, list[float]] = {criterion: [] for criterion in trainings}
        # the criteria take turns, so that whatever else the machine does slows all alike
        for epoch in range(1, given.epochs + 2):
            for criterion, training in trainings.items():
                seconds[criterion].append(epoch_seconds(training, epoch))
        for criterion, taken in seconds.items():
            median = statistics.median(taken[1:])
            fastest[criterion] = min(median, fastest.get(criterion, median))
            pairs = zip(taken[1:], seconds["ce"][1:], strict=True) if "ce" in seconds else ()
            ratio = statistics.median([a / b for a, b in pairs]) if pairs else None
            show(mode, criterion, median, ratio)
        del trainings, first, training
    if given.processes:
        threads_of_one = max(1, threads // given.seeds)
        for criterion in given.criteria:
            taken = separate_seconds(trial(criterion, "looped"), given.device, threads_of_one, given.epochs)
            show("separate", criterion, taken, None)
    hours = sum(fastest.values()) * epochs / 3600
    print(
        f"{epochs} epochs of {', '.join(fastest)} with {given.seeds} seeds, each in its faster mode: {hours:.1f} hours"
    )


if __name__ == "__main__":
    main()
