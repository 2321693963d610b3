"""From a study file to its trials."""

from __future__ import annotations

from typing import Any

import yaml

from study.file.plan import fixed_points, label, planned, recipe, trial_for
from study.file.spec import StudySpec
from trainables.trial import Trial

RANGE = {"low": 0.1, "high": 1}
OBJECTIVE = {"metric": "mse/odd", "direction": "minimize"}


def spec(**values: Any) -> StudySpec:
    values = {"name": "s", "benchmark": "tiny:Tiny", "seeds": [3, 5], **values}
    return StudySpec.from_yaml(yaml.safe_dump(values, sort_keys=False))


def labels(study: StudySpec) -> list[tuple[str, str]]:
    return [(point.role, label(point.trial.criterion, point.trial.hyperparameters)) for point in fixed_points(study)]


def test_baselines_run_once_at_the_recipe_defaults() -> None:
    study = spec(criteria=["ce", "ls", "fierce", "confidence-penalty"])
    assert labels(study) == [
        ("baseline", "ce"),
        ("baseline", "ls σ=0.2"),
        ("baseline", "fierce λ=1 e=10"),
        ("baseline", "confidence-penalty β=0.1"),
    ]
    assert planned(study) == 4


def test_a_grid_is_the_product_of_its_lists() -> None:
    study = spec(criteria=["ce", "fierce"], grid={"fierce": {"lambda": [0, 2], "e": [5, 10]}, "ls": {"sigma": 0.4}})
    assert labels(study) == [
        ("baseline", "ce"),
        ("grid", "fierce λ=0 e=5"),
        ("grid", "fierce λ=0 e=10"),
        ("grid", "fierce λ=2 e=5"),
        ("grid", "fierce λ=2 e=10"),
        ("grid", "ls σ=0.4"),
    ]


def test_explicit_settings_are_a_baseline_beside_the_grid() -> None:
    study = spec(criteria=["ce", {"name": "fierce", "lambda": 3}], grid={"fierce": {"lambda": [1]}})
    assert labels(study) == [("baseline", "ce"), ("baseline", "fierce λ=3 e=10"), ("grid", "fierce λ=1 e=10")]


def test_a_setting_that_comes_twice_runs_once() -> None:
    study = spec(criteria=["fierce", {"name": "fierce", "lambda": 1, "e": 10}])
    assert labels(study) == [("baseline", "fierce λ=1 e=10")]
    study = spec(criteria=[{"name": "fierce", "lambda": 1.0}], grid={"fierce": {"lambda": [1, 2]}})
    assert labels(study) == [("baseline", "fierce λ=1 e=10"), ("grid", "fierce λ=2 e=10")]


def test_a_search_counts_its_trials_for_each_criterion() -> None:
    search = {"criteria": {"fierce": {"lambda": RANGE}, "ls": {"sigma": {"low": 0, "high": 0.5}}}}
    study = spec(criteria=["ce", "fierce"], search={**search, "trials": 4, "objective": OBJECTIVE})
    assert labels(study) == [("baseline", "ce")]
    assert planned(study) == 1 + 2 * 4


def test_a_trial_carries_the_study() -> None:
    study = spec(
        benchmark={"name": "tiny:Tiny", "samples": 300},
        protocol="paper",
        criteria=["ce"],
        training={"epochs": 2},
        evaluation={"cadence": {"odd": 1}},
    )
    trial = trial_for(study, "fierce", {"lambda": 2, "e": 20.0})
    assert trial == Trial(
        benchmark="tiny:Tiny",
        criterion="fierce",
        seeds=(3, 5),
        protocol="paper",
        hyperparameters={"lambda": 2.0, "e": 20},
        options={"samples": 300},
        training={"epochs": 2},
        cadence={"odd": 1},
    )
    assert isinstance(trial.hyperparameters["e"], int)
    assert Trial.from_dict(trial.to_dict()) == trial


def test_training_settings_override_the_recipe() -> None:
    assert recipe(spec(criteria=["ce"])).epochs == 6
    assert recipe(spec(criteria=["ce"], training={"epochs": 2, "milestones": [1]})).milestones == (1,)


def test_defaults_follow_the_benchmark() -> None:
    study = spec(benchmark="hyperspectral", criteria=["ls", "fierce"])
    assert [label for _, label in labels(study)] == ["ls σ=0.4", "fierce λ=1 e=100"]
