"""The study file: what it accepts, what it keeps, and how it says where a mistake stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.rules import DEFAULT, RULES, Rule
from study.errors import UserError
from study.file.document import Document
from study.file.parts import BenchmarkSpec
from study.file.search import SAMPLERS
from study.file.spec import StudySpec, ready_made
from study.launch.preflight import check_data

MINIMAL: dict[str, Any] = {"benchmark": {"name": "tiny:Tiny"}, "criteria": ["ce"], "seeds": 2}
SEARCH: dict[str, Any] = {
    "criteria": {"fierce": {"lambda": {"low": 0.1, "high": 10, "log": True}, "e": {"low": 10, "high": 100}}},
    "trials": 3,
    "objective": {"metric": "mse/raw", "direction": "minimize"},
}


def write(folder: Path, values: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def refusal(folder: Path, values: Any, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        StudySpec.load(write(folder, values), overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_and_short_forms(tmp_path: Path) -> None:
    spec = StudySpec.load(
        write(tmp_path, "benchmark: tiny:Tiny\ncriteria: [ce, {name: fierce, lambda: 1e-1}]\nseeds: 3\n")
    )
    assert spec.name == "mine"
    assert spec.benchmark.name == "tiny:Tiny"
    assert spec.seeds == (0, 1, 2)
    assert [criterion.name for criterion in spec.criteria] == ["ce", "fierce"]
    # 1e-1 is a number in YAML 1.2 and text in 1.1
    assert spec.criteria[1].hyperparameters == {"lambda": 0.1}
    assert (spec.protocol, spec.concurrency, spec.resources.cpus) == ("released", "auto", 1.0)


def test_a_study_survives_its_file(tmp_path: Path) -> None:
    values = {
        **MINIMAL,
        "search": {**SEARCH, "constraint": {"within_of_ce": 0.01}, "pruner": {"name": "asha", "grace_period": 2}},
        "seeds": [4, 7],
        "training": {"epochs": 5, "milestones": [3]},
        "evaluation": {"cadence": {"odd": 2}},
        "concurrency": 2,
        "tracking_uri": "http://127.0.0.1:5000",
    }
    spec = StudySpec.load(write(tmp_path, values))
    assert StudySpec.from_yaml(spec.to_yaml()) == spec
    grid = StudySpec.load(write(tmp_path, {**MINIMAL, "grid": {"fierce": {"lambda": [1, 0.5], "e": 10}}}))
    assert StudySpec.from_yaml(grid.to_yaml()) == grid
    assert grid.grid == {"fierce": {"lambda": (1, 0.5), "e": (10,)}}


def test_overrides_reach_any_depth(tmp_path: Path) -> None:
    spec = StudySpec.load(
        write(tmp_path, "benchmark: tiny:Tiny\ncriteria: [ce, fierce]\nseeds: 2\n"),
        ["benchmark.samples=300", "training.epochs=4", "criteria.1.lambda=2.5", "seeds=[5, 6]"],
    )
    assert spec.benchmark.options == {"samples": 300}
    assert spec.training == {"epochs": 4}
    assert spec.criteria[1].hyperparameters == {"lambda": 2.5}
    assert spec.seeds == (5, 6)


def test_a_name_is_taken_as_text(tmp_path: Path) -> None:
    assert StudySpec.load(write(tmp_path, MINIMAL), name="2024").name == "2024"


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scene.mat").touch()
    (tmp_path / "simulated").touch()
    monkeypatch.chdir(tmp_path)
    values = {**MINIMAL, "benchmark": {"name": "hyperspectral", "data": "scene.mat"}}
    assert StudySpec.load(write(tmp_path, values)).benchmark.options["data"] == str(tmp_path / "scene.mat")
    # an option's default is a word of the benchmark's, whatever files there are
    values["benchmark"]["data"] = "simulated"
    assert StudySpec.load(write(tmp_path, values)).benchmark.options["data"] == "simulated"


@pytest.mark.parametrize("name", ready_made())
def test_ready_made_studies_are_valid(name: str) -> None:
    spec = StudySpec.load(name)
    assert spec.name == name
    # studies on images are sized for a CPU; whatever rebuilds the paper has its ten seeds; a further one stands here
    small = {
        "age-quickstart": 3,
        "few-shot-quickstart": 3,
        "cifar10-few-shot": 3,
        "regret-cifar10": 5,
        "rivals-cifar10": 2,
    }
    assert spec.seeds == tuple(range(small.get(name, 10)))
    assert StudySpec.from_yaml(spec.to_yaml()) == spec


def test_samplers_exist_in_optuna() -> None:
    import optuna

    for name in SAMPLERS.values():
        assert issubclass(getattr(optuna.samplers, name), optuna.samplers.BaseSampler)


def test_the_label_free_rule_completes_itself(tmp_path: Path) -> None:
    spec = StudySpec.load(write(tmp_path, {**MINIMAL, "search": {**SEARCH, "objective": {"label_free": True}}}))
    assert spec.search is not None
    rule = RULES[DEFAULT]
    objective = spec.search.objective
    assert (objective.rule, objective.metric, objective.direction) == (rule.name, rule.metric, rule.direction)
    assert spec.search.needs_ce
    assert set(spec.search.metrics) == {rule.metric, "accuracy/validation"}
    assert StudySpec.from_yaml(spec.to_yaml()) == spec


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if rule.metric])
def test_a_rule_has_its_metric_and_direction(tmp_path: Path, rule: Rule) -> None:
    search = {**SEARCH, "objective": {"label_free": True, "rule": rule.name}}
    spec = StudySpec.load(write(tmp_path, {**MINIMAL, "search": search}))
    assert spec.search is not None
    assert (spec.search.objective.metric, spec.search.objective.direction) == (rule.metric, rule.direction)
    assert StudySpec.from_yaml(spec.to_yaml()) == spec


def test_what_a_store_of_before_rules_holds_is_read() -> None:
    """Version 0.1 completed label_free by the histogram's entropy on held-out samples."""
    objective = {"metric": "entropy/features", "direction": "maximize", "label_free": True}
    text = yaml.safe_dump({"name": "old", **MINIMAL, "search": {**SEARCH, "objective": objective}})
    spec = StudySpec.from_yaml(text)
    assert spec.search is not None and spec.search.objective.rule == ""
    assert (spec.search.objective.metric, spec.search.objective.direction) == ("entropy/features", "maximize")


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        ({"label_free": True, "rule": "anchor-entrop"}, "unknown rule 'anchor-entrop'; did you mean 'anchor-entropy'?"),
        ({"label_free": True, "rule": "agreement"}, "agreement compares seeds when all are trained"),
        ({"label_free": True, "rule": "likelihood", "metric": "mse/raw"}, "stands beside rule: likelihood"),
        ({"label_free": True, "rule": "likelihood", "direction": "maximize"}, "stands beside rule: likelihood"),
        ({"label_free": True, "metric": "entropy/anchors", "direction": "minimize"}, "takes the largest value"),
        ({"rule": "likelihood", "metric": "mse/raw", "direction": "minimize"}, "is for label_free: true"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(tmp_path: Path, objective: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(tmp_path, {**MINIMAL, "search": {**SEARCH, "objective": objective}})


def test_the_line_of_a_mistake_is_named(tmp_path: Path) -> None:
    text = "benchmark: tiny:Tiny\ncriteria: [ce]\ngrid:\n  fierce:\n    lambda:\n      - 1\n      - -1\n"
    assert refusal(tmp_path, text) == (
        f"{tmp_path}/mine.yaml line 7, grid.fierce.lambda.1: lambda, the weight of the entropy, must be 0 or more, "
        "not -1"
    )


def test_an_override_is_named_instead_of_a_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, MINIMAL, "training.epochs=0") == (
        "--set training.epochs, training.epochs: must be at least 1, not 0"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 3}, ("seed", "unknown key", "'seeds'")),
        ({"lr": 0.1}, (", lr: ", "training: {learning_rate: …}")),
        ({"epochs": 5}, (", epochs: ", "training: {epochs: …}")),
        ({"training": {"lr": 0.1}}, ("training.lr", "'learning_rate'")),
        ({"criteria": ["CE"]}, ("criteria.0", "'ce'?")),
        ({"protocol": "Paper"}, ("protocol", "'paper'?")),
        ({"criteria": [{"fierce": {"lambda": 1}}]}, ("criteria.0", "write {name: fierce, lambda: 1}")),
        ({"criteria": ["ce", {"fierce": None}]}, ("criteria.1", "write fierce")),
        (
            {"search": {**SEARCH, "criteria": {"fierce": {"lambda": [0.01, 10]}}}},
            ("search.criteria.fierce.lambda", "write {low: 0.01, high: 10}"),
        ),
        ({"resources": {"gpu": 1}}, ("resources.gpu", "'gpus'")),
        ({"search": {**SEARCH, "trails": 3}}, ("search.trails", "'trials'")),
        ({"search": {**SEARCH, "objective": {"metrics": "mse/raw"}}}, ("search.objective.metrics", "'metric'")),
        ({"search": {**SEARCH, "criteria": {"ls": {"sigma": {"low": 0, "hi": 1}}}}}, ("sigma.hi", "'high'")),
        ({"seeds": "ten"}, ("seeds", "'ten'")),
        ({"seeds": []}, ("seeds", "no seed")),
        ({"seeds": 0}, ("seeds", "between 1")),
        ({"seeds": [1, 2, 1]}, ("seeds", "seed 1 is given twice")),
        ({"seeds": [1, -2]}, ("seeds.1", "-2")),
        ({"seeds": [1.5]}, ("seeds.0", "whole number")),
        ({"training": {"epochs": True}}, ("training.epochs", "whole number")),
        ({"training": {"epochs": 2.5}}, ("training.epochs", "whole number")),
        ({"training": {"epoch": 2}}, ("training.epoch", "'epochs'")),
        ({"training": {"optimizer": "adamax"}}, ("training.optimizer", "'adam'")),
        ({"training": {"learning_rate": 0}}, ("training.learning_rate", "above 0")),
        ({"training": {"milestones": [0]}}, ("training.milestones", "at least 1")),
        ({"criteria": ["firce"]}, ("criteria.0", "'firce'", "'fierce'")),
        ({"criteria": [{"name": "ls", "lambda": 1}]}, ("criteria.0.lambda", "ls has no hyperparameter", "sigma")),
        ({"criteria": [{"name": "ce", "lambda": 1}]}, ("criteria.0.lambda", "it has none")),
        ({"criteria": [{"name": "ls", "sigma": 1}]}, ("criteria.0.sigma", "below 1")),
        ({"criteria": [{"name": "confidence-penalty", "beta": -0.1}]}, ("criteria.0.beta", "0 or more")),
        ({"criteria": [{"name": "fierce", "e": 1}]}, ("criteria.0.e", "at least 2")),
        ({"criteria": [{"name": "fierce", "e": 10.5}]}, ("criteria.0.e", "whole number")),
        ({"criteria": [{"name": "fierce", "lambda": ".inf"}]}, ("criteria.0.lambda", "finite number")),
        ({"criteria": ["ce", "ce"]}, ("criteria.1", "twice")),
        ({"criteria": []}, ("criteria", "no criterion")),
        ({"grid": {}}, ("grid", "empty")),
        ({"grid": {"fierce": {}}}, ("grid.fierce", "empty")),
        ({"grid": {"fierce": {"lambda": []}}}, ("grid.fierce.lambda", "empty")),
        ({"grid": {"fierce": {"lambda": [1, 1.0]}}}, ("grid.fierce.lambda", "twice")),
        ({"grid": {"ce": {}}, "search": SEARCH}, ("search", "grid")),
        ({"grid": {"fierce": {"lambda": [1]}}, "search": SEARCH}, ("search", "grid")),
        ({"protocol": "release"}, ("protocol", "'released'")),
        ({"name": "../up"}, ("name", "../up")),
        ({"concurrency": 0}, ("concurrency", "at least 1")),
        ({"resources": {"gpus": 2}}, ("resources.gpus", "2")),
        ({"resources": {"cpus": 0}}, ("resources.cpus", "0")),
        ({"search": {**SEARCH, "sampler": "tpee"}}, ("search.sampler", "'tpe'")),
        ({"search": {**SEARCH, "trials": 0}}, ("search.trials", "0")),
        ({"search": {**SEARCH, "objective": {"metric": "mse/raw"}}}, ("search.objective.direction", "maximize")),
        ({"search": {**SEARCH, "constraint": {}}}, ("search.constraint", "at_least")),
        ({"search": {**SEARCH, "criteria": {"fierce": {"lambda": {"low": 2, "high": 1}}}}}, ("lambda", "below high")),
        (
            {"search": {**SEARCH, "criteria": {"fierce": {"lambda": {"low": 0, "high": 1, "log": True}}}}},
            ("search.criteria.fierce.lambda.low", "above 0"),
        ),
        ({"search": {**SEARCH, "criteria": {"ce": {"lambda": {"low": 1, "high": 2}}}}}, ("lambda", "it has none")),
        (
            {"search": {**SEARCH, "constraint": {"within_of_ce": 0.1}}, "criteria": ["ls"]},
            ("criteria", "ce is missing"),
        ),
        (
            {"search": {**SEARCH, "pruner": {"name": "asha", "grace_period": 6}}},
            ("search.pruner.grace_period", "6 epochs"),
        ),
        ({"benchmark": {"name": "hyperspectal"}}, ("benchmark.name", "'hyperspectral'")),
        ({"benchmark": {"name": "nowhere.to:Be"}}, ("benchmark.name", "nowhere")),
        ({"benchmark": {"name": "tiny:Tiny", "sample": 3}}, ("benchmark.sample", "'samples'")),
        ({"benchmark": {"name": "tiny:Tiny", "samples": "many"}}, ("benchmark.samples", "whole number")),
        ({"benchmark": {"name": "hyperspectral", "validation": 0.9}}, ("benchmark", "validation")),
        ({"benchmark": {"name": "hyperspectral", "snr_db": "loud"}}, ("benchmark.snr_db", "'loud'")),
        ({"benchmark": 3}, ("benchmark", "3")),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(
    tmp_path: Path, changes: dict[str, Any], words: tuple[str]
) -> None:
    values = {**MINIMAL, **changes}
    if "grid" in changes or "search" in changes:
        values = {"benchmark": MINIMAL["benchmark"], "criteria": ["ce"], **changes}
    message = refusal(tmp_path, values)
    assert message.startswith(f"{tmp_path}/mine.yaml")
    for word in words:
        assert word in message


def test_metrics_of_a_known_benchmark_are_checked(tmp_path: Path) -> None:
    values = {"benchmark": "hyperspectral", "criteria": ["ce"], "search": SEARCH, "seeds": 2}
    wrong = {**SEARCH, "objective": {"metric": "mse/rwa", "direction": "minimize"}}
    with pytest.raises(UserError, match=r"^search.objective.metric: .*'mse/rwa'; did you mean 'mse/raw'"):
        check_data(StudySpec.load(write(tmp_path, {**values, "search": wrong})))
    label_free = {**values, "search": {**SEARCH, "objective": {"label_free": True}}}
    assert "needs a validation split" in refusal(tmp_path, label_free)
    spec = StudySpec.load(write(tmp_path, label_free), ["benchmark.validation=0.2"])
    assert spec.benchmark.options == {"validation": 0.2}


def test_a_choice_on_validation_needs_that_part(tmp_path: Path) -> None:
    """Refused with what to set; a benchmark whose option is not known by that name is, once its split is."""
    search = {**SEARCH, "objective": {"metric": "mse/raw-validation", "direction": "minimize"}}
    values = {"benchmark": "hyperspectral", "criteria": ["ce"], "search": search, "seeds": 2}
    message = refusal(tmp_path, values)
    assert "search.objective.metric" in message and "set benchmark.validation above 0" in message
    spec = StudySpec.load(write(tmp_path, values), ["benchmark.validation=0.2"])
    assert check_data(spec) == ""
    unknown = spec.model_copy(update={"benchmark": BenchmarkSpec(name="hyperspectral", pixels=300)})
    with pytest.raises(UserError, match=r"^search.objective.metric: mse/raw-validation .*set benchmark.validation"):
        check_data(unknown)
    slip = {**search, "objective": {"metric": "mse/rwa-validation", "direction": "minimize"}}
    with pytest.raises(UserError, match="did you mean 'mse/raw-validation'"):
        check_data(StudySpec.load(write(tmp_path, {**values, "search": slip}), ["benchmark.validation=0.2"]))


def test_a_choice_on_the_samples_that_are_scored_is_warned_of(tmp_path: Path) -> None:
    search = {**SEARCH, "objective": {"metric": "mse/raw", "direction": "minimize"}}
    values = {"benchmark": "hyperspectral", "criteria": ["ce"], "search": search, "seeds": 2}
    path = write(tmp_path, values)
    warning = check_data(StudySpec.load(path))
    assert "mse/raw reads fine labels" in warning and "choose by mse/raw-validation" in warning
    assert "benchmark.validation" in warning
    assert "benchmark.validation" not in check_data(StudySpec.load(path, ["benchmark.validation=0.2"]))
    # no fine label is read, or none of held-out samples
    coarse = "search.objective={metric: accuracy/coarse, direction: maximize}"
    assert check_data(StudySpec.load(path, [coarse])) == ""


def test_a_rule_without_fine_labels_reads_none(tmp_path: Path) -> None:
    rule = {**SEARCH, "objective": {"label_free": True, "metric": "mse/raw"}}
    values = {"benchmark": {"name": "hyperspectral", "validation": 0.2}, "criteria": ["ce"], "search": rule, "seeds": 2}
    with pytest.raises(UserError, match=r"search.objective.metric: mse/raw reads fine labels"):
        check_data(StudySpec.load(write(tmp_path, values)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty file"),
        ("- a\n- b\n", "a list"),
        ("just words\n", "a single value"),
        ("seeds: [1, 2\n", "line 2"),
        ("seeds: 1\nname: a\nseeds: 2\n", "line 3, seeds: given twice"),
        ("training: {epochs: 1, epochs: 2}\n", "training.epochs: given twice"),
        ("1: a\n", "'1'"),
        ("a: !!python/object/apply:os.system [echo]\n", "python/object"),
        ("a: !!set {b}\n", "set"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("a: \x00\n", "control character"),
        ("a: " + "[" * 60 + "]" * 60, "levels deep"),
        ("a: " + "[" * 100_000, "levels deep"),
    ],
)
def test_what_is_no_study_file(tmp_path: Path, text: str, words: str) -> None:
    message = refusal(tmp_path, text)
    assert words in message
    assert message.startswith(f"{tmp_path}/mine.yaml")


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"description: \xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        StudySpec.load(path)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("seeds", "key.path=value"),
        ("=3", "key.path=value"),
        ("training..epochs=3", "key.path=value"),
        ("seeds.first=1", "no entry 'first'"),
        ("criteria.7.lambda=1", "1 entries"),
        ("name.first=a", "no entry 'first'"),
        ("seeds=[1", "not valid YAML"),
        ("trainning.epochs=3", "'training'"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, assignment: str, words: str) -> None:
    message = refusal(tmp_path, {**MINIMAL, "name": "a"}, assignment)
    assert words in message
    assert message.startswith(f"--set {assignment.partition('=')[0]}")


def test_dates_and_yes_are_text_as_in_yaml_1_2() -> None:
    assert Document("a: 2024-01-01\nb: 1e3\nc: yes\nd: null\n", "x").values == {
        "a": "2024-01-01",
        "b": 1000.0,
        "c": "yes",
        "d": None,
    }


def test_a_study_run_again_is_the_same(tmp_path: Path) -> None:
    values = {**MINIMAL, "benchmark": {"name": "cifar-fs", "shots": [1, 3]}}
    spec = StudySpec.load(write(tmp_path, values))
    # what a second launch is compared with
    assert StudySpec.from_yaml(spec.to_yaml()).model_dump() == spec.model_dump()


def test_optunas_database_by_its_old_name(tmp_path: Path) -> None:
    """Study files of older releases read as before; both names at once, or no text, are told at their line."""
    old = write(tmp_path, {**MINIMAL, "storage_uri": "sqlite:///studies.db"})
    spec = StudySpec.load(old)
    assert spec.optuna_uri == "sqlite:///studies.db"
    assert "optuna_uri: sqlite:///studies.db" in spec.to_yaml() and "storage_uri" not in spec.to_yaml()
    both = {**MINIMAL, "storage_uri": "sqlite:///a.db", "optuna_uri": "sqlite:///b.db"}
    with pytest.raises(UserError, match="storage_uri: is the old name of optuna_uri"):
        StudySpec.load(write(tmp_path, both))
    with pytest.raises(UserError, match=r"storage_uri.*: must be text, not 3"):
        StudySpec.load(write(tmp_path, {**MINIMAL, "storage_uri": 3}))


def test_bf16_needs_a_gpu(tmp_path: Path) -> None:
    values = {**MINIMAL, "training": {"mixed_precision": True}}
    message = refusal(tmp_path, values)
    assert "training.mixed_precision" in message and "resources.gpus" in message
    assert StudySpec.load(write(tmp_path, {**values, "resources": {"gpus": 0.5}})).training["mixed_precision"]
    assert StudySpec.load(write(tmp_path, values), ["training.mixed_precision=false"])
