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

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from analysis import dialect
from study.errors import UserError
from study.file import checks, settings, training
from study.file.document import Document, Keys, dotted, read
from study.file.machines import Kubernetes, Machines, asked
from study.file.parts import (
    BenchmarkSpec,
    CriterionSpec,
    Model,
    Text,
    Whole,
    as_list,
    by_name,
    gpu_share,
    named,
    number,
    seed_list,
    whole_or_all,
    whole_or_auto,
)
from study.file.search import Constraint, Objective, Pruner, Range, SearchSpec
from study.file.sentences import nearest, problem, sentence
from trainables.trial import PROTOCOLS

#: the folder of the ready-made studies
READY_MADE = Path(__file__).parents[1] / "specs"

#: the key of Optuna's database, and what it was called before 0.2
OPTUNA_URI, OLD_OPTUNA_URI = "optuna_uri", "storage_uri"

#: a study with more grid points than this is taken for a slip of the pen
MOST_POINTS = 100_000


class Evaluation(Model):
    """Overrides of the evaluators' cadence: every so many epochs, 0 for the last epoch alone."""

    #: evaluator -> every so many epochs
    cadence: dict[str, Annotated[Whole, Field(ge=0)]] = Field(default_factory=dict)


class Resources(Model):
    """What one trial gets: CPU cores, and a GPU, a share of one, or none.

    With ``gpus: auto`` the first trials take whole GPUs, and the later ones the share whose memory those used.
    """

    #: cores of each trial
    cpus: Annotated[float, PlainValidator(number), Field(gt=0)] = 1.0
    #: a share of one GPU, 0 for none
    gpus: Annotated[float | Literal["auto"], PlainValidator(gpu_share)] = 0.0

    @property
    def needs_gpu(self) -> bool:
        return self.gpus == "auto" or self.gpus > 0


class Tracking(Model):
    """What MLflow's interface shows of each seed; reports and exports read all values from the trial's artifact."""

    #: points of a metric that a seed's run holds at most, the last one among them: a whole number, or "all"; 0 is for
    #: seeds without runs of their own, which take most of a trial's requests. A trial's run has mean and standard error
    #: at every epoch
    seed_points: Annotated[int | Literal["all"], PlainValidator(whole_or_all)] = 100


class StudySpec(Model):
    """A study, checked. `load` reads a study file; `to_yaml` and `from_yaml` are each other's inverse."""

    #: what the study is called in MLflow, Optuna and every command; the file's name by default
    name: Text = Field(min_length=1, max_length=100)
    #: a line for MLflow and the report
    description: Text = ""
    #: what is trained, with its options beside the name; see benchmarks.md
    benchmark: Annotated[BenchmarkSpec, BeforeValidator(named)]
    #: which statement of the method is followed: the paper's, or its released code's
    protocol: Text = "released"
    #: baselines: each a name, or a name with hyperparameters beside it; see criteria.md
    criteria: Annotated[tuple[Annotated[CriterionSpec, BeforeValidator(by_name)], ...], BeforeValidator(as_list)] = ()
    #: criterion -> hyperparameter or setting -> values; a trial for each element of the product. Settings below
    #: ``training`` and ``benchmark`` are varied for every criterion, those of ``criteria`` among them
    grid: Annotated[
        dict[str, dict[str, Annotated[tuple[Any, ...], BeforeValidator(as_list)]]] | None,
        BeforeValidator(settings.grid_axes),
    ] = None
    #: what Optuna proposes, in place of a grid
    search: SearchSpec | None = None
    #: how many, numbered from 0, or which; all seeds of a trial are trained at once
    seeds: Annotated[tuple[Annotated[Whole, Field(ge=0, lt=2**31)], ...], BeforeValidator(seed_list)] = tuple(range(10))
    #: overrides of the benchmark's `trainables.trial.Recipe`, epochs among them
    training: dict[str, Any] = Field(default_factory=dict)
    #: how often evaluators measure
    evaluation: Evaluation = Evaluation()
    #: what each trial gets
    resources: Resources = Resources()
    #: how much of each seed MLflow's interface shows
    tracking: Tracking = Tracking()
    #: trials at the same time; "auto" is as many as the resources allow
    concurrency: Annotated[int | Literal["auto"], PlainValidator(whole_or_auto)] = "auto"
    #: seeds that one Tune trial trains together, the others of the same trial beside it; "auto" splits a trial of a
    #: study without search where some of the cluster would idle otherwise. No number depends on it
    seeds_per_shard: Annotated[int | Literal["auto"], PlainValidator(whole_or_auto)] = "auto"
    #: trials that one Tune trial trains together as one program, where they differ in nothing but hyperparameters that
    #: their criterion takes by replica; each stays a trial of its own everywhere else. A small network leaves a device
    #: idle alone. "auto" is as many as the first trial of each criterion finds worth it, by a few steps. A search
    #: proposes so many before it learns of any of them, with "auto" where its sampler learns of none. No number depends
    #: on it
    points_per_trial: Annotated[int | Literal["auto"], PlainValidator(whole_or_auto)] = 1
    #: what a scheduler is asked for: nodes, and what each of them has; see schedulers.md
    machines: Machines = Machines()
    #: how often a trial may fail before it is given up
    max_failures: Whole = Field(default=1, ge=0)
    #: folder or s3://bucket/prefix of checkpoints and Tune's state, which all nodes see; else FIERCE_STORAGE, else
    #: the study home's
    storage: Text | None = None
    #: MLflow server or store; the study home's own where there is none
    tracking_uri: Text | None = None
    #: Optuna's database (SQLAlchemy URL); the study home's own where there is none
    optuna_uri: Text | None = None

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
            checks.against_resources(spec.training, spec.resources.needs_gpu)
            checks.against_criteria(spec)
            benchmark = checks.against_benchmark(spec.benchmark)
            spec = spec.model_copy(update={"benchmark": benchmark})
            checks.against_settings(spec)
        return spec

    @classmethod
    def from_yaml(cls, text: str, source: str = "study.yaml") -> StudySpec:
        """The study that `to_yaml` wrote; criteria, the benchmark, its options and its data are not looked at."""
        return _validated(Document(text, source))

    def to_yaml(self) -> str:
        values = self.model_dump()
        # what is left out is None when it is read again, save the benchmark's options and the training settings
        kept = {key: value if key in ("benchmark", "training") else _given(value) for key, value in values.items()}
        return dialect.dump({key: value for key, value in kept.items() if value is not None})

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, values: Any) -> Any:
        """Files of before 0.2 say ``storage_uri`` for ``optuna_uri``."""
        if not isinstance(values, dict) or OLD_OPTUNA_URI not in values:
            return values
        if OPTUNA_URI in values:
            raise problem((OLD_OPTUNA_URI,), f"is the old name of {OPTUNA_URI}, which is given too; leave this one out")
        return {OPTUNA_URI if key == OLD_OPTUNA_URI else key: value for key, value in values.items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in self.name) or (
            not self.name[0].isalnum()
        ):
            raise problem(
                ("name",),
                f"{self.name!r}: a name is letters, digits, '.', '_' and '-', and starts with a letter or digit",
            )
        if self.protocol not in PROTOCOLS:
            raise problem(("protocol",), f"unknown protocol {self.protocol!r}{nearest(self.protocol, PROTOCOLS)}")
        if self.grid is not None and self.search is not None:
            raise problem(("search",), "stands beside grid; a study has one of them, so move one to a study of its own")
        if not self.criteria and self.grid is None and self.search is None:
            raise problem(("criteria",), "names no criterion, and there is no grid or search: give one, as in [ce]")
        self._check_criteria()
        if self.grid is not None:
            _check_grid(self.grid, len(self.criteria))
        if not self.seeds:
            raise problem(("seeds",), "names no seed")
        for position, seed in enumerate(self.seeds):
            if seed in self.seeds[:position]:
                raise problem(("seeds",), f"seed {seed} is given twice")
        training.check_training(self.training)
        asked(self)
        if self.search is not None:
            if self.seeds_per_shard != "auto":
                raise problem(("seeds_per_shard",), "stands beside search, which keeps whole trials; leave it out")
            if self.search.pruner is not None and self.points_per_trial not in (1, "auto"):
                raise problem(
                    ("points_per_trial",),
                    "stands beside search.pruner, which stops trials one by one; leave one of them out",
                )
            if self.search.pruner is not None and self.search.objective.label_free:
                raise problem(("search", "pruner"), "cannot be used with the label-free objective; leave it out")
            if self.search.confirm is not None and max(self.seeds) + self.search.confirm >= 2**31:
                raise problem(
                    ("search", "confirm"), "takes the seeds above the largest of seeds: give smaller ones there"
                )
        return self

    def _check_criteria(self) -> None:
        for position, criterion in enumerate(self.criteria):
            if criterion in self.criteria[:position]:
                raise problem(("criteria", position), f"{criterion.name} is listed twice with the same hyperparameters")


def _given(values: Any) -> Any:
    """``values`` without the None among them, at any depth."""
    if isinstance(values, dict):
        return {key: _given(value) for key, value in values.items() if value is not None}
    return values


def _check_grid(grid: Mapping[str, Mapping[str, tuple[Any, ...]]], baselines: int) -> None:
    if not grid:
        raise problem(("grid",), "is empty: name a criterion and a list of values")
    for criterion, axes in grid.items():
        for name, values in axes.items():
            at: Keys = ("grid", criterion, name)
            if not values:
                raise problem(at, "is empty: give at least one value")
            for position, value in enumerate(values):
                if value in values[:position]:
                    raise problem(at, f"{dialect.inline(value)} is given twice")
    shared = settings.shared(grid)
    criteria = [{**shared, **axes} for name, axes in grid.items() if name not in settings.BLOCKS]
    if not criteria and not baselines:
        raise problem(("criteria",), f"is empty, and the grid varies {', '.join(shared)} alone: name a criterion")
    criteria += [shared] * baselines
    points = sum(math.prod(len(values) for values in axes.values()) for axes in criteria)
    if points > MOST_POINTS:
        raise problem(("grid",), f"has {points:,} points; at most {MOST_POINTS:,} are accepted")


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
    raise UserError(f"no study file or ready-made study {str(source)!r}{nearest(str(source), ready_made())}")


@contextmanager
def _located(document: Document) -> Iterator[None]:
    """Turns an error at some keys into one sentence with their place in the document."""
    try:
        yield
    except ValidationError as error:
        # a misspelt key is reported twice, as unknown and as missing: the unknown one says more
        details = min(error.errors(), key=lambda problem: problem["type"] == "missing")
        keys: Keys = (*details["loc"], *details.get("ctx", {}).get("keys", ()))
        if keys == (OPTUNA_URI,) and OLD_OPTUNA_URI in document.values:
            keys = (OLD_OPTUNA_URI,)
        said = document.no_text(keys) if details["type"] == "string_type" else None
        if details["type"] == "extra_forbidden" and (below := training.setting(str(keys[-1]))):
            said = f"is a training setting; write it below training, as training: {{{below}: …}}"
        raise UserError(f"{document.where(keys)}: {said or sentence(details, keys, _siblings(keys[:-1]))}") from None
    except PydanticCustomError as error:
        context = error.context or {}
        raise UserError(f"{document.where(tuple(context['keys']))}: {context['message']}") from None


def _validated(document: Document) -> StudySpec:
    with _located(document):
        return StudySpec.model_validate(document.values)


def _siblings(keys: Keys) -> Iterable[str]:
    """The keys that are known below ``keys``."""
    models: Mapping[str, type[BaseModel]] = {
        "evaluation": Evaluation,
        "machines": Machines,
        "machines.kubernetes": Kubernetes,
        "resources": Resources,
        "tracking": Tracking,
        "search": SearchSpec,
        "search.objective": Objective,
        "search.constraint": Constraint,
        "search.pruner": Pruner,
    }
    fallback = Range if keys[:2] == ("search", "criteria") else StudySpec
    return models.get(dotted(keys), fallback).model_fields
