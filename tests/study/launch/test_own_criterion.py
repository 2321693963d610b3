"""A criterion of a user's own, searched, killed and resumed; then looked at where its file is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from analysis import artifacts, schema
from study.file.plan import trial_for
from study.file.spec import StudySpec
from study.home import Home
from tests.launches import TESTS, Launch, epochs_saved, require_undisturbed
from trainables.training import Training

pytestmark = pytest.mark.ray

FOCAL = "own_losses:Focal"
SPEC = StudySpec.model_validate(
    {
        "name": "own",
        "benchmark": {"name": "tiny:Tiny", "pause": 0.1},
        "criteria": ["ce"],
        "search": {
            "criteria": {FOCAL: {"gamma": {"low": 0.5, "high": 4}}},
            "trials": 2,
            "objective": {"label_free": True},
        },
        "seeds": [1, 4],
        "training": {"epochs": 6},
    }
)
#: servers that a developer's shell may name
HIDDEN = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "MLFLOW_TRACKING_URI", "OPTUNA_STORAGE")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The home of the study, whose driver was killed while a searched trial was under way, and which was resumed."""
    home = Home(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        for name in HIDDEN:
            patch.delenv(name, raising=False)
        first = Launch(home, SPEC)
        try:
            first.until(lambda: epochs_saved(home, SPEC) >= 9)
        finally:
            first.kill()
        second = Launch(home, SPEC)
        try:
            assert second.process.wait(300) == 0, second.said()
            assert "Outcome(done=3, failed=0, missing=0, interrupted=False)" in second.said()
        finally:
            second.kill()
        yield home


def runs(home: Home) -> Mapping[tuple[str | None, str | None], Run]:
    """(trial, seed) -> its run; the study's own is that of (None, None)."""
    client = MlflowClient(home.tracking_uri())
    experiment = client.get_experiment_by_name("own")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    keyed = {(run.data.tags.get(schema.TRIAL), run.data.tags.get(schema.SEED)): run for run in found}
    assert len(keyed) == len(found) == 1 + 3 * 3
    return keyed


def test_its_numbers_are_those_of_an_undisturbed_training(home: Home) -> None:
    torch.set_num_threads(1)
    client, keyed = MlflowClient(home.tracking_uri()), runs(home)
    for number in range(3):
        whole = keyed[str(number), None]
        values = {"gamma": float(whole.data.params["gamma"])} if number else {}
        trial = trial_for(SPEC, whole.data.tags[schema.CRITERION], values)
        undisturbed = list(Training(trial).run())
        for column, seed in enumerate(trial.seeds):
            run = keyed[str(number), str(seed)]
            require_undisturbed(client, run, column, undisturbed)


def test_optuna_holds_what_was_searched(home: Home) -> None:
    study = optuna.load_study(study_name="own", storage=f"sqlite:///{home.root / 'optuna.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    baseline, *searched = study.trials
    assert baseline.params == {}
    for trial in searched:
        assert set(trial.params) == {"gamma"} and 0.5 <= trial.params["gamma"] <= 4
        assert trial.distributions["gamma"] == optuna.distributions.FloatDistribution(0.5, 4)
        assert trial.user_attrs["label"].startswith("Focal γ=")
    assert searched[0].params != searched[1].params


def test_mlflow_holds_its_label_and_symbol(home: Home) -> None:
    keyed = runs(home)
    for number in ("1", "2"):
        run = keyed[number, None]
        assert run.info.run_name == f"Focal γ={float(run.data.params['gamma']):.4g}"
        assert run.data.tags[schema.CRITERION] == FOCAL

    def declared(name: str) -> dict[str, Any]:
        content = artifacts.read(home.tracking_uri(), keyed[None, None], name)
        assert content is not None
        return {each["name"]: each for each in json.loads(content)}

    focal = declared(schema.CRITERIA_FILE)[FOCAL]
    assert focal["label"] == "focal loss"
    assert focal["hyperparameters"] == [{"name": "gamma", "symbol": "γ", "whole": False, "log": False}]
    assert declared(schema.METRICS_FILE)["loss/train"]["label"] == "training loss"


@pytest.fixture
def elsewhere(home: Home, tmp_path: Path) -> Any:
    """Runs ``fierce`` in another folder, where neither the criterion nor the benchmark can be imported."""
    environment = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    environment["PYTHONPATH"] = str(TESTS.parent)
    tried = subprocess.run([sys.executable, "-c", "import own_losses"], cwd=tmp_path, env=environment, check=False)
    assert tried.returncode != 0

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", "from study.cli import main; main()", *arguments, "--home", str(home.root)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_status_and_export_need_none_of_its_code(elsewhere: Any, tmp_path: Path) -> None:
    state = json.loads(elsewhere("status", "own", "--json"))
    assert [(trial["state"], trial["epoch"]) for trial in state["trials"]] == [("done", 6)] * 3
    assert [trial["label"].split("=")[0] for trial in state["trials"]] == ["ce", "Focal γ", "Focal γ"]
    elsewhere("export", "own", "--out", "own.csv")
    frame = pd.read_csv(tmp_path / "own.csv")
    assert set(frame["criterion"]) == {"ce", FOCAL}
    assert frame.groupby("trial")["gamma"].nunique().to_dict() == {0: 0, 1: 1, 2: 1}


def test_the_report_needs_none_of_its_code(elsewhere: Any, tmp_path: Path) -> None:
    elsewhere("report", "own", "--out", "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "focal loss" in page and "γ" in page
