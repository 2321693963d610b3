"""Data files that a study brings along, kept beside its checkpoints where every node finds them."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from study.errors import UserError
from study.file.parts import BenchmarkSpec
from study.file.paths import on_disk
from study.file.spec import StudySpec
from trainables.storage import Folder, Held

if TYPE_CHECKING:
    from study.home import Home

#: the folder of data below the storage; it holds folders named by hashes alone, so a study may have the same name
DATA = "data"
#: how long another process may take to copy the same file
COPY_SECONDS = 600.0


def import_data(spec: StudySpec, home: Home) -> StudySpec:
    """The study with each data file that its benchmark's path options name copied to ``<storage>/data/<hash>/<name>``.

    A file of the same content is copied once, and a later resume finds it although the submitted one is gone. Folders
    (image caches, say) stay where they are. `UserError` where the storage cannot be written.
    """
    from trainables.benchmarks import find

    storage = home.storage(spec)
    options = dict(spec.benchmark.options)
    for name, paths in on_disk(find(spec.benchmark.name).Options, options).items():
        kept: dict[str, str] = {}
        for path in filter(os.path.isfile, paths):
            try:
                with Path(path).open("rb"):
                    pass
            except OSError as error:
                raise UserError(f"benchmark.{name}: {path} cannot be read ({error.strerror})") from None
            try:
                kept[path] = _keep(Path(path), storage)
            except (OSError, Held) as error:
                why = getattr(error, "strerror", None) or error
                raise UserError(
                    f"benchmark.{name}: {path} cannot be copied to the storage {storage} ({why})"
                ) from error
        value = options[name]
        options[name] = [kept.get(path, path) for path in value] if isinstance(value, list) else kept.get(value, value)
    return spec.model_copy(update={"benchmark": BenchmarkSpec(name=spec.benchmark.name, **options)})


def _keep(path: Path, storage: Folder) -> str:
    """The address of the file's copy."""
    if storage.on_disk and path.resolve().is_relative_to(storage.path):
        return str(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    folder = storage / DATA / digest
    if not folder.exists(path.name):
        # two studies may bring the same file at once: the second waits for the first one's copy
        with folder.lock(".lock", COPY_SECONDS):
            if not folder.exists(path.name):
                with path.open("rb") as source, folder.writing(path.name) as copy:
                    shutil.copyfileobj(source, copy, 2**24)
    return (folder / path.name).address
