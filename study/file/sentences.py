"""What is wrong with a study file, in one sentence each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic_core import ErrorDetails, PydanticCustomError

from study.file import hints
from study.file.document import Keys


def problem(keys: Keys, message: str) -> PydanticCustomError:
    """An error at ``keys`` below the model that raises it."""
    return PydanticCustomError("study", "{message}", {"message": message, "keys": keys})


def sentence(details: ErrorDetails, keys: Keys = (), known: Iterable[str] = ()) -> str:
    """What is wrong, without its place; ``known`` are the keys that could stand beside the last of ``keys``."""
    given = details["input"]
    shown = "a mapping" if isinstance(given, dict) else "a list" if isinstance(given, list | tuple) else repr(given)
    match details["type"]:
        case "study":
            return str(details["ctx"]["message"])
        case "extra_forbidden":
            return f"unknown key {keys[-1]!r}{nearest(str(keys[-1]), known)}"
        case "missing":
            return "is required"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"must be a whole number, not {shown}{hints.number(given)}"
        case "float_type" | "float_parsing":
            return f"must be a number, not {shown}{hints.number(given)}"
        case "string_type":
            return f"must be text, not {shown}"
        case "bool_type" | "bool_parsing":
            return f"must be true or false, not {shown}{hints.switch(given)}"
        case "dict_type" | "model_type" | "dataclass_type":
            return f"must be a mapping of keys to values, not {shown}{hints.interval(given)}"
        case "value_error":
            return str(details["msg"]).removeprefix("Value error, ")
    return f"{details['msg'][0].lower()}{details['msg'][1:]}, not {shown}".replace("input should", "should")


def listed(names: Iterable[str]) -> str:
    """The names, one after another."""
    return ", ".join(names)


def suggestion(name: str, known: Iterable[str]) -> str:
    """The nearest known name, or nothing where none is near."""
    known = list(known)
    # difflib takes capitals for other letters, so CE would be near nothing: case is compared apart
    close = [candidate for candidate in known if candidate.casefold() == str(name).casefold()]
    close = close or difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """The nearest known name, or all of them where none is near."""
    known = list(known)
    return suggestion(name, known) or f"; known: {listed(known)}"
