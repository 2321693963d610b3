"""The time of a training step of each criterion against a cross-entropy step, alternating in one process.

python -m benchmarks.criteria --data jasper_ridge.mat
python -m benchmarks.criteria --benchmark cifar10 --options width=8 size=32 --seeds 3 --criteria ce sigreg:slices=64
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import describe
from trainables import criteria
from trainables.training import Training
from trainables.trial import Trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="hyperspectral")
    parser.add_argument("--data", default="simulated")
    parser.add_argument("--options", nargs="*", default=[], help="of the benchmark, as name=number")
    parser.add_argument(
        "--criteria", nargs="*", default=[], help="all by default; hyperparameters as name:parameter=number,…"
    )
    parser.add_argument("--steps", type=int, help="of an epoch; all by default")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=12, help="epochs of each criterion")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--processor-time", action="store_true", help="of this process, where others use the machine: with one thread"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.processor_time else time.perf_counter
    data = arguments.data if arguments.data == "simulated" else str(Path(arguments.data).resolve())
    options = {"data": data, **numbers(arguments.options)}
    trainings = {}
    for named in dict.fromkeys([criteria.reference(), *(arguments.criteria or criteria.names())]):
        name, _, given = named.partition(":")
        trial = Trial(
            arguments.benchmark,
            name,
            tuple(range(arguments.seeds)),
            hyperparameters=numbers(given.split(",") if given else []),
            options=options,
        )
        trainings[named] = Training(trial, arguments.device)
        if arguments.steps is not None:
            trainings[named]._order = _first(trainings[named], arguments.steps)  # type: ignore[method-assign]
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    for epoch in range(1, arguments.rounds + 2):
        for name, training in trainings.items():
            started = clock()
            training._train_epoch(epoch)
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            seconds[name].append(clock() - started)
    measured = "processor time" if arguments.processor_time else "time"
    print(f"{describe()}; {arguments.threads} threads, {arguments.seeds} seeds, data {Path(data).name}, {measured}")
    print("criterion            ms per step  ratio to CE (median of paired epochs)")
    for name, training in trainings.items():
        steps = -(-training._order(1).shape[1] // training.recipe.batch_size)
        # the first epoch warms up
        ratio = statistics.median(
            a / b for a, b in zip(seconds[name][1:], seconds[criteria.reference()][1:], strict=True)
        )
        print(f"{name:20s} {1e3 * statistics.median(seconds[name][1:]) / steps:11.2f}  {ratio:.2f}")


def numbers(pairs: list[str]) -> dict[str, float]:
    """``name=number`` as a mapping; whole numbers are ints."""
    values = dict(pair.split("=") for pair in pairs)
    return {name: int(value) if value.isdigit() else float(value) for name, value in values.items()}


def _first(training: Training, steps: int) -> Callable[[int], Tensor]:
    """The training's order of samples, cut to so many batches."""
    whole = training._order
    return lambda epoch: whole(epoch)[:, : steps * training.recipe.batch_size]


if __name__ == "__main__":
    main()
