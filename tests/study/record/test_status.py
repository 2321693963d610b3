"""What a status tells of a study that is not at its end: real MLflow and Optuna databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from analysis import schema
from analysis.runs import Study
from study.cli import app
from study.home import Home
from study.record import status
from tests.golden.homes import unpacked


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with a finished ``grid`` and an interrupted ``search``."""
    return unpacked(tmp_path, monkeypatch)


def test_metrics_so_far_are_means_of_each_seeds_last_values(home: Home) -> None:
    read, client = status.read(home, "search"), MlflowClient(home.tracking_uri())
    (begun,) = (trial for trial in read.trials if trial.state == "missing" and trial.number is not None)
    last = []
    for run in Study.open(home.tracking_uri(), "search").runs:
        if run.data.tags.get(schema.TRIAL) == str(begun.number) and schema.SEED in run.data.tags:
            history = client.get_metric_history(run.info.run_id, "accuracy/train")
            last.append(max(history, key=lambda row: row.step).value)
    assert len(last) == len(begun.seeds) > 1
    assert begun.means["accuracy/train"] == pytest.approx(sum(last) / len(last))
    shown = CliRunner().invoke(app, ["status", "search", "--home", str(home.root)]).stdout.splitlines()
    columns, *rows = (line.split("\t") for line in shown if "\t" in line)
    assert columns[6] == read.metric != ""
    told = {row[0]: row[6] for row in rows}
    assert told["0"] == f"{read.trials[0].means[read.metric]:.4g}"
    if read.metric in begun.means:
        assert told[str(begun.number)] == f"{begun.means[read.metric]:.4g}"


def test_a_study_without_a_search_shows_its_main_metric(home: Home) -> None:
    read = status.read(home, "grid")
    assert read.metric in read.trials[0].means and read.note == ""
