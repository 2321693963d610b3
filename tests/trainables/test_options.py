"""Options held to their types and bounds, against pydantic, and what is said of those that are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, Strict, TypeAdapter

from trainables.benchmarks import DataPath
from trainables.benchmarks.options import Bounds, Checked, is_number

Share = Annotated[float, Bounds(0, 0.5, "a share")]


@dataclass(frozen=True)
class Options(Checked):
    data: DataPath = "simulated"
    cache: DataPath | None = None
    size: Annotated[int, Bounds(8)] = 32
    samples: Annotated[int, Bounds(1)] | None = None
    share: Share = 0.1
    fraction: Annotated[float, Bounds(0, 1, "a share", closed=False)] = 0.5
    rate: float = 1.0
    count: int = 0
    mode: Literal["auto", "looped"] = "auto"
    flag: bool = False
    maybe: bool | None = None
    note: str = ""
    #: of no type that is looked at
    shots: tuple[int, ...] = (1, 5)


#: the same in pydantic's words
WORDS: dict[str, Any] = {
    "data": Annotated[str, Strict(), Field(min_length=1)],
    "cache": Annotated[str, Strict(), Field(min_length=1)] | None,
    "size": Annotated[int, Strict(), Field(ge=8)],
    "samples": Annotated[int, Strict(), Field(ge=1)] | None,
    "share": Annotated[float, Strict(), Field(ge=0, le=0.5)],
    "fraction": Annotated[float, Strict(), Field(gt=0, lt=1)],
    "rate": Annotated[float, Strict(), Field(allow_inf_nan=False)],
    "count": Annotated[int, Strict()],
    "mode": Literal["auto", "looped"],
    "flag": Annotated[bool, Strict()],
    "maybe": Annotated[bool, Strict()] | None,
    "note": Annotated[str, Strict()],
}
VALUES = (0, 1, 7, 8, 0.0, 0.5, 0.6, 1.0, 8.5, -1, True, False, None, "", "auto", "x", "8", float("nan"), float("inf"))


def passes(check: Callable[[], object]) -> bool:
    try:
        check()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", WORDS)
def test_what_is_accepted_is_what_pydantic_accepts(name: str) -> None:
    adapter = TypeAdapter(WORDS[name])
    for value in VALUES:
        # pydantic's error is a ValueError too
        theirs = passes(lambda value=value: adapter.validate_python(value))
        assert passes(lambda value=value: Options(**{name: value})) == theirs, (name, value)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("data", "", "data must be the path of a folder or file, or 'simulated', not ''"),
        ("cache", 3, "cache must be the path of a folder or file, not 3"),
        ("size", 4, "size must be a whole number of at least 8, not 4"),
        ("samples", 1.5, "samples must be a whole number of at least 1, not 1.5"),
        ("share", 0.6, "share must be a share in [0, 0.5], not 0.6"),
        ("fraction", 1, "fraction must be a share in (0, 1), not 1"),
        ("rate", "fast", "rate must be a number, not 'fast'"),
        ("mode", "fast", "mode must be one of auto, looped, not 'fast'"),
        ("maybe", 1, "maybe must be true or false, not 1"),
        ("note", None, "note must be text, not None"),
    ],
)
def test_what_is_wrong_is_one_sentence(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Options(**{name: value})


def test_other_types_are_left_to_the_dataclass() -> None:
    assert Options(shots=[1]).shots == [1]  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "number", "whole"), [(1, True, True), (1.0, True, False), (True, False, False)])
def test_numbers(value: object, number: bool, whole: bool) -> None:
    assert (is_number(value), is_number(value, whole=True)) == (number, whole)
