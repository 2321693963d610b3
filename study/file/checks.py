"""A study file against what it names: its criteria, its benchmark and what its trials get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from study.file import settings
from study.file.document import Keys
from study.file.parts import BenchmarkSpec
from study.file.paths import resolved
from study.file.search import VALIDATION_METRIC, Range, SearchSpec
from study.file.sentences import listed, nearest, problem, sentence, suggestion
from study.file.training import check_setting, setting

if TYPE_CHECKING:
    from study.file.spec import StudySpec
    from trainables.benchmarks import Benchmark
    from trainables.criterion import Hyperparameter


def against_resources(training: Mapping[str, Any], needs_gpu: bool, at: Keys = ("training", "mixed_precision")) -> None:
    """The training settings, which stand at ``at``, can be had on what a trial gets."""
    if training.get("mixed_precision") and not needs_gpu:
        raise problem(
            at,
            "is bf16 on a GPU, and resources.gpus gives a trial none: set resources.gpus as well, or leave this out",
        )


def against_criteria(spec: StudySpec) -> None:
    """The criteria that a study names are found, and every hyperparameter is one of theirs and in its range."""
    # the criteria stand on torch, which the commands that only read a study need not load
    from trainables import criteria

    for position, entry in enumerate(spec.criteria):
        known = _declared(entry.name, ("criteria", position, "name"))
        for name, value in entry.hyperparameters.items():
            _check_value(entry.name, known, name, value, ("criteria", position, name))
    grid = spec.grid or {}
    for criterion in grid.keys() - settings.BLOCKS:
        _check_axes(criterion, grid[criterion], bool(settings.shared(grid)))
    search = spec.search
    if search is None:
        return
    for criterion in search.criteria:
        _check_space(criterion, search)
    reference = criteria.reference()
    if search.needs_ce and all(entry.name != reference for entry in spec.criteria):
        raise problem(
            ("criteria",), f"{reference} is missing, and the search's objective or constraint compares with it"
        )


def _check_axes(criterion: str, axes: Mapping[str, Sequence[Any]], is_varied: bool) -> None:
    """The grid of one criterion; ``is_varied`` says whether settings are varied for all."""
    known = _declared(criterion, ("grid", criterion))
    if known and not axes and not is_varied:
        raise problem(("grid", criterion), f"is empty: give a list of {listed(known)}")
    for name, values in axes.items():
        for position, value in enumerate(() if settings.is_setting(name) else values):
            _check_value(criterion, known, name, value, ("grid", criterion, name, position))


def _check_space(criterion: str, search: SearchSpec) -> None:
    at: Keys = ("search", "criteria", criterion)
    known = _declared(criterion, at)
    if not search.space(criterion):
        kind = f"give a range of {listed(known)}" if known else "give a range of a setting, as training.learning_rate"
        raise problem(at, f"is empty: {kind}")
    for name, interval in search.criteria[criterion].items():
        if settings.is_setting(name):
            continue
        if interval.choices is not None:
            raise problem((*at, name, "choices"), "are for settings: a hyperparameter is searched from low to high")
        for end, value in zip(("low", "high"), interval.ends, strict=True):
            _check_value(criterion, known, name, value, (*at, name, end))
        if interval.step is not None and known[name].whole and interval.step != int(interval.step):
            raise problem((*at, name, "step"), f"must be a whole number for {name}, not {interval.step:g}")


def _declared(criterion: str, at: Keys) -> dict[str, Hyperparameter]:
    """The criterion's hyperparameters by name."""
    from trainables import criteria

    try:
        return {hyperparameter.name: hyperparameter for hyperparameter in criteria.find(criterion).hyperparameters}
    except LookupError as error:
        hint = suggestion(criterion, criteria.names())
        # below criteria there is nothing to vary
        if not hint and at[0] != "criteria" and (meant := setting(criterion)):
            hint = f"; {meant} is a training setting: write it below training, as training: {{{meant}: …}}"
        raise problem(at, f"{error.args[0]}{hint}") from None


def _check_value(criterion: str, known: Mapping[str, Hyperparameter], name: str, value: float, at: Keys) -> None:
    """``name`` is a hyperparameter of ``criterion``, and ``value`` lies in its range."""
    if name not in known:
        meant = setting(name)
        if meant and at[0] != "criteria" and not suggestion(name, known):
            raise problem(
                at[: at.index(name) + 1],
                f"{criterion} has no hyperparameter {name!r}; for the training setting write training.{meant}",
            )
        reads = f"it reads {listed(known)}" if known else "it has none"
        # the name is wrong and not one of its values, so the message points at the name
        raise problem(
            at[: at.index(name) + 1],
            f"{criterion} has no hyperparameter {name!r}{suggestion(name, known)}; {reads}",
        )
    if (wrong := known[name].problem(value)) is not None:
        raise problem(at, wrong)


def against_benchmark(named: BenchmarkSpec) -> BenchmarkSpec:
    """The benchmark with its options checked, made complete types and absolute paths."""
    # the benchmarks stand on torch, which the commands that only read a study need not load
    from trainables.benchmarks import find

    try:
        benchmark = find(named.name)
    except LookupError as error:
        from trainables.benchmarks import BENCHMARKS

        hint = suggestion(named.name, BENCHMARKS)
        raise problem(("benchmark", "name"), f"{error.args[0]}{hint}") from None
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in named.options.items()}
    for name in given:
        _check_option(benchmark.Options, named.name, name, ("benchmark", name))
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
    return BenchmarkSpec(name=named.name, **complete)


def _check_option(kind: type, benchmark: str, name: str, at: Keys) -> None:
    known = [field.name for field in fields(kind)]
    if name not in known:
        raise problem(at, f"the benchmark {benchmark} has no option {name!r}{nearest(name, known)}")


def against_settings(spec: StudySpec) -> None:
    """What varies between trials are settings that there are, at values that they take, and so for the search's own.

    Those that lead to data cannot vary: trials on different data compare nothing.
    """
    from trainables.benchmarks import find, path_options

    benchmark = find(spec.benchmark.name)
    for name, values in _varied(spec):
        block, own = name.partition(".")[::2]
        for at, value in values:
            if block == "training":
                check_setting(own, value, at)
                against_resources({own: value}, spec.resources.needs_gpu, at)
                continue
            key = at[: at.index(own) + 1] if own in at else at[: at.index(name) + 1]
            _check_option(benchmark.Options, spec.benchmark.name, own, key)
            if own in path_options(benchmark.Options):
                raise problem(key, "leads to data, which trials that are compared share: give it a study of its own")
            try:
                TypeAdapter(benchmark.Options).validate_python({**spec.benchmark.options, own: value})
            except ValidationError as error:
                raise problem(at, sentence(error.errors()[0])) from None
        for interval, at in _intervals(spec, name):
            _check_interval(interval, at, settings.kind(name, benchmark.Options))
    _check_epochs(spec, benchmark)


def _varied(spec: StudySpec) -> Iterator[tuple[str, list[tuple[Keys, Any]]]]:
    """The dotted settings of grid and search, each with the values that must be accepted and where they stand."""
    for criterion, axes in (spec.grid or {}).items():
        for name, values in axes.items():
            dotted = f"{criterion}.{name}" if criterion in settings.BLOCKS else name
            if settings.is_setting(dotted):
                listed: Sequence[Any] = values
                yield dotted, [(("grid", criterion, name, place), value) for place, value in enumerate(listed)]
    for dotted in dict.fromkeys(settings.names_of(spec.search) if spec.search else ()):
        for interval, at in _intervals(spec, dotted):
            if interval.choices is None:
                yield dotted, [((*at, "low"), interval.low), ((*at, "high"), interval.high)]
            else:
                yield dotted, [((*at, "choices", place), value) for place, value in enumerate(interval.choices)]


def _intervals(spec: StudySpec, name: str) -> Iterator[tuple[Range, Keys]]:
    """The ranges of a setting, each with where it stands."""
    if spec.search is None:
        return
    block, _, own = name.partition(".")
    everywhere: Mapping[str, Range] = getattr(spec.search, block)
    if own in everywhere:
        yield everywhere[own], ("search", block, own)
    for criterion, space in spec.search.criteria.items():
        if name in space:
            yield space[name], ("search", "criteria", criterion, name)


def _check_interval(interval: Range, at: Keys, kind: type | None) -> None:
    if interval.choices is not None:
        return
    if kind is None:
        raise problem(at, "is no number: give its values, as {choices: [...]}")
    if kind is int and interval.step is not None and interval.step != int(interval.step):
        raise problem((*at, "step"), f"must be a whole number, not {interval.step:g}")


def _check_epochs(spec: StudySpec, benchmark: Benchmark) -> None:
    """Every trial has epochs beyond its warm-up, and beyond the pruner's grace period."""
    values: dict[str, list[Any]] = {}
    for name, found in settings.values_of(spec.grid or {}, spec.search):
        values.setdefault(name, []).extend(found)
    made: Any = TypeAdapter(benchmark.Options).validate_python(spec.benchmark.options)
    recipe = benchmark.recipe(spec.protocol, made).override(spec.training)
    epochs = min(values.get("training.epochs", [recipe.epochs]))
    warmup = max(values.get("training.warmup", [recipe.warmup]))
    if warmup >= epochs:
        raise problem(("training", "warmup"), f"must be below the {epochs} epochs of a trial, not {warmup}")
    if spec.search is None:
        return
    _check_metrics(spec.search, made)
    pruner = spec.search.pruner
    if pruner is not None and pruner.grace_period >= epochs:
        raise problem(
            ("search", "pruner", "grace_period"),
            f"must be below the {epochs} epochs of a trial, not {pruner.grace_period}",
        )


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
