"""The JSON schema of the study file, against the ready-made studies, by a validator of JSON schemas."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from analysis import dialect
from study.cli import app
from study.file.schema import schema
from study.file.spec import READY_MADE, StudySpec, ready_made

MINIMAL: dict[str, Any] = {"benchmark": "hyperspectral", "criteria": ["ce"]}
RANGE = {"low": 0.1, "high": 10}
SEARCH: dict[str, Any] = {"criteria": {"ls": {"sigma": RANGE}}, "trials": 2, "objective": {"label_free": True}}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    printed = json.loads(CliRunner().invoke(app, ["schema"]).stdout)
    jsonschema.Draft202012Validator.check_schema(printed)
    return jsonschema.Draft202012Validator(printed)


@pytest.mark.parametrize("name", ready_made())
def test_ready_made_studies_are_accepted(validator: jsonschema.Draft202012Validator, name: str) -> None:
    validator.validate(dialect.load((READY_MADE / f"{name}.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("changes", "is_good"),
    [
        ({"criteria": "ce", "seeds": 3, "concurrency": "auto", "resources": {"gpus": "auto"}}, True),
        ({"criteria": [{"name": "fierce", "lambda": 1}, "mine.losses:Own"], "seeds": [1, 2]}, True),
        ({"grid": {"ls": {"sigma": 0.1, "other": [1, 2]}}}, True),
        ({"benchmark": {"name": "mylab.data:Birds", "anything": [1]}}, True),
        ({"search": {**SEARCH, "pruner": "none"}}, True),
        ({"grid": {"training": {"learning_rate": [0.1, 1]}, "ls": {"sigma": 0.1, "benchmark.hidden": [[8]]}}}, True),
        ({"grid": {"training.epochs": 3, "ls": {"training": {"optimizer": ["adam", "sgd"]}}}}, True),
        ({"grid": {"training": {"lr": [0.1, 1]}}}, False),
        ({"grid": {"ls": {"training": {"lr": [0.1, 1]}}}}, False),
        ({"search": {**SEARCH, "training": {"batch_size": {"choices": [8, 16]}}}}, True),
        ({"search": {**SEARCH, "training": {"learning_rate": [0.1, 1]}}}, False),
        ({"search": {**SEARCH, "criteria": {"ce": {"training.learning_rate": {"low": 0.1, "high": 1}}}}}, True),
        ({"epochs": 3}, False),
        ({"seeds": "ten"}, False),
        ({"criteria": ["CE"]}, False),
        ({"benchmark": "hyperspektral"}, False),
        ({"training": {"lr": 0.1}}, False),
        ({"training": {"optimizer": "adamax"}}, False),
        ({"criteria": [{"fierce": {"lambda": 1}}]}, False),
        ({"search": {**SEARCH, "criteria": {"ls": {"sigma": [0.1, 10]}}}}, False),
        ({"resources": {"gpus": 2}}, False),
    ],
)
def test_what_is_accepted(validator: jsonschema.Draft202012Validator, changes: dict[str, Any], is_good: bool) -> None:
    assert validator.is_valid({**MINIMAL, **changes}) == is_good


def test_every_key_is_there_and_comments_describe_it() -> None:
    document = schema()
    assert document["properties"].keys() == StudySpec.model_fields.keys()
    assert document["properties"]["max_failures"]["description"] == "how often a trial may fail before it is given up"
    assert "eq. 12" in document["properties"]["training"]["properties"]["temperature"]["description"]
    assert "both ends included" in document["$defs"]["Range"]["description"]
