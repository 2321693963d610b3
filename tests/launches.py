"""A study's driver in a process of its own, for tests that end it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from study.file.spec import StudySpec
from study.home import Home
from trainables.training import Record

TESTS = Path(__file__).resolve().parent

DRIVER = """
import sys
from study.launch import sweep
from study.home import Home
from study.file.spec import StudySpec
spec = StudySpec.from_yaml(sys.stdin.read())
print(sweep.run(spec, Home.find(sys.argv[1]), cadence=sweep.Cadence(checkpoint=0, report=0)), flush=True)
"""


class Launch:
    """A driver in a process of its own, with a Ray of its own."""

    def __init__(self, home: Home, spec: StudySpec) -> None:
        self.home = home
        hidden = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "MLFLOW_TRACKING_URI", "OPTUNA_STORAGE")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        self.log = (home.root / f"driver-{len(list(home.root.glob('driver-*')))}").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(home.root)],
            stdin=subprocess.PIPE, stdout=self.log, stderr=self.log, encoding="utf-8", env=environment,
        )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(spec.to_yaml())
        self.process.stdin.close()

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def until(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def epochs_saved(home: Home, spec: StudySpec) -> int:
    """Epochs in all checkpoints together."""
    total = 0
    for path in (home.study(spec.name) / "trials").glob("*/checkpoint.pt"):
        total += len(torch.load(path, weights_only=True)["records"])
    return total


def require_undisturbed(client: MlflowClient, run: Run, column: int, undisturbed: Sequence[Record]) -> None:
    """A seed's run holds the values that replica ``column`` of a training without a kill has, each once."""
    rows = [
        (name, row.step, row.value)
        for name in run.data.metrics
        for row in client.get_metric_history(run.info.run_id, name)
    ]
    wanted = [
        (name, record.epoch, replicas[column]) for record in undisturbed for name, replicas in record.metrics.items()
    ]
    np.testing.assert_equal(sorted(rows), sorted(wanted))
