"""Runs, arrays and whole experiments that were deleted in MLflow: a resume sends again what the checkpoints hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from in_process import without_ray
from mlflow import MlflowClient
from mlflow.entities import Run

from analysis import artifacts, schema
from analysis.runs import Study, StudyNotFound
from study.file.spec import StudySpec
from study.home import Home
from study.launch import sweep
from study.record import status, tracking
from study.servers.mlflow import TrackingError

SPEC = StudySpec.model_validate(
    {"name": "s", "benchmark": "tiny:Tiny", "criteria": ["ce", "ls", "fierce"], "seeds": [1, 4], "concurrency": 1}
)
ALL_DONE = sweep.Outcome(done=3, failed=0, missing=0, interrupted=False)


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "FIERCE_STORAGE"):
        monkeypatch.delenv(name, raising=False)


pytestmark = [pytest.mark.usefixtures("trained_here"), pytest.mark.slow]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of a study that was run to its end; the tests do not change it."""
    home = Home(tmp_path_factory.mktemp("original") / "h")
    with without_ray():
        assert sweep.run(SPEC, home) == ALL_DONE
    return home


@pytest.fixture
def home(original: Home, tmp_path: Path) -> Home:
    shutil.copytree(original.root, tmp_path / "h")
    return Home(tmp_path / "h")


def runs(home: Home) -> dict[tuple[str | None, ...], Run]:
    """(level, trial, seed) -> run; each must be there once."""
    listed = Study.open(home.tracking_uri(), "s").runs
    names = (schema.LEVEL, schema.TRIAL, schema.SEED)
    keyed = {tuple(run.data.tags.get(name) for name in names): run for run in listed}
    assert len(keyed) == len(listed)
    return keyed


def check_whole(home: Home, original: Home) -> None:
    """Nothing is missing: runs and how they hang together, values, what is known of the data, arrays."""
    held, wanted = runs(home), runs(original)
    assert held.keys() == wanted.keys()
    for key, run in held.items():
        assert run.info.status == "FINISHED"
        ours = {name: value for name, value in run.data.tags.items() if name.startswith("fierce.")}
        assert ours == {name: value for name, value in wanted[key].data.tags.items() if name.startswith("fierce.")}
        assert run.data.params == wanted[key].data.params
        assert [dataset_input.dataset.digest for dataset_input in run.inputs.dataset_inputs] == [
            dataset_input.dataset.digest for dataset_input in wanted[key].inputs.dataset_inputs
        ]
        above = {"seed": ("trial", key[1], None), "trial": ("study", None, None)}.get(str(key[0]))
        if above:
            assert run.data.tags["mlflow.parentRunId"] == held[above].info.run_id
    restored, theirs = Study.open(home.tracking_uri(), "s"), Study.open(original.tracking_uri(), "s")
    pd.testing.assert_frame_equal(restored.frame, theirs.frame, check_categorical=False)
    pd.testing.assert_frame_equal(restored.trials, theirs.trials)
    assert restored.file == theirs.file
    for trial in range(3):
        for seed in (1, 4):
            np.testing.assert_equal(restored.arrays(trial, seed), theirs.arrays(trial, seed))
    assert not restored.lost
    state = status.read(home, "s")
    assert (state.count("done"), state.count_replicas("done")) == (3, 6)


def test_runs_and_arrays_that_were_deleted_are_sent_again(home: Home, original: Home) -> None:
    client, held = MlflowClient(home.tracking_uri()), runs(home)
    weights = held["trial", "1", None]
    for key in (("seed", "0", "1"), ("trial", "1", None), ("study", None, None)):
        client.delete_run(held[key].info.run_id)
    place = artifacts.folder(home.tracking_uri(), held["seed", "2", "4"])
    assert place is not None
    (place / schema.ARRAYS).unlink()
    state = status.read(home, "s")
    assert (state.count_replicas("missing"), state.trials[0].seeds) == (1, {1: "missing", 4: "done"})

    assert sweep.run(SPEC, home) == ALL_DONE
    check_whole(home, original)
    # what no checkpoint holds was in the run that MLflow had put aside
    again = artifacts.folder(home.tracking_uri(), runs(home)["trial", "1", None])
    assert again is not None and (again / schema.WEIGHTS).is_file()
    assert runs(home)["trial", "1", None].info.run_id == weights.info.run_id


def test_an_experiment_that_was_deleted_is_restored_with_each_run_once(home: Home, original: Home) -> None:
    client, uri = MlflowClient(home.tracking_uri()), home.tracking_uri()
    client.delete_run(runs(home)["seed", "0", "1"].info.run_id)
    assert sweep.run(SPEC, home) == ALL_DONE
    client.delete_experiment(runs(home)["study", None, None].info.experiment_id)
    with pytest.raises(StudyNotFound, match=r"'s' in .* was deleted: resume the study"):
        Study.open(uri, "s")
    assert status.read(home, "s").count_replicas("missing") == 6
    assert sweep.run(SPEC, home) == ALL_DONE
    check_whole(home, original)


def test_a_database_that_is_gone_is_written_anew(home: Home, original: Home) -> None:
    for path in home.root.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(home.root / "artifacts")
    assert status.read(home, "s").count_replicas("missing") == 6
    assert sweep.run(SPEC, home) == ALL_DONE
    check_whole(home, original)


def test_another_studys_experiment_stays_deleted(home: Home) -> None:
    client, uri = MlflowClient(home.tracking_uri()), home.tracking_uri()
    client.delete_experiment(runs(home)["study", None, None].info.experiment_id)
    with pytest.raises(TrackingError, match="'s' was deleted; restore it there"):
        tracking.open_study(SPEC, home, "of another")
    experiment = MlflowClient(uri).get_experiment_by_name("s")
    assert experiment is not None and experiment.lifecycle_stage == "deleted"


def test_a_trial_that_failed_is_sent_again_as_it_ended(original: Home, tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    trouble.write_text("4 raise", encoding="utf-8")
    options = {"name": "tiny:Tiny", "trouble": str(trouble)}
    study = StudySpec.model_validate(
        {"name": "s", "benchmark": options, "criteria": ["ce"], "seeds": [1, 4], "max_failures": 0}
    )
    home = Home(tmp_path / "h")
    assert sweep.run(study, home, cadence=sweep.Cadence(checkpoint=0.0)).failed == 1
    before, trials = runs(home), Study.open(home.tracking_uri(), "s").trials
    client = MlflowClient(home.tracking_uri())
    for key in (("seed", "0", "1"), ("trial", "0", None)):
        client.delete_run(before[key].info.run_id)
    assert sweep.run(study, home).failed == 1
    restored = Study.open(home.tracking_uri(), "s")
    pd.testing.assert_frame_equal(restored.trials, trials)
    # of both seeds, up to the epoch before the failure
    whole = Study.open(original.tracking_uri(), "s").frame
    wanted = whole[(whole["trial"] == 0) & (whole["epoch"] < 4)]
    columns = ["seed", "metric", "epoch", "value"]
    pd.testing.assert_frame_equal(
        restored.frame[columns].astype({"metric": str}), wanted[columns].astype({"metric": str}).reset_index(drop=True)
    )
    assert {run.info.status for key, run in runs(home).items() if key[0] != "study"} == {"FAILED"}
