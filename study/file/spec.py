"""The study file: what to train, what to search, with which seeds and resources, tracked where.

A study file is YAML. Every field of `StudySpec` is a key of it; see ``study/specs`` for complete ones::

    benchmark: {name: hyperspectral, data: jasper_ridge.mat}
    protocol: released
    criteria: [ce, ls, {name: fierce, lambda: 4}]
    grid: {fierce: {lambda: [0.1, 1], e: [50, 100]}}
    seeds: 10
    training: {epochs: 200}

A criterion under ``criteria`` is a baseline: one trial, at the hyperparameters given there or at the
benchmark's defaults. A criterion under ``grid`` (the product of its lists) or ``search`` runs those points;
naming it under ``criteria`` as well adds a baseline only where hyperparameters are given there.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from analysis import dialect
from study.errors import UserError
from study.file import hints
from study.file.document import Document, Keys, dotted, read
from study.file.paths import resolved
from trainables.trial import PROTOCOLS, Recipe

if TYPE_CHECKING:
    from trainables.criterion import Hyperparameter

#: the folder of the ready-made studies
READY_MADE = Path(__file__).parents[1] / "specs"

#: samplers by their name in a study file -> class in `optuna.samplers`
SAMPLERS: Mapping[str, str] = MappingProxyType(
    {
        "tpe": "TPESampler",
        "random": "RandomSampler",
        "gp": "GPSampler",
        "qmc": "QMCSampler",
        "nsga-ii": "NSGAIISampler",
    }
)

#: metric of the label-free rule and of the constraint's coarse accuracy on data that no seed trains on
VALIDATION_METRIC = "accuracy/validation"

#: a study with more seeds or grid points than this is taken for a slip of the pen
MOST_SEEDS = 1_000
MOST_POINTS = 100_000


def _problem(keys: Keys, message: str) -> PydanticCustomError:
    """An error at ``keys`` below the model that raises it."""
    return PydanticCustomError("study", "{message}", {"message": message, "keys": keys})


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        message = f"must be a finite number, not {value!r}{hints.number(value)}"
        raise PydanticCustomError("study", "{message}", {"message": message})
    return value


def _seeds(value: Any) -> Any:
    """``n`` is short for 0..n−1."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MOST_SEEDS:
            raise _problem((), f"a number of seeds is between 1 and {MOST_SEEDS:,}, not {value}")
        return tuple(range(value))
    if isinstance(value, list | tuple):
        return tuple(value)
    raise _problem((), f"must be a number of seeds or a list of them, not {value!r}{hints.number(value)}")


def _whole_or_auto(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise _problem((), f"must be a whole number of at least 1, or auto, not {value!r}{hints.number(value)}")


def _gpus(value: Any) -> Any:
    if value == "auto":
        return value
    # a whole number is no float where pydantic has the choice, and is warned of when it is written
    share = float(_number(value))
    if not 0 <= share <= 1:
        raise _problem((), f"must be a share of a GPU in [0, 1], or auto, not {share:g}")
    return share


def _named(value: Any) -> Any:
    """``ce`` is short for ``{name: ce}``."""
    return {"name": value} if isinstance(value, str) else value


def _list(value: Any) -> Any:
    """One value is a list of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


#: an int stays an int: λ = 1 reads as 1, and e is never 100.0
Number = Annotated[float, PlainValidator(_number)]
Whole = Annotated[int, Strict()]
Text = Annotated[str, Strict()]
Switch = Annotated[bool, Strict()]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BenchmarkSpec(_Model):
    """The benchmark's name, with its options beside it: ``{name: hyperspectral, data: scene.mat}``."""

    model_config = ConfigDict(extra="allow")

    name: Text

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class CriterionSpec(_Model):
    """A criterion's name, with hyperparameters beside it: ``{name: fierce, lambda: 1, e: 100}``."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number] = Field(init=False)

    name: Text

    @property
    def hyperparameters(self) -> dict[str, float]:
        return dict(self.model_extra or {})


class Range(_Model):
    """The interval of one searched hyperparameter, both ends included.

    ``step`` and ``log`` exclude each other, as in Optuna.
    """

    low: Number
    high: Number
    log: Switch = False
    step: Number | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low >= self.high:
            raise _problem((), f"low must be below high, and {self.low:g} is not below {self.high:g}")
        if self.log and self.low <= 0:
            raise _problem(("low",), f"must be above 0 where log is true, not {self.low:g}")
        if self.step is not None:
            if self.log:
                raise _problem(("step",), "cannot stand beside log: true; keep one of them")
            if self.step <= 0:
                raise _problem(("step",), f"must be above 0, not {self.step:g}")
        return self


class Objective(_Model):
    """What a search optimises: a metric's mean over the seeds at the last epoch, or a rule without fine labels.

    The label-free rule takes the largest ``metric`` (feature entropy where none is given) whose coarse
    validation accuracy stays within one standard error of cross-entropy's.
    """

    metric: Text = ""
    direction: Literal["minimize", "maximize"] | None = None
    label_free: Switch = False

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("label_free") is True:
            return {"metric": "entropy/features", "direction": "maximize", **values}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.metric:
            raise _problem((), "needs a metric and a direction, or label_free: true")
        if self.direction is None:
            raise _problem(("direction",), "is required: minimize or maximize")
        if self.label_free and self.direction != "maximize":
            raise _problem(("direction",), "the label-free rule takes the largest value: leave direction out")
        return self


class Constraint(_Model):
    """Points whose ``metric`` (mean over seeds, last epoch) is lower than the bound are infeasible.

    The bound is ``at_least``, or cross-entropy's own value less ``within_of_ce``.
    """

    metric: Text = "accuracy/coarse"
    at_least: Number | None = None
    within_of_ce: Number | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.at_least is None) == (self.within_of_ce is None):
            raise _problem((), "needs one of at_least and within_of_ce")
        if self.within_of_ce is not None and self.within_of_ce < 0:
            raise _problem(("within_of_ce",), f"must be 0 or more, not {self.within_of_ce:g}")
        return self


class Pruner(_Model):
    """ASHA: stop the worse trials early. Off unless asked for, since the fine-label error falls and then rises.

    ``grace_period`` in epochs should lie past that turn.
    """

    name: Literal["asha"]
    grace_period: Whole = Field(ge=1)
    reduction_factor: Whole = Field(default=3, ge=2)
    brackets: Whole = Field(default=1, ge=1)


class SearchSpec(_Model):
    """What Optuna proposes: ``trials`` points for each criterion in ``criteria``, within its ranges."""

    criteria: dict[str, dict[str, Range]]
    trials: Whole = Field(ge=1)
    objective: Objective
    sampler: Text = "tpe"
    sampler_seed: Whole = Field(default=0, ge=0, le=2**32 - 1)
    constraint: Constraint | None = None
    pruner: Annotated[Pruner | None, BeforeValidator(lambda value: None if value == "none" else _named(value))] = None

    @property
    def needs_ce(self) -> bool:
        """Whether the objective or the constraint refers to cross-entropy's own result."""
        return self.objective.label_free or (self.constraint is not None and self.constraint.within_of_ce is not None)

    @property
    def metrics(self) -> dict[str, Keys]:
        """The metrics that the search reads, each with the key that names it."""
        read: dict[str, Keys] = {self.objective.metric: ("objective", "metric")}
        if self.objective.label_free:
            read[VALIDATION_METRIC] = ("objective",)
        if self.constraint is not None:
            read[self.constraint.metric] = ("constraint", "metric")
        return read

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.criteria:
            raise _problem(("criteria",), "is empty: name a criterion and the range of a hyperparameter")
        if self.sampler not in SAMPLERS:
            raise _problem(("sampler",), f"unknown sampler {self.sampler!r}{_nearest(self.sampler, SAMPLERS)}")
        if self.objective.label_free and self.constraint is not None:
            raise _problem(("constraint",), "the label-free objective is a constraint already; leave this one out")
        return self


class Evaluation(_Model):
    """Overrides of the evaluators' cadence: every so many epochs, 0 for the last epoch alone."""

    cadence: dict[str, Annotated[Whole, Field(ge=0)]] = {}


class Resources(_Model):
    """What one trial gets: CPU cores, and a GPU, a share of one, or none.

    With ``gpus: auto`` the first trials take whole GPUs, and the later ones the share whose memory those used.
    """

    cpus: Annotated[float, PlainValidator(_number), Field(gt=0)] = 1.0
    gpus: Annotated[float | Literal["auto"], PlainValidator(_gpus)] = 0.0

    @property
    def needs_gpu(self) -> bool:
        return self.gpus == "auto" or self.gpus > 0


class StudySpec(_Model):
    """A study, checked. `load` reads a study file; `to_yaml` and `from_yaml` are each other's inverse."""

    name: Text = Field(min_length=1, max_length=100)
    description: Text = ""
    benchmark: Annotated[BenchmarkSpec, BeforeValidator(_named)]
    protocol: Text = "released"
    criteria: Annotated[tuple[Annotated[CriterionSpec, BeforeValidator(_named)], ...], BeforeValidator(_list)] = ()
    #: criterion -> hyperparameter -> values; a trial for each element of the product
    grid: dict[str, dict[str, Annotated[tuple[Number, ...], BeforeValidator(_list)]]] | None = None
    search: SearchSpec | None = None
    seeds: Annotated[tuple[Annotated[Whole, Field(ge=0, lt=2**31)], ...], BeforeValidator(_seeds)] = tuple(range(10))
    #: overrides of the benchmark's `trainables.trial.Recipe`, epochs among them
    training: dict[str, Any] = {}
    evaluation: Evaluation = Evaluation()
    resources: Resources = Resources()
    #: trials at the same time; "auto" is as many as the resources allow
    concurrency: Annotated[int | Literal["auto"], PlainValidator(_whole_or_auto)] = "auto"
    #: seeds that one Tune trial trains together, the others of the same trial beside it; "auto" splits a trial of a
    #: study without search where some of the cluster would idle otherwise. No number depends on it
    seeds_per_shard: Annotated[int | Literal["auto"], PlainValidator(_whole_or_auto)] = "auto"
    #: how often a trial may fail before it is given up
    max_failures: Whole = Field(default=1, ge=0)
    #: folder or s3://bucket/prefix of checkpoints and Tune's state, which all nodes see; else FIERCE_STORAGE, else
    #: the study home's
    storage: Text | None = None
    #: MLflow server or store; the study home's own where there is none
    tracking_uri: Text | None = None
    #: Optuna's database (SQLAlchemy URL); the study home's own where there is none
    storage_uri: Text | None = None

    @classmethod
    def load(cls, source: str | Path, overrides: Sequence[str] = (), name: str | None = None) -> StudySpec:
        """Read a study file, or the ready-made study of that name, apply ``key.path=value`` overrides, check all.

        Beyond the file itself, criteria and benchmark are found, and hyperparameters, the benchmark's options, the
        training settings and the search's metrics are checked against them. Relative paths among the benchmark's
        options become absolute. Raises `UserError` with one sentence.
        """
        path = _locate(source)
        document = read(path)
        for assignment in overrides:
            document.override(assignment)
        if name is not None:
            document.put("name", name, "--name")
        document.values.setdefault("name", path.stem)
        spec = _validated(document)
        with _located(document):
            _against_criteria(spec)
            return _against_benchmark(spec)

    @classmethod
    def from_yaml(cls, text: str, source: str = "study.yaml") -> StudySpec:
        """The study that `to_yaml` wrote; criteria, the benchmark, its options and its data are not looked at."""
        return _validated(Document(text, source))

    def to_yaml(self) -> str:
        values = self.model_dump()
        # what is left out is None when it is read again, save the benchmark's options and the training settings
        kept = {key: value if key in ("benchmark", "training") else _given(value) for key, value in values.items()}
        return dialect.dump({key: value for key, value in kept.items() if value is not None})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in self.name) or (
            not self.name[0].isalnum()
        ):
            raise _problem(
                ("name",),
                f"{self.name!r}: a name is letters, digits, '.', '_' and '-', and starts with a letter or digit",
            )
        if self.protocol not in PROTOCOLS:
            raise _problem(("protocol",), f"unknown protocol {self.protocol!r}{_nearest(self.protocol, PROTOCOLS)}")
        if self.grid is not None and self.search is not None:
            raise _problem(
                ("search",), "stands beside grid; a study has one of them, so move one to a study of its own"
            )
        if not self.criteria and self.grid is None and self.search is None:
            raise _problem(("criteria",), "names no criterion, and there is no grid or search: give one, as in [ce]")
        self._check_criteria()
        if self.grid is not None:
            _check_grid(self.grid)
        if not self.seeds:
            raise _problem(("seeds",), "names no seed")
        for position, seed in enumerate(self.seeds):
            if seed in self.seeds[:position]:
                raise _problem(("seeds",), f"seed {seed} is given twice")
        _check_training(self.training)
        if self.search is not None:
            if self.seeds_per_shard != "auto":
                raise _problem(("seeds_per_shard",), "stands beside search, which keeps whole trials; leave it out")
            if self.search.pruner is not None and self.search.objective.label_free:
                raise _problem(("search", "pruner"), "cannot be used with the label-free objective; leave it out")
        return self

    def _check_criteria(self) -> None:
        for position, criterion in enumerate(self.criteria):
            if criterion in self.criteria[:position]:
                raise _problem(
                    ("criteria", position), f"{criterion.name} is listed twice with the same hyperparameters"
                )


def _given(values: Any) -> Any:
    """``values`` without the None among them, at any depth."""
    if isinstance(values, dict):
        return {key: _given(value) for key, value in values.items() if value is not None}
    return values


def _check_grid(grid: Mapping[str, Mapping[str, tuple[float, ...]]]) -> None:
    if not grid:
        raise _problem(("grid",), "is empty: name a criterion and a list of values")
    points = 0
    for criterion, axes in grid.items():
        for name, values in axes.items():
            at: Keys = ("grid", criterion, name)
            if not values:
                raise _problem(at, "is empty: give at least one value")
            for position, value in enumerate(values):
                if value in values[:position]:
                    raise _problem(at, f"{value:g} is given twice")
        points += math.prod(len(values) for values in axes.values())
    if points > MOST_POINTS:
        raise _problem(("grid",), f"has {points:,} points; at most {MOST_POINTS:,} are accepted")


#: lower bounds of the training settings: (bound, whether the bound itself is allowed)
_TRAINING_BOUNDS: Mapping[str, tuple[float, bool]] = MappingProxyType(
    {
        "epochs": (1, True),
        "batch_size": (1, True),
        "learning_rate": (0, False),
        "gamma": (0, False),
        "temperature": (0, False),
        "momentum": (0, True),
        "weight_decay": (0, True),
        # an anchor that no feature chose pulls with -log2 of it, and below 1e-38 it is 0 in float32
        "entropy_epsilon": (1e-30, True),
    }
)


def _check_training(training: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(Recipe) if field.name != "hyperparameters"]
    types = get_type_hints(Recipe)
    for name, value in training.items():
        at: Keys = ("training", name)
        if name not in known:
            raise _problem(at, f"unknown training setting {name!r}{_nearest(name, known)}")
        try:
            # a list is the only way to write a tuple in a study file
            TypeAdapter(types[name]).validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
        except ValidationError as error:
            raise _problem(at, _sentence(error.errors()[0])) from None
        for number in value if isinstance(value, list | tuple) else [value]:
            bound, allowed = _TRAINING_BOUNDS.get(name, (1, True) if name == "milestones" else (-math.inf, True))
            if isinstance(number, int | float) and not (number >= bound if allowed else number > bound):
                raise _problem(at, f"must be {'at least' if allowed else 'above'} {bound:g}, not {number:g}")
            if isinstance(number, float) and not math.isfinite(number):
                raise _problem(at, f"must be a finite number, not {number}")


def _against_criteria(spec: StudySpec) -> None:
    """The criteria of ``spec`` are found, and every hyperparameter is one of theirs and in its range."""
    # the criteria stand on torch, which the commands that only read a study need not load
    from trainables import criteria

    for position, entry in enumerate(spec.criteria):
        known = _declared(entry.name, ("criteria", position, "name"))
        for name, value in entry.hyperparameters.items():
            _check_value(entry.name, known, name, value, ("criteria", position, name))
    for criterion, axes in (spec.grid or {}).items():
        known = _declared(criterion, ("grid", criterion))
        if known and not axes:
            raise _problem(("grid", criterion), f"is empty: give a list of {_or(known)}")
        for name, values in axes.items():
            for position, value in enumerate(values):
                _check_value(criterion, known, name, value, ("grid", criterion, name, position))
    if spec.search is None:
        return
    for criterion, space in spec.search.criteria.items():
        at: Keys = ("search", "criteria", criterion)
        known = _declared(criterion, at)
        if known and not space:
            raise _problem(at, f"is empty: give a range of {_or(known)}")
        for name, interval in space.items():
            _check_value(criterion, known, name, interval.low, (*at, name, "low"))
            _check_value(criterion, known, name, interval.high, (*at, name, "high"))
            if interval.step is not None and known[name].whole and interval.step != int(interval.step):
                raise _problem((*at, name, "step"), f"must be a whole number for {name}, not {interval.step:g}")
    reference = criteria.reference()
    if spec.search.needs_ce and all(entry.name != reference for entry in spec.criteria):
        raise _problem(
            ("criteria",), f"{reference} is missing, and the search's objective or constraint compares with it"
        )


def _declared(criterion: str, at: Keys) -> dict[str, Hyperparameter]:
    """The criterion's hyperparameters by name."""
    from trainables import criteria

    try:
        return {each.name: each for each in criteria.find(criterion).hyperparameters}
    except LookupError as error:
        raise _problem(at, f"{error.args[0]}{_suggestion(criterion, criteria.names())}") from None


def _check_value(criterion: str, known: Mapping[str, Hyperparameter], name: str, value: float, at: Keys) -> None:
    """``name`` is a hyperparameter of ``criterion``, and ``value`` lies in its range."""
    if name not in known:
        reads = f"it reads {_or(known)}" if known else "it has none"
        # the place of a slip in a name is the name's, not that of one of its values
        raise _problem(
            at[: at.index(name) + 1],
            f"{criterion} has no hyperparameter {name!r}{_suggestion(name, known)}; {reads}",
        )
    if (problem := known[name].problem(value)) is not None:
        raise _problem(at, problem)


def _against_benchmark(spec: StudySpec) -> StudySpec:
    """``spec`` checked against its benchmark, its options made complete types and absolute paths."""
    # the benchmarks stand on torch, which the commands that only read a study need not load
    from trainables.benchmarks import find

    try:
        benchmark = find(spec.benchmark.name)
    except LookupError as error:
        from trainables.benchmarks import BENCHMARKS

        hint = _suggestion(spec.benchmark.name, BENCHMARKS)
        raise _problem(("benchmark", "name"), f"{error.args[0]}{hint}") from None
    known = [field.name for field in fields(benchmark.Options)]
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in spec.benchmark.options.items()}
    for name in given:
        if name not in known:
            raise _problem(
                ("benchmark", name),
                f"the benchmark {spec.benchmark.name} has no option {name!r}{_nearest(name, known)}",
            )
    try:
        options: Any = TypeAdapter(benchmark.Options).validate_python(given)
    except ValidationError as error:
        details = error.errors()[0]
        # below the option's name the location tells pydantic's branch of a union, which is no key of the file
        raise _problem(("benchmark", *details["loc"][:1]), _sentence(details)) from None
    for name, value in given.items():
        number = getattr(options, name)
        if isinstance(value, bool) and isinstance(number, int | float) and not isinstance(number, bool):
            raise _problem(("benchmark", name), f"must be a number, not {str(value).lower()}")
    try:
        complete = resolved(benchmark.Options, given, options)
    except ValueError as error:
        raise _problem(("benchmark", error.args[0]), error.args[1]) from None
    if spec.search is not None:
        _check_metrics(spec.search, options)
        pruner = spec.search.pruner
        epochs = spec.training.get("epochs", benchmark.recipe(spec.protocol, options).epochs)
        if pruner is not None and pruner.grace_period >= epochs:
            raise _problem(
                ("search", "pruner", "grace_period"),
                f"must be below the {epochs} epochs of a trial, not {pruner.grace_period}",
            )
    return spec.model_copy(update={"benchmark": BenchmarkSpec(name=spec.benchmark.name, **complete)})


def _check_metrics(search: SearchSpec, options: Any) -> None:
    """What the search reads has a part of the data to be read from."""
    for metric, keys in search.metrics.items():
        for needed, part in ((VALIDATION_METRIC, "validation"), ("accuracy/coarse", "heldout")):
            if metric == needed and getattr(options, part, None) == 0:
                raise _problem(
                    ("search", *keys), f"{needed} needs a {part} split: set benchmark.{part} above 0, to 0.2 say"
                )


def ready_made() -> list[str]:
    """The names of the ready-made studies."""
    return sorted(path.stem for path in READY_MADE.glob("*.yaml"))


def _locate(source: str | Path) -> Path:
    path = Path(source).expanduser()
    shipped = READY_MADE / f"{source}.yaml"
    if str(source) in ready_made():
        return shipped
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(f"{source}: a folder, not a study file")
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise UserError(f"{source}: no such study file")
    raise UserError(f"no study file or ready-made study {str(source)!r}{_nearest(str(source), ready_made())}")


@contextmanager
def _located(document: Document) -> Iterator[None]:
    """Turns an error at some keys into one sentence with their place in the document."""
    try:
        yield
    except ValidationError as error:
        # a slip in a key's name also makes the right name missing: say the slip
        details = min(error.errors(), key=lambda each: each["type"] == "missing")
        keys: Keys = (*details["loc"], *details.get("ctx", {}).get("keys", ()))
        no_text = document.no_text(keys) if details["type"] == "string_type" else None
        raise UserError(f"{document.where(keys)}: {no_text or _sentence(details, keys)}") from None
    except PydanticCustomError as error:
        context = error.context or {}
        raise UserError(f"{document.where(tuple(context['keys']))}: {context['message']}") from None


def _validated(document: Document) -> StudySpec:
    with _located(document):
        return StudySpec.model_validate(document.values)


def _sentence(details: ErrorDetails, keys: Keys = ()) -> str:
    """What is wrong, without its place."""
    given = details["input"]
    shown = "a mapping" if isinstance(given, dict) else "a list" if isinstance(given, list | tuple) else repr(given)
    match details["type"]:
        case "study":
            return str(details["ctx"]["message"])
        case "extra_forbidden":
            return f"unknown key {keys[-1]!r}{_nearest(str(keys[-1]), _siblings(keys[:-1]))}"
        case "missing":
            return "is required"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"must be a whole number, not {shown}{hints.number(given)}"
        case "float_type" | "float_parsing":
            return f"must be a number, not {shown}{hints.number(given)}"
        case "string_type":
            return f"must be text, not {shown}"
        case "bool_type" | "bool_parsing":
            return f"must be true or false, not {shown}{hints.switch(given)}"
        case "dict_type" | "model_type" | "dataclass_type":
            return f"must be a mapping of keys to values, not {shown}"
        case "value_error":
            return str(details["msg"]).removeprefix("Value error, ")
    return f"{details['msg'][0].lower()}{details['msg'][1:]}, not {shown}".replace("input should", "should")


def _siblings(keys: Keys) -> Iterable[str]:
    """The keys that are known below ``keys``."""
    models: Mapping[str, type[BaseModel]] = {
        "evaluation": Evaluation,
        "resources": Resources,
        "search": SearchSpec,
        "search.objective": Objective,
        "search.constraint": Constraint,
        "search.pruner": Pruner,
    }
    fallback = Range if keys[:2] == ("search", "criteria") else StudySpec
    return models.get(dotted(keys), fallback).model_fields


def _or(names: Iterable[str]) -> str:
    return ", ".join(names)


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _nearest(name: str, known: Iterable[str]) -> str:
    """The nearest known name, or all of them where none is near."""
    known = list(known)
    return _suggestion(name, known) or f"; known: {_or(known)}"
