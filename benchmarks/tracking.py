"""What tracking costs: the same trial without and with MLflow, and the share of its time spent in the tracker.

python -m benchmarks.tracking --data jasper_ridge.mat --epochs 200
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.machine import describe
from study.file.spec import StudySpec
from study.home import Home
from study.record import tracking
from trainables.assignment import Assignment
from trainables.training import Training
from trainables.trial import Trial


class _Clock:
    """Adds up the time of the calls that go through it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, act: Callable[[], object]) -> None:
        started = time.perf_counter()
        act()
        self.seconds += time.perf_counter() - started


def untracked(trial: Trial) -> float:
    """Seconds of the trial's epochs and final arrays."""
    started = time.perf_counter()
    training = Training(trial)
    for _ in training.run():
        pass
    training.arrays()
    return time.perf_counter() - started


def tracked(trial: Trial, spec: StudySpec, home: Home) -> tuple[float, float]:
    """Seconds of the same with tracking, and how many of them the tracker took."""
    study = tracking.open_study(spec, home)
    clock = _Clock()
    started = time.perf_counter()
    tracker = study.open_trial(Assignment(0, "baseline", trial))
    training = Training(trial)
    clock(lambda: tracker.describe(training))
    for record in training.run():
        clock(lambda record=record: tracker.add([record]))  # type: ignore[misc]
        clock(tracker.flush)
    arrays, weights = training.arrays(), training.weights()
    clock(lambda: tracker.complete(arrays, weights))
    clock(tracker.finish)
    return time.perf_counter() - started, clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="simulated")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    data = arguments.data if arguments.data == "simulated" else str(Path(arguments.data).resolve())

    text = (
        f"name: tracking\nbenchmark: {{name: hyperspectral, data: {data!r}}}\ncriteria: [fierce]\n"
        f"seeds: {arguments.seeds}\ntraining: {{epochs: {arguments.epochs}}}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        spec, home = StudySpec.from_yaml(text), Home(Path(folder))
        trial = Trial(
            "hyperspectral",
            "fierce",
            spec.seeds,
            options={"data": data},
            training=dict(spec.training),
            hyperparameters={"lambda": 1.0, "e": 100},
        )
        # MLflow's import and the making of its database are a worker's, not a trial's
        tracking.open_study(spec, home)
        off = untracked(trial)
        on, share = tracked(trial, spec, home)
    print(f"{describe()}; data {Path(data).name}, {arguments.seeds} seeds, {arguments.epochs} epochs")
    print(f"untracked {off:.1f} s, tracked {on:.1f} s: {on / off - 1:+.1%}")
    print(f"of it in the tracker {share:.2f} s: {share / (on - share):.1%} of the rest of the trial")


if __name__ == "__main__":
    main()
