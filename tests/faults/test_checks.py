"""What is compared after a fault holds of a study that nothing disturbed, and not of one with something left open."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.checks import check_study
from mlflow import MlflowClient

from study.file.spec import StudySpec
from study.home import Home
from study.launch import sweep
from trainables.storage import Folder

pytestmark = pytest.mark.slow

SPEC = StudySpec.model_validate(
    {"name": "well", "benchmark": "tiny:Tiny", "criteria": ["ce", "ls"], "seeds": [1, 4], "training": {"epochs": 3}}
)


def test_a_study_that_nothing_disturbed(trained_here: None, tmp_path: Path) -> None:
    home = Home(tmp_path)
    sweep.run(SPEC, home)
    tracking, storage = home.tracking_uri(), Folder(str(home.study(SPEC.name).parent))
    assert check_study(SPEC, tracking, home.optuna_uri(), storage).startswith("2 done, ")
    client = MlflowClient(tracking)
    experiment = client.get_experiment_by_name(SPEC.name)
    assert experiment is not None
    run = client.search_runs([experiment.experiment_id])[0].info.run_id
    client.update_run(run, "RUNNING")
    with pytest.raises(AssertionError):
        check_study(SPEC, tracking, home.optuna_uri(), storage)
    client.update_run(run, "FINISHED")
    (Path(storage.address) / SPEC.name / "trials" / "1" / "half-written.part").touch()
    with pytest.raises(AssertionError):
        check_study(SPEC, tracking, home.optuna_uri(), storage)
