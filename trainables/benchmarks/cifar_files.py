"""CIFAR-10 and CIFAR-100 as published for Python: torchvision's layout, unpacked or in its archive."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100

from trainables.benchmarks import DataError
from trainables.benchmarks.decoding import Rejected
from trainables.benchmarks.sources import entries, is_archive

#: how the keys of a published archive are called: class labels of an image, names of the classes
_LABEL_KEYS = {CIFAR10: "labels", CIFAR100: "fine_labels"}
#: files at the head of an archive among which CIFAR's are looked for; the published archives have fewer
_HEAD = 32
#: the largest of the files has 148 MiB
_MAX_FILE_BYTES = 2**30


@dataclass(frozen=True)
class Files:
    """Where the files of a published archive were found: ``read`` gives one's bytes by its name."""

    folder: Path
    published: type[CIFAR10]
    read: Callable[[str], bytes]


@dataclass(frozen=True)
class Cifar:
    """``pixels`` (N, 3, 32, 32) uint8, ``labels`` (N,) int64 into ``names``, ``test`` (N,) bool."""

    pixels: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    test: np.ndarray
    #: where each image stands, in words
    places: tuple[str, ...]


def find(path: Path, published: type[CIFAR10]) -> Files | None:
    """The files of ``published`` in a folder, the folder of its name in it, or an archive that is ``path`` or in it.

    Raises `DataError` for an archive that is damaged.
    """
    for folder in (path, path / published.base_folder):
        if (folder / published.meta["filename"]).is_file():
            return Files(folder, published, lambda name, folder=folder: _file_bytes(folder / name))  # type: ignore[misc]
    if path.is_dir():
        inside = [path / name for name in _listing(path) if is_archive(name) and (path / name).is_file()]
        # the one with the published name first
        inside.sort(key=lambda path: (path.name != published.filename, path.name))
        return next((contents for path in inside if (contents := _in_archive(path, published))), None)
    return _in_archive(path, published) if path.is_file() else None


def read(files: Files, verify: bool) -> Cifar:
    """The images of both parts; with ``verify`` each file must have its published checksum, else `DataError`."""
    published, meta = files.published, files.published.meta
    names = _load(files, meta["filename"], meta["md5"] if verify else None).get(meta["key"])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{files.folder / meta['filename']} has no list {meta['key']!r} of class names")
    pixels, labels, test, origin = [], [], [], []
    for listed, is_test in ((published.train_list, False), (published.test_list, True)):
        for file, md5 in listed:
            batch = _load(files, file, md5 if verify else None)
            data, of = _checked(batch, _LABEL_KEYS[published], len(names), files.folder / file)
            pixels.append(data)
            labels.append(of)
            test.append(np.full(len(of), is_test))
            origin += [f"{file}, image {i}" for i in range(len(of))]
    return Cifar(
        np.concatenate(pixels).reshape(-1, 3, 32, 32),
        np.concatenate(labels),
        tuple(names),
        np.concatenate(test),
        tuple(origin),
    )


def _listing(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _in_archive(path: Path, published: type[CIFAR10]) -> Files | None:
    """The files in a tar or zip, which is read when the first file is asked for; None where it holds others."""
    try:
        head = {entry.name for entry in islice(entries(path), _HEAD) if entry.problem is None}
    except DataError:
        # not CIFAR's files: the next reader of the source says what is wrong with it
        return None
    part = published.train_list[0][0]
    parents = [PurePosixPath(name).parent for name in head if PurePosixPath(name).name == published.meta["filename"]]
    parent = next((parent for parent in sorted(parents) if str(parent / part) in head), None)
    if parent is None:
        return None
    held: dict[str, bytes] = {}

    def read(name: str) -> bytes:
        if not held:
            wanted = {file for file, *_ in (*published.train_list, *published.test_list)} | {published.meta["filename"]}
            held.update(_members(path, {str(parent / file) for file in wanted}))
        if str(parent / name) not in held:
            raise DataError(f"{path} has no file {parent / name}: it is not the whole of {published.filename}")
        return held[str(parent / name)]

    return Files(path / parent, published, read)


def _members(path: Path, names: set[str]) -> dict[str, bytes]:
    held: dict[str, bytes] = {}
    for entry in entries(path, _MAX_FILE_BYTES):
        if entry.problem is None and entry.name in names and entry.name not in held:
            try:
                held[entry.name] = entry.read()
            except Rejected as reason:
                raise DataError(f"{entry.name} in {path} cannot be read: {reason}") from None
    return held


def _checked(batch: Mapping[str, Any], key: str, classes: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 3072) uint8 and labels (n,) int64 of one file."""
    data, labels = batch.get("data"), batch.get(key)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise DataError(f"{path} has no array 'data' of n × 3072 bytes")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise DataError(f"{path} has no list {key!r} with a label for each of its {len(data)} images")
    if not all(isinstance(label, int) and 0 <= label < classes for label in labels):
        raise DataError(f"{path} has labels in {key!r} that are not whole numbers from 0 to {classes - 1}")
    return data, np.array(labels, dtype=np.int64)


def _load(files: Files, name: str, md5: str | None) -> dict[str, Any]:
    """The dictionary in a pickle file that holds nothing but plain values and arrays."""
    path = files.folder / name
    content = files.read(name)
    if md5 is not None and hashlib.md5(content).hexdigest() != md5:
        raise DataError(
            f"{path} does not have the published checksum: fetch it again, or set verify to false "
            "if you changed it yourself"
        )
    try:
        # the published files were written by Python 2
        loaded = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DataError(f"{path} is not a CIFAR file: {error}") from error
    except Exception as error:
        # unpickling damaged bytes raises whatever they come upon
        raise DataError(f"{path} is truncated or damaged: fetch it again") from error
    if not isinstance(loaded, dict):
        raise DataError(f"{path} is not a CIFAR file: it holds no dictionary")
    return loaded


def _empty_array(*_: object) -> np.ndarray:
    """What an array starts from before its state is set, whatever the file asks for."""
    return np.empty(0, np.uint8)


class _Unpickler(pickle.Unpickler):
    """Reads dictionaries, lists, strings, numbers and arrays; refuses all else, since a pickle can run any code."""

    _allowed: Mapping[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
        ("numpy._core.multiarray", "_reconstruct"): _empty_array,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no such file needs and may do harm")
        return self._allowed[module, name]
