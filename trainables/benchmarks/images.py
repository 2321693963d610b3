"""Images decoded once: a folder, tar or zip becomes a memory-mapped uint8 array with names, labels and a checksum.

Nothing is ever extracted to disk under a name from an archive: members are read into memory, decoded and
appended to one array. The work is resumable, and what cannot be used is reported file by file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from trainables.benchmarks import DataError
from trainables.benchmarks.decoding import Rejected, decode
from trainables.benchmarks.duplicates import Target, repeated
from trainables.benchmarks.sources import Entry, Source, count, entries

#: name of a file in the source -> JSON value kept beside the image; raises `Rejected` for a file to leave out
Label = Callable[[str], Any]
#: (files seen, files in all where that is known)
Progress = Callable[[int, int | None], None]

#: raised whenever the layout, the decoding or the choice of files changes, so that older caches are not mistaken for
#: newer ones
CACHE_FORMAT = 2

_PIXELS, _LOG, _METADATA = "pixels.u8", "log.jsonl", "images.json"
_CHUNK = 256


@dataclass(frozen=True)
class Problem:
    """A file of the source that is not among the images, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Images:
    """A prepared cache: ``pixels`` (N, 3, size, size) uint8 RGB, memory-mapped; names and labels in the same order."""

    pixels: Tensor
    names: tuple[str, ...]
    labels: tuple[Any, ...]
    problems: tuple[Problem, ...]
    #: SHA-256 of the pixels, in hexadecimal
    sha256: str
    folder: Path

    def reasons(self) -> dict[str, int]:
        """How many files were left out, by reason, most frequent first."""
        return dict(Counter(problem.reason for problem in self.problems).most_common())


def prepare(
    source: Source,
    size: int,
    cache: str | Path | None = None,
    *,
    kind: str = "images",
    label: Label | None = None,
    fit: Literal["crop", "stretch"] = "crop",
    progress: Progress | None = None,
    target: Callable[[Any], Target] = Target,
    identity: Callable[[str], str] = str,
) -> Images:
    """The images of ``source`` at ``size`` × ``size`` pixels, decoded on the first call and memory-mapped after.

    ``fit="crop"`` scales the shorter side to ``size`` and cuts out the centre; ``"stretch"`` scales both sides.
    ``label`` gives a JSON value for each file name, or rejects the file. Images of equal pixels, and files of which
    ``identity`` says the same, are one image: `repeated` tells which is kept, by the ``target`` of their labels.
    ``kind`` names the labelling: a cache is found again by kind, size, fit and the source's names, sizes and
    modification times. A cache whose checksum fails is made anew, an interrupted preparation goes on where it
    stopped, and several processes wait for the one that prepares. ``source`` may also be the folder of a finished
    cache.

    Raises `DataError` for a source that is missing, damaged as a whole, or without a usable image.
    """
    if not isinstance(source, str | Path):
        described = f"{len(source)} files"
    else:
        source = Path(source).expanduser()
        described = str(source)
        if not source.exists():
            raise DataError(f"{source} does not exist: give a folder, a tar or a zip of images")
        if (source / _METADATA).is_file():
            return _opened_at_size(source, size)
    root = Path(cache).expanduser() if cache else default_cache()
    key = json.dumps([CACHE_FORMAT, kind, size, fit, _stamp(source)])
    folder = root / f"{kind}-{size}px-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if (folder / _METADATA).is_file():
                try:
                    return open_cache(folder)
                except DataError:
                    shutil.rmtree(folder)
            partial = folder.with_name(folder.name + ".partial")
            log = _decode_all(source, partial, size, label, fit, progress)
            _finish(partial, log, described, size, target, identity)
            partial.rename(folder)
            (folder / _LOG).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"the image cache {folder} cannot be written: {error.strerror or error}") from error
    return open_cache(folder, verify=False)


def open_cache(folder: str | Path, verify: bool = True) -> Images:
    """The finished cache in ``folder``; with ``verify`` its checksum is tested.

    Raises `DataError` where it is incomplete or damaged.
    """
    folder = Path(folder)
    try:
        metadata = json.loads((folder / _METADATA).read_text(encoding="utf-8"))
        shape = tuple(metadata["shape"])
        names, labels, digest = tuple(metadata["names"]), tuple(metadata["labels"]), metadata["sha256"]
        problems = tuple(Problem(*problem) for problem in metadata["problems"])
        if metadata["format"] != CACHE_FORMAT:
            raise DataError(f"{folder} is an image cache of another version of this program: prepare it again")
        held = (folder / _PIXELS).stat().st_size
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder} is not a finished image cache: prepare it again") from error
    damaged = held != np.prod(shape) or not len(names) == len(labels) == shape[0]
    if not damaged and verify:
        with (folder / _PIXELS).open("rb") as file:
            damaged = hashlib.file_digest(file, "sha256").hexdigest() != digest
    if damaged:
        raise DataError(f"the image cache {folder} is damaged: delete it and prepare it again")
    # a private mapping: torch asks for writable memory, and the file is never written
    pixels = torch.from_numpy(np.memmap(folder / _PIXELS, np.uint8, "c", shape=shape))
    return Images(pixels, names, labels, problems, digest, folder)


def default_cache() -> Path:
    """``FIERCE_CACHE``, or ``fierce/images`` in the user's cache folder: the same for every working directory."""
    chosen = os.environ.get("FIERCE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fierce" / "images"


def _decode_all(
    source: Source,
    partial: Path,
    size: int,
    label: Label | None,
    fit: Literal["crop", "stretch"],
    progress: Progress | None,
) -> list[list[Any]]:
    """Decode what ``partial`` does not hold yet; its log of name, label and reason, a row of pixels for each label."""
    partial.mkdir(exist_ok=True)
    log = _resume(partial, 3 * size * size)
    seen = {line[0] for line in log}

    def one(item: tuple[Entry, Any, bytes | str]) -> np.ndarray | str:
        data = item[2]
        if isinstance(data, str):
            return data
        try:
            return decode(data, size, fit)
        except Rejected as reason:
            return str(reason)

    with (
        (partial / _PIXELS).open("ab") as pixels,
        (partial / _LOG).open("a", encoding="utf-8") as lines,
        ThreadPoolExecutor() as pool,
        warnings.catch_warnings(),
    ):
        # PIL warns of damaged EXIF, which spoils no pixel
        warnings.filterwarnings("ignore", module=r"PIL\.")
        total = count(source)
        done = 0
        waiting = _read(entries(source), seen, label)
        while chunk := list(islice(waiting, _CHUNK)):
            fresh = [item for item in chunk if item is not None]
            for item, result in zip(fresh, pool.map(one, fresh), strict=True):
                name = item[0].name
                if isinstance(result, str):
                    log.append([name, None, result])
                else:
                    pixels.write(result.tobytes())
                    log.append([name, item[1], None])
                lines.write(json.dumps(log[-1]) + "\n")
            # a resume takes a log line for a row that is there, so pixels are written before it
            pixels.flush()
            lines.flush()
            done += len(chunk)
            if progress:
                progress(done, total)
        os.fsync(pixels.fileno())
    return log


def _finish(
    partial: Path,
    log: list[list[Any]],
    described: str,
    size: int,
    target: Callable[[Any], Target],
    identity: Callable[[str], str],
) -> None:
    """Leave out what ``partial`` holds twice and write its metadata; `DataError` where nothing is left."""
    kept = _without_repeats(log, partial / _PIXELS, 3 * size * size, target, identity)
    problems = [[name, reason] for name, _, reason in log if reason is not None]
    if not kept:
        reasons = Counter(reason for _, reason in problems).most_common(3)
        shutil.rmtree(partial)
        raise DataError(
            f"{described} holds no usable image"
            + (": " + ", ".join(f"{count} × {reason}" for reason, count in reasons) if reasons else "")
        )
    with (partial / _PIXELS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    metadata = {
        "format": CACHE_FORMAT,
        "shape": [len(kept), 3, size, size],
        "sha256": digest,
        "source": described,
        "names": [line[0] for line in kept],
        "labels": [line[1] for line in kept],
        "problems": problems,
    }
    (partial / _METADATA).write_text(json.dumps(metadata), encoding="utf-8")


def _without_repeats(
    log: list[list[Any]],
    pixels: Path,
    row_bytes: int,
    target: Callable[[Any], Target],
    identity: Callable[[str], str],
) -> list[list[Any]]:
    """The log's lines of the images to keep; the others get their reason in it, and lose their rows in ``pixels``."""
    lines = [line for line in log if line[2] is None]
    if not lines:
        return []
    rows = np.memmap(pixels, np.uint8, "r", shape=(len(lines), row_bytes))
    digests = [hashlib.sha256(row).digest() for row in rows]
    reasons = repeated(digests, [target(line[1]) for line in lines])
    once = [i for i in range(len(lines)) if i not in reasons]
    by_name = repeated([identity(lines[i][0]) for i in once], [target(lines[i][1]) for i in once])
    reasons |= {once[i]: reason for i, reason in by_name.items()}
    if not reasons:
        return lines
    for i, reason in reasons.items():
        lines[i][1:] = [None, reason]
    kept = [i for i in range(len(lines)) if i not in reasons]
    aside = pixels.with_name(pixels.name + ".kept")
    with aside.open("wb") as file:
        for i in kept:
            file.write(rows[i].tobytes())
        file.flush()
        os.fsync(file.fileno())
    # a resume by the log would look for all rows, so the log is removed before rows are
    (pixels.parent / _LOG).unlink()
    aside.replace(pixels)
    return [lines[i] for i in kept]


def _resume(partial: Path, row_bytes: int) -> list[list[Any]]:
    """The log of an interrupted preparation, with it and the pixels cut back to where they agree."""
    log: list[list[Any]] = []
    rows = 0
    if (partial / _LOG).is_file() and (partial / _PIXELS).is_file():
        held = (partial / _PIXELS).stat().st_size // row_bytes
        for line in (partial / _LOG).read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            name, value, reason = json.loads(line)
            if reason is None and rows == held:
                break
            rows += reason is None
            log.append([name, value, reason])
    (partial / _LOG).write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")
    with (partial / _PIXELS).open("ab") as pixels:
        pixels.truncate(rows * row_bytes)
    return log


def _read(
    source: Iterator[Entry], done: set[str], label: Label | None
) -> Iterator[tuple[Entry, Any, bytes | str] | None]:
    """Entries with their label and their bytes, or with a reason in the bytes' place; None for one that is done."""
    seen: Counter[str] = Counter()
    for entry in source:
        seen[entry.name] += 1
        if seen[entry.name] > 1:
            # numbered, so that resuming tells it from the first
            name = f"{entry.name}#{seen[entry.name]}"
            entry = Entry(name, entry.read, entry.problem or "another file of the same name")
        if entry.name in done:
            yield None
            continue
        value, data = None, entry.problem or b""
        if entry.problem is None:
            try:
                value = label(entry.name) if label else None
                data = entry.read()
            except Rejected as reason:
                data = str(reason)
        yield entry, value, data


def _opened_at_size(folder: Path, size: int) -> Images:
    images = open_cache(folder)
    if images.pixels.shape[-1] != size:
        raise DataError(f"{folder} holds images of {images.pixels.shape[-1]} pixels, not {size}: set size to match")
    return images


def _stamp(source: Source) -> list[Any]:
    """What identifies a source without reading it: names, sizes and modification times."""
    if not isinstance(source, str | Path):
        return [[name, _stamp(data) if isinstance(data, Path) else _digest(data)] for name, data in source]
    path = Path(source)
    try:
        if not path.is_dir():
            status = path.stat()
            return [path.name, status.st_size, status.st_mtime_ns]
        listing = hashlib.sha256()
        for folder, folders, files in os.walk(path):
            folders.sort()
            for file in sorted(files):
                status = (Path(folder) / file).lstat()
                name = str((Path(folder) / file).relative_to(path))
                listing.update(json.dumps([name, status.st_size, status.st_mtime_ns]).encode())
        return [listing.hexdigest()]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
