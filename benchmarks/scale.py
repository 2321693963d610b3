"""A large study on a shared MLflow server: the time to write it, to list it as its interface does, and to report it.

Trials are made up (no training), and written by the tracker that real ones use, through an MLflow server that is
started over the database given; it should be empty.

    python -m benchmarks.scale --database postgresql+psycopg://user@127.0.0.1/mlflow --trials 1000
    python -m benchmarks.scale --database … --trials 100 --epochs 200 --seed-points 0      # seeds without runs
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import sqlalchemy
from mlflow import MlflowClient

from analysis import schema
from benchmarks.machine import describe
from benchmarks.report_scale import METRICS, STUDY, processor_time, serve
from study.file.plan import fixed_points
from study.file.spec import StudySpec
from study.home import Home
from study.record import tracking
from trainables.assignment import Assignment
from trainables.training import Record, Training

SEEDS = 10
#: rows of a page of MLflow's table of runs
PAGE = 100


def study(trials: int, epochs: int, tracking_uri: str, seed_points: str) -> StudySpec:
    """A grid of so many trials."""
    thinned = f"tracking: {{seed_points: {seed_points}}}\n" if seed_points else ""
    strengths = [round(0.01 * (number + 1), 2) for number in range(trials)]
    return StudySpec.from_yaml(
        f"name: {STUDY}\nbenchmark: 'tests.tiny:Tiny'\nseeds: {SEEDS}\ntraining: {{epochs: {epochs}}}\n"
        f"grid: {{fierce: {{lambda: {strengths}}}}}\ntracking_uri: {tracking_uri}\n{thinned}"
    )


def records(number: int, epochs: int) -> Iterator[Record]:
    """Falling curves with noise."""
    random = np.random.default_rng(number)
    for epoch in range(1, epochs + 1):
        values = np.exp(-epoch / 5) + random.normal(0.5, 0.01, (len(METRICS), SEEDS))
        metrics = {name: row.tolist() for name, row in zip(METRICS, values, strict=True)}
        yield Record(epoch, metrics, time.time_ns() // 1_000_000)


def write(spec: StudySpec, home: Home, writers: int) -> float:
    """Seconds in which so many trials at a time are written, each in two parts and ended."""
    study = tracking.open_study(spec, home)
    points = fixed_points(spec)
    training = Training(points[0].trial)
    made = [list(records(number, training.recipe.epochs)) for number in range(len(points))]

    def trial(number: int) -> None:
        tracker = study.open_trial(Assignment(number, "grid", points[number].trial))
        tracker.describe(training)
        told = made[number]
        tracker.add(told[: len(told) // 2])
        tracker.flush()
        tracker.add(told[len(told) // 2 :])
        tracker.complete({}, {})
        tracker.finish()

    started = time.perf_counter()
    with ThreadPoolExecutor(writers) as pool:
        for position, _ in enumerate(pool.map(trial, range(len(points))), start=1):
            if position % 100 == 0:
                print(f"{position} trials written after {time.perf_counter() - started:.0f} s", flush=True)
    seconds = time.perf_counter() - started
    tracking.close_study(study, "FINISHED")
    return seconds


def size(database: str, folder: Path) -> int:
    """Bytes of the database's tables and of the artifacts."""
    engine = sqlalchemy.create_engine(database)
    with engine.connect() as connection:
        held = connection.execute(sqlalchemy.text("SELECT pg_database_size(current_database())")).scalar_one()
    engine.dispose()
    return int(held) + sum(path.stat().st_size for path in (folder / "artifacts").rglob("*") if path.is_file())


def first_page(uri: str) -> float:
    """Seconds in which the interface's first page of runs is read: the newest, with all their tags and last values."""
    client = MlflowClient(uri)
    started = time.perf_counter()
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    page = client.search_runs([experiment.experiment_id], max_results=PAGE, order_by=["attributes.start_time DESC"])
    assert page and schema.LEVEL in page[0].data.tags
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True, help="an empty database for MLflow, as a SQLAlchemy URL")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed-points", default="", help="tracking.seed_points of the study file")
    parser.add_argument("--writers", type=int, default=2, help="trials that are written at the same time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server, uri = serve(arguments.database, folder)
        try:
            print(describe())
            spec = study(arguments.trials, arguments.epochs, uri, arguments.seed_points)
            before, computed = size(arguments.database, folder), processor_time(server.pid)
            seconds = write(spec, Home(folder), arguments.writers)
            computed = processor_time(server.pid) - computed
            values = arguments.trials * SEEDS * arguments.epochs * len(METRICS)
            taken = size(arguments.database, folder) - before
            print(
                f"{arguments.trials} trials × {SEEDS} seeds × {arguments.epochs} epochs × {len(METRICS)} metrics, "
                f"{arguments.writers} at a time: {seconds:.1f} s, {1000 * seconds / arguments.trials:.0f} ms "
                f"a trial, {values / seconds:,.0f} values/s, {values / computed:,.0f} a second of the server's "
                f"processor time, {taken / values:.1f} bytes a value"
            )
            # the first one fills caches
            pages = [first_page(uri) for _ in range(5)]
            print(f"first page of up to {PAGE} runs in {min(pages):.2f} to {max(pages):.2f} s")
            subprocess.run([sys.executable, "-m", "benchmarks.report_scale", "--measure", uri, name], check=True)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
