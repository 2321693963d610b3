"""Report of a large study: 60 trials × 10 seeds × 200 epochs × 8 metrics = 960,000 values.

Makes a store of that size by bulk insert, writes the whole report in a process of its own and prints rows, seconds and
peak memory. Bounds: under 60 s and under 2 GiB.

    python -m benchmarks.report_scale [--server]     # --server: the same through an MLflow server on 127.0.0.1
    python -m benchmarks.report_scale --server --epochs 334 --both     # 1.6 million values, as rows and in files
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag

from analysis import columns, schema

STUDY = "scale"
EPOCHS = 200
METRICS = (
    "mse/raw",
    "mse/transfer",
    "mse/transfer-standardized",
    "mse/transfer-least-squares",
    "entropy/features",
    "entropy/anchors",
    "calibration/ece",
    "accuracy/coarse",
)
SEEDS = tuple(range(10))


def points() -> list[tuple[str, dict[str, float]]]:
    """60 trials: CE, LS and 58 of FIERCE on a grid of λ and e."""
    grid = [
        ("fierce", {"lambda": lam, "e": e}) for lam in np.geomspace(0.01, 8, 14).round(4) for e in (10, 50, 100, 200)
    ]
    extra = [("fierce", {"lambda": 1.0, "e": 100}), ("fierce", {"lambda": 4.0, "e": 100})]
    return [("ce", {}), ("ls", {"sigma": 0.4}), *grid, *extra]


def generate(
    folder: Path,
    in_files: bool = False,
    trials: Sequence[tuple[str, dict[str, float]]] = (),
    seed_points: int = 100,
    study_file: str = "",
) -> str:
    """Fill a SQLite store under ``folder``, values as MLflow's rows or ``in_files`` of the trials; its tracking URI.

    ``trials`` are `points` where none are given. Values that are in files have ``seed_points`` rows beside them. With a
    ``study_file`` trials that have hyperparameters are those of its search.
    """
    folder.mkdir(exist_ok=True)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    artifacts = (folder / "artifacts").as_uri()
    experiment = client.create_experiment(STUDY, artifact_location=artifacts)
    common = {
        schema.STUDY: STUDY,
        schema.BENCHMARK: "hyperspectral",
        schema.PROTOCOL: "released",
        schema.SEEDS: ",".join(map(str, SEEDS)),
        schema.DATA_NAME: "generated",
        schema.DATA_PROVENANCE: "simulated",
        schema.DATA_FINGERPRINT: "0" * 64,
        schema.DATA_DESCRIPTION: "random numbers, for the measurement alone",
    }
    runs: list[dict[str, Any]] = []
    tags: list[dict[str, Any]] = []
    params: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []

    def add_run(own: dict[str, str], hyperparameters: dict[str, float]) -> str:
        run = uuid.uuid4().hex
        times = {"start_time": 1, "end_time": 2, "artifact_uri": f"{artifacts}/{run}/artifacts"}
        state = {"status": "FINISHED", "lifecycle_stage": "active", "source_type": "LOCAL", "name": run, "user_id": ""}
        runs.append({"run_uuid": run, "experiment_id": int(experiment), **times, **state})
        tags.extend({"run_uuid": run, "key": key, "value": value} for key, value in (common | own).items())
        params.extend({"run_uuid": run, "key": key, "value": str(value)} for key, value in hyperparameters.items())
        return run

    trials = trials or points()
    study = add_run({schema.LEVEL: "study", schema.PLANNED_TRIALS: str(len(trials))}, {})
    if study_file:
        kept = folder / "artifacts" / study / "artifacts" / schema.STUDY_FILE
        kept.parent.mkdir(parents=True)
        kept.write_text(study_file, encoding="utf-8")
    random = np.random.default_rng(0)
    for number, (criterion, hyperparameters) in enumerate(trials):
        own = {schema.TRIAL: str(number), schema.CRITERION: criterion}
        own[schema.ROLE] = "search" if study_file and len(hyperparameters) > 1 else "grid"
        filed = {schema.kept_tag(schema.TRAJECTORIES): schema.TRAJECTORIES} if in_files else {}
        trial = add_run({**own, schema.LEVEL: "trial", **filed}, hyperparameters)
        noise = random.normal(0.5, 0.01, (len(SEEDS), len(METRICS), EPOCHS))
        every = np.exp(-np.arange(1, EPOCHS + 1) / 50) + noise
        if in_files:
            place = folder / "artifacts" / trial / "artifacts"
            place.mkdir(parents=True)
            by_metric = {key: (range(1, EPOCHS + 1), every[:, index].T) for index, key in enumerate(METRICS)}
            columns.write(place / schema.TRAJECTORIES, by_metric, SEEDS)
        for seed, curves in zip(SEEDS, every, strict=True):
            thinned = {schema.SEED_POINTS: str(seed_points)} if in_files else {}
            run = add_run({**own, **thinned, schema.LEVEL: "seed", schema.SEED: str(seed)}, hyperparameters)
            stride = -(-EPOCHS // seed_points) if in_files else 1
            metrics += [
                {"run_uuid": run, "key": key, "step": step, "value": float(value), "timestamp": 1, "is_nan": False}
                for key, curve in zip(METRICS, curves, strict=True)
                for step, value in enumerate(curve, start=1)
                if step % stride == 0 or step == EPOCHS
            ]
    # MLflow lists a run's metrics from their latest values
    latest = [row for row in metrics if row["step"] == EPOCHS]
    filled = ((SqlRun, runs), (SqlTag, tags), (SqlParam, params), (SqlMetric, metrics), (SqlLatestMetric, latest))
    engine = sqlalchemy.create_engine(uri)
    with engine.begin() as connection:
        for table, rows in filled:
            connection.execute(sqlalchemy.insert(table), rows)
    engine.dispose()
    return uri


def _hand_out(uri: str) -> None:
    """Have the artifacts come from the server, and not from this machine's disk."""
    engine = sqlalchemy.create_engine(uri)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.update(SqlRun).values(artifact_uri="mlflow-artifacts:/" + SqlRun.run_uuid + "/artifacts")
        )
    engine.dispose()


def serve(tracking_uri: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """An MLflow server over the store, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    for _ in range(4800):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1).close()
            return server, url
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    server.terminate()
    raise RuntimeError(f"the MLflow server did not answer; see {folder / 'server.log'}")


def processor_time(pid: int) -> float:
    """Seconds that the process and those below it have computed, as Linux tells."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
            ticks[int(path.parent.name)] = int(fields[11]) + int(fields[12])
    tree = {pid}
    while below := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= below
    return sum(ticks.get(each, 0) for each in tree) / os.sysconf("SC_CLK_TCK")


def measure(tracking_uri: str, folder: Path) -> None:
    """Write the report in this process and print what it took."""
    from analysis import report, runs

    started = time.perf_counter()
    rows = len(runs.load(tracking_uri, STUDY))
    loaded, before = time.perf_counter() - started, time.process_time()
    page = report.write(tracking_uri, STUDY, folder / "report")
    total, own = time.perf_counter() - started - loaded, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = page.stat().st_size / 2**20
    print(
        f"{folder.name}, {tracking_uri.split(':')[0]}: {rows:,} rows; loaded alone in {loaded:.1f} s; "
        f"whole report in {total:.1f} s, {own:.1f} s of this process's own, peak {peak:.2f} GiB, page {size:.1f} MiB"
    )


def main() -> None:
    global EPOCHS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="store_true", help="read through an MLflow server as well")
    parser.add_argument("--measure", nargs=2, metavar=("URI", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument(
        "--both", action="store_true", help="values in files of the trials beside values in MLflow's rows"
    )
    arguments = parser.parse_args()
    EPOCHS = arguments.epochs
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        for kind in ("rows", "files") if arguments.both else ("files",):
            folder = Path(name) / kind
            started = time.perf_counter()
            uri = generate(folder, in_files=kind == "files")
            print(f"store of {len(points())} trials × {len(SEEDS)} seeds made in {time.perf_counter() - started:.0f} s")
            again = [sys.executable, "-m", "benchmarks.report_scale", "--measure"]
            subprocess.run([*again, uri, str(folder)], check=True)
            if arguments.server:
                _hand_out(uri)
                server, url = serve(uri, folder)
                try:
                    before = processor_time(server.pid)
                    subprocess.run([*again, url, str(folder)], check=True)
                    print(f"the server's processor time for both: {processor_time(server.pid) - before:.1f} s")
                finally:
                    server.terminate()
                    server.wait()


if __name__ == "__main__":
    main()
