"""Labelled natural images on disk: CIFAR-10 and CIFAR-100 as published for Python, CUB-200-2011, and class folders."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import download_and_extract_archive
from torchvision.transforms.v2 import functional

from trainables.benchmarks import DataError
from trainables.benchmarks.images import Images, Rejected, prepare

#: how the keys of a published archive are called: class labels of an image, names of the classes
_LABEL_KEYS = {CIFAR10: "labels", CIFAR100: "fine_labels"}
#: the archives that `download` fetches, by the folder they unpack to
DOWNLOADS: Mapping[str, type[CIFAR10]] = {c.base_folder: c for c in (CIFAR10, CIFAR100)}
_CUB = "CUB_200_2011"


@dataclass(frozen=True)
class LabelledImages:
    """Square RGB images with one class each.

    ``pixels`` (N, 3, H, H) uint8; ``labels`` (N,) int64 into ``names``; ``test`` (N,) bool marks the images
    that the source itself sets aside for testing. ``note`` says in a few words what was read and checked.
    """

    pixels: Tensor
    labels: Tensor
    names: tuple[str, ...]
    test: Tensor
    note: str


def read_images(path: Path, size: int, cache: Path | None = None, *, verify: bool = True) -> LabelledImages:
    """The images at ``path`` at ``size`` × ``size`` pixels, whichever of the known layouts it has.

    A folder that is, or holds, ``cifar-10-batches-py``, ``cifar-100-python`` or ``CUB_200_2011``; or a folder,
    zip or tar with one folder of images per class, below ``train`` and ``test`` or not. Images other than
    CIFAR's are decoded once into ``cache``. With ``verify`` CIFAR's files must have the published checksums.
    Raises `DataError` with one sentence that names the file.
    """
    for folder in (path, *(path / name for name in (*DOWNLOADS, _CUB))):
        for published in DOWNLOADS.values():
            if (folder / published.meta["filename"]).is_file():
                return _resized(_read_cifar(folder, published, verify), size)
        if (folder / "images.txt").is_file():
            return _read_cub(folder, size, cache)
    return _read_class_folders(path, size, cache)


def download(folder: Path, name: str) -> None:
    """Fetch ``name`` (a key of `DOWNLOADS`) into ``folder`` unless it is there; its checksum is verified.

    Raises `DataError` with one sentence where that is not possible.
    """
    published = DOWNLOADS[name]
    if (folder / name).is_dir() or folder.name == name:
        return
    try:
        download_and_extract_archive(published.url, folder, filename=published.filename, md5=published.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{published.url} could not be downloaded ({error}): fetch it by other means and unpack it into {folder}"
        ) from error


def _read_cifar(folder: Path, published: type[CIFAR10], verify: bool) -> LabelledImages:
    meta = published.meta
    names = _load(folder / meta["filename"], meta["md5"] if verify else None).get(meta["key"])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{folder / meta['filename']} has no list {meta['key']!r} of class names")
    pixels, labels, test = [], [], []
    for files, is_test in ((published.train_list, False), (published.test_list, True)):
        for file, md5 in files:
            path = folder / file
            data, of = _checked(_load(path, md5 if verify else None), _LABEL_KEYS[published], len(names), path)
            pixels.append(data)
            labels.append(of)
            test.append(np.full(len(of), is_test))
    checked = "checksums verified" if verify else "checksums not verified"
    return LabelledImages(
        torch.from_numpy(np.concatenate(pixels).reshape(-1, 3, 32, 32)),
        torch.from_numpy(np.concatenate(labels)),
        tuple(names),
        torch.from_numpy(np.concatenate(test)),
        f"{published.__name__} from {folder.name}, {checked}",
    )


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


def _load(path: Path, md5: str | None) -> dict[str, Any]:
    """The dictionary in a pickle file that holds nothing but plain values and arrays."""
    try:
        with path.open("rb") as file:
            if md5 is not None and hashlib.file_digest(file, "md5").hexdigest() != md5:
                raise DataError(
                    f"{path} does not have the published checksum: fetch it again, or set verify to false "
                    "if you changed it yourself"
                )
            file.seek(0)
            # the published files were written by Python 2
            loaded = _Unpickler(file, encoding="latin1").load()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise DataError(f"{path} is not a CIFAR file: {error}") from error
    except Exception as error:
        # unpickling damaged bytes raises whatever they come upon
        if isinstance(error, DataError):
            raise
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


def _resized(images: LabelledImages, size: int) -> LabelledImages:
    if images.pixels.shape[-1] == size:
        return images
    pixels = functional.resize(images.pixels, [size, size], antialias=True)
    return LabelledImages(pixels, images.labels, images.names, images.test, images.note)


def _read_cub(folder: Path, size: int, cache: Path | None) -> LabelledImages:
    names = _table(folder / "classes.txt")
    files, labels = _table(folder / "images.txt"), _table(folder / "image_class_labels.txt")
    held_in = _table(folder / "train_test_split.txt") if (folder / "train_test_split.txt").is_file() else {}
    label_of, test_of = {}, {}
    order = list(names)
    for number, file in files.items():
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise DataError(f"{folder / 'images.txt'} names {file!r}, which leads outside of {folder / 'images'}")
        if labels.get(number) not in names:
            raise DataError(f"{folder / 'image_class_labels.txt'} gives image {number} no class of classes.txt")
        label_of[file] = order.index(labels[number])
        test_of[file] = held_in.get(number) == "0"
    source = [(file, folder / "images" / file) for file in label_of]
    missing = next((path for _, path in source if not path.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing} is missing, but {folder / 'images.txt'} lists it")
    found = prepare(source, size, cache, kind="cub", fit="stretch")
    return LabelledImages(
        found.pixels,
        torch.tensor([label_of[file] for file in found.names]),
        tuple(names.values()),
        torch.tensor([test_of[file] for file in found.names]),
        f"CUB-200-2011 from {folder.name}{_left_out(found)}",
    )


def _table(path: Path) -> dict[str, str]:
    """A text file of lines ``number value``."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
    table = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key, _, value = line.strip().partition(" ")
        if not value:
            raise DataError(f"{path}, line {number}: a number and a value are needed, not {line.strip()!r}")
        table[key] = value
    return table


def _read_class_folders(path: Path, size: int, cache: Path | None) -> LabelledImages:
    found = prepare(path, size, cache, kind="class-folders", label=_class_and_test, fit="stretch")
    names = tuple(sorted({name for name, _ in found.labels}))
    index = {name: i for i, name in enumerate(names)}
    return LabelledImages(
        found.pixels,
        torch.tensor([index[name] for name, _ in found.labels]),
        names,
        torch.tensor([test for _, test in found.labels]),
        f"class folders of {path.name}{_left_out(found)}",
    )


def _class_and_test(name: str) -> tuple[str, bool]:
    """The class of a file is the folder it is in; it is for testing where a folder ``test`` is above."""
    folders: Sequence[str] = PurePosixPath(name).parts[:-1]
    if not folders or folders[-1] in ("train", "test"):
        raise Rejected("not in a class folder")
    return folders[-1], "test" in folders[:-1]


def _left_out(images: Images) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in images.reasons().items())
    return f", {len(images.problems)} files left out ({reasons})" if reasons else ""
