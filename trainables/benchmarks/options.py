"""What a benchmark's options accept, said by their types, and the one check of all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from trainables.benchmarks import DataPath

#: type -> what it asks for, in words
_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "left out"}


@dataclass(frozen=True)
class Bounds:
    """Between which values a number lies, as in ``Annotated[float, Bounds(0, 0.5, "a share")]``.

    The bounds themselves are accepted where they are ``closed``; ``what`` says in words what the number is.
    """

    low: float
    high: float = math.inf
    what: str = ""
    closed: bool = True

    def hold(self, value: float) -> bool:
        return self.low <= value <= self.high if self.closed else self.low < value < self.high

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"of at least {self.low:g}"
        left, right = "[]" if self.closed else "()"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


class Checked:
    """What a frozen dataclass of options derives from, so that each value is held to its field's type and `Bounds`.

    Looked at are text, numbers, switches, paths, ``Literal`` and unions of these; other types are left to the
    dataclass. Raises ``ValueError`` with one sentence that names the option.
    """

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            wanted = _wanted(value, hint)
            if wanted is not None:
                word = getattr(type(self), name, None) if hint == DataPath else None
                raise ValueError(f"{name} must be {wanted}{f', or {word!r}' if word else ''}, not {value!r}")


def is_number(value: object, whole: bool = False) -> bool:
    """Whether ``value`` is a finite number, a ``whole`` one where that is asked for; true and false are none."""
    kinds = int if whole else int | float
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def _wanted(value: Any, hint: Any) -> str | None:
    """What the type ``hint`` asks for in place of ``value``, in words; None where it has nothing against it."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        wanted = [_wanted(value, part) for part in parts]
        return None if None in wanted else wanted[0]
    if origin is Literal:
        return None if value in parts else f"one of {', '.join(map(str, parts))}"
    if hint == DataPath:
        return None if isinstance(value, str) and value else "the path of a folder or file"
    if origin is Annotated:
        bounds = next((mark for mark in parts[1:] if isinstance(mark, Bounds)), None)
        if bounds is None or (_is_of(value, parts[0]) and bounds.hold(value)):
            return _wanted(value, parts[0])
        return f"{bounds.what or _WORDS[parts[0]]} {bounds}"
    return None if hint not in _WORDS or _is_of(value, hint) else _WORDS[hint]


def _is_of(value: Any, kind: type) -> bool:
    """Whether ``value`` is of ``kind``, one of `_WORDS`."""
    return is_number(value, kind is int) if kind in (int, float) else isinstance(value, kind)
