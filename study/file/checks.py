"""A study file against what it names: its criteria, its benchmark and what its trials get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from study.file.document import Keys
from study.file.parts import BenchmarkSpec, CriterionSpec
from study.file.paths import resolved
from study.file.search import VALIDATION_METRIC, SearchSpec
from study.file.sentences import listed, nearest, problem, sentence, suggestion

if TYPE_CHECKING:
    from trainables.criterion import Hyperparameter


def against_resources(training: Mapping[str, Any], needs_gpu: bool) -> None:
    """The training settings can be had on what a trial gets."""
    if training.get("mixed_precision") and not needs_gpu:
        raise problem(
            ("training", "mixed_precision"),
            "is bf16 on a GPU, and resources.gpus gives a trial none: set resources.gpus as well, or leave this out",
        )


def against_criteria(
    named: Sequence[CriterionSpec],
    grid: Mapping[str, Mapping[str, Sequence[float]]],
    search: SearchSpec | None,
) -> None:
    """The criteria that a study names are found, and every hyperparameter is one of theirs and in its range."""
    # the criteria stand on torch, which the commands that only read a study need not load
    from trainables import criteria

    for position, entry in enumerate(named):
        known = _declared(entry.name, ("criteria", position, "name"))
        for name, value in entry.hyperparameters.items():
            _check_value(entry.name, known, name, value, ("criteria", position, name))
    for criterion, axes in grid.items():
        known = _declared(criterion, ("grid", criterion))
        if known and not axes:
            raise problem(("grid", criterion), f"is empty: give a list of {listed(known)}")
        for name, values in axes.items():
            for position, value in enumerate(values):
                _check_value(criterion, known, name, value, ("grid", criterion, name, position))
    if search is None:
        return
    for criterion, space in search.criteria.items():
        at: Keys = ("search", "criteria", criterion)
        known = _declared(criterion, at)
        if known and not space:
            raise problem(at, f"is empty: give a range of {listed(known)}")
        for name, interval in space.items():
            _check_value(criterion, known, name, interval.low, (*at, name, "low"))
            _check_value(criterion, known, name, interval.high, (*at, name, "high"))
            if interval.step is not None and known[name].whole and interval.step != int(interval.step):
                raise problem((*at, name, "step"), f"must be a whole number for {name}, not {interval.step:g}")
    reference = criteria.reference()
    if search.needs_ce and all(entry.name != reference for entry in named):
        raise problem(
            ("criteria",), f"{reference} is missing, and the search's objective or constraint compares with it"
        )


def _declared(criterion: str, at: Keys) -> dict[str, Hyperparameter]:
    """The criterion's hyperparameters by name."""
    from trainables import criteria

    try:
        return {hyperparameter.name: hyperparameter for hyperparameter in criteria.find(criterion).hyperparameters}
    except LookupError as error:
        raise problem(at, f"{error.args[0]}{suggestion(criterion, criteria.names())}") from None


def _check_value(criterion: str, known: Mapping[str, Hyperparameter], name: str, value: float, at: Keys) -> None:
    """``name`` is a hyperparameter of ``criterion``, and ``value`` lies in its range."""
    if name not in known:
        reads = f"it reads {listed(known)}" if known else "it has none"
        # the name is wrong and not one of its values, so the message points at the name
        raise problem(
            at[: at.index(name) + 1],
            f"{criterion} has no hyperparameter {name!r}{suggestion(name, known)}; {reads}",
        )
    if (wrong := known[name].problem(value)) is not None:
        raise problem(at, wrong)


def against_benchmark(
    named: BenchmarkSpec, protocol: str, training: Mapping[str, Any], search: SearchSpec | None
) -> BenchmarkSpec:
    """The benchmark with its options checked, made complete types and absolute paths."""
    # the benchmarks stand on torch, which the commands that only read a study need not load
    from trainables.benchmarks import find

    try:
        benchmark = find(named.name)
    except LookupError as error:
        from trainables.benchmarks import BENCHMARKS

        hint = suggestion(named.name, BENCHMARKS)
        raise problem(("benchmark", "name"), f"{error.args[0]}{hint}") from None
    known = [field.name for field in fields(benchmark.Options)]
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in named.options.items()}
    for name in given:
        if name not in known:
            raise problem(
                ("benchmark", name),
                f"the benchmark {named.name} has no option {name!r}{nearest(name, known)}",
            )
    try:
        options: Any = TypeAdapter(benchmark.Options).validate_python(given)
    except ValidationError as error:
        details = error.errors()[0]
        # what follows the option's name in pydantic's location are branches of a union, and no keys of the file
        raise problem(("benchmark", *details["loc"][:1]), sentence(details)) from None
    for name, value in given.items():
        number = getattr(options, name)
        if isinstance(value, bool) and isinstance(number, int | float) and not isinstance(number, bool):
            raise problem(("benchmark", name), f"must be a number, not {str(value).lower()}")
    try:
        complete = resolved(benchmark.Options, given, options)
    except ValueError as error:
        raise problem(("benchmark", error.args[0]), error.args[1]) from None
    if search is not None:
        _check_metrics(search, options)
        pruner = search.pruner
        epochs = training.get("epochs", benchmark.recipe(protocol, options).epochs)
        if pruner is not None and pruner.grace_period >= epochs:
            raise problem(
                ("search", "pruner", "grace_period"),
                f"must be below the {epochs} epochs of a trial, not {pruner.grace_period}",
            )
    return BenchmarkSpec(name=named.name, **complete)


def _check_metrics(search: SearchSpec, options: Any) -> None:
    """What the search reads has a part of the data to be read from."""
    for metric, keys in search.metrics.items():
        needed = "heldout" if metric == "accuracy/coarse" else "validation" if _of_validation(metric, options) else ""
        if needed and getattr(options, needed, None) == 0:
            raise problem(
                ("search", *keys), f"{metric} needs a {needed} split: set benchmark.{needed} above 0, to 0.2 say"
            )


def _of_validation(metric: str, options: Any) -> bool:
    """Whether ``metric`` is measured on the validation part, and not on the classes that few-shot benchmarks keep."""
    from trainables import twins

    on_classes = hasattr(options, "validation_classes") and metric != VALIDATION_METRIC
    return bool(twins.original(metric)) and not on_classes
