"""What tracking costs: the same trial without and with MLflow, and the share of its time spent in the tracker.

python -m benchmarks.tracking --data jasper_ridge.mat --epochs 200
python -m benchmarks.tracking --server    # made-up values through an MLflow server: all as its rows, few, or none
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import requests
import torch

from benchmarks.machine import describe
from benchmarks.report_scale import METRICS, processor_time, serve
from study.file.spec import StudySpec
from study.home import Home
from study.record import facts, tracking
from trainables.assignment import Assignment
from trainables.training import Record, Training
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


def through_server(epochs: int, seeds: int) -> None:
    """Print values tracked a second, requests and bytes a value of one trial, by how many points a seed's run holds."""
    text = "name: tracking\nbenchmark: 'tests.tiny:Tiny'\ncriteria: [fierce]\n"
    trial = Trial(
        "tests.tiny:Tiny",
        "fierce",
        tuple(range(seeds)),
        training={"epochs": epochs},
        hyperparameters={"lambda": 1.0, "e": 100},
    )
    training = Training(trial)
    random = np.random.default_rng(0)
    curves = np.exp(-np.arange(1, epochs + 1) / 50)[:, None, None] + random.normal(
        0.5, 0.01, (epochs, len(METRICS), seeds)
    )
    records = [
        Record(epoch, {name: row.tolist() for name, row in zip(METRICS, each, strict=True)}, epoch)
        for epoch, each in enumerate(curves, start=1)
    ]
    for points in ("all", "100", "0"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            server, uri = serve(f"sqlite:///{folder / 'mlflow.db'}", folder)
            try:
                spec = StudySpec.from_yaml(
                    f"{text}seeds: {seeds}\ntracking_uri: {uri}\ntracking: {{seed_points: {points}}}\n"
                )
                study = tracking.open_study(spec, Home(folder))
                before = _size(folder)
                tracker = study.open_trial(Assignment(0, "baseline", training.trial))
                tracker.recall(facts.describe(training, None))
                with _counted() as requested:
                    started, computed = time.perf_counter(), processor_time(server.pid)
                    for record in records:
                        tracker.add([record])
                        tracker.flush()
                    tracker.complete({}, {})
                    tracker.finish()
                    seconds, computed = time.perf_counter() - started, processor_time(server.pid) - computed
            finally:
                server.terminate()
                server.wait()
            values = epochs * seeds * len(METRICS)
            print(
                f"seed_points {points}: {values:,} values in {seconds:.2f} s, {values / seconds:,.0f} a second, "
                f"{values / computed:,.0f} a second of the server's processor time; "
                f"{len(requested)} requests; "
                f"{(_size(folder) - before) / values:.1f} bytes a value"
            )


@contextmanager
def _counted() -> Iterator[list[str]]:
    """The addresses that are asked meanwhile."""
    asked: list[str] = []
    send = requests.Session.send

    def counted(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        asked.append(str(request.url))
        return send(session, request, **options)

    with mock.patch.object(requests.Session, "send", counted):
        yield asked


def _size(folder: Path) -> int:
    """Bytes of the database, with what it has written ahead, and of the artifacts."""
    return sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix not in (".log", ".lock")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="simulated")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--server", action="store_true", help="only what a server takes, of made-up values")
    arguments = parser.parse_args()
    if arguments.server:
        print(describe())
        through_server(arguments.epochs, arguments.seeds)
        return
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
