"""Points of one criterion trained together against the same points one after another, by how many there are.

Trainings alone, on one thread in that thread's own time; with ``--study``, whole studies in seconds of the
wall, Ray, search database and tracking included, one Tune trial at a time, in turns.

    python -m benchmarks.points [--benchmark tests.tiny:Tiny] [--seeds 10] [--points 2 4 8] [--epochs 3] [--device cuda]
    python -m benchmarks.points --study [--epochs 30]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import describe
from trainables.kernels import stopwatch
from trainables.points import Apart, Points
from trainables.trial import Trial


def strengths(points: int) -> list[float]:
    """So many λ."""
    return [round(0.1 + 0.2 * place, 1) for place in range(points)]


def trials(given: argparse.Namespace, points: int) -> list[Trial]:
    options = dict(option.split("=", 1) for option in given.options)
    typed = {name: int(value) if value.isdecimal() else value for name, value in options.items()}
    return [
        Trial(
            given.benchmark,
            "fierce",
            tuple(range(given.seeds)),
            hyperparameters={"lambda": strength},
            options=typed,
            training={"epochs": given.epochs},
        )
        for strength in strengths(points)
    ]


def seconds(program: Points, device: torch.device) -> float:
    """Of all epochs, evaluation included."""
    clock = stopwatch(device)
    started = clock()
    for _ in program.run():
        pass
    return clock() - started


def steps(given: argparse.Namespace) -> None:
    """Print seconds a point, together and apart, and how many times faster that is."""
    device = torch.device(given.device)
    torch.set_num_threads(1)
    print(f"{given.benchmark}, {given.seeds} seeds, {given.epochs} epochs; s a point, median of {given.rounds} rounds")
    print("points  together   apart  ratio")
    for count in given.points:
        together, apart = [], []
        for _ in range(given.rounds):
            points = trials(given, count)
            try:
                together.append(seconds(Points(points, device), device) / count)
            except Apart as error:
                raise SystemExit(str(error)) from None
            apart.append(sum(seconds(Points([trial], device), device) for trial in points) / count)
        ratio = float(np.median(np.array(apart) / together))
        print(f"{count:6d}  {np.median(together):8.3f}  {np.median(apart):6.3f}  {ratio:5.2f}", flush=True)


def study_seconds(given: argparse.Namespace, trial_count: int, points: int) -> float:
    """Wall seconds of a whole study of so many λ, Ray's start included."""
    # trainings alone are timed where no study can run, too
    from study.file.spec import StudySpec
    from study.home import Home
    from study.launch.sweep import Cadence, run

    text = (
        f"name: points\nbenchmark: '{given.benchmark}'\nseeds: {given.seeds}\ntraining: {{epochs: {given.epochs}}}\n"
        f"concurrency: 1\npoints_per_trial: {points}\ngrid: {{fierce: {{lambda: {strengths(trial_count)}}}}}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        outcome = run(StudySpec.from_yaml(text), Home(Path(folder)), cadence=Cadence())
        took = time.perf_counter() - started
    if outcome.done != trial_count:
        raise SystemExit(f"{outcome.done} of {trial_count} trials done")
    return took


def studies(given: argparse.Namespace) -> None:
    """Print seconds of a study of as many λ as the most points, with each number of points together."""
    most = max(given.points)
    print(f"{most} λ × {given.seeds} seeds × {given.epochs} epochs of {given.benchmark}, one Tune trial at a time")
    # imports are paid once a process
    study_seconds(given, 1, 1)
    found: dict[int, list[float]] = {}
    for _ in range(given.rounds):
        for points in (1, *given.points):
            found.setdefault(points, []).append(study_seconds(given, most, points))
    for points, took in found.items():
        ratio = float(np.median(np.array(found[1]) / took))
        told = ", ".join(f"{each:.1f}" for each in took)
        print(f"points_per_trial: {points}: {told} s, {ratio:.2f}× as fast as one by one", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="tests.tiny:Tiny")
    parser.add_argument("--options", nargs="*", default=[], help="of the benchmark, as NAME=VALUE")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--points", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--study", action="store_true")
    given = parser.parse_args()
    print(describe())
    (studies if given.study else steps)(given)


if __name__ == "__main__":
    main()
