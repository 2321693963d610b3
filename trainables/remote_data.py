"""Data files in an object store, fetched once to this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
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
        local[name] = [_local(address) for address in value] if isinstance(value, list | tuple) else _local(value)
    return local


def addresses(kind: type, options: Mapping[str, Any]) -> dict[str, list[str]]:
    """The files in an object store that a benchmark's options name, by option."""
    named = {name: options[name] for name in path_options(kind) & set(options)}
    listed = {name: value if isinstance(value, list | tuple) else [value] for name, value in named.items()}
    return {name: [value for value in values if _is_remote(value)] for name, values in listed.items()}


def _is_remote(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("s3://")


def _local(value: Any) -> Any:
    return _fetch(value) if _is_remote(value) else value


def _fetch(address: str) -> str:
    base, mark, query = address.partition("?")
    parent, _, name = base.rpartition("/")
    source = Folder(f"{parent}{mark}{query}")
    with _fetching(address):
        # a file that was replaced is fetched anew
        key = hashlib.sha256(f"{address} {source.stamp(name)}".encode()).hexdigest()[:16]
    kept = Folder(str(default_cache() / "remote" / key))
    try:
        kept.path.mkdir(parents=True, exist_ok=True)
        # trials that start together wait for one download
        with FileLock(kept.path / "lock"):
            if not kept.exists(name):
                _copy(source, kept, name, address)
    except OSError as error:
        raise DataError(
            f"the cache {kept.path} cannot be written ({error.strerror or error}); set FIERCE_CACHE to another folder"
        ) from error
    return str(kept.path / name)


def _copy(source: Folder, kept: Folder, name: str, address: str) -> None:
    with ExitStack() as opened:
        with _fetching(address):
            content = opened.enter_context(source.reading(name))
        copy = opened.enter_context(kept.writing(name))
        while True:
            with _fetching(address):
                part = content.read(2**24)
            if not part:
                return
            copy.write(part)


@contextmanager
def _fetching(address: str) -> Iterator[None]:
    """Tells a store that fails from a cache that does."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{address} cannot be fetched ({str(error).splitlines()[0]})") from error
