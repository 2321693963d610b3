"""Trials work where the user started: relative addresses and paths mean there what they mean to the user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from study.file.spec import Resources, StudySpec
from study.home import Home
from study.launch import sweep
from study.launch.cluster import connect
from study.record import files, trials

OWN = """
from dataclasses import dataclass
from pathlib import Path

import torch

from tiny import Tiny, TinyOptions


@dataclass(frozen=True)
class Options(TinyOptions):
    data: str = "ok.csv"


class Mine(Tiny):
    Options = Options

    def load(self, options):
        assert Path(options.data).read_text() == "ok"
        return super().load(options)

    def backbone(self, data, options, generators):
        assert torch.load("weights.pt") == 7
        return super().backbone(data, options, generators)
"""

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's directory: a benchmark of their own that opens files beside it."""
    import torch

    place = tmp_path_factory.mktemp("user")
    (place / "own_benchmark.py").write_text(OWN, encoding="utf-8")
    (place / "ok.csv").write_text("ok", encoding="utf-8")
    torch.save(7, place / "weights.pt")
    return place


@pytest.fixture(scope="module", autouse=True)
def own_ray(ray_token: None, folder: Path) -> Iterator[None]:
    """A Ray whose workers import from the user's directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with connect(Resources(cpus=1)):
            yield


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "FIERCE_STORAGE", "FIERCE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder


def spec(name: str, **changes: object) -> StudySpec:
    values = {"name": name, "benchmark": "own_benchmark:Mine", "criteria": ["ce"], "seeds": 1}
    return StudySpec.model_validate(values | changes)


def check(study: StudySpec, home: Home, tracking: Path, optuna: Path) -> None:
    """The study is done, and its runs and trials are in the two databases."""
    assert sweep.run(study, home, cadence=sweep.Cadence(patience=5)) == sweep.Outcome(1, 0, 0, False)
    client = MlflowClient(f"sqlite:///{tracking}")
    experiment = client.get_experiment_by_name(study.name)
    assert experiment is not None
    assert {run.info.status for run in client.search_runs([experiment.experiment_id])} == {"FINISHED"}
    kept = study.model_copy(update={"optuna_uri": f"sqlite:///{optuna}"})
    searched = trials.load_study(kept, home)
    assert searched is not None and len(trials.attempts(searched)) == 1


def test_relative_addresses_in_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///optuna.db")
    monkeypatch.setenv("FIERCE_HOME", "home")
    monkeypatch.setenv("FIERCE_STORAGE", "file:kept")
    check(spec("env"), Home.find(), here / "mlflow.db", here / "optuna.db")
    assert (here / "kept" / "env" / "trials").is_dir()


def test_relative_addresses_in_the_file_are_resumed_from_another_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"tracking_uri": "sqlite:///file.db", "optuna_uri": "sqlite:///file-optuna.db", "storage": "./kept"}
    home = Home.find("home")
    check(spec("file", **named), home, here / "file.db", here / "file-optuna.db")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert sweep.run(files.load_spec(home, "file"), home) == sweep.Outcome(1, 0, 0, False)
    assert list((here / "elsewhere").iterdir()) == []


def test_the_study_file_in_the_home_names_absolute_places(here: Path) -> None:
    kept = yaml.safe_load((here / "home" / "studies" / "file" / "study.yaml").read_text(encoding="utf-8"))
    assert kept["tracking_uri"] == f"sqlite:///{here}/file.db"
    assert kept["optuna_uri"] == f"sqlite:///{here}/file-optuna.db"
    assert kept["storage"] == f"{here}/kept"
