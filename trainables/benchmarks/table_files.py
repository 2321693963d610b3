"""Tables as they stand in files: CSV, Parquet and ``.npz``, column by column, numbers or text."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from trainables.benchmarks import DataError

#: cells of a CSV that hold no value, as pandas reads them
MISSING = frozenset(
    {
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
        *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    }
)
#: what may stand between the cells of a CSV; the header tells which does
DELIMITERS = (",", ";", "\t", "|")
#: as pyarrow and pandas call the column that holds a frame's row numbers
_INDEX = "__index_level_0__"


@dataclass(frozen=True)
class Table:
    """A file's columns in its order: (N,) float64 with NaN for what is missing, or (N,) objects, text or None.

    ``wide`` has the columns of each two-dimensional array of an ``.npz``, by the array's name. ``unread`` says why a
    column could not be read, by its name; it does no harm where the column is left out.
    """

    path: Path
    columns: Mapping[str, np.ndarray]
    wide: Mapping[str, Sequence[str]]
    unread: Mapping[str, str]

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def named(self, names: Sequence[str], option: str) -> list[str]:
        """The columns that ``names`` of ``option`` mean; `DataError` with the nearest names where there is no such."""
        columns: list[str] = []
        for name in names:
            if name in self.wide:
                columns += self.wide[name]
            elif name in self.columns or name in self.unread:
                columns.append(name)
            else:
                known = [*self.wide, *self.columns, *self.unread]
                near = get_close_matches(name, known, n=3) or known[:3]
                raise DataError(
                    f"{self.path} has no column {name!r}, which {option} names; it has "
                    f"{', '.join(map(repr, near))} among {len(known)}"
                )
        return columns

    def column(self, name: str) -> np.ndarray:
        """The values of a column that is there; `DataError` where it could not be read."""
        if name in self.unread:
            raise DataError(f"{self.path}: column {name!r} {self.unread[name]}, or list it under leave_out")
        return self.columns[name]


def is_text(values: np.ndarray) -> bool:
    """Whether a column holds text, and not numbers."""
    return values.dtype == object


def missing(values: np.ndarray) -> np.ndarray:
    """Which of a column's values (N,) are not there."""
    return np.array([value is None for value in values], bool) if is_text(values) else np.isnan(values)


def read_table(path: Path) -> Table:
    """The table of a ``.csv`` (also ``.tsv``, ``.txt``), ``.parquet`` or ``.npz`` file.

    Raises `DataError` with one sentence where it cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'not there'}; data must be a table's file")
    readers = {".csv": _csv, ".tsv": _csv, ".txt": _csv, ".parquet": _parquet, ".pq": _parquet, ".npz": _npz}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is no table that is known: give a .csv, .parquet or .npz file")
    table = reader(path)
    if not table.rows:
        raise DataError(f"{path} has no rows")
    return table


def _csv(path: Path) -> Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(DELIMITERS, key=header.count)
            lines = csv.reader(file, delimiter=delimiter)
            names = [name.strip() for name in next(lines, [])]
            _check_names(names, path)
            cells: list[list[str]] = [[] for _ in names]
            for line in lines:
                if not line:
                    continue
                if len(line) != len(names):
                    raise DataError(
                        f"{path}, line {lines.line_num}: {len(line)} cells where the header names {len(names)} columns"
                    )
                for column, cell in zip(cells, line, strict=True):
                    column.append(cell)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: {error}") from None
    columns: dict[str, np.ndarray] = {}
    unread: dict[str, str] = {}
    for name, column in zip(names, cells, strict=True):
        if not name and column == [str(row) for row in range(len(column))]:
            # pandas' row numbers are no input: in a sorted file they would tell the labels
            continue
        if not name:
            raise DataError(f"{path}: a column of the header has no name: name it, or delete it")
        _take_cells(name, column, columns, unread)
    return Table(path, columns, {}, unread)


def _take_cells(name: str, cells: Sequence[str], columns: dict[str, np.ndarray], unread: dict[str, str]) -> None:
    """Put a CSV's column among the ``columns``, or say among the ``unread`` why it is neither numbers nor text."""
    numbers = [_number(cell) for cell in cells]
    odd = [row for row, number in enumerate(numbers) if number is None]
    if not odd:
        columns[name] = np.array(numbers, np.float64)
        return
    if sum(number == number for number in numbers if number is not None) > len(cells) / 2:
        where = f"{cells[odd[0]]!r} in row {odd[0] + 1} (the header not counted)"
        unread[name] = f"holds numbers, but {where}: mend or empty that cell"
        return
    columns[name] = _texts([None if cell.strip() in MISSING else cell.strip() for cell in cells])


def _number(cell: str) -> float | None:
    """The cell's number, NaN for one that is missing; None for text."""
    cell = cell.strip()
    if cell in MISSING:
        return float("nan")
    try:
        # to Python 1_000 is a number
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _texts(values: Sequence[str | None]) -> np.ndarray:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def _check_names(names: Sequence[str], path: Path) -> None:
    repeated = next((name for name in names if name and names.count(name) > 1), None)
    if repeated is not None:
        raise DataError(f"{path} has two columns {repeated!r}: name one of them otherwise")


def _parquet(path: Path) -> Table:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(f"{path} is Parquet, which needs pyarrow: install it, or save the table as CSV") from None
    try:
        read = parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not Parquet: {str(error).splitlines()[0]}") from None
    _check_names(read.column_names, path)
    columns: dict[str, np.ndarray] = {}
    unread: dict[str, str] = {}
    kinds: Any = arrow.types
    for name in read.column_names:
        if name == _INDEX:
            continue
        values = read.column(name)
        if kinds.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        kind = values.type
        if any(test(kind) for test in (kinds.is_integer, kinds.is_floating, kinds.is_decimal, kinds.is_boolean)):
            columns[name] = np.array(
                [np.nan if value is None else float(value) for value in values.to_pylist()], np.float64
            )
        elif kinds.is_null(kind):
            columns[name] = np.full(len(values), np.nan)
        elif kinds.is_string(kind) or kinds.is_large_string(kind):
            columns[name] = _texts(values.to_pylist())
        else:
            unread[name] = f"is of type {kind}: store it as numbers or text"
    return Table(path, columns, {}, unread)


def _npz(path: Path) -> Table:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: _array(file, name, path) for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not an .npz file: {error}") from None
    columns: dict[str, np.ndarray] = {}
    wide: dict[str, list[str]] = {}
    rows = {name: len(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        if rows[name] != next(iter(rows.values())):
            first = next(iter(rows))
            raise DataError(f"{path}: {name!r} has {rows[name]:,} rows, and {first!r} {rows[first]:,}: one a sample")
        if array.ndim == 2:
            wide[name] = [f"{name}.{number}" for number in range(array.shape[1])]
        columns |= zip(wide.get(name, [name]), array.reshape(len(array), -1).T, strict=True)
    return Table(path, columns, wide, {})


def _array(file: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    try:
        array = file[name]
    except ValueError:
        # numpy stores what is of several types by pickle, which runs code when it is read
        raise DataError(
            f"{path}: {name!r} is an array of objects, which is not read: save it as numbers or text, by "
            "astype(float) or astype(str)"
        ) from None
    if array.ndim not in (1, 2):
        raise DataError(f"{path}: {name!r} is of shape {array.shape}: give a column (N,), or several (N, columns)")
    if array.dtype.kind in "US":
        words = [None if word in MISSING else word for word in array.astype(str).ravel().tolist()]
        return _texts(words).reshape(array.shape)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: {name!r} is of type {array.dtype}: save it as numbers or text")
    return array.astype(np.float64)
