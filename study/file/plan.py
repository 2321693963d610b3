"""From a study file to its trials: the fixed points, and what the searcher will ask for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter

from study.file.parts import BenchmarkSpec
from study.file.spec import StudySpec
from trainables.trial import Recipe, Trial

if TYPE_CHECKING:
    from trainables.criterion import Criterion


@dataclass(frozen=True)
class Point:
    """A trial of the study and why it is run; ``repeats`` is the number of the trial that it trains on fresh seeds."""

    role: Literal["baseline", "grid", "search", "confirm"]
    trial: Trial
    repeats: int | None = None


def seeds_of(spec: StudySpec, role: str) -> tuple[int, ...]:
    """The seeds of the study's trials of this role: those that confirm a choice have fresh ones, above all others."""
    if role != "confirm":
        return spec.seeds
    assert spec.search is not None and spec.search.confirm is not None
    first = max(spec.seeds) + 1
    return tuple(range(first, first + spec.search.confirm))


def trial_for(spec: StudySpec, criterion: str, hyperparameters: Mapping[str, float], role: str = "baseline") -> Trial:
    """The trial of ``criterion``: all hyperparameters that it reads, those not given at the recipe's defaults.

    Whole numbers are ints and the others floats, so that equal settings are equal trials.
    """
    from trainables import criteria

    return Trial(
        benchmark=spec.benchmark.name,
        criterion=criterion,
        seeds=seeds_of(spec, role),
        protocol=spec.protocol,
        hyperparameters=criteria.find(criterion).settle(hyperparameters, recipe(spec)),
        options=spec.benchmark.options,
        training=dict(spec.training),
        cadence=dict(spec.evaluation.cadence),
    )


def fixed_points(spec: StudySpec) -> list[Point]:
    """Baselines and then grid points, in the study file's order; a setting that comes twice runs once."""
    varied = {**(spec.grid or {}), **(spec.search.criteria if spec.search else {})}
    points = [
        Point("baseline", trial_for(spec, entry.name, entry.hyperparameters))
        for entry in spec.criteria
        if entry.hyperparameters or entry.name not in varied
    ]
    for criterion, axes in (spec.grid or {}).items():
        points += (
            Point("grid", trial_for(spec, criterion, dict(zip(axes, values, strict=True))))
            for values in itertools.product(*axes.values())
        )
    distinct: dict[tuple[Any, ...], Point] = {}
    for point in points:
        distinct.setdefault((point.trial.criterion, *point.trial.hyperparameters.items()), point)
    return list(distinct.values())


def planned(spec: StudySpec, confirming: int | None = None) -> int:
    """How many trials the study has when it is complete.

    ``confirming`` of them confirm the search's choice; while that is not known, as many as there may be.
    """
    fixed = len(fixed_points(spec))
    if spec.search is None:
        return fixed
    most = fixed + len(spec.search.criteria) if spec.search.confirm else 0
    return fixed + spec.search.trials * len(spec.search.criteria) + (most if confirming is None else confirming)


def label(criterion: str, hyperparameters: Mapping[str, Any], digits: int = 12) -> str:
    """The trial's name where people read it: ``fierce λ=1 e=100``; for one of anyone's, ``Focal γ=2``."""
    from trainables import criteria

    settings = [
        f"{hyperparameter.symbol}={hyperparameters[hyperparameter.name]:.{digits}g}"
        for hyperparameter in criteria.find(criterion).hyperparameters
    ]
    return " ".join([criterion.rpartition(":")[2], *settings])


def criteria_of(spec: StudySpec) -> dict[str, type[Criterion]]:
    """The criteria that the study names, by name."""
    from trainables import criteria

    named = [entry.name for entry in spec.criteria]
    named += [*(spec.grid or {}), *(spec.search.criteria if spec.search else {})]
    return {name: criteria.find(name) for name in named}


def declared_criteria(spec: StudySpec) -> list[dict[str, Any]]:
    """What the study's criteria declare of themselves, in the report's order: see `analysis.schema.CRITERIA_FILE`."""
    return [
        {
            "name": name,
            "label": criterion.label,
            "order": criterion.position,
            "reference": criterion.is_reference,
            "fine": criterion.reads_fine,
            "hyperparameters": [
                {"name": one.name, "symbol": one.symbol, "whole": one.whole, "log": one.log}
                for one in criterion.hyperparameters
            ],
        }
        for name, criterion in sorted(criteria_of(spec).items(), key=lambda item: item[1].position)
    ]


def recipe(spec: StudySpec) -> Recipe:
    """How each trial of the study trains: the benchmark's recipe with the study's overrides."""
    # StudySpec holds dicts, which no cache can take as a key
    return _recipe(spec.benchmark.model_dump_json(), spec.protocol).override(spec.training)


@cache
def _recipe(benchmark: str, protocol: str) -> Recipe:
    # torch comes with the benchmarks
    from trainables.benchmarks import find

    named = BenchmarkSpec.model_validate_json(benchmark)
    definition = find(named.name)
    return definition.recipe(protocol, TypeAdapter(definition.Options).validate_python(named.options))
