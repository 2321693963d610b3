"""The study file as a JSON schema, by which editors complete and check it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from study.file.machines import Kubernetes, Machines
from study.file.parts import BenchmarkSpec, CriterionSpec
from study.file.search import PRUNERS, SAMPLERS, Constraint, Objective, Pruner, Range, SearchSpec
from study.file.spec import Evaluation, Resources, StudySpec, Tracking
from trainables.trial import PROTOCOLS, Recipe

_MODELS: tuple[type[BaseModel], ...] = (
    *(BenchmarkSpec, CriterionSpec, Constraint, Objective, Pruner, Range, SearchSpec, Evaluation, Resources, Tracking),
    *(Machines, Kubernetes),
)
_COUNT = {"type": "integer", "minimum": 1}
#: what is shorter to write: one value for a list of one
_NUMBERS = {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]}
#: a setting's values: whatever it takes, or a list of that
_ANY: dict[str, Any] = {}
_DOTTED = r"^(training|benchmark)\."


def schema() -> dict[str, Any]:
    """The schema (draft 2020-12): keys, types, what the comments in the code say of them, and names that are known."""
    document = StudySpec.model_json_schema(schema_generator=_Described)
    below, parts = document["properties"], document["$defs"]
    # the name is the file's where it is not given
    document["required"] = ["benchmark"]
    document["title"] = "Study file of fierce"
    document["description"] = str(inspect.getdoc(inspect.getmodule(StudySpec)))
    _describe(document, StudySpec)
    for model in _MODELS:
        _describe(parts[model.__name__], model)
    below["training"] = _training()
    below["benchmark"] = {**_said(below["benchmark"]), "anyOf": [_benchmark_names(), {"$ref": "#/$defs/BenchmarkSpec"}]}
    entry = {"anyOf": [_criterion_names(), {"$ref": "#/$defs/CriterionSpec"}]}
    below["criteria"] = {**_said(below["criteria"]), "anyOf": [entry, {"type": "array", "items": entry}]}
    below["grid"]["anyOf"][0] |= _varied(_NUMBERS, _ANY, deeper=True)
    below["protocol"]["enum"] = list(PROTOCOLS)
    below["seeds"] |= {"anyOf": [_COUNT, {"type": "array", "items": {"type": "integer", "minimum": 0}}]}
    below["seeds"].pop("type", None), below["seeds"].pop("items", None)
    parts["BenchmarkSpec"]["properties"]["name"] = _benchmark_names()
    parts["CriterionSpec"]["properties"]["name"] = _criterion_names()
    parts["CriterionSpec"]["additionalProperties"] = {"type": "number"}
    interval = parts["SearchSpec"]["properties"]["criteria"]["additionalProperties"]["additionalProperties"]
    parts["SearchSpec"]["properties"]["criteria"]["additionalProperties"] |= _varied(interval, interval)
    parts["SearchSpec"]["properties"] |= _blocks(interval)
    parts["SearchSpec"]["patternProperties"] = {_DOTTED: interval}
    parts["SearchSpec"]["properties"]["sampler"]["enum"] = list(SAMPLERS)
    parts["Pruner"]["properties"]["name"]["enum"] = list(PRUNERS)
    pruners = [{"enum": ["none"]}, {"$ref": "#/$defs/Pruner"}, {"type": "null"}]
    own = parts["SearchSpec"]["properties"]["pruner"]
    parts["SearchSpec"]["properties"]["pruner"] = {**_said(own), "anyOf": pruners}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def _said(key: dict[str, Any]) -> dict[str, Any]:
    """What stays of a key that is described by hand."""
    return {"description": key["description"]}


def _varied(hyperparameter: dict[str, Any], setting: dict[str, Any], deeper: bool = False) -> dict[str, Any]:
    """Hyperparameters beside settings, with a dot or below their blocks; ``deeper``: of several criteria."""
    own = {"type": "object", **_varied(hyperparameter, setting)} if deeper else hyperparameter
    return {"properties": _blocks(setting), "patternProperties": {_DOTTED: setting}, "additionalProperties": own}


def _blocks(setting: dict[str, Any]) -> dict[str, Any]:
    """``training`` and ``benchmark``, each with settings by name."""
    known = {each.name: setting for each in fields(Recipe) if each.name != "hyperparameters"}
    return {
        "training": {
            "type": "object",
            "properties": known,
            "additionalProperties": False,
            "description": "Training settings that vary between trials, for every criterion here.",
        },
        "benchmark": {
            "type": "object",
            "additionalProperties": setting,
            "description": "Options of the benchmark that vary between trials, for every criterion here.",
        },
    }


class _Described(GenerateJsonSchema):
    """Says the type of what is checked by a function alone, by the name of that function."""

    def function_plain_schema(self, schema: Any) -> dict[str, Any]:
        number, auto = {"type": "number"}, {"enum": ["auto"]}
        known: dict[str, dict[str, Any]] = {
            "number": number,
            "gpu_share": {"anyOf": [{**number, "minimum": 0, "maximum": 1}, auto]},
            "whole_or_auto": {"anyOf": [_COUNT, auto]},
            "whole_or_all": {"anyOf": [{"type": "integer", "minimum": 0}, {"enum": ["all"]}]},
        }
        return known[schema["function"]["function"].__name__]


def _training() -> dict[str, Any]:
    """The fields of `Recipe`, none of which is required."""
    recipe = TypeAdapter(Recipe).json_schema()
    properties = {name: setting for name, setting in recipe["properties"].items() if name != "hyperparameters"}
    training: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    _describe(training, Recipe)
    properties["projector"] = {"type": ["object", "null"], "description": "see docs/method.md"}
    training["description"] = "Overrides of the benchmark's recipe, epochs among them."
    return training


def _describe(part: dict[str, Any], kind: type) -> None:
    """Add what the source's ``#:`` comments say of the keys, and take what a docstring says of the code alone."""
    for name, text in comments(kind).items():
        if name in part["properties"]:
            part["properties"][name].setdefault("description", text)


def comments(kind: type) -> dict[str, str]:
    """Attribute -> the ``#:`` comment above it."""
    noted: dict[str, str] = {}
    above: list[str] = []
    for line in map(str.strip, inspect.getsource(kind).splitlines()):
        if line.startswith("#:"):
            above.append(line.removeprefix("#:").strip())
            continue
        if above:
            noted[line.partition(":")[0]] = " ".join(above)
        above = []
    return noted


def _criterion_names() -> dict[str, Any]:
    from trainables import criteria

    return _names(criteria.names(), "A criterion, or your own as package.module:name.")


def _benchmark_names() -> dict[str, Any]:
    from trainables.benchmarks import BENCHMARKS

    return _names(BENCHMARKS, "A benchmark, or your own as package.module:name.")


def _names(known: Iterable[str], text: str) -> dict[str, Any]:
    return {"anyOf": [{"enum": list(known)}, {"type": "string", "pattern": ":"}], "description": text}
