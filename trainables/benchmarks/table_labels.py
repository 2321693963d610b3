"""Labels from a table's columns: coarse classes, and fine ones as classes or as numbers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.benchmarks import DataError
from trainables.benchmarks.options import is_number
from trainables.benchmarks.table_files import is_text

#: whole numbers of more kinds than this are taken for values, such as years or prices, and not for classes
MOST_KINDS = 100
#: how a coarse column of continuous values is cut
MEDIAN = "median"


@dataclass(frozen=True)
class Coarse:
    """The ``column`` of the coarse classes, or of numbers that are cut into them.

    A value that is ``above`` a cut, a number or `MEDIAN`, is of the higher class, one that equals it is not; ``bins``
    are of equal counts.
    """

    column: str
    above: float | str | None = None
    bins: int | None = None

    @classmethod
    def read(cls, given: object) -> Coarse:
        """From a column's name, ``{column, above}`` or ``{column, bins}``; ``ValueError`` with one sentence."""
        if isinstance(given, str) and given:
            return cls(given)
        forms = "a column's name, {column: price, above: median} or {column: price, bins: 3}"
        if not isinstance(given, Mapping) or not isinstance(given.get("column"), str):
            raise ValueError(f"coarse must be {forms}, not {given!r}")
        if len(given) != 2 or not set(given) & {"above", "bins"}:
            raise ValueError(f"coarse takes a column and one of above and bins, as in {forms}, not {dict(given)!r}")
        if "above" in given and given["above"] != MEDIAN and not is_number(given["above"]):
            raise ValueError(f"above of coarse must be a number or {MEDIAN}, not {given['above']!r}")
        if "bins" in given and not (is_number(given["bins"], whole=True) and given["bins"] >= 2):
            raise ValueError(f"bins of coarse must be a whole number of at least 2, not {given['bins']!r}")
        return cls(**given)


def coarse_labels(coarse: Coarse, values: np.ndarray, source: str) -> tuple[np.ndarray, list[str]]:
    """Coarse classes (N,) from 0 of a column without missing ``values`` (N,), and their names.

    `DataError` where they are fewer than two, or the column is continuous and nothing cuts it.
    """
    name = coarse.column
    if coarse.above is None and coarse.bins is None:
        if not is_text(values) and is_continuous(values):
            raise DataError(
                f"{source}: coarse column {name!r} holds {len(np.unique(values)):,} different numbers: cut it by "
                f"coarse: {{column: {name}, above: {MEDIAN}}} or {{column: {name}, bins: 3}}"
            )
        numbers, names = classes(values)
    else:
        numbers, names = _cut(coarse, values, source)
    if len(names) < 2:
        raise DataError(f"{source}: coarse column {name!r} holds one class alone, {names[0]!r}: two or more are needed")
    return numbers, names


def fine_labels(
    columns: Mapping[str, np.ndarray], kind: str | None, source: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Fine labels of columns without missing values: classes (N,) int64 and their names, or numbers (N, m) and None.

    One column gives numbers (N,). Of several columns that are classes, each combination is one. ``kind`` is
    ``classes`` or ``numbers``, None to tell by type: text and whole numbers of few kinds are classes. `DataError`
    where the columns do not go together, or no class holds two rows.
    """
    for name, values in columns.items():
        if kind == "numbers" and is_text(values):
            raise DataError(f"{source}: fine column {name!r} holds text, such as {values[0]!r}: fine_kind is classes")
        if not is_text(values) and not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(f"{source}: fine column {name!r} holds {values[row]:g}: give numbers that are finite")
    told = {name: is_text(values) or not is_continuous(values) for name, values in columns.items()}
    if kind == "classes" or (kind is None and all(told.values())):
        numbers, names = classes(*columns.values())
        # where each row is a class of its own, no held-out row has a class that was trained on
        if len(names) == len(numbers):
            raise DataError(
                f"{source}: fine {' and '.join(map(repr, columns))} has as many values as rows, {len(numbers):,}, and "
                "no class of them two: say fine_kind: numbers, or name another column"
            )
        return numbers, tuple(names)
    text = next((name for name, values in columns.items() if is_text(values)), None)
    if text is not None:
        number = next(name for name in columns if not told[name])
        raise DataError(
            f"{source}: fine column {text!r} holds text, and {number!r} numbers of many kinds: name one of them, or "
            "say fine_kind: classes"
        )
    stacked = np.stack(list(columns.values()), 1).astype(np.float32)
    return stacked[:, 0] if len(columns) == 1 else stacked, None


def is_continuous(values: np.ndarray) -> bool:
    """Whether numbers (N,) are values rather than classes: parts of whole ones, or whole ones of many kinds."""
    return bool((values != np.round(values)).any()) or len(np.unique(values)) > MOST_KINDS


def classes(*columns: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Classes (N,) from 0 of the combinations of the columns' values, in their order, and the names of them."""
    numbered = [np.unique(values, return_inverse=True) for values in columns]
    codes = np.stack([inverse.reshape(-1) for _, inverse in numbered], 1)
    combinations, numbers = np.unique(codes, axis=0, return_inverse=True)
    names = [
        " ".join(_written(kinds[code]) for (kinds, _), code in zip(numbered, row, strict=True))
        for row in combinations.tolist()
    ]
    return numbers.reshape(-1).astype(np.int64), names


def check_sizes(what: str, numbers: np.ndarray, names: Sequence[str], parts: Sequence[str], source: str) -> None:
    """`DataError` where a class has fewer samples than there are ``parts``: one of them would know nothing of it."""
    sizes = np.bincount(numbers, minlength=len(names))
    least = int(sizes.argmin())
    if sizes[least] < len(parts):
        samples = "1 sample" if sizes[least] == 1 else f"{sizes[least]} samples"
        raise DataError(
            f"{source}: {what} class {names[least]!r} has {samples}, fewer than the "
            f"{len(parts)} parts ({', '.join(parts)}): join it with another class, or leave its rows out"
        )


def _cut(coarse: Coarse, values: np.ndarray, source: str) -> tuple[np.ndarray, list[str]]:
    name = coarse.column
    if is_text(values):
        raise DataError(f"{source}: coarse column {name!r} holds text, such as {values[0]!r}, and cannot be cut")
    if not np.isfinite(values).all():
        raise DataError(f"{source}: coarse column {name!r} holds a value that is not finite: mend or drop its row")
    if coarse.bins is None:
        cuts = np.array([np.median(values) if coarse.above == MEDIAN else coarse.above], float)
        names = [f"{name} ≤ {cuts[0]:g}", f"{name} > {cuts[0]:g}"]
    else:
        cuts = np.quantile(values, np.arange(1, coarse.bins) / coarse.bins)
        ends = [f"{cut:g}" for cut in cuts]
        between = [f"{low} < {name} ≤ {high}" for low, high in itertools.pairwise(ends)]
        names = [f"{name} ≤ {ends[0]}", *between, f"{name} > {ends[-1]}"]
    numbers = np.searchsorted(cuts, values, side="left")
    empty = set(range(len(names))) - set(numbers.tolist())
    if empty:
        raise DataError(
            f"{source}: coarse column {name!r} has no row with {names[min(empty)]}: cut it elsewhere, or by fewer bins"
        )
    return numbers.astype(np.int64), names


def _written(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}" if abs(value) < 1e6 else str(int(value))
