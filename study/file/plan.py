"""From a study file to its trials: the fixed points, and what the searcher will ask for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter

from study.file import settings
from study.file.parts import BenchmarkSpec
from study.file.paths import plain
from study.file.spec import StudySpec
from trainables.trial import Recipe, Trial

if TYPE_CHECKING:
    from trainables.criterion import Criterion


@dataclass(frozen=True)
class Point:
    """A trial of the study and why it is run; ``repeats`` is the number of the trial that it trains on fresh seeds.

    ``extends`` is the number of the trial of which these are further seeds, given to it for the ``addition``-th time.
    """

    role: Literal["baseline", "grid", "search", "confirm"]
    trial: Trial
    repeats: int | None = None
    extends: int | None = None
    addition: int = 0


def seeds_of(spec: StudySpec, role: str) -> tuple[int, ...]:
    """The seeds of the study's trials of this role: those that confirm a choice have fresh ones, above all others."""
    if role != "confirm":
        return spec.seeds
    assert spec.search is not None and spec.search.confirm is not None
    first = max(spec.seeds) + 1
    return tuple(range(first, first + spec.search.confirm))


def trial_for(spec: StudySpec, criterion: str, values: Mapping[str, Any], role: str = "baseline") -> Trial:
    """The trial of ``criterion``: all hyperparameters that it reads, those not among ``values`` at the defaults.

    ``values`` may have dotted settings as well (`study.file.settings`). Whole numbers are ints and the others floats,
    and a setting that is as the study's own is left out, so that equal settings are equal trials.
    """
    from trainables import criteria

    changed = _changed(spec, values)
    options = {**spec.benchmark.options, **settings.overrides(changed, "benchmark")}
    training = {**spec.training, **settings.overrides(changed, "training")}
    return Trial(
        benchmark=spec.benchmark.name,
        criterion=criterion,
        seeds=seeds_of(spec, role),
        protocol=spec.protocol,
        hyperparameters=criteria.find(criterion).settle(values, _recipe_with(spec, options, training)),
        options=options,
        training=training,
        cadence=dict(spec.evaluation.cadence),
    )


def _changed(spec: StudySpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among ``values`` that differ from the study's own."""
    changed: dict[str, Any] = {}
    given = {name: value for name, value in values.items() if settings.is_setting(name)}
    if not given:
        return changed
    own = _state(spec, spec.benchmark.options, spec.training)
    for name, value in given.items():
        number = settings.kind(name, _options(spec.benchmark.name))
        cast = number(value) if number and isinstance(value, int | float) and not isinstance(value, bool) else value
        if plain(cast) != plain(own[name]):
            changed[name] = cast
    return changed


def _state(spec: StudySpec, options: Mapping[str, Any], training: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every training setting and option under its dotted name, as a trial has it."""
    named = BenchmarkSpec(name=spec.benchmark.name, **options)
    return _settled(named.model_dump_json(), spec.protocol, json.dumps(training))


@lru_cache(maxsize=64)
def _settled(benchmark: str, protocol: str, training: str) -> Mapping[str, Any]:
    named = BenchmarkSpec.model_validate_json(benchmark)
    options: Any = TypeAdapter(_options(named.name)).validate_python(named.options)
    recipe = asdict(_recipe(benchmark, protocol).override(json.loads(training)))
    return {f"training.{name}": value for name, value in recipe.items()} | {
        f"benchmark.{field.name}": getattr(options, field.name) for field in fields(options)
    }


def varied(spec: StudySpec) -> tuple[str, ...]:
    """The dotted settings that may differ between trials, in the study file's order."""
    names = list(settings.shared(spec.grid or {}))
    for criterion, axes in (spec.grid or {}).items():
        names += [] if criterion in settings.BLOCKS else filter(settings.is_setting, axes)
    names += settings.names_of(spec.search) if spec.search else []
    return tuple(dict.fromkeys(names))


def settings_of(spec: StudySpec, trial: Trial) -> dict[str, Any]:
    """What ``trial`` has of the settings that vary in its study."""
    names = varied(spec)
    if not names:
        return {}
    own = _state(spec, trial.options, trial.training)
    # a training setting is kept as the whole recipe is, an option as a study file has it
    return {name: plain(own[name]) if name.startswith("benchmark.") else own[name] for name in names}


def values_of(spec: StudySpec, trial: Trial) -> dict[str, Any]:
    """What `trial_for` makes the trial of again: its hyperparameters, and the settings that are not the study's own."""
    blocks = {"benchmark": (trial.options, spec.benchmark.options), "training": (trial.training, spec.training)}
    return dict(trial.hyperparameters) | {
        f"{block}.{name}": value
        for block, (own, others) in blocks.items()
        for name, value in own.items()
        if name not in others or others[name] != value
    }


def name_of(spec: StudySpec, trial: Trial) -> str:
    """The trial's `label` in its study."""
    return label(trial.criterion, {**trial.hyperparameters, **settings_of(spec, trial)})


def fixed_points(spec: StudySpec) -> list[Point]:
    """Baselines and then grid points, in the study file's order; a setting that comes twice runs once."""
    grid = spec.grid or {}
    shared = settings.shared(grid)
    points: list[Point] = []
    for entry in spec.criteria:
        if entry.hyperparameters or not _is_varied(spec, entry.name):
            points += (
                Point("baseline", trial_for(spec, entry.name, {**entry.hyperparameters, **values}))
                for values in _product(shared)
            )
    for criterion in grid:
        if criterion not in settings.BLOCKS:
            axes = {**shared, **grid[criterion]}
            points += (Point("grid", trial_for(spec, criterion, values)) for values in _product(axes))
    distinct: dict[str, Point] = {}
    for point in points:
        key = json.dumps([point.trial.criterion, values_of(spec, point.trial)])
        distinct.setdefault(key, point)
    return list(distinct.values())


def _is_varied(spec: StudySpec, criterion: str) -> bool:
    """Whether the criterion's trials are those of grid or search, and none of its own."""
    from trainables import criteria

    if spec.search and criterion in spec.search.criteria:
        # what the search compares with is trained at the study's own settings
        return not (spec.search.needs_ce and criterion == criteria.reference())
    return criterion in (spec.grid or {})


def _product(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def planned(spec: StudySpec, confirming: int | None = None, fixed: int | None = None) -> int:
    """How many trials the study has when it is complete.

    ``confirming`` of them confirm the search's choice; while that is not known, as many as there may be. ``fixed`` are
    the `fixed_points`, which are made anew where nobody has counted them.
    """
    fixed = len(fixed_points(spec)) if fixed is None else fixed
    if spec.search is None:
        return fixed
    most = fixed + len(spec.search.criteria) if spec.search.confirm else 0
    return fixed + spec.search.trials * len(spec.search.criteria) + (most if confirming is None else confirming)


def label(criterion: str, values: Mapping[str, Any], digits: int = 12) -> str:
    """The trial's name where people read it: ``fierce λ=1 e=100 learning_rate=0.01``; for anyone's, ``Focal γ=2``.

    ``values`` are its hyperparameters, and the settings that vary in its study.
    """
    from trainables import criteria

    own = [
        f"{hyperparameter.symbol}={values[hyperparameter.name]:.{digits}g}"
        for hyperparameter in criteria.find(criterion).hyperparameters
    ]
    own += [
        f"{settings.short(name)}={settings.text(value, digits)}"
        for name, value in values.items()
        if settings.is_setting(name)
    ]
    return " ".join([short_name(criterion), *own])


def short_name(criterion: str) -> str:
    """The criterion as a label names it: without the module, where it is anyone's."""
    return criterion.rpartition(":")[2]


def criterion_in(label: str) -> str:
    """The criterion of a trial's `label`, by its `short_name`."""
    return label.partition(" ")[0]


def criteria_of(spec: StudySpec) -> dict[str, type[Criterion]]:
    """The criteria that the study names, by name."""
    from trainables import criteria

    named = [entry.name for entry in spec.criteria]
    named += [name for name in spec.grid or {} if name not in settings.BLOCKS]
    named += spec.search.criteria if spec.search else ()
    return {name: criteria.find(name) for name in named}


def declared_criteria(spec: StudySpec) -> list[dict[str, Any]]:
    """What the study's criteria declare of themselves, in the report's order: see `analysis.schema.CRITERIA_FILE`."""
    return [
        {
            "name": name,
            "label": criterion.label,
            "meaning": criterion.meaning,
            "order": criterion.position,
            "reference": criterion.is_reference,
            "fine": criterion.reads_fine,
            "hyperparameters": [
                {name: getattr(one, name) for name in ("name", "symbol", "whole", "log", "meaning")}
                for one in criterion.hyperparameters
            ],
        }
        for name, criterion in sorted(criteria_of(spec).items(), key=lambda item: item[1].position)
    ]


def declared_settings(spec: StudySpec) -> list[dict[str, Any]]:
    """The settings that vary, as the study declares them: see `analysis.schema.VARIED`."""
    return [
        {"name": name, "symbol": settings.short(name), "log": name in settings.LOGARITHMIC} for name in varied(spec)
    ]


def recipe(spec: StudySpec, values: Mapping[str, Any] = MappingProxyType({})) -> Recipe:
    """How trials train: the benchmark's recipe with the study's overrides, and the settings among ``values``."""
    training = {**spec.training, **settings.overrides(values, "training")}
    return _recipe_with(spec, {**spec.benchmark.options, **settings.overrides(values, "benchmark")}, training)


def lopsided(spec: StudySpec) -> str:
    """Which settings have more values for some criteria than for others, in a sentence; else empty."""
    spaces: dict[str, dict[str, Any]] = {}
    grid = spec.grid or {}
    shared = settings.shared(grid)
    for entry in spec.criteria:
        spaces.setdefault(entry.name, {}).update(shared)
    for criterion in grid.keys() - settings.BLOCKS:
        spaces.setdefault(criterion, {}).update({**shared, **grid[criterion]})
    for criterion in spec.search.criteria if spec.search else ():
        assert spec.search is not None
        spaces.setdefault(criterion, {}).update(spec.search.space(criterion))
    for name in varied(spec):
        having = [criterion for criterion, space in spaces.items() if name in space]
        lacking = [criterion for criterion in spaces if criterion not in having]
        if lacking:
            block = "search" if spec.search else "grid"
            named = f", and name {', '.join(lacking)} below search.criteria" if spec.search else ""
            return (
                f"{name} varies for {', '.join(having)} and not for {', '.join(lacking)}, which favours the former: "
                f"put it below {block}.{name.partition('.')[0]}{named}"
            )
    return ""


def most_epochs(spec: StudySpec) -> int:
    """The epochs of the study's longest trial."""
    at_least = [recipe(spec).epochs]
    for name, values in settings.values_of(spec.grid or {}, spec.search):
        at_least += values if name == "training.epochs" else ()
    return max(at_least)


def _recipe_with(spec: StudySpec, options: Mapping[str, Any], training: Mapping[str, Any]) -> Recipe:
    # StudySpec holds dicts, which no cache can take as a key
    named = BenchmarkSpec(name=spec.benchmark.name, **options)
    return _recipe(named.model_dump_json(), spec.protocol).override(training)


def _options(benchmark: str) -> type:
    # torch comes with the benchmarks
    from trainables.benchmarks import find

    return find(benchmark).Options


@cache
def _recipe(benchmark: str, protocol: str) -> Recipe:
    # torch comes with the benchmarks
    from trainables.benchmarks import find

    named = BenchmarkSpec.model_validate_json(benchmark)
    definition = find(named.name)
    return definition.recipe(protocol, TypeAdapter(definition.Options).validate_python(named.options))
