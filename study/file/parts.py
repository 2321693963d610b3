"""The values of a study file's keys, and the parts that name a benchmark and a criterion."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, Strict
from pydantic_core import PydanticCustomError

from study.file import hints
from study.file.sentences import problem

#: a study with more seeds than this is taken for a slip of the pen
MOST_SEEDS = 1_000


def number(value: Any) -> float:
    """A finite number, as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        message = f"must be a finite number, not {value!r}{hints.number(value)}"
        raise PydanticCustomError("study", "{message}", {"message": message})
    return value


def seed_list(value: Any) -> Any:
    """``n`` is short for 0..n−1."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MOST_SEEDS:
            raise problem((), f"a number of seeds is between 1 and {MOST_SEEDS:,}, not {value}")
        return tuple(range(value))
    if isinstance(value, list | tuple):
        return tuple(value)
    raise problem((), f"must be a number of seeds or a list of them, not {value!r}{hints.number(value)}")


def whole_or_auto(value: Any) -> Any:
    """A whole number of at least 1, or ``auto``."""
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise problem((), f"must be a whole number of at least 1, or auto, not {value!r}{hints.number(value)}")


def whole_or_all(value: Any) -> Any:
    """A whole number of at least 0, or ``all``."""
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise problem((), f"must be a whole number of at least 0, or all, not {value!r}{hints.number(value)}")


def gpu_share(value: Any) -> Any:
    """A share of a GPU, or ``auto``."""
    if value == "auto":
        return value
    # a whole number is no float where pydantic has the choice, and is warned of when it is written
    share = float(number(value))
    if not 0 <= share <= 1:
        raise problem((), f"must be a share of a GPU in [0, 1], or auto, not {share:g}")
    return share


def named(value: Any) -> Any:
    """``ce`` is short for ``{name: ce}``."""
    return {"name": value} if isinstance(value, str) else value


def by_name(value: Any) -> Any:
    """As `named`; ``{fierce: {lambda: 1}}``, as under ``grid``, is told how it is written here."""
    if hint := hints.entry(value):
        raise problem((), f"names the criterion by a key, which is how grid does it; {hint}")
    return named(value)


def as_list(value: Any) -> Any:
    """One value is a list of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


#: an int stays an int: λ = 1 reads as 1, and e is never 100.0
Number = Annotated[float, PlainValidator(number)]
Whole = Annotated[int, Strict()]
Text = Annotated[str, Strict()]
Switch = Annotated[bool, Strict()]


class Model(BaseModel):
    """A part of a study file: what it does not know is refused, and what was read stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BenchmarkSpec(Model):
    """The benchmark's name, with its options beside it: ``{name: hyperspectral, data: scene.mat}``."""

    model_config = ConfigDict(extra="allow")

    name: Text

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class CriterionSpec(Model):
    """A criterion's name, with hyperparameters beside it: ``{name: fierce, lambda: 1, e: 100}``."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number] = Field(init=False)

    name: Text

    @property
    def hyperparameters(self) -> dict[str, float]:
        return dict(self.model_extra or {})
