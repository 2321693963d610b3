"""Which file is an image of which class: by the folders of a tree or archive, or by a list of files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from trainables.benchmarks import DataError, table_files
from trainables.benchmarks.decoding import Rejected, decode
from trainables.benchmarks.duplicates import CONFLICTING, REPEATED, Target
from trainables.benchmarks.image_groups import listed
from trainables.benchmarks.images import Images, Problem, prepare
from trainables.benchmarks.natural_images import PARTS, class_and_part, class_folder, part_of
from trainables.benchmarks.sources import OTHER_IMAGES, Source, entries, is_archive, is_image, without_ending
from trainables.benchmarks.table_labels import classes

#: endings of lists of files
LISTS = (".csv", ".tsv", ".txt", ".parquet", ".pq")
#: why a file that is not called an image is none
_NO_IMAGE = ("not an image", "empty file")
_OTHERS = "not among the images that are asked for"


@dataclass(frozen=True)
class Sample:
    """What is known of an image before it is read.

    ``part`` is ``train``, ``validation`` or ``test`` by its folders, "" where none says; ``group`` is the value of the
    column of samples that belong together, and ``coarse`` of that of the coarse classes, None without.
    """

    fine: str
    part: str = ""
    group: str | None = None
    coarse: str | None = None


@dataclass(frozen=True)
class Columns:
    """The columns of a list of files; None where it has no such."""

    file: str
    fine: str
    group: str | None = None
    coarse: str | None = None


@dataclass(frozen=True)
class Listing:
    """The ``samples`` of ``source`` by their files' names in it; ``path`` is what messages name."""

    path: Path
    source: Source
    samples: Mapping[str, Sample]

    @property
    def classes(self) -> list[str]:
        return sorted({sample.fine for sample in self.samples.values()})

    def only(self, leave_out: Iterable[str], most: int | None) -> Listing:
        """Without the classes to ``leave_out``, and with the first ``most`` of each class and part."""
        without, counts, kept = set(leave_out), dict[tuple[str, str], int](), dict[str, Sample]()
        for name, sample in self.samples.items():
            key = sample.fine, sample.part
            if sample.fine in without or (most is not None and counts.get(key, 0) >= most):
                continue
            counts[key] = counts.get(key, 0) + 1
            kept[name] = sample
        return Listing(self.path, self.source, kept)


def is_list(path: Path) -> bool:
    """Whether ``path`` is called as a list of files is."""
    return path.suffix.lower() in LISTS and not path.is_dir()


def of_folders(path: Path) -> Listing:
    """The images of a folder, zip or tar with a folder of images for each class, below parts' folders or not.

    Raises `DataError` where what is a class cannot be told.
    """
    if not path.exists():
        raise DataError(f"{path} is not there: data must be a folder, zip or tar of images, or a list of files (.csv)")
    held = dict[str, Sample]()
    for entry in entries(path):
        with suppress(Rejected):
            if entry.problem is None:
                held[entry.name] = Sample(*class_and_part(entry.name))
    # a folder of notes or scripts is no class
    of_images = {sample.fine for name, sample in held.items() if is_image(name) or name.lower().endswith(OTHER_IMAGES)}
    samples = {name: sample for name, sample in held.items() if sample.fine in of_images}
    if not samples:
        raise DataError(f"{path} holds no folder of images: put the images of each class in a folder of its name")
    _check_places(path, samples)
    return Listing(path, path, samples)


def _check_places(path: Path, samples: Mapping[str, Sample]) -> None:
    """Each class has one folder in each part, and none with another class's in it."""
    places: dict[str, PurePosixPath] = {}
    for name, sample in samples.items():
        fine, folder = sample.fine, class_folder(name)
        place = PurePosixPath(*(part for part in map(without_ending, folder.parts) if part.lower() not in PARTS))
        if places.setdefault(fine, place) != place:
            raise DataError(
                f"{path}: two folders are called {fine!r}, {places[fine]} and {place}: name one of them otherwise"
            )
    held = set(places.values())
    outer = next((folder for folder in sorted(held) for inner in held if folder in inner.parents), None)
    if outer is not None:
        inner = next(folder for folder in sorted(held) if outer in folder.parents)
        raise DataError(
            f"{path}: {outer} holds files and the folder {inner} holds files too, so that it cannot be told which is "
            "a class: keep each class's images in one folder without folders in it"
        )


def of_list(path: Path, columns: Columns, folder: Path | None) -> Listing:
    """The images that a CSV or Parquet file names, in ``folder`` (or zip, or tar), by default the list's own folder.

    Raises `DataError` with the row of a file that is not there, or that stands there twice.
    """
    table = table_files.read_table(path)
    root = path.parent if folder is None else folder
    values = {option: _texts(table, name, option) for option, name in vars(columns).items() if name is not None}
    inside = None
    if not root.is_dir():
        if not is_archive(root.name) or not root.is_file():
            raise DataError(f"{root} is {'no folder, zip or tar' if root.exists() else 'not there'}: set folder to one")
        inside = {entry.name for entry in entries(root) if entry.problem is None}
    samples: dict[str, Sample] = {}
    found: dict[str, Path] = {}
    for row, file in enumerate(values["file"]):
        name = PurePosixPath(os.path.normpath(file)).as_posix()
        if name in samples:
            raise DataError(f"{path}, row {row + 1} (the header not counted): {file!r} stands in a row above as well")
        if not ((root / name).is_file() if inside is None else name in inside):
            raise DataError(f"{path}, row {row + 1} (the header not counted): {file!r} is not in {root}")
        found[name] = root / name
        others = {option: values[option][row] for option in ("group", "coarse") if option in values}
        samples[name] = Sample(values["fine"][row], part_of(PurePosixPath(name).parent), **others)
    return Listing(path, [*found.items()] if inside is None else root, samples)


def read(listing: Listing, size: int, cache: Path | None, fit: Any, *, drop: bool) -> tuple[Images, list[Problem]]:
    """The images at ``size`` × ``size`` pixels, decoded once, and which files of the source are not among them.

    Of equal images of one class one is taken, that of a validation or test part where there is one. A file that cannot
    be read, and equal images of two classes, raise `DataError` with one sentence, or are left out where ``drop``.
    """
    samples = listing.samples

    def label(name: str) -> list[str]:
        if name not in samples:
            raise Rejected(_OTHERS)
        return [samples[name].fine, samples[name].part]

    # what is said of a file decides which of two equal ones is kept, so that a cache holds for one labelling
    said = json.dumps([[name, *label(name)] for name in samples])
    kind = f"own-images-{hashlib.sha256(said.encode()).hexdigest()[:12]}"

    def target(value: Any) -> Target:
        return Target(value[0], value[1] in ("validation", "test"))

    images = prepare(listing.source, size, cache, kind=kind, label=label, fit=fit, target=target)
    faults = [problem for problem in images.problems if _is_fault(problem, samples)]
    if faults and not drop:
        raise DataError(_described(listing, faults, size, fit))
    return images, [problem for problem in images.problems if problem.reason != _OTHERS]


def _is_fault(problem: Problem, samples: Mapping[str, Sample]) -> bool:
    name = problem.name.rpartition("#")[0] or problem.name
    if problem.reason == REPEATED or not {name, problem.name} & samples.keys():
        return False
    return is_image(name) or problem.reason not in _NO_IMAGE


def _described(listing: Listing, faults: list[Problem], size: int, fit: Any) -> str:
    """What is wrong with the first of the files that cannot be used, in one sentence."""
    conflicting = {problem.name for problem in faults if problem.reason == CONFLICTING}
    unread = [problem for problem in faults if problem.name not in conflicting]
    ways = "or say unusable: drop to go without such files"
    if unread:
        others = [problem.name for problem in unread[1:]]
        more = f"; neither can {listed(others)}" if others else ""
        return f"{listing.path}: {unread[0].name} cannot be read ({unread[0].reason}){more}: mend it, {ways}"
    one, other = next(_pairs(listing.source, conflicting, size, fit))
    fine = [f"{name} ({listing.samples[name].fine})" for name in (one, other)]
    more = f", and {len(conflicting) - 2} more files are such" if len(conflicting) > 2 else ""
    return f"{listing.path}: {fine[0]} and {fine[1]} are the same image of two classes{more}: take one away, {ways}"


def _pairs(source: Source, names: set[str], size: int, fit: Any) -> Iterator[tuple[str, str]]:
    """Files among ``names`` whose pixels are equal."""
    seen: dict[bytes, str] = {}
    for entry in entries(source):
        if entry.name in names and entry.problem is None:
            pixels = decode(entry.read(), size, fit).tobytes()
            if pixels in seen:
                yield seen[pixels], entry.name
            seen[pixels] = entry.name


def _texts(table: table_files.Table, name: str, option: str) -> list[str]:
    """The values of the column called ``name`` as text; `DataError` for one that is missing, or numbers as files."""
    named = {"fine": "fine", "file": "file", "group": "group", "coarse": "groups"}[option]
    (column, *_) = table.named([name], named)
    values = table.column(column)
    gaps = table_files.missing(values)
    if gaps.any():
        row = int(np.flatnonzero(gaps)[0]) + 1
        raise DataError(f"{table.path}: no value in row {row} (the header not counted), column {name!r}: fill it in")
    if option == "file" and not table_files.is_text(values):
        raise DataError(f"{table.path}: column {name!r} holds numbers, and should name files: set file to another")
    numbers, names = classes(values)
    return [names[number] for number in numbers]
