"""What a study file says of a search: ranges, objective, constraint, sampler and pruner."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from analysis import dialect
from analysis.rules import DEFAULT, RULES
from study.file import settings
from study.file.document import Keys
from study.file.parts import MOST_SEEDS, Model, Number, Switch, Text, Whole, named
from study.file.sentences import nearest, problem

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
#: pruners by their name in a study file -> what they have where it is not given
PRUNERS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {"median": {}, "asha": {"reduction_factor": 3, "brackets": 1}, "hyperband": {"reduction_factor": 3}}
)
#: what others call them
_OTHER_PRUNERS: Mapping[str, str] = MappingProxyType(
    {"successive-halving": "asha", "successivehalving": "asha", "sha": "asha", "asynchyperband": "hyperband"}
    | {"medianpruner": "median", "median-stopping": "median", "hyperbandpruner": "hyperband"}
    | {"successivehalvingpruner": "asha"}
)
#: metric of the label-free rule and of the constraint's coarse accuracy on data that no seed trains on
VALIDATION_METRIC = "accuracy/validation"


class Range(Model):
    """What one hyperparameter or setting is searched in: an interval, both ends included, or a list of ``choices``.

    ``step`` and ``log`` exclude each other, as in Optuna.
    """

    #: the lower end
    low: Number | None = None
    #: the upper end
    high: Number | None = None
    #: for the learning rate and weight decay true unless it is given
    log: Switch = False
    #: distance of the values that are tried, from low on
    step: Number | None = None
    #: in place of an interval, the values of a setting: numbers, words or lists
    choices: tuple[Any, ...] | None = None

    @property
    def ends(self) -> tuple[Any, Any]:
        """The first and the last of its values."""
        return (self.low, self.high) if self.choices is None else (self.choices[0], self.choices[-1])

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.choices is not None:
            self._check_choices()
            return self
        for name in ("low", "high"):
            if getattr(self, name) is None:
                raise problem((name,), "is required")
        assert self.low is not None and self.high is not None
        if self.low >= self.high:
            raise problem((), f"low must be below high, and {self.low:g} is not below {self.high:g}")
        if self.log and self.low <= 0:
            raise problem(("low",), f"must be above 0 where log is true, not {self.low:g}")
        if self.step is not None:
            if self.log:
                raise problem(("step",), "cannot stand beside log: true; keep one of them")
            if self.step <= 0:
                raise problem(("step",), f"must be above 0, not {self.step:g}")
        return self

    def _check_choices(self) -> None:
        assert self.choices is not None
        for name in ("low", "high", "step", "log"):
            if getattr(self, name) is not None and getattr(self, name) is not False:
                raise problem((name,), "cannot stand beside choices; keep one of them")
        if len(self.choices) < 2:
            raise problem(("choices",), "needs two values at least")
        for position, value in enumerate(self.choices):
            if value in self.choices[:position]:
                raise problem(("choices",), f"{dialect.inline(value)} is given twice")


class Objective(Model):
    """What a search optimises: a metric's mean over the seeds at the last epoch, or a rule without fine labels.

    Under ``label_free`` the best point is the one, among those whose coarse validation accuracy stays within one
    standard error of cross-entropy's, that the ``rule`` of `analysis.rules` takes (its default where neither is given),
    or whose ``metric`` is largest.
    """

    #: its name, as in metrics.md: one of the validation part, best of all
    metric: Text = ""
    #: which values of the metric are better
    direction: Literal["minimize", "maximize"] | None = None
    #: whether the choice is made without fine labels
    label_free: Switch = False
    #: which rule chooses then; see measures.md
    rule: Text = ""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("label_free") is not True:
            return values
        if values.get("metric") and not values.get("rule"):
            return {"direction": "maximize", **values}
        rule = RULES.get(values.get("rule") or DEFAULT)
        if rule is None:
            # the check below says so
            return values
        return {"rule": rule.name, "metric": rule.metric, "direction": rule.direction, **values}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rule and not self.label_free:
            raise problem(("rule",), "is for label_free: true, which is missing")
        if self.rule:
            self._check_rule()
        if not self.metric:
            raise problem((), "needs a metric and a direction, or label_free: true")
        if self.direction is None:
            raise problem(("direction",), "is required: minimize or maximize")
        if self.label_free and not self.rule and self.direction != "maximize":
            raise problem(("direction",), "without a rule label_free takes the largest value: leave direction out")
        return self

    def _check_rule(self) -> None:
        if self.rule not in RULES:
            raise problem(("rule",), f"unknown rule {self.rule!r}{nearest(self.rule, RULES)}")
        rule = RULES[self.rule]
        if not rule.metric:
            raise problem(
                ("rule",), f"{rule.name} compares seeds when all are trained, in the report alone; choose another"
            )
        if (self.metric, self.direction) != (rule.metric, rule.direction):
            raise problem(("metric",), f"stands beside rule: {rule.name}, which has its own; keep one of them")


class Constraint(Model):
    """Points whose ``metric`` (mean over seeds, last epoch) is lower than the bound are infeasible.

    The bound is ``at_least``, or cross-entropy's own value less ``within_of_ce``.
    """

    #: the metric that is bounded
    metric: Text = "accuracy/coarse"
    #: its least value
    at_least: Number | None = None
    #: how much below cross-entropy's own it may lie
    within_of_ce: Number | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.at_least is None) == (self.within_of_ce is None):
            raise problem((), "needs one of at_least and within_of_ce")
        if self.within_of_ce is not None and self.within_of_ce < 0:
            raise problem(("within_of_ce",), f"must be 0 or more, not {self.within_of_ce:g}")
        return self


class Pruner(Model):
    """Stop the worse searched trials early. Off unless asked for, since the fine-label error falls and then rises.

    ``median`` stops a trial whose best value is worse than the median of the others' means so far; ``asha`` (successive
    halving, asynchronous) keeps the best of each ``reduction_factor`` trials at epochs ``grace_period``, that times the
    factor, and so on; ``hyperband`` is ASHA in several ``brackets``, each with a later first epoch. ``grace_period``,
    in epochs, should lie past the turn of the error.
    """

    #: which rule
    name: Text
    #: epochs that every trial is trained
    grace_period: Whole = Field(ge=1)
    #: of ``asha`` and ``hyperband``, 3 where it is not given
    reduction_factor: Whole | None = Field(default=None, ge=2)
    #: of ``asha``, where it is 1, and ``hyperband``, as many as begin before the last epoch
    brackets: Whole | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {**PRUNERS.get(str(values.get("name")), {}), **values}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name not in PRUNERS:
            meant = _OTHER_PRUNERS.get(self.name.lower().replace("_", "-"))
            hint = f"; did you mean {meant!r}?" if meant else nearest(self.name, PRUNERS)
            raise problem(("name",), f"unknown pruner {self.name!r}{hint}")
        if self.name == "median":
            for name in ("reduction_factor", "brackets"):
                if getattr(self, name) is not None:
                    raise problem((name,), "is for asha and hyperband; leave it out, or choose one of these")
        return self


class SearchSpec(Model):
    """What Optuna proposes: ``trials`` points for each criterion in ``criteria``, within its ranges.

    ``training`` and ``benchmark`` hold settings that are searched for each of these criteria; those of one alone stand
    below it, as ``training.learning_rate``.

    With ``confirm``, the best point of each and all baselines are trained again when the search has ended, on so many
    seeds that are none of the study's.
    """

    #: criterion -> hyperparameter or setting -> range; ``{}`` where the settings below are all
    criteria: dict[str, dict[str, Range]]
    training: dict[str, Range] = Field(default_factory=dict)
    benchmark: dict[str, Range] = Field(default_factory=dict)
    #: points of each criterion
    trials: Whole = Field(ge=1)
    #: what is optimised
    objective: Objective
    #: which of Optuna's samplers proposes
    sampler: Text = "tpe"
    #: the same seed proposes the same points
    sampler_seed: Whole = Field(default=0, ge=0, le=2**32 - 1)
    #: what a point must keep
    constraint: Constraint | None = None
    #: on how many fresh seeds the choice is confirmed
    confirm: Whole | None = Field(default=None, ge=2, le=MOST_SEEDS)
    #: what stops trials early, none by default
    pruner: Annotated[Pruner | None, BeforeValidator(lambda value: None if value == "none" else named(value))] = None

    def space(self, criterion: str) -> dict[str, Range]:
        """What is searched for ``criterion``: its hyperparameters and settings, by name."""
        blocks = {"training": self.training, "benchmark": self.benchmark}
        own = self.criteria[criterion]
        return {**own, **{name: each for name, each in settings.shared(blocks).items() if name not in own}}

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

    @model_validator(mode="before")
    @classmethod
    def _settings(cls, values: Any) -> Any:
        return settings.search_ranges(values)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.criteria:
            raise problem(("criteria",), "is empty: name a criterion and the range of a hyperparameter")
        if self.sampler not in SAMPLERS:
            raise problem(("sampler",), f"unknown sampler {self.sampler!r}{nearest(self.sampler, SAMPLERS)}")
        if self.objective.label_free and self.constraint is not None:
            raise problem(("constraint",), "the label-free objective is a constraint already; leave this one out")
        return self
