"""The small file that the paper is rebuilt from: where data are and how much time there is; and what the paper has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from analysis import dialect
from analysis.across.paper import Element
from study.errors import UserError

ELEMENTS = Path(__file__).with_name("elements.yaml")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class PaperFile(BaseModel):
    """``paper.yaml``. ``data``: name -> a path, or options of the benchmark; what is not named is simulated.

    ``budget`` is seconds on the clock, None for no bound. ``only`` are the entries that are wanted, all where empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "paper"
    data: dict[str, Any] = {}
    budget: float | None
    only: tuple[str, ...] = ()
    protocols: tuple[Literal["paper", "released"], ...] = ("released", "paper")
    price: float | None = None

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", value):
            raise ValueError(f"must be of small letters, digits and hyphens, not {value!r}")
        return value

    @field_validator("budget", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> float | None:
        if value == "none":
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|m|min|h|d)", str(value))
        if match is None or not float(match[1]):
            raise ValueError(f"must be a time such as 30m, 2h or 1.5d, or none for no bound, not {value!r}")
        return float(match[1]) * _SECONDS[match[2]]


@dataclass(frozen=True)
class Entry:
    """A study of the paper: a ready-made one under one protocol; see ``elements.yaml``.

    On a CPU it is timed with ``timed`` seeds, and so many more take so many times longer.
    """

    entry: str
    study: str
    protocol: str
    data: str
    weight: float
    paper: str
    steps: int
    least: int
    timed: int
    narrow: tuple[str, ...] = ()
    simulated: tuple[str, ...] = ()


def read(path: Path) -> PaperFile:
    """The file at ``path``; relative paths in it are from its folder. Raises `UserError` with one sentence."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), dialect.Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: is no YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold keys (data, budget), such as: budget: 2h")
    try:
        found = PaperFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = ", ".join(PaperFile.model_fields)
        what = "is needed, such as 2h" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
        what = f"is no key of it; known: {known}" if first["type"] == "extra_forbidden" else what
        raise UserError(f"{path}: {key} {what}") from None
    names = {entry.data for entry in entries()}
    for name in found.data:
        if name not in names:
            raise UserError(f"{path}: data.{name} is no data set of the paper; known: {', '.join(sorted(names))}")
    wanted = {entry.entry for entry in entries()}
    for name in found.only:
        if name not in wanted:
            raise UserError(f"{path}: only names {name!r}, and known are {', '.join(sorted(wanted))}")
    return found.model_copy(update={"data": {name: _placed(path, each) for name, each in found.data.items()}})


def _placed(path: Path, value: Any) -> dict[str, Any]:
    """The options of a benchmark, with the data's path absolute."""
    options = dict(value) if isinstance(value, Mapping) else {"data": value}
    data = options.get("data")
    if isinstance(data, str) and data != "simulated":
        place = (path.resolve().parent / Path(data).expanduser()).resolve()
        if not place.exists():
            raise UserError(f"{path}: {place} does not exist; name the data where they are, or leave them out")
        options["data"] = str(place)
    return options


def entries() -> list[Entry]:
    """The paper's studies, most worth first."""
    listed = _declared()["studies"]
    return [
        Entry(**{**values, **{key: tuple(values.get(key, ())) for key in ("narrow", "simulated")}}) for values in listed
    ]


def elements() -> Sequence[Element]:
    """The paper's tables and figures, in its order."""
    return [
        Element(each["name"], each["says"], {entry: tuple(stems) for entry, stems in each["shows"].items()})
        for each in _declared()["elements"]
    ]


def _declared() -> dict[str, Any]:
    declared: dict[str, Any] = dialect.load(ELEMENTS.read_text(encoding="utf-8"))
    return declared
