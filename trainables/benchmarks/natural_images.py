"""Labelled natural images on disk: CIFAR-10 and CIFAR-100 as published for Python, CUB-200-2011, and class folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import download_and_extract_archive
from torchvision.transforms.v2 import functional

from trainables.benchmarks import DataError, cifar_files
from trainables.benchmarks.decoding import Rejected
from trainables.benchmarks.duplicates import Target, repeated
from trainables.benchmarks.images import Images, Problem, prepare
from trainables.benchmarks.sources import entries, without_ending

#: the archives that `download` fetches, by the folder they unpack to
DOWNLOADS: Mapping[str, type[CIFAR10]] = {c.base_folder: c for c in (CIFAR10, CIFAR100)}
#: the folder that CUB-200-2011 unpacks to
CUB = "CUB_200_2011"
#: its lists; the last may be absent
_CUB_LISTS = ("images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt")
TRAIN, VALIDATION, TEST = "train", "validation", "test"
#: folders that are a part of the data and no class, in lower case, and which part
PARTS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
#: folders that hold a class's images and are no class, in lower case
_IMAGES = frozenset({"images", "image", "imgs", "img"})


@dataclass(frozen=True)
class LabelledImages:
    """Square RGB images with one class each.

    ``pixels`` (N, 3, H, H) uint8; ``labels`` (N,) int64 into ``names``; ``test`` (N,) bool marks the images
    that the source itself sets aside for testing. ``note`` says in a few words what was read and checked, and
    ``problems`` which files, or images of a file, are not among these and why.
    """

    pixels: Tensor
    labels: Tensor
    names: tuple[str, ...]
    test: Tensor
    note: str
    problems: tuple[Problem, ...] = ()


def read_images(
    path: Path, size: int, cache: Path | None = None, *, verify: bool = True, published: str | None = None
) -> LabelledImages:
    """The images at ``path`` at ``size`` × ``size`` pixels, whichever of the known layouts it has.

    What is, or holds, ``cifar-10-batches-py``, ``cifar-100-python`` or ``CUB_200_2011``, as a folder or as the archive
    that they are published in; or a folder, zip or tar with one folder of images per class, below ``train`` and
    ``test`` or not. ``published`` names which of the three is meant where ``path`` holds several. An image that stands
    there twice is taken once, and not at all where its labels differ. Images other than CIFAR's are decoded once into
    ``cache``. With ``verify`` CIFAR's files must have the published checksums.
    Raises `DataError` with one sentence that names the file.
    """
    for name in sorted((*DOWNLOADS, CUB), key=lambda name: name != published):
        if name == CUB:
            if (folder := _cub_folder(path)) is not None:
                return _read_cub(folder, size, cache)
        elif (files := cifar_files.find(path, DOWNLOADS[name])) is not None:
            return _read_cifar(files, size, verify)
    return _read_labelled(path, size, cache)


def download(folder: Path, name: str) -> None:
    """Fetch ``name`` (a key of `DOWNLOADS`) into ``folder`` unless it is there; its checksum is verified.

    Raises `DataError` with one sentence where that is not possible.
    """
    published = DOWNLOADS[name]
    if (folder / name).is_dir() or folder.name == name or folder.is_file():
        return
    try:
        download_and_extract_archive(published.url, folder, filename=published.filename, md5=published.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{published.url} could not be downloaded ({error}): fetch it by other means and unpack it into {folder}"
        ) from error


def _read_cifar(files: cifar_files.Files, size: int, verify: bool) -> LabelledImages:
    cifar = cifar_files.read(files, verify)
    targets = [Target(label, test) for label, test in zip(cifar.labels.tolist(), cifar.test.tolist(), strict=True)]
    reasons = repeated((image.tobytes() for image in cifar.pixels), targets)
    problems = tuple(Problem(cifar.places[i], reason) for i, reason in reasons.items())
    kept = [i for i in range(len(targets)) if i not in reasons] if reasons else slice(None)
    pixels = torch.from_numpy(cifar.pixels[kept])
    checked = "checksums verified" if verify else "checksums not verified"
    return LabelledImages(
        functional.resize(pixels, [size, size], antialias=True) if size != pixels.shape[-1] else pixels,
        torch.from_numpy(cifar.labels[kept]),
        cifar.names,
        torch.from_numpy(cifar.test[kept]),
        f"{files.published.__name__} from {files.folder.name}, {checked}{_left_out(problems)}",
        problems,
    )


def _cub_folder(path: Path) -> Path | None:
    return next((folder for folder in (path, path / CUB) if (folder / "images.txt").is_file()), None)


def _read_cub(folder: Path, size: int, cache: Path | None) -> LabelledImages:
    lists = _CubLists(lambda name: _file_bytes(folder / name), str(folder))
    source = [(file, folder / "images" / file) for file in lists.labels]
    missing = next((path for _, path in source if not path.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing} is missing, but {folder / 'images.txt'} lists it")
    images = prepare(source, size, cache, kind="cub", label=lists, fit="stretch", target=_target)
    return _labelled(images, lists.names, f"CUB-200-2011 from {folder.name}")


class _CubLists:
    """The text files of CUB-200-2011: class and part of each image, by its name in ``images``."""

    def __init__(self, read: Callable[[str], bytes | None], described: str) -> None:
        def table(name: str, needed: bool = True) -> dict[str, str]:
            content = read(name)
            if content is None and needed:
                raise DataError(f"{described}/{name} cannot be read as text: there is no such file")
            return _table(content or b"", f"{described}/{name}")

        names, files, of = table("classes.txt"), table("images.txt"), table("image_class_labels.txt")
        held_in = table("train_test_split.txt", needed=False)
        #: in the order of classes.txt
        self.names = tuple(names.values())
        self.labels: dict[str, list[Any]] = {}
        for number, file in files.items():
            if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
                raise DataError(f"{described}/images.txt names {file!r}, which leads outside of {described}/images")
            if of.get(number) not in names:
                raise DataError(f"{described}/image_class_labels.txt gives image {number} no class of classes.txt")
            self.labels[file] = [names[of[number]], held_in.get(number) == "0", "CUB-200-2011"]

    def __call__(self, name: str) -> list[Any]:
        if name not in self.labels:
            raise Rejected("not in images.txt")
        return self.labels[name]


def _table(content: bytes, described: str) -> dict[str, str]:
    """A text file of lines ``number value``."""
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{described} cannot be read as text: {error}") from error
    table = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key, _, value = line.strip().partition(" ")
        if not value:
            raise DataError(f"{described}, line {number}: a number and a value are needed, not {line.strip()!r}")
        table[key] = value
    return table


def _file_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read as text: {error.strerror or error}") from error


class _Label:
    """Class, part and layout of a file: by CUB's lists where the source holds them, else by the folders it is in."""

    def __init__(self, source: Path) -> None:
        self.source = source

    def __call__(self, name: str) -> list[Any]:
        if self.cub is None:
            folder, part = class_and_part(name)
            return [folder, part == TEST, "class folders"]
        root, lists = self.cub
        return lists(name.removeprefix(root + "images/"))

    @cached_property
    def cub(self) -> tuple[str, _CubLists] | None:
        """The folder of CUB's lists and what they say; looked for when the first file is asked for."""
        texts = {
            entry.name: entry.read()
            for entry in entries(self.source)
            if entry.problem is None and PurePosixPath(entry.name).name in _CUB_LISTS
        }
        for name in texts:
            root = name.removesuffix("images.txt")
            if root != name and {root + file for file in _CUB_LISTS[:3]} <= texts.keys():
                read = {file: texts.get(root + file) for file in _CUB_LISTS}.get
                return root, _CubLists(read, f"{self.source}/{root}".rstrip("/"))
        return None


def _read_labelled(path: Path, size: int, cache: Path | None) -> LabelledImages:
    """CUB in an archive, or class folders."""
    label = _Label(path)
    prepared = prepare(path, size, cache, kind="class-folders", label=label, fit="stretch", target=_target)
    if not all(isinstance(value, list) and len(value) == 3 for value in prepared.labels):
        raise DataError(f"{path} is an image cache without classes: give the images that it was made from")
    names = tuple(sorted({label[0] for label in prepared.labels}))
    layout = prepared.labels[0][2]
    images = _labelled(prepared, names, f"{layout} {'of' if layout == 'class folders' else 'from'} {path.name}")
    return images if layout == "CUB-200-2011" else _without_loose(images, prepared.names, path)


def _target(label: Sequence[Any]) -> Target:
    return Target(label[0], label[1])


def _labelled(images: Images, names: tuple[str, ...], note: str) -> LabelledImages:
    index = {name: i for i, name in enumerate(names)}
    return LabelledImages(
        images.pixels,
        torch.tensor([index[label[0]] for label in images.labels]),
        names,
        torch.tensor([label[1] for label in images.labels]),
        note + _left_out(images.problems),
        images.problems,
    )


def class_and_part(name: str) -> tuple[str, str]:
    """The class of a file, the folder (or archive) it is in, and its part by the folders above.

    The part is ``train``, ``validation`` or ``test``, "" where no folder says. `Rejected` for a file that is in no
    class's folder.
    """
    folders = [without_ending(folder) for folder in class_folder(name).parts]
    if not folders or folders[-1].lower() in PARTS:
        raise Rejected("not in a class folder")
    return folders[-1], part_of(PurePosixPath(*folders[:-1]))


def part_of(folder: PurePosixPath) -> str:
    """The part that the folders of a path name, "" where none does; of several, testing before training."""
    named = {PARTS[part.lower()] for part in folder.parts if part.lower() in PARTS}
    return next((part for part in (TEST, VALIDATION, TRAIN) if part in named), "")


def class_folder(name: str) -> PurePosixPath:
    """The folder that a file is in, or the one above where it is called ``images`` or the like."""
    folder = PurePosixPath(name).parent
    return folder.parent if folder.name.lower() in _IMAGES else folder


def _without_loose(images: LabelledImages, files: Sequence[str], path: Path) -> LabelledImages:
    """Without the images beside all the class folders, whose folder is no class.

    Raises `DataError` for images beside some class folders: what the classes are cannot be told.
    """
    folders = [class_folder(file) for file in files]
    held = set(folders)
    mixed = held & {above for folder in held for above in folder.parents}
    if not mixed:
        return images
    top = min(mixed, key=lambda folder: len(folder.parts))
    inner = next(folder for folder in sorted(held) if top in folder.parents)
    if len(mixed) > 1 or not all(top == folder or top in folder.parents for folder in held):
        raise DataError(
            f"{path}: {top} holds images and the folder {inner} holds images too, so that it cannot be told which is "
            "a class: keep each class's images in one folder without folders in it"
        )
    kept = torch.tensor([folder != top for folder in folders])
    problems = tuple(
        Problem(file, "beside the class folders") for file, of in zip(files, folders, strict=True) if of == top
    )
    names = tuple(name for i, name in enumerate(images.names) if (images.labels[kept] == i).any())
    index = {images.names.index(name): i for i, name in enumerate(names)}
    return LabelledImages(
        images.pixels[kept],
        torch.tensor([index[label] for label in images.labels[kept].tolist()]),
        names,
        images.test[kept],
        f"class folders of {path.name}{_left_out((*images.problems, *problems))}",
        (*images.problems, *problems),
    )


def _left_out(problems: Sequence[Problem]) -> str:
    reasons = Counter(problem.reason for problem in problems).most_common()
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons)
    return f", {len(problems)} files left out ({listed})" if problems else ""
