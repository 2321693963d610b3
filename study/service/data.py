"""Image data decoded once, ahead of the studies that train on it."""

from __future__ import annotations

import time
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from study.errors import UserError
from trainables.benchmarks import BENCHMARKS, Benchmark, find
from trainables.benchmarks import images as decoding
from trainables.benchmarks.age import Age
from trainables.benchmarks.faces import read_faces
from trainables.benchmarks.images import Problem

#: options that a benchmark of decoded images has
IMAGE_OPTIONS = {"data", "size", "cache"}
#: seconds between two plain lines
QUIET_SECONDS = 10.0


@dataclass(frozen=True)
class Prepared:
    """Images that are ready to train on."""

    #: what was read, in words
    description: str
    #: files that are not among the images, and why
    problems: tuple[Problem, ...]
    #: options of the benchmark with which a study finds the images without decoding them again
    options: dict[str, str | int]


def prepare(
    benchmark: str,
    source: Path,
    size: int | None = None,
    cache: Path | None = None,
    metadata: Path | None = None,
    progress: decoding.Progress | None = None,
) -> Prepared:
    """Decode ``source`` for the image benchmark called ``benchmark``; what an earlier call decoded is kept.

    ``size`` is the images' edge in pixels, the benchmark's default without it; ``cache`` the folder for decoded images,
    the user's cache folder without it; ``metadata`` the ages' ``imdb.mat`` or ``wiki.mat`` where it is not in the
    source. Faces go to a cache of their own, whose folder is the study's ``data`` from then on; other images are found
    again by their source.

    Raises `UserError` for a benchmark without images or an option that it refuses, `DataError` for the source.
    """
    images = _image_benchmark(benchmark)
    source, cache = source.expanduser().resolve(), cache and cache.expanduser().resolve()
    required = [option.name for option in fields(images.Options) if option.default is MISSING and option.name != "data"]
    if required:
        raise UserError(
            f"benchmark {benchmark!r} needs {', '.join(required)} of a study file, whose first fierce check or fierce "
            "run decodes the images, and keeps them"
        )
    edge = images.Options().size if size is None else size
    given = {"data": str(source), "size": edge} | ({"cache": str(cache)} if cache else {})
    if metadata is not None and not isinstance(images, Age):
        raise UserError(f"--metadata holds the ages of faces, which benchmark {benchmark!r} does not read")
    try:
        options = images.Options(**given)
    except ValueError as error:
        raise UserError(f"benchmark {benchmark!r} refuses that: {error}") from None
    if not isinstance(images, Age):
        data = images.load(options)
        return Prepared(data.description, tuple(Problem(name, reason) for name, reason in data.left_out), given)
    faces = read_faces(source, edge, cache, metadata, progress)
    ages = faces.ages
    return Prepared(
        f"{faces.layout}: {len(ages):,} images at {edge} pixels, ages {ages.min():g} to {ages.max():g}, "
        f"median {np.median(ages):g}",
        faces.images.problems,
        {"data": str(faces.images.folder), "size": edge},
    )


class DecodingProgress:
    """How far the decoding is: a bar on a terminal, a line every ten seconds elsewhere; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("files", total=None)
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, seen: int, total: int | None) -> None:
        self._bar.update(self._task, completed=seen, total=total)
        if not self._console.is_terminal and time.monotonic() - self._last_line >= QUIET_SECONDS:
            self._last_line = time.monotonic()
            self._console.print(f"{seen:,} of {total:,} files" if total else f"{seen:,} files")


def _image_benchmark(name: str) -> Benchmark:
    try:
        benchmark = find(name)
    except LookupError as error:
        raise UserError(str(error)) from None
    if not _has_images(benchmark):
        known = ", ".join(sorted(other for other in BENCHMARKS if _has_images(find(other))))
        raise UserError(f"benchmark {name!r} has no images to prepare; those that have: {known}")
    return benchmark


def _has_images(benchmark: Benchmark) -> bool:
    return {field.name for field in fields(benchmark.Options)} >= IMAGE_OPTIONS
