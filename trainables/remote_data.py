"""Data files in an object store, fetched once to this machine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from typing import Any

from filelock import FileLock

from trainables.benchmarks import DataError, path_options
from trainables.benchmarks.images import default_cache
from trainables.storage import Folder


def fetched(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark's options, each path ``s3://…`` among them that of a copy in this machine's cache.

    ``kind`` is the benchmark's dataclass, which declares the paths. `DataError` where a file cannot be had.
    """
    local = dict(options)
    for name in path_options(kind) & set(options):
        value = options[name]
        local[name] = [_local(each) for each in value] if isinstance(value, list | tuple) else _local(value)
    return local


def _local(value: Any) -> Any:
    return _fetch(value) if isinstance(value, str) and value.startswith("s3://") else value


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
