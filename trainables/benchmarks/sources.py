"""The files of a source of images: a folder, a tar or zip, or a list; never extracted to disk under their own names."""

from __future__ import annotations

import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainables.benchmarks import DataError
from trainables.benchmarks.decoding import Rejected

#: a folder, a tar (plain or compressed) or a zip; or (name, bytes or path of a file) pairs
Source = str | Path | Sequence[tuple[str, bytes | Path]]

MAX_FILE_BYTES = 64 * 2**20
#: endings of archives that are read, and of others
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
OTHER_ARCHIVES = (".7z", ".rar", ".tar.zst", ".tar.lz", ".tar.z")
_IMAGES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
#: endings of images that are not read
OTHER_IMAGES = (".heic", ".heif", ".avif", ".jxl")
#: what systems and programs leave beside a user's files, in lower case; hidden names are such as well
_SYSTEM = frozenset(
    {
        *("__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "system volume information"),
        *("lost+found", "__pycache__", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"),
    }
)


@dataclass(frozen=True)
class Entry:
    """A file of a source: ``read()`` gives its bytes, unless ``problem`` says why it cannot be read."""

    name: str
    read: Callable[[], bytes]
    problem: str | None = None


def entries(source: Source, limit: int = MAX_FILE_BYTES) -> Iterator[Entry]:
    """The files of ``source`` in a fixed order: sorted in a folder, as stored in an archive or a list.

    An archive in a folder without loose images is read like a folder of its name. A name that leads outside the
    source, a link, a special file, and in a folder or archive a hidden or system file (``.ipynb_checkpoints``,
    ``__MACOSX``, ``Thumbs.db``, …) come with a ``problem`` and are never read.
    ``read`` may raise `Rejected`, as for a file above ``limit`` bytes, and must be called before the next entry is
    asked for. Raises `DataError` where an archive is damaged.
    """
    if not isinstance(source, str | Path):
        return _listed(source, limit)
    path = Path(source)
    if path.is_dir():
        return _in_folder(path, limit)
    if path.is_file() and (members := _in_archive(path, limit)):
        return members
    raise DataError(f"{path} is neither a folder nor a tar or zip that can be read: it may be truncated")


def read_first(source: Source, wanted: Callable[[str], bool]) -> tuple[str, bytes] | None:
    """Name and bytes of the first file of ``source`` whose name is ``wanted``, or None."""
    for entry in entries(source):
        if entry.problem is None and wanted(entry.name):
            return entry.name, entry.read()
    return None


def count(source: Source) -> int | None:
    """How many files a source has, where that is known without reading it through."""
    if not isinstance(source, str | Path):
        return len(source)
    path = Path(source)
    if path.is_dir():
        names = [name for _, _, files in os.walk(path) for name in files]
        # members of an archive are counted by reading it
        return len(names) if _loose_images(path) or not any(map(is_archive, names)) else None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return sum(not member.is_dir() for member in archive.infolist())
    return None


def is_archive(name: str) -> bool:
    """Whether a file is called as an archive that is read."""
    return name.lower().endswith(ARCHIVES)


def is_image(name: str) -> bool:
    """Whether a file is called as an image that is read."""
    return name.lower().endswith(_IMAGES)


def without_ending(name: str) -> str:
    """The name of a file or folder without the ending of an archive."""
    ending = max((ending for ending in ARCHIVES if name.lower().endswith(ending)), key=len, default="")
    return name.removesuffix(name[len(name) - len(ending) :]) if ending else name


def _left_behind(name: str) -> str | None:
    """Why a file of a folder or archive is no file of the user's, if so."""
    parts = PurePosixPath(name).parts
    hidden = any(part.lower() in _SYSTEM or (part.startswith(".") and part not in (".", "..")) for part in parts)
    return "hidden or system file" if hidden else None


def _packed(name: str) -> str | None:
    """Why an archive is not read where it is, if ``name`` is one's."""
    if is_archive(name) or name.lower().endswith(OTHER_ARCHIVES):
        return "archive that is not read here: unpack it"
    return None


def _outside(name: str) -> bool:
    """Whether a member's name would lead outside the folder it is unpacked in."""
    slashed = name.replace("\\", "/")
    return slashed.startswith("/") or re.match(r"^[A-Za-z]:", slashed) is not None or ".." in slashed.split("/")


def _refuse() -> bytes:
    raise AssertionError("an entry with a problem is not read")


def _listed(source: Sequence[tuple[str, bytes | Path]], limit: int) -> Iterator[Entry]:
    for name, data in source:
        if isinstance(data, bytes):
            yield Entry(name, lambda data=data: data)  # type: ignore[misc]
        else:
            yield Entry(name, lambda path=data: _file_bytes(path, limit))  # type: ignore[misc]


def _loose_images(root: Path) -> bool:
    """Whether a folder holds images outside of archives, by their names."""
    return any(
        is_image(file) and not _left_behind((Path(folder) / file).relative_to(root).as_posix())
        for folder, _, files in os.walk(root)
        for file in files
    )


def _in_folder(root: Path, limit: int) -> Iterator[Entry]:
    inside = root.resolve()
    # beside loose images an archive is most often what they were unpacked from, or a copy of another data set
    unpack = not _loose_images(root)
    for folder, folders, files in os.walk(root):
        folders.sort()
        for link in [name for name in folders if (Path(folder) / name).is_symlink()]:
            yield Entry(str((Path(folder) / link).relative_to(root)), _refuse, "a link to a folder is not followed")
        for file in sorted(files):
            path = Path(folder) / file
            name = path.relative_to(root).as_posix()
            problem = _left_behind(name)
            if problem is None and path.is_symlink() and not path.resolve().is_relative_to(inside):
                problem = "leads outside the folder"
            elif problem is None and not path.is_file():
                problem = "not a file"
            elif problem is None and _packed(name):
                members = _in_archive(path, limit) if unpack and is_archive(name) else None
                if members:
                    yield from (Entry(f"{name}/{member.name}", member.read, member.problem) for member in members)
                    continue
                problem = _packed(name)
            if problem is not None:
                yield Entry(name, _refuse, problem)
            else:
                yield Entry(name, lambda path=path: _file_bytes(path, limit))  # type: ignore[misc]


def _file_bytes(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise Rejected(_too_large(limit))
        return path.read_bytes()
    except OSError as error:
        raise Rejected("cannot be read") from error


def _too_large(limit: int) -> str:
    return f"larger than {limit // 2**20} MiB"


def _in_archive(path: Path, limit: int) -> Iterator[Entry] | None:
    """The files of an archive, None where it is none."""
    if zipfile.is_zipfile(path):
        return _in_zip(path, limit)
    try:
        return _in_tar(path, limit) if tarfile.is_tarfile(path) else None
    except (EOFError, zlib.error, lzma.LZMAError, OSError):
        return None


def _in_zip(path: Path, limit: int) -> Iterator[Entry]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} is a truncated or damaged zip: {error}") from error

    def read(member: zipfile.ZipInfo) -> bytes:
        if member.file_size > limit:
            raise Rejected(_too_large(limit))
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
            # some programs on Windows write its separator
            name = member.filename if _outside(member.filename) else member.filename.replace("\\", "/")
            problem = _left_behind(name) or _packed(name)
            if _outside(member.filename):
                problem = "leads outside the archive"
            elif stat.S_ISLNK(member.external_attr >> 16):
                problem = "a link is not followed"
            yield Entry(name, lambda member=member: read(member), problem)  # type: ignore[misc]


def _in_tar(path: Path, limit: int) -> Iterator[Entry]:
    def read(member: tarfile.TarInfo) -> bytes:
        if member.size > limit:
            raise Rejected(_too_large(limit))
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
                name = PurePosixPath(member.name).as_posix()
                problem = _left_behind(name) or _packed(name)
                if _outside(member.name):
                    problem = "leads outside the archive"
                elif member.issym() or member.islnk():
                    problem = "a link is not followed"
                elif not member.isreg():
                    problem = "not a file"
                yield Entry(name, lambda member=member: read(member), problem)  # type: ignore[misc]
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise DataError(f"{path} is a truncated or damaged tar: {error}") from error
