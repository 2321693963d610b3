"""Data files that a study brings along, kept beside its checkpoints where every node finds them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from study.errors import UserError
from study.file.parts import BenchmarkSpec
from study.file.paths import on_disk
from study.file.spec import StudySpec
from trainables.storage import Folder, Held, digest

if TYPE_CHECKING:
    from study.home import Home

#: the folder of data below the storage; it holds folders named by hashes alone, so a study may have the same name
DATA = "data"
#: how long another process may take to copy the same file
COPY_SECONDS = 600.0


def import_data(spec: StudySpec, home: Home) -> StudySpec:
    """The study with each data file that its benchmark's path options name copied to ``<storage>/data/<hash>/<name>``.

    A file of the same content is copied once, and a later resume finds it although the submitted one is gone. So is a
    folder in the working directory, which a submitted job's leaves with it; any other folder (a shared disk's, an
    image cache) stays where it is. `UserError` where the storage cannot be written, or is an object store and the data
    a folder.
    """
    from trainables.benchmarks import find

    storage = home.storage(spec)
    options = dict(spec.benchmark.options)
    for name, paths in on_disk(find(spec.benchmark.name).Options, options).items():
        kept: dict[str, str] = {}
        for path in filter(_travels, paths):
            if Path(path).is_dir() and not storage.on_disk:
                raise UserError(
                    f"benchmark.{name}: {path} is a folder, and the storage {storage} takes files; give it as a zip or "
                    "tar, or let it lie on a disk that all nodes share"
                )
            try:
                kept[path] = _keep(Path(path), storage)
            except (OSError, Held) as error:
                why = getattr(error, "strerror", None) or error
                unread = isinstance(error, PermissionError) and not os.access(path, os.R_OK)
                what = "cannot be read" if unread else f"cannot be copied to the storage {storage}"
                raise UserError(f"benchmark.{name}: {path} {what} ({why})") from error
        value = options[name]
        options[name] = [kept.get(path, path) for path in value] if isinstance(value, list) else kept.get(value, value)
    return spec.model_copy(update={"benchmark": BenchmarkSpec(name=spec.benchmark.name, **options)})


def _travels(path: str) -> bool:
    """Whether what ``path`` names is to be copied: a file, or a folder in the working directory."""
    named = Path(path)
    return named.is_file() or (named.is_dir() and named.resolve().is_relative_to(Path.cwd().resolve()))


def _keep(path: Path, storage: Folder) -> str:
    """The address of the copy of a file or folder."""
    if storage.on_disk and path.resolve().is_relative_to(storage.path):
        return str(path)
    folder = storage / DATA / digest(path)[:16]
    if path.name not in folder.names():
        # two studies may bring the same file at once: the second waits for the first one's copy
        with folder.lock(".lock", COPY_SECONDS):
            if path.name not in folder.names():
                _copy(path, folder)
    return (folder / path.name).address


def _copy(path: Path, folder: Folder) -> None:
    if path.is_dir():
        # whole or not at all
        aside = folder.path / f".{path.name}.part"
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(path, aside)
        aside.replace(folder.path / path.name)
        return
    with path.open("rb") as source, folder.writing(path.name) as copy:
        shutil.copyfileobj(source, copy, 2**24)
