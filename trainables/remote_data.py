"""Data files in an object store, fetched once to this machine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from typing import Any

from filelock import FileLock

from trainables.benchmarks import DataError
from trainables.benchmarks.images import default_cache
from trainables.storage import Folder


def is_remote(value: Any) -> bool:
    """Whether a benchmark's option names a file in an object store."""
    return isinstance(value, str) and value.startswith("s3://")


def fetched(options: Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark's options, each that names a file ``s3://…`` naming a copy in this machine's cache.

    `DataError` where the file cannot be had.
    """
    return {name: _fetch(value) if is_remote(value) else value for name, value in options.items()}


def _fetch(address: str) -> str:
    base, mark, query = address.partition("?")
    parent, _, name = base.rpartition("/")
    source = Folder(f"{parent}{mark}{query}")
    try:
        # a file that was replaced is fetched anew
        key = hashlib.sha256(f"{address} {source.stamp(name)}".encode()).hexdigest()[:16]
        kept = Folder(str(default_cache() / "remote" / key))
        kept.path.mkdir(parents=True, exist_ok=True)
        # trials that start together wait for one download
        with FileLock(kept.path / "lock"):
            if not kept.exists(name):
                with source.reading(name) as content, kept.writing(name) as copy:
                    shutil.copyfileobj(content, copy, 2**24)
    except OSError as error:
        raise DataError(f"{address} cannot be fetched ({str(error).splitlines()[0]})") from error
    return str(kept.path / name)
