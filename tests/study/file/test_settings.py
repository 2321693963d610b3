"""Training settings and options of the benchmark in grid and search: they vary between trials, never inside one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.errors import UserError
from study.file.plan import (
    declared_settings,
    fixed_points,
    lopsided,
    name_of,
    settings_of,
    trial_for,
    values_of,
    varied,
)
from study.file.search import Range
from study.file.spec import StudySpec
from study.launch.preflight import check_data
from trainables.training import Training

TINY = "tests.tiny:Tiny"
OBJECTIVE = {"metric": "accuracy/validation", "direction": "maximize"}
RATE = {"learning_rate": {"low": 0.01, "high": 0.1}}


def load(folder: Path, values: dict[str, Any] | str, *overrides: str) -> StudySpec:
    file = folder / "mine.yaml"
    text = values if isinstance(values, str) else yaml.safe_dump({"benchmark": TINY, **values}, sort_keys=False)
    file.write_text(text, encoding="utf-8")
    return StudySpec.load(file, overrides)


def refusal(folder: Path, values: dict[str, Any] | str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, values, *overrides)
    return str(caught.value)


def names(spec: StudySpec) -> list[tuple[str, str]]:
    return [(point.role, name_of(spec, point.trial)) for point in fixed_points(spec)]


def test_a_grid_s_settings_cross_with_every_criterion(tmp_path: Path) -> None:
    grid = {"training": {"learning_rate": [0.01, 0.1]}, "fierce": {"lambda": [1, 2]}}
    spec = load(tmp_path, {"criteria": ["ce", "ls"], "grid": grid})
    assert names(spec) == [
        ("baseline", "ce learning_rate=0.01"),
        ("baseline", "ce learning_rate=0.1"),
        ("baseline", "ls σ=0.2 learning_rate=0.01"),
        ("baseline", "ls σ=0.2 learning_rate=0.1"),
        ("grid", "fierce λ=1 e=10 learning_rate=0.01"),
        ("grid", "fierce λ=2 e=10 learning_rate=0.01"),
        ("grid", "fierce λ=1 e=10 learning_rate=0.1"),
        ("grid", "fierce λ=2 e=10 learning_rate=0.1"),
    ]
    assert [point.trial.training for point in fixed_points(spec)[:2]] == [{}, {"learning_rate": 0.1}]
    assert declared_settings(spec) == [{"name": "training.learning_rate", "symbol": "learning_rate", "log": True}]


def test_settings_of_one_criterion_are_its_own(tmp_path: Path) -> None:
    grid = {"ls": {"sigma": [0.1], "training": {"batch_size": [20, 40]}}, "fierce": {"benchmark.samples": [300]}}
    spec = load(tmp_path, {"criteria": ["ce"], "grid": grid})
    assert varied(spec) == ("training.batch_size", "benchmark.samples")
    assert [name for _, name in names(spec)] == [
        "ce batch_size=40 samples=200",
        "ls σ=0.1 batch_size=20 samples=200",
        "ls σ=0.1 batch_size=40 samples=200",
        "fierce λ=1 e=10 batch_size=40 samples=300",
    ]


@pytest.mark.parametrize(
    "grid",
    [
        {"training": {"learning_rate": [0.1]}, "fierce": {"training": {"epochs": [2, 3]}}},
        {"training.learning_rate": [0.1], "fierce": {"training.epochs": [2, 3]}},
        {"training.learning_rate": 0.1, "fierce": {"training": {"epochs": [2, 3]}}},
    ],
)
def test_with_a_dot_or_below_its_block_is_the_same(tmp_path: Path, grid: dict[str, Any]) -> None:
    spec = load(tmp_path, {"grid": grid})
    assert spec.grid == {"training": {"learning_rate": (0.1,)}, "fierce": {"training.epochs": (2, 3)}}
    assert StudySpec.from_yaml(spec.to_yaml()) == spec


def test_it_can_be_set_on_the_command_line(tmp_path: Path) -> None:
    spec = load(tmp_path, {"criteria": ["ce"]}, "grid.training.learning_rate=[0.1, 0.2]", "grid.ls.training.epochs=[2]")
    assert spec.grid == {"training": {"learning_rate": (0.1, 0.2)}, "ls": {"training.epochs": (2,)}}


def test_the_study_s_own_value_is_no_setting_so_that_a_longer_grid_keeps_what_was_trained(tmp_path: Path) -> None:
    before = load(tmp_path, {"criteria": ["ce"], "grid": {"fierce": {"lambda": [1]}}})
    grid = {"training": {"learning_rate": [0.01, 0.1]}, "fierce": {"lambda": [1]}}
    after = load(tmp_path, {"criteria": ["ce"], "grid": grid})
    held = [point.trial for point in fixed_points(before)]
    assert [trial in held for trial in (point.trial for point in fixed_points(after))] == [True, False, True, False]


def test_what_optuna_holds_of_a_trial_makes_it_again(tmp_path: Path) -> None:
    grid = {
        "training": {"projector": [None, {"hidden": 8}], "milestones": [[2, 3]], "learning_rate": [1]},
        "fierce": {"benchmark.samples": [200, 300]},
    }
    spec = load(tmp_path, {"grid": grid})
    for point in fixed_points(spec):
        held = json.loads(json.dumps(values_of(spec, point.trial)))
        assert trial_for(spec, "fierce", held) == point.trial
        # a rate of 1 is a number like 0.1
        assert settings_of(spec, point.trial)["training.learning_rate"] == 1.0
    assert [point.trial.options for point in fixed_points(spec)][:2] == [{}, {"samples": 300}]


def test_a_setting_reaches_the_training_and_its_replicas_share_it(tmp_path: Path) -> None:
    grid = {"training": {"learning_rate": [0.5], "epochs": [2]}, "ce": {"benchmark.samples": [300]}}
    spec = load(tmp_path, {"grid": grid, "seeds": 3})
    training = Training(fixed_points(spec)[0].trial)
    assert (training.recipe.learning_rate, training.recipe.epochs, len(training.data.inputs)) == (0.5, 2, 300)
    assert len(list(training.run())) == 2


def search(**values: Any) -> dict[str, Any]:
    criteria = {"fierce": {"lambda": {"low": 0.1, "high": 1}}, "ce": {}}
    return {"criteria": criteria, "trials": 2, "objective": OBJECTIVE, **values}


def test_rates_and_decays_are_searched_by_their_ratio(tmp_path: Path) -> None:
    training = {
        "learning_rate": {"low": 0.001, "high": 0.1},
        "weight_decay": {"low": 0, "high": 0.1},
        "batch_size": {"choices": [10, 20, 40]},
        "epochs": {"low": 2, "high": 6, "step": 2},
    }
    spec = load(tmp_path, {"search": search(training=training)})
    assert spec.search is not None
    assert StudySpec.from_yaml(spec.to_yaml()) == spec
    assert spec.search.space("ce") == {
        "training.learning_rate": Range(low=0.001, high=0.1, log=True),
        # a range from 0 has no logarithm
        "training.weight_decay": Range(low=0, high=0.1),
        "training.batch_size": Range(choices=(10, 20, 40)),
        "training.epochs": Range(low=2, high=6, step=2),
    }
    assert list(spec.search.space("fierce")) == ["lambda", *spec.search.space("ce")]
    linear = search(training={"learning_rate": {"low": 0.001, "high": 0.1, "log": False}})
    chosen = load(tmp_path, {"search": linear}).search
    assert chosen is not None and not chosen.training["learning_rate"].log


def test_what_is_compared_with_stays_a_baseline_beside_its_search(tmp_path: Path) -> None:
    training = {"learning_rate": {"low": 0.001, "high": 0.1}}
    compared = search(training=training, constraint={"within_of_ce": 0.1})
    spec = load(tmp_path, {"criteria": ["ce"], "search": compared})
    assert names(spec) == [("baseline", "ce learning_rate=0.01")]
    assert names(load(tmp_path, {"criteria": ["ce"], "search": search(training=training)})) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"grid": {"fierce": {"training.lerning_rate": [1]}}}, ("lerning_rate", "did you mean 'learning_rate'?")),
        ({"grid": {"training": {"lr": [1]}}, "criteria": ["ce"]}, ("grid.training.lr.0", "'learning_rate'")),
        ({"grid": {"fierce": {"lr": [1]}}}, ("grid.fierce.lr", "write training.learning_rate")),
        ({"grid": {"learning_rate": [1]}}, ("grid.learning_rate", "as training: {learning_rate: …}")),
        ({"grid": {"hidden": [8]}}, ("grid.hidden", "as benchmark: {hidden: …}")),
        ({"grid": {"learning_rate": {"x": [1]}}}, ("grid.learning_rate", "below training")),
        ({"grid": {"training": {"epochs": [2, 0]}}, "criteria": ["ce"]}, ("grid.training.epochs.1", "at least 1")),
        ({"grid": {"training": {"epochs": [2, 2]}}, "criteria": ["ce"]}, ("grid.training.epochs", "2 is given twice")),
        ({"grid": {"training": {"epochs": [2]}}}, ("criteria", "name a criterion")),
        ({"grid": {"ce": {"benchmark.sample": [300]}}}, ("benchmark.sample", "'samples'")),
        ({"grid": {"ce": {"benchmark.samples": ["many"]}}}, ("grid.ce.benchmark.samples.0", "whole number")),
        ({"grid": {"ce": {"benchmark.trouble": ["a", "b"]}}}, ("benchmark.trouble", "leads to data")),
        ({"grid": {"ce": {"training.mixed_precision": [True]}}}, ("mixed_precision.0", "resources.gpus")),
        ({"grid": {"ce": {"training.warmup": [2, 6]}}}, ("training.warmup", "below the 6 epochs")),
        (
            {"grid": {"training": {"epochs": [2]}, "training.epochs": [3]}, "criteria": ["ce"]},
            ("training.epochs", "given twice"),
        ),
        ({"search": search(training={"learning_rate": [0.1, 1]})}, ("learning_rate", "write {low: 0.1, high: 1}")),
        ({"search": search(training={"learning_rate": {"low": 0, "high": 1}})}, ("learning_rate.low", "above 0")),
        ({"search": search(training={"optimizer": {"low": 0, "high": 1}})}, ("training.optimizer.low", "'adam'")),
        ({"search": search(training={"nesterov": {"choices": [True]}})}, ("nesterov.choices", "two values")),
        ({"search": search(training={"epochs": {"low": 2}})}, ("search.training.epochs.high", "is required")),
        ({"search": search(training={"epochs": {"choices": [2, 3], "low": 1}})}, ("epochs.low", "beside choices")),
        ({"search": search()}, ("search.criteria.ce", "is empty", "training.learning_rate")),
        (
            {"search": search(criteria={"fierce": {"lambda": {"choices": [1, 2]}}})},
            ("search.criteria.fierce.lambda.choices", "from low to high"),
        ),
        (
            {"search": search(training={"epochs": {"choices": [3, 6]}}, pruner={"name": "asha", "grace_period": 4})},
            ("search.pruner.grace_period", "below the 3 epochs"),
        ),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(
    tmp_path: Path, values: dict[str, Any], words: tuple[str, ...]
) -> None:
    message = refusal(tmp_path, values)
    for word in words:
        assert word in message


@pytest.mark.parametrize("dotted", [True, False])
def test_the_line_of_a_mistake_is_named(tmp_path: Path, dotted: bool) -> None:
    key = "    training.epochs:\n" if dotted else "    training:\n     epochs:\n"
    text = f"benchmark: {TINY}\ngrid:\n  fierce:\n{key}      - 1\n      - 0\n"
    line = 6 if dotted else 7
    assert refusal(tmp_path, text) == (
        f"{tmp_path}/mine.yaml line {line}, grid.fierce.training.epochs.1: must be at least 1, not 0"
    )


def test_a_setting_that_one_criterion_alone_has_choices_of_is_warned_of(tmp_path: Path) -> None:
    grid = {"fierce": {"training.learning_rate": [0.01, 0.1]}}
    warning = check_data(load(tmp_path, {"criteria": ["ce"], "grid": grid}))
    assert warning == (
        "training.learning_rate varies for fierce and not for ce, which favours the former: put it below grid.training"
    )
    fair = {"training": {"learning_rate": [0.01, 0.1]}, "fierce": {"lambda": [1]}}
    assert check_data(load(tmp_path, {"criteria": ["ce"], "grid": fair})) == ""
    ranges = {"learning_rate": {"low": 0.01, "high": 0.1}}
    searched = load(tmp_path, {"criteria": ["ls"], "search": search(training=ranges)})
    assert "not for ls" in lopsided(searched) and "name ls below search.criteria" in lopsided(searched)


def test_an_option_that_changes_the_data_is_refused(tmp_path: Path) -> None:
    spec = load(tmp_path, {"grid": {"ce": {"benchmark.samples": [200, 300]}}})
    with pytest.raises(UserError, match=r"^benchmark.samples: 300 changes the data or its split, .* its own$"):
        check_data(spec)
    # the network may differ
    check_data(load(tmp_path, {"grid": {"ce": {"training.batch_size": [20, 40], "benchmark.pause": [0.0, 0.1]}}}))


def test_what_is_never_measured_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    """Evaluators of one's own may declare nothing: they are tried on a few batches."""
    wrong = search(
        objective={"metric": "mse/odds", "direction": "minimize"}, training={"epochs": {"low": 2, "high": 3}}
    )
    with pytest.raises(UserError, match=r"^search.objective.metric: .*'mse/odds'; did you mean 'mse/odd'\?$"):
        check_data(load(tmp_path, {"search": wrong}))
    right = {**wrong, "objective": {"metric": "mse/odd", "direction": "minimize"}}
    assert check_data(load(tmp_path, {"search": right})) == ""


@pytest.mark.parametrize(
    ("pruner", "words"),
    [
        ({"name": "successive_halving", "grace_period": 2}, ("pruner.name", "did you mean 'asha'?")),
        ({"name": "MedianPruner", "grace_period": 2}, ("pruner.name", "did you mean 'median'?")),
        ({"name": "hyperbnd", "grace_period": 2}, ("pruner.name", "did you mean 'hyperband'?")),
        ({"name": "median", "grace_period": 2, "reduction_factor": 2}, ("pruner.reduction_factor", "is for asha")),
        ("median", ("pruner.grace_period", "is required")),
    ],
)
def test_a_pruner_s_mistake_is_one_sentence(tmp_path: Path, pruner: Any, words: tuple[str, ...]) -> None:
    message = refusal(tmp_path, {"search": search(training={"epochs": {"low": 4, "high": 6}}, pruner=pruner)})
    for word in words:
        assert word in message


def test_a_pruner_that_could_see_nothing_is_refused_and_one_by_fine_labels_warned_of(tmp_path: Path) -> None:
    pruner = {"name": "median", "grace_period": 2}
    objective = {"metric": "mse/raw-validation", "direction": "minimize"}
    values = {
        "benchmark": {"name": "hyperspectral", "validation": 0.2},
        "search": {
            "criteria": {"fierce": {"lambda": {"low": 0.1, "high": 1}}},
            "trials": 2,
            "objective": objective,
            "pruner": pruner,
        },
        "seeds": 1,
    }
    warning = check_data(load(tmp_path, values))
    assert "search.pruner: mse/raw-validation reads fine labels" in warning and "grace_period, now 2" in warning
    values["search"]["objective"] = {"metric": "mse/transfer-validation", "direction": "minimize"}  # type: ignore[index]
    spec = load(tmp_path, values)
    with pytest.raises(UserError, match=r"^search.pruner: mse/transfer-validation is measured at the last epoch alone"):
        check_data(spec)


def test_pruners_round_trip_with_what_stands_for_them(tmp_path: Path) -> None:
    for name, factor, count in (("asha", 3, 1), ("hyperband", 3, None), ("median", None, None)):
        spec = load(tmp_path, {"search": search(pruner={"name": name, "grace_period": 2}, training=RATE)})
        assert spec.search is not None and spec.search.pruner is not None
        assert (spec.search.pruner.reduction_factor, spec.search.pruner.brackets) == (factor, count)
        assert StudySpec.from_yaml(spec.to_yaml()) == spec
