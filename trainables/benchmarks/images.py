"""Images decoded once: a folder, tar or zip becomes a memory-mapped uint8 array with names, labels and a checksum.

Nothing is ever extracted to disk under a name from an archive: members are read into memory, decoded and
appended to one array. The work is resumable, and what cannot be used is reported file by file.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from trainables.benchmarks import DataError

#: a folder, a tar (plain or compressed) or a zip; or (name, bytes or path of a file) pairs
Source = str | Path | Sequence[tuple[str, bytes | Path]]
#: name of a file in the source -> JSON value kept beside the image; raises `Rejected` for a file to leave out
Label = Callable[[str], Any]
#: (files seen, files in all where that is known)
Progress = Callable[[int, int | None], None]

#: raised whenever the layout or the decoding changes, so that older caches are not mistaken for newer ones
CACHE_FORMAT = 1
MAX_FILE_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000
#: PIL plugins that may see a file: no format that calls another program
PIL_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

_PIXELS, _LOG, _METADATA = "pixels.u8", "log.jsonl", "images.json"
_CHUNK = 256


class Rejected(ValueError):
    """Raised by a `Label` for a file that is to be left out; the message is the reason."""


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


@dataclass(frozen=True)
class Entry:
    """A file of a source: ``read()`` gives its bytes, unless ``problem`` says why it cannot be read."""

    name: str
    read: Callable[[], bytes]
    problem: str | None = None


def prepare(
    source: Source,
    size: int,
    cache: str | Path | None = None,
    *,
    kind: str = "images",
    label: Label | None = None,
    fit: Literal["crop", "stretch"] = "crop",
    progress: Progress | None = None,
) -> Images:
    """The images of ``source`` at ``size`` × ``size`` pixels, decoded on the first call and memory-mapped after.

    ``fit="crop"`` scales the shorter side to ``size`` and cuts out the centre; ``"stretch"`` scales both sides.
    ``label`` gives a JSON value for each file name, or rejects the file. ``kind`` names the labelling: a cache is
    found again by kind, size, fit and the source's names, sizes and modification times. A cache whose checksum
    fails is made anew, an interrupted preparation goes on where it stopped, and several processes wait for the one
    that prepares. ``source`` may also be the folder of a finished cache.

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
    identity = json.dumps([CACHE_FORMAT, kind, size, fit, _stamp(source)])
    folder = root / f"{kind}-{size}px-{hashlib.sha256(identity.encode()).hexdigest()[:20]}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if (folder / _METADATA).is_file():
                try:
                    return open_cache(folder)
                except DataError:
                    shutil.rmtree(folder)
            partial = folder.with_name(folder.name + ".partial")
            _decode_all(source, described, partial, size, label, fit, progress)
            partial.rename(folder)
            (folder / _LOG).unlink()
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


def entries(source: Source) -> Iterator[Entry]:
    """The files of ``source`` in a fixed order: sorted in a folder, as stored in an archive or a list.

    A name that leads outside the source, a link and a special file come with a ``problem`` and are never read.
    ``read`` may raise `Rejected`, and must be called before the next entry is asked for. Raises `DataError`
    where an archive is damaged.
    """
    if not isinstance(source, str | Path):
        return _listed(source)
    path = Path(source)
    if path.is_dir():
        return _in_folder(path)
    if zipfile.is_zipfile(path):
        return _in_zip(path)
    if path.is_file() and tarfile.is_tarfile(path):
        return _in_tar(path)
    raise DataError(f"{path} is neither a folder nor a tar or zip that can be read: it may be truncated")


def read_first(source: Source, wanted: Callable[[str], bool]) -> tuple[str, bytes] | None:
    """Name and bytes of the first file of ``source`` whose name is ``wanted``, or None."""
    for entry in entries(source):
        if entry.problem is None and wanted(entry.name):
            return entry.name, entry.read()
    return None


def decode(data: bytes, size: int, fit: Literal["crop", "stretch"] = "crop") -> np.ndarray:
    """The image in ``data`` as (3, size, size) uint8 RGB; `Rejected` says what is wrong with it.

    Scaled with PIL's antialiased bilinear filter, torchvision's default.
    """
    if not data:
        raise Rejected("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=PIL_FORMATS)
    except UnidentifiedImageError:
        raise Rejected("not an image") from None
    except Exception as error:
        # decoders raise whatever they come upon in damaged bytes
        raise Rejected("truncated or damaged image") from error
    if image.width * image.height > MAX_PIXELS:
        raise Rejected(f"more than {MAX_PIXELS // 10**6} million pixels")
    try:
        rgb = image.convert("RGB")
    except Exception as error:
        raise Rejected("truncated or damaged image") from error
    width, height = rgb.size
    box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    if (width, height) != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box)
    return np.asarray(rgb).transpose(2, 0, 1)


def _decode_all(
    source: Source,
    described: str,
    partial: Path,
    size: int,
    label: Label | None,
    fit: Literal["crop", "stretch"],
    progress: Progress | None,
) -> None:
    """Decode what ``partial`` does not hold yet, then write its metadata."""
    partial.mkdir(exist_ok=True)
    log, rows = _resume(partial, 3 * size * size)
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
    ):
        total = _count(source)
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
                    rows += 1
                lines.write(json.dumps(log[-1]) + "\n")
            # pixels first: a log line stands only for a row that is there
            pixels.flush()
            lines.flush()
            done += len(chunk)
            if progress:
                progress(done, total)
        os.fsync(pixels.fileno())
    kept = [line for line in log if line[2] is None]
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
        "shape": [rows, 3, size, size],
        "sha256": digest,
        "source": described,
        "names": [line[0] for line in kept],
        "labels": [line[1] for line in kept],
        "problems": problems,
    }
    (partial / _METADATA).write_text(json.dumps(metadata), encoding="utf-8")


def _resume(partial: Path, row_bytes: int) -> tuple[list[list[Any]], int]:
    """The log of an interrupted preparation and its rows, with both files cut back to where they agree."""
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
    return log, rows


def _read(
    source: Iterator[Entry], done: set[str], label: Label | None
) -> Iterator[tuple[Entry, Any, bytes | str] | None]:
    """Entries with their label and their bytes, or with a reason in the bytes' place; None for one that is done."""
    seen: Counter[str] = Counter()
    for entry in source:
        seen[entry.name] += 1
        if seen[entry.name] > 1:
            # numbered, so that resuming tells it from the first
            entry = Entry(f"{entry.name}#{seen[entry.name]}", _refuse, "another file of the same name")
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
            found = path.stat()
            return [path.name, found.st_size, found.st_mtime_ns]
        listing = hashlib.sha256()
        for folder, folders, files in os.walk(path):
            folders.sort()
            for file in sorted(files):
                found = (Path(folder) / file).lstat()
                name = str((Path(folder) / file).relative_to(path))
                listing.update(json.dumps([name, found.st_size, found.st_mtime_ns]).encode())
        return [listing.hexdigest()]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _count(source: Source) -> int | None:
    """How many files a source has, where that is known without reading it through."""
    if not isinstance(source, str | Path):
        return len(source)
    if Path(source).is_dir():
        return sum(len(files) for _, _, files in os.walk(source))
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            return sum(not member.is_dir() for member in archive.infolist())
    return None


def _outside(name: str) -> bool:
    """Whether a member's name would lead outside the folder it is unpacked in."""
    slashed = name.replace("\\", "/")
    return slashed.startswith("/") or re.match(r"^[A-Za-z]:", slashed) is not None or ".." in slashed.split("/")


def _refuse() -> bytes:
    raise AssertionError("an entry with a problem is not read")


def _listed(source: Sequence[tuple[str, bytes | Path]]) -> Iterator[Entry]:
    for name, data in source:
        if isinstance(data, bytes):
            yield Entry(name, lambda data=data: data)  # type: ignore[misc]
        else:
            yield Entry(name, lambda path=data: _file_bytes(path))  # type: ignore[misc]


def _in_folder(root: Path) -> Iterator[Entry]:
    inside = root.resolve()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for link in [name for name in folders if (Path(folder) / name).is_symlink()]:
            yield Entry(str((Path(folder) / link).relative_to(root)), _refuse, "a link to a folder is not followed")
        for file in sorted(files):
            path = Path(folder) / file
            name = path.relative_to(root).as_posix()
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                yield Entry(name, _refuse, "leads outside the folder")
            elif not path.is_file():
                yield Entry(name, _refuse, "not a file")
            else:
                yield Entry(name, lambda path=path: _file_bytes(path))  # type: ignore[misc]


def _file_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Rejected(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise Rejected("cannot be read") from error


def _in_zip(path: Path) -> Iterator[Entry]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} is a truncated or damaged zip: {error}") from error

    def read(member: zipfile.ZipInfo) -> bytes:
        if member.file_size > MAX_FILE_BYTES:
            raise Rejected(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
        if member.flag_bits & 0x1:
            raise Rejected("encrypted")
        try:
            return archive.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise Rejected("damaged in the archive") from error

    with archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            problem = None
            if _outside(member.filename):
                problem = "leads outside the archive"
            elif stat.S_ISLNK(member.external_attr >> 16):
                problem = "a link is not followed"
            yield Entry(member.filename, lambda member=member: read(member), problem)  # type: ignore[misc]


def _in_tar(path: Path) -> Iterator[Entry]:
    def read(member: tarfile.TarInfo) -> bytes:
        if member.size > MAX_FILE_BYTES:
            raise Rejected(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
        file = archive.extractfile(member)
        assert file is not None, "a regular file"
        try:
            data = file.read()
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            raise DataError(f"{path} is a truncated or damaged tar: {error}") from error
        if len(data) < member.size:
            raise DataError(f"{path} is a truncated tar: it ends within {member.name}")
        return data

    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isdir():
                    continue
                problem = None
                if _outside(member.name):
                    problem = "leads outside the archive"
                elif member.issym() or member.islnk():
                    problem = "a link is not followed"
                elif not member.isreg():
                    problem = "not a file"
                yield Entry(
                    PurePosixPath(member.name).as_posix(),
                    lambda member=member: read(member),  # type: ignore[misc]
                    problem,
                )
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise DataError(f"{path} is a truncated or damaged tar: {error}") from error
