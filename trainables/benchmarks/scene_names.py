"""What the arrays of hyperspectral scene files are called, in the collections in circulation and by the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.benchmarks import DataError

#: role -> names in public unmixing collections: Zhu's ground truths (Y or V, A, M, nRow, nCol, cood, maxValue),
#: the autoencoders' of Palsson et al. (Y, S_GT, GT, lines, cols), HySUPP's (Y, A, E, H, W), and spelled-out ones
NAMES: Mapping[str, tuple[str, ...]] = {
    "spectra": ("Y", "V", "X"),
    "abundances": ("A", "S_GT", "S_gt", "A_gt", "A_GT", "A_true", "abundances", "abundance", "abundanciesGT"),
    "endmembers": ("M", "GT", "E", "endmembers", "endmembersGT"),
    "rows": ("nRow", "lines", "H"),
    "columns": ("nCol", "cols", "W"),
    "names": ("names", "cood"),
    "scale": ("scale",),
    "maximum": ("maxValue",),
    "provenance": ("provenance",),
}


def chosen_names(keys: Mapping[str, str]) -> Mapping[str, str]:
    """Role -> name in the file, of ``keys`` by role or by its usual name: ``{abundances: XT}`` or ``{A: XT}``.

    Raises ``ValueError`` with one sentence for what is no role, named twice, or rows without columns.
    """
    chosen: dict[str, str] = {}
    for given, name in keys.items():
        role = next((role for role, names in NAMES.items() if given == role or given in names), None)
        if role is None:
            raise ValueError(f"keys says what {given!r} is called; known: {', '.join(NAMES)}")
        if not isinstance(name, str) or not name:
            raise ValueError(f"keys must give the name of {role} in the file, not {name!r}")
        if role in chosen:
            raise ValueError(f"keys names {role} twice, as {chosen[role]!r} and {name!r}")
        chosen[role] = name
    if ("rows" in chosen) != ("columns" in chosen):
        raise ValueError("keys must name both rows and columns, or neither")
    return chosen


def names_by_role(chosen: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    """`NAMES`, each role in ``chosen`` with that name alone, which then means nothing else."""
    taken = set(chosen.values())
    sizes = {role: NAMES[role] for role in ("rows", "columns")}
    usual = {role: tuple(name for name in names if name not in taken) for role, names in NAMES.items()}
    return {**usual, **sizes, **{role: (name,) for role, name in chosen.items()}}


@dataclass(frozen=True)
class Field:
    """An array of a scene file."""

    key: str
    path: Path
    value: Any

    def __str__(self) -> str:
        return f"{self.key} of {self.path}"

    def beside(self, other: Field) -> str:
        """Its name in a sentence that names the file of ``other``."""
        return self.key if self.path == other.path else str(self)

    def scalar(self) -> float:
        """Its one number; `DataError` where it is none above 0."""
        array = np.asarray(self.value)
        if array.size != 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all() or array.item() <= 0:
            raise DataError(f"{self} must be one positive number")
        return float(array.item())


@dataclass(frozen=True)
class SceneFile:
    """The arrays of one file, found by their roles."""

    path: Path
    fields: Mapping[str, Any]
    names: Mapping[str, tuple[str, ...]]

    def all(self, role: str) -> Sequence[Field]:
        """What the file holds under the names of ``role``, the likeliest first."""
        return [Field(name, self.path, self.fields[name]) for name in self.names[role] if name in self.fields]

    def sizes(self) -> Sequence[tuple[int, int]]:
        """(rows, columns) by each pair of names that the file holds; `DataError` where one is no whole number."""
        pairs = zip(self.names["rows"], self.names["columns"], strict=True)
        held = [[Field(name, self.path, self.fields[name]) for name in pair] for pair in pairs if self._has(pair)]
        return [(_whole(rows), _whole(columns)) for rows, columns in held]

    def _has(self, pair: tuple[str, str]) -> bool:
        # H and W are also the factors of a factorization
        both = all(name in self.fields for name in pair)
        return both and (pair != ("H", "W") or all(np.size(self.fields[name]) == 1 for name in pair))

    def listing(self) -> str:
        return ", ".join(sorted(self.fields)) or "nothing"


def _whole(field: Field) -> int:
    number = field.scalar()
    if number != round(number):
        raise DataError(f"{field} must be a whole number, not {number:g}")
    return int(number)
