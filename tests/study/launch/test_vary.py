"""Training settings that vary, run and tracked: what is trained, named, kept and stopped early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from analysis import schema
from analysis.runs import Study
from study.file.plan import fixed_points, name_of
from study.file.search import Pruner
from study.file.spec import StudySpec
from study.home import Home
from study.launch import pruning, sweep
from study.record import status, trials
from tests.launches import runs_of
from trainables.training import Training

pytestmark = pytest.mark.slow


def spec(**changes: Any) -> StudySpec:
    values = {"name": "s", "benchmark": "tests.tiny:Tiny", "seeds": 2, "training": {"epochs": 3}}
    return StudySpec.model_validate(values | changes)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.mark.thorough
@pytest.mark.usefixtures("trained_here")
def test_each_trial_trains_by_its_settings_and_the_store_says_which(home: Home) -> None:
    grid = {"training": {"learning_rate": [0.01, 0.1], "epochs": [2, 3]}, "ls": {"benchmark.samples": [200, 201]}}
    study = spec(criteria=["ce"], grid=grid)
    assert sweep.run(study, home).done == 12
    held, client = runs_of(home, study), MlflowClient(home.tracking_uri())
    labels = {run.info.run_name for (trial, seed), run in held.items() if trial and seed is None}
    assert labels == {name_of(study, point.trial) for point in fixed_points(study)}
    point = fixed_points(study)[-1]
    assert name_of(study, point.trial) == "ls σ=0.2 learning_rate=0.1 epochs=3 samples=201"
    (number,) = (trial for (trial, _), run in held.items() if run.info.run_name == name_of(study, point.trial))
    wanted = {"training.learning_rate": "0.1", "training.epochs": "3", "benchmark.samples": "201", "sigma": "0.2"}
    for run in (held[number, None], held[number, "1"]):
        assert wanted.items() <= run.data.params.items()
    undisturbed = [record.metrics["loss/train"][1] for record in Training(point.trial).run()]
    tracked = client.get_metric_history(held[number, "1"].info.run_id, "loss/train")
    assert [each.value for each in sorted(tracked, key=lambda each: each.step)] == pytest.approx(undisturbed)

    read = Study.open(home.tracking_uri(), "s")
    assert [each.name for each in read.varied] == ["training.learning_rate", "training.epochs", "benchmark.samples"]
    assert set(read.trials["label"]) >= {"CE learning_rate=0.01 epochs=2 samples=200"}
    assert set(read.frame.columns) >= {"training.learning_rate", "training.epochs", "benchmark.samples"}
    # trials of fewer epochs have a last one of their own
    assert read.final.groupby("trial")["epoch"].max().value_counts().to_dict() == {2: 6, 3: 6}
    state = status.read(home, "s")
    assert {(trial.epoch, trial.epochs) for trial in state.trials} == {(2, 2), (3, 3)}
    # nothing is left for another launch
    assert sweep.run(study, home).done == 12
    assert len(runs_of(home, study)) == len(held)


@pytest.mark.usefixtures("trained_here")
def test_a_search_draws_settings_and_goes_on_where_it_stopped(home: Home) -> None:
    searched: dict[str, Any] = {
        "criteria": {"fierce": {"lambda": {"low": 0.1, "high": 1}}, "ce": {}},
        "training": {"learning_rate": {"low": 0.001, "high": 0.1}, "milestones": {"choices": [[1], [1, 2]]}},
        "trials": 3,
        "objective": {"metric": "accuracy/coarse", "direction": "maximize"},
        "constraint": {"metric": "accuracy/coarse", "within_of_ce": 1.0},
    }
    study = spec(criteria=["ce"], search=searched, concurrency=1)
    assert sweep.run(study, home).done == 7
    stored = trials.load_study(study, home)
    assert stored is not None
    drawn = [trial for trial in stored.trials if trial.user_attrs[trials.ROLE] == "search"]
    for trial in drawn:
        values = trial.user_attrs[trials.HYPERPARAMETER_VALUES]
        assert 0.001 <= values["training.learning_rate"] == trial.params["training.learning_rate"] <= 0.1
        assert values["training.milestones"] in ([1], [1, 2])
        assert trial.distributions["training.learning_rate"].log  # type: ignore[attr-defined]
    read = Study.open(home.tracking_uri(), "s")
    assert read.trials.loc[read.trials["role"] == "search", "training.learning_rate"].nunique() == 6
    assert sweep.run(study, home).done == 7


@pytest.mark.thorough
@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("name", ["median", "hyperband"])
def test_pruners_stop_searched_trials_alone(home: Home, name: str) -> None:
    """Small learning rates leave the training loss high: among twelve, some are stopped, and CE never is."""
    searched: dict[str, Any] = {
        "criteria": {"fierce": {"training.learning_rate": {"low": 1e-6, "high": 0.1}}},
        "trials": 12,
        "sampler": "random",
        "objective": {"metric": "loss/train", "direction": "minimize"},
        "pruner": {"name": name, "grace_period": 1},
    }
    study = spec(criteria=["ce"], search=searched, concurrency=1, training={"epochs": 6, "learning_rate": 1e-6})
    assert sweep.run(study, home, cadence=sweep.Cadence(report=0)).done == 13
    stored = trials.load_study(study, home)
    assert stored is not None
    states = {(trial.user_attrs[trials.ROLE], trial.state.name) for trial in stored.trials}
    assert states == {("baseline", "COMPLETE"), ("search", "COMPLETE"), ("search", "PRUNED")}
    held = runs_of(home, study)
    assert {held[str(trial.number), None].info.status for trial in stored.trials} == {"FINISHED", "KILLED"}
    assert held["0", None].data.tags[schema.ROLE] == "baseline"


def test_hyperband_has_a_bracket_for_each_first_epoch_that_leaves_some() -> None:
    for name, grace, epochs, count in (("hyperband", 1, 27, 3), ("hyperband", 5, 60, 3), ("asha", 1, 27, 1)):
        made = Pruner.model_validate({"name": name, "grace_period": grace})
        assert pruning.brackets(made, epochs) == count
