"""How the messages of `trainables.contract` say what was given and what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import Tensor

from trainables.benchmarks import Benchmark, DataError

Returned = TypeVar("Returned")


def owner_of(benchmark: Benchmark) -> str:
    """The benchmark's class as messages name it."""
    return getattr(benchmark, "__name__", type(benchmark).__name__)


def call(where: str, function: Callable[..., Returned], *arguments: Any, kind: type[DataError] = DataError) -> Returned:
    """The function's value; an error of any kind becomes one sentence of ``kind``."""
    try:
        return function(*arguments)
    except DataError:
        raise
    # code of one's own raises whatever it likes
    except Exception as error:
        raise kind(f"{where} fails: {type(error).__name__}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def listed(names: Iterable[object]) -> str:
    """The names in order, one after another."""
    return ", ".join(sorted(map(str, names)))


def kind_of(value: object) -> str:
    """What a value is: its type, and how many it holds."""
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    return "None" if value is None else type(value).__name__


def shape_of(tensor: Tensor) -> str:
    """A tensor's shape, as Python writes it."""
    return f"({', '.join(map(str, tensor.shape))}{',' * (tensor.dim() == 1)})"
