"""A criterion of a user's own, searched, killed and resumed; then looked at where its file is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest

from analysis import schema
from study.file.spec import StudySpec
from study.home import Home
from tests.launches import declared, elsewhere, killed_and_resumed, require_all_undisturbed, runs_of

pytestmark = [pytest.mark.thorough, pytest.mark.ray]

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
        "concurrency": 1,
    }
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The home of the study, whose driver was killed while a searched trial was under way, and which was resumed."""
    home = Home(tmp_path_factory.mktemp("home"))
    with killed_and_resumed(home, SPEC, epochs=9) as said:
        assert "Outcome(done=3, failed=0, missing=0, interrupted=False)" in said
        yield home


def test_its_numbers_are_those_of_an_undisturbed_training(home: Home) -> None:
    assert len(runs_of(home, SPEC)) == 1 + 3 * 3
    require_all_undisturbed(home, SPEC, searched=["gamma"])


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
    keyed = runs_of(home, SPEC)
    for number in ("1", "2"):
        run = keyed[number, None]
        assert run.info.run_name == f"Focal γ={float(run.data.params['gamma']):.4g}"
        assert run.data.tags[schema.CRITERION] == FOCAL
    focal = declared(home, SPEC, schema.CRITERIA_FILE)[FOCAL]
    assert focal["label"] == "focal loss"
    assert focal["hyperparameters"] == [{"name": "gamma", "symbol": "γ", "whole": False, "log": False, "meaning": ""}]
    assert declared(home, SPEC, schema.METRICS_FILE)["loss/train"]["label"] == "training loss"


def test_status_and_export_need_none_of_its_code(home: Home, tmp_path: Path) -> None:
    fierce = elsewhere(home, tmp_path, "own_losses")
    state = json.loads(fierce("status", "own", "--json"))
    assert [(trial["state"], trial["epoch"]) for trial in state["trials"]] == [("done", 6)] * 3
    assert [trial["label"].split("=")[0] for trial in state["trials"]] == ["ce", "Focal γ", "Focal γ"]
    fierce("export", "own", "--out", "own.csv")
    frame = pd.read_csv(tmp_path / "own.csv")
    assert set(frame["criterion"]) == {"ce", FOCAL}
    assert frame.groupby("trial")["gamma"].nunique().to_dict() == {0: 0, 1: 1, 2: 1}


def test_the_report_needs_none_of_its_code(home: Home, tmp_path: Path) -> None:
    elsewhere(home, tmp_path, "own_losses")("report", "own", "--out", "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "focal loss" in page and "γ" in page
