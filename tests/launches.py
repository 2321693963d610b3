"""A study's driver in a process of its own, for tests that end it; and what is kept, read where its code is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from analysis import artifacts, schema
from analysis.runs import Study
from study.file.plan import trial_for
from study.file.spec import StudySpec
from study.home import Home
from trainables.training import Record, Training

TESTS = Path(__file__).resolve().parent
#: servers that a developer's shell may name
HIDDEN = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "MLFLOW_TRACKING_URI", "OPTUNA_STORAGE")

DRIVER = """
import sys
from study.launch import sweep
from study.home import Home
from study.file.spec import StudySpec
spec = StudySpec.from_yaml(sys.argv[2])
print(sweep.run(spec, Home.find(sys.argv[1]), cadence=sweep.Cadence(checkpoint=0, report=0)), flush=True)
"""


class Launch:
    """A driver in a process of its own, with a Ray of its own; ``first`` is code that it runs before anything else."""

    def __init__(self, home: Home, spec: StudySpec, first: str = "") -> None:
        self.home = home
        self.log = (home.root / f"driver-{len(list(home.root.glob('driver-*')))}").open("w+", encoding="utf-8")
        arguments = (str(home.root), spec.to_yaml())
        self.program = forked.Program(arguments, environment(TESTS.parent, TESTS), Path.cwd(), first + DRIVER, self.log)

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def until(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.program.code() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def kill(self) -> None:
        self.program.kill()


def environment(*path: Path) -> dict[str, str]:
    """This process' own without servers, and with the modules below ``path`` to import."""
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    return kept | {"PYTHONPATH": os.pathsep.join(map(str, path))}


@contextmanager
def killed_and_resumed(home: Home, spec: StudySpec, epochs: int) -> Iterator[str]:
    """A study whose driver was killed once ``epochs`` were saved, and resumed; what the second driver said."""
    with pytest.MonkeyPatch.context() as patch:
        for name in HIDDEN:
            patch.delenv(name, raising=False)
        first = Launch(home, spec)
        try:
            first.until(lambda: epochs_saved(home, spec) >= epochs)
        finally:
            first.kill()
        second = Launch(home, spec)
        try:
            assert second.program.ended(300)[0] == 0, second.said()
        finally:
            second.kill()
        yield second.said()


def runs_of(home: Home, spec: StudySpec) -> Mapping[tuple[str | None, str | None], Run]:
    """(trial, seed) -> its run; the study's own is that of (None, None)."""
    client = MlflowClient(home.tracking_uri())
    experiment = client.get_experiment_by_name(spec.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    keyed = {(run.data.tags.get(schema.TRIAL), run.data.tags.get(schema.SEED)): run for run in runs}
    assert len(keyed) == len(runs)
    return keyed


def declared(home: Home, spec: StudySpec, name: str) -> dict[str, Any]:
    """What the study's run declares in its artifact ``name``, by the names of what is declared."""
    content = artifacts.read(home.tracking_uri(), runs_of(home, spec)[None, None], name)
    assert content is not None
    return {metric["name"]: metric for metric in json.loads(content)}


def require_all_undisturbed(home: Home, spec: StudySpec, searched: Sequence[str] = ()) -> None:
    """Each seed's run holds what a training without a kill has; ``searched`` are hyperparameters that vary."""
    torch.set_num_threads(1)
    client, keyed = MlflowClient(home.tracking_uri()), runs_of(home, spec)
    trials = {number: run for (number, seed), run in keyed.items() if number and not seed}
    assert len(keyed) == 1 + len(trials) * (1 + len(spec.seeds))
    for number, run in trials.items():
        values = {name: float(run.data.params[name]) for name in searched if name in run.data.params}
        undisturbed = list(Training(trial_for(spec, run.data.tags[schema.CRITERION], values)).run())
        for column, seed in enumerate(spec.seeds):
            require_undisturbed(client, keyed[number, str(seed)], column, undisturbed)


def elsewhere(home: Home, folder: Path, module: str) -> Callable[..., str]:
    """Runs ``fierce`` in ``folder``, where ``module`` cannot be imported, and gives what it prints."""
    its_own = environment(TESTS.parent)
    tried = subprocess.run([sys.executable, "-c", f"import {module}"], cwd=folder, env=its_own, check=False)
    assert tried.returncode != 0

    def run(*arguments: str) -> str:
        done = forked.run([*arguments, "--home", str(home.root)], its_own, folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


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
    tags = run.data.tags
    frame = Study.open(client.tracking_uri, tags[schema.STUDY]).whole.frame
    own = frame[(frame["trial"] == int(tags[schema.TRIAL])) & (frame["seed"] == int(tags[schema.SEED]))]
    read = list(zip(own["metric"], own["epoch"], own["value"], strict=True))
    np.testing.assert_equal(sorted(read), sorted(wanted))
