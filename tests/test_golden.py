"""The study homes that released versions left behind are read as before, and go on: see tests/golden/make.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

from analysis import schema
from analysis.runs import Study, load
from study.cli import app
from study.file.plan import trial_for
from study.home import Home
from study.launch import sweep
from study.record import files, publish, status, trials
from tests.golden.homes import FOLDER, VERSIONS, unpacked
from trainables.training import Training

KEYS = ["trial", "seed", "metric", "epoch"]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    released: str = request.param
    return released


@pytest.fixture
def home(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of that version, at another place than where it was made."""
    return unpacked(tmp_path, monkeypatch, version)


def fierce(home: Home, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--home", str(home.root)])
    assert result.exit_code == 0, result.output
    return result.stdout


def table(path: Path) -> pd.DataFrame:
    """An exported table, its rows in an order of their own."""
    return pd.read_csv(path).sort_values(KEYS, ignore_index=True)


def test_a_finished_study_ends_at_once_without_ray(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise AssertionError("Ray was asked for")

    monkeypatch.setattr(sweep.cluster, "connect", refused)
    spec = files.load_spec(home, "grid")
    for retry_failed in (False, True):
        outcome = sweep.run(spec, home, retry_failed=retry_failed)
        assert outcome == sweep.Outcome(done=3, failed=0, missing=0, interrupted=False)
    client = MlflowClient(home.tracking_uri())
    experiment = client.get_experiment_by_name("grid")
    # MLflow's interface opens it where trained models are, and the link is to it
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert publish.view(home.tracking_uri(), "grid").startswith(f"#/experiments/{experiment.experiment_id}/runs?")
    (own,) = (run for run in Study.open(home.tracking_uri(), "grid").runs if run.data.tags[schema.LEVEL] == "study")
    assert own.info.status == "FINISHED"
    # what MLflow lacks is sent again, by a trial
    replica = Study.open(home.tracking_uri(), "grid").replicas.iloc[0]
    client.delete_run(replica.run_id)
    with pytest.raises(AssertionError, match="Ray was asked for"):
        sweep.run(spec, home)


def test_there_is_one() -> None:
    assert VERSIONS
    assert all(path.stat().st_size < 1_000_000 for path in FOLDER.glob("*/*"))


def test_what_is_done_and_what_is_missing(home: Home) -> None:
    grid, interrupted = status.read(home, "grid"), status.read(home, "search")
    assert [trial.label for trial in grid.trials] == ["ce", "fierce λ=0.1 e=10", "fierce λ=1 e=10"]
    assert (grid.count("done"), grid.count_replicas("done")) == (3, 6)
    assert (interrupted.trials[0].label, interrupted.trials[0].state) == ("ce", "done")
    assert (interrupted.count("done"), interrupted.count("missing"), interrupted.running) == (1, 2, False)


@pytest.mark.parametrize("name", ["grid", "search"])
def test_the_same_table_is_exported(version: str, home: Home, name: str, tmp_path: Path) -> None:
    fierce(home, "export", name, "--out", str(tmp_path / "now.csv"))
    assert_frame_equal(table(tmp_path / "now.csv"), table(FOLDER / version / f"{name}.csv"), check_exact=True)


@pytest.mark.slow
def test_the_report_shows_its_numbers(version: str, home: Home, tmp_path: Path) -> None:
    fierce(home, "report", "grid", "--out", str(tmp_path / "report"))
    assert (tmp_path / "report" / "report.html").is_file()
    last = table(FOLDER / version / "grid.csv").query("metric == 'accuracy/coarse' and epoch == 4")
    shown = pd.read_csv(tmp_path / "report" / "metrics.csv").query("metric == 'accuracy/coarse'")
    np.testing.assert_allclose(sorted(shown["mean"]), sorted(last.groupby("trial")["value"].mean()))


@pytest.mark.thorough
def test_an_interrupted_study_goes_on_to_the_numbers_of_an_undisturbed_one(
    version: str, home: Home, trained_here: None
) -> None:
    before = table(FOLDER / version / "search.csv")
    study = files.load_spec(home, "search")
    assert sweep.run(study, home) == sweep.Outcome(done=3, failed=0, missing=0, interrupted=False)
    after = load(home.tracking_uri(), "search").astype({"metric": str}).sort_values(KEYS, ignore_index=True)
    # what was there is kept as it was
    merged = before[[*KEYS, "value"]].merge(after[[*KEYS, "value"]], on=KEYS, suffixes=("", "_now"))
    assert len(merged) == len(before)
    np.testing.assert_array_equal(merged["value"], merged["value_now"])
    # a later version may measure more, of the epochs that it trains
    after = after[after["metric"].isin(before["metric"])]
    torch.set_num_threads(1)
    loaded = trials.load_study(study, home)
    assert loaded is not None
    for number, attempt in trials.attempts(loaded).items():
        values = attempt.user_attrs[trials.HYPERPARAMETER_VALUES]
        trial = trial_for(study, attempt.user_attrs[trials.CRITERION], values)
        wanted = [
            (seed, metric, record.epoch, value)
            for record in Training(trial).run()
            for metric, replicas in record.metrics.items()
            if metric in set(before["metric"])
            for seed, value in zip(trial.seeds, replicas, strict=True)
        ]
        undisturbed = pd.DataFrame(wanted, columns=[*KEYS[1:], "value"]).sort_values(KEYS[1:], ignore_index=True)
        # another processor rounds otherwise, and the store's first epochs are of the one it was made on
        assert_frame_equal(
            after.query(f"trial == {number}")[[*KEYS[1:], "value"]].reset_index(drop=True),
            undisturbed,
            check_dtype=False,
            rtol=1e-3,
            atol=1e-6,
        )
