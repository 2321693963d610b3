"""Options that name files and folders: which they are is said by their type, and where they lie is made absolute."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from enum import Enum
from pathlib import Path
from typing import Any


def is_address(value: Any) -> bool:
    """Whether the value of a path option names something in an object store or on a server."""
    return isinstance(value, str) and "://" in value


def in_utf_8(path: str | Path) -> bool:
    """Whether ``path`` has the same bytes in UTF-8, which study files and databases are in, and in the locale."""
    try:
        return str(path).encode("utf-8") == os.fsencode(path)
    # a byte that the locale has no letter for
    except UnicodeEncodeError:
        return False


def on_disk(options: type, values: Mapping[str, Any]) -> dict[str, list[str]]:
    """The options among ``values`` that name files or folders here or on a cluster's nodes, with what they name.

    ``options`` is the benchmark's dataclass. An option's default may be a word of the benchmark's (``simulated``).
    """
    from trainables.benchmarks import path_options

    words = {field.name: field.default for field in fields(options)}
    written: dict[str, list[str]] = {}
    for name in sorted(path_options(options) & set(values)):
        given = values[name] if isinstance(values[name], list | tuple) else [values[name]]
        paths = [str(path) for path in given if path not in (None, "", words[name]) and not is_address(path)]
        if paths:
            written[name] = paths
    return written


def resolved(options: type, given: Mapping[str, Any], made: Any) -> dict[str, Any]:
    """The options ``given`` in a study file as ``made`` holds them, in plain values, their paths absolute.

    A default that is a `pathlib.Path` is among them, since trials may be resumed in another folder. Raises
    ``ValueError`` (the option, one sentence) where text is no path.
    """
    from trainables.benchmarks import path_options

    defaults = {field.name: field.default for field in fields(options) if isinstance(field.default, Path)}
    held = {name: plain(value) for name, value in asdict(made).items()}
    complete = {name: held[name] for name in held if name in given or name in defaults}
    words = {field.name: field.default for field in fields(options)}
    for name in path_options(options) & set(complete):
        value = complete[name]
        if isinstance(value, list):
            complete[name] = [_absolute(name, path, words[name]) for path in value]
        else:
            complete[name] = _absolute(name, value, words[name])
    return complete


def plain(value: Any) -> Any:
    """``value`` in what YAML knows."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return plain(value.value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _absolute(name: str, value: Any, word: Any) -> Any:
    if not isinstance(value, str) or not value or value == word or is_address(value):
        return value
    try:
        path = Path(value).expanduser().resolve()
        # a name that no file can have
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, RuntimeError, ValueError) as error:
        shown = value if len(value) <= 60 else f"{value[:60]}…"
        raise ValueError(name, f"{shown!r} is no path ({getattr(error, 'strerror', None) or error})") from None
    if not in_utf_8(path):
        raise ValueError(
            name,
            f"{path} has letters that are spelled otherwise in this locale's encoding ({sys.getfilesystemencoding()}) "
            "than in UTF-8: set PYTHONUTF8=1",
        )
    return str(path)
