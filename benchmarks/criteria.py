"""The time of a training step of each criterion against a cross-entropy step, alternating in one process.

python -m benchmarks.criteria --data jasper_ridge.mat
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import torch

from benchmarks.machine import describe
from trainables import criteria
from trainables.training import Training
from trainables.trial import Trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="hyperspectral")
    parser.add_argument("--data", default="simulated")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=12, help="epochs of each criterion")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = arguments.data if arguments.data == "simulated" else str(Path(arguments.data).resolve())

    trainings = {
        name: Training(
            Trial(arguments.benchmark, name, tuple(range(arguments.seeds)), options={"data": data}), arguments.device
        )
        for name in criteria.names()
    }
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    for epoch in range(1, arguments.rounds + 2):
        for name, training in trainings.items():
            started = time.perf_counter()
            training._train_epoch(epoch)
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    print(f"{describe()}; {arguments.threads} threads, {arguments.seeds} seeds, data {Path(data).name}")
    print("criterion            ms per step  ratio to CE (median of paired epochs)")
    for name, training in trainings.items():
        steps = -(-training.parts["train"].shape[1] // training.recipe.batch_size)
        # the first epoch warms up
        ratio = statistics.median(
            a / b for a, b in zip(seconds[name][1:], seconds[criteria.reference()][1:], strict=True)
        )
        print(f"{name:20s} {1e3 * statistics.median(seconds[name][1:]) / steps:11.2f}  {ratio:.2f}")


if __name__ == "__main__":
    main()
