"""Where a study keeps its files: a folder on a disk, or a prefix of an S3-compatible object store."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from filelock import FileLock, Timeout

#: how often the holder of a lock in an object store renews it, and after how long without that it has died
RENEW_SECONDS, LEASE_SECONDS = 5.0, 30.0


class Held(OSError):
    """A lock is another process's."""


def digest(path: Path) -> str:
    """SHA-256 of a file's content, or of the names and contents in a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for below in sorted(path.rglob("*")):
        if below.is_file():
            whole.update(f"{below.relative_to(path).as_posix()}\0{digest(below)}\0".encode())
    return whole.hexdigest()


@dataclass(frozen=True)
class Folder:
    """A folder by its address: a path, or ``s3://bucket/prefix``. Can be pickled and sent to another machine.

    The store's endpoint and login are those of the environment (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, …), or
    of the address's query (``?endpoint_override=http://127.0.0.1:9000``). Names are relative, with ``/`` between
    parts. A disk or store that fails raises ``OSError``.
    """

    address: str

    @property
    def on_disk(self) -> bool:
        return "://" not in self.address

    @property
    def path(self) -> Path:
        """The folder on disk; ``ValueError`` for an object store."""
        if not self.on_disk:
            raise ValueError(f"{self.address} is not on a disk")
        return Path(self.address)

    def __truediv__(self, name: str) -> Folder:
        """A folder below this one; it is made when something is written to it."""
        base, mark, query = self.address.partition("?")
        return Folder(f"{base.rstrip('/')}/{name}{mark}{query}")

    def __str__(self) -> str:
        return self.address

    @cached_property
    def _store(self) -> tuple[Any, str]:
        """pyarrow's file system of the object store, and the prefix there."""
        from pyarrow.fs import FileSystem

        filesystem, prefix = FileSystem.from_uri(self.address)
        return filesystem, prefix

    def __getstate__(self) -> dict[str, str]:
        return {"address": self.address}

    def tune(self) -> dict[str, Any]:
        """``storage_path`` and ``storage_filesystem`` for Ray Tune's ``RunConfig``."""
        if self.on_disk:
            return {"storage_path": self.address}
        filesystem, prefix = self._store
        return {"storage_path": prefix, "storage_filesystem": filesystem}

    def exists(self, name: str) -> bool:
        if self.on_disk:
            return (self.path / name).is_file()
        from pyarrow.fs import FileType

        filesystem, prefix = self._store
        return bool(filesystem.get_file_info(f"{prefix}/{name}").type == FileType.File)

    def names(self) -> list[str]:
        """Names of the files and folders right below, sorted; none where there is no such folder."""
        if self.on_disk:
            return sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []
        from pyarrow.fs import FileSelector

        filesystem, prefix = self._store
        return sorted(info.base_name for info in filesystem.get_file_info(FileSelector(prefix, allow_not_found=True)))

    def read(self, name: str) -> bytes | None:
        """The file's content, None where there is no such file."""
        try:
            with self.reading(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """The file, opened for reading; ``FileNotFoundError`` where there is none."""
        if self.on_disk:
            with (self.path / name).open("rb") as file:
                yield file
            return
        filesystem, prefix = self._store
        with filesystem.open_input_file(f"{prefix}/{name}") as file:
            yield file

    def write(self, name: str, content: bytes) -> None:
        """Replace the file, whole or not at all; of several who write it at once, one's content stands."""
        with self.writing(name, shared=True) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str, shared: bool = False) -> Iterator[IO[bytes]]:
        """A file that takes the place of ``name`` when the context ends well, and is on disk by then.

        ``shared``: others may be writing it at the same time, in other processes and on other machines.
        """
        if self.on_disk:
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # what a killed writer leaves is written over by the next, unless that could be another's unfinished file
            aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part" if shared else f".{path.name}.part")
            try:
                with aside.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                aside.replace(path)
            # an unfinished file is of no use and may be what fills the disk, so it is removed
            except BaseException:
                with contextlib.suppress(OSError):
                    aside.unlink(missing_ok=True)
                raise
            return
        filesystem, prefix = self._store
        # an object exists once its upload ends, even one cut short, so it only begins with the whole content at hand
        with tempfile.TemporaryFile() as scratch:
            try:
                yield cast(IO[bytes], scratch)
            except OSError as error:
                # the scratch file is on this machine's disk, so the message names that folder and not the store
                if error.errno == errno.ENOSPC:
                    raise OSError(error.errno, f"{error.strerror} in {tempfile.gettempdir()}") from error
                raise
            scratch.seek(0)
            with filesystem.open_output_stream(f"{prefix}/{name}") as upload:
                shutil.copyfileobj(scratch, upload, 2**24)

    def remove(self, name: str) -> None:
        """Remove the file where there is one."""
        if self.on_disk:
            (self.path / name).unlink(missing_ok=True)
            return
        filesystem, prefix = self._store
        # pyarrow looks for the object before it deletes it, and raises where there is none
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_file(f"{prefix}/{name}")

    def clear(self, kept: Collection[str]) -> None:
        """Remove everything in the folder but what is right below it by the names ``kept``; without any, it too."""
        if self.on_disk:
            for entry in self.path.iterdir() if self.path.is_dir() else ():
                if entry.name in kept:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink(missing_ok=True)
            if not kept and self.path.is_dir():
                self.path.rmdir()
            return
        from pyarrow.fs import FileSelector, FileType

        filesystem, prefix = self._store
        for info in filesystem.get_file_info(FileSelector(prefix, allow_not_found=True)):
            if info.base_name not in kept:
                remove = filesystem.delete_dir if info.type == FileType.Directory else filesystem.delete_file
                remove(info.path)

    def move(self, target: Folder, kept: Collection[str] = ()) -> None:
        """Move the folder, where there is one, to ``target`` on the same disk or in the same store.

        In a store that is one file after another, which can be gone on with, but for those right below it by the names
        ``kept``.
        """
        if self.on_disk:
            if self.path.is_dir():
                self.path.rename(target.path)
            return
        from pyarrow.fs import FileSelector, FileType

        filesystem, prefix = self._store
        for info in filesystem.get_file_info(FileSelector(prefix, allow_not_found=True, recursive=True)):
            name = info.path.removeprefix(f"{prefix}/")
            if info.type == FileType.File and name not in kept:
                filesystem.move(info.path, f"{target._store[1]}/{name}")

    @contextmanager
    def lock(self, name: str, seconds: float) -> Iterator[None]:
        """Held by one process at a time; `Held` where another one has it for longer than ``seconds``.

        On disk the system frees the lock of a process that died, on NFS its server. In an object store the holder
        renews a file, and one that was not renewed for 30 s is taken over; nothing there can be stopped by force, so
        a holder that lost the store for so long finds its lock gone (`Held`) when the context ends.
        """
        if self.on_disk:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / name)
            try:
                lock.acquire(timeout=seconds, blocking=seconds > 0)
            except Timeout:
                raise Held(f"{self.path / name} is held by another process") from None
            try:
                yield
            finally:
                lock.release()
            return
        lease = _Lease(self, name)
        lease.take(seconds)
        try:
            yield
        finally:
            lease.give_back()

    def is_locked(self, name: str) -> bool:
        """Whether a process holds the lock; in an object store that takes up to 10 s to see."""
        if self.on_disk:
            # taking a lock makes the folder, which asking must not do
            if not self.path.is_dir():
                return False
            try:
                with self.lock(name, 0):
                    return False
            except Held:
                return True
        first, deadline = self.read(name), time.monotonic() + 2 * RENEW_SECONDS
        while first is not None and time.monotonic() < deadline:
            time.sleep(0.5)
            if self.read(name) != first:
                return True
        return False

    def stamp(self, name: str) -> str:
        """What tells one content of the file from another: its size and the time it was written."""
        if self.on_disk:
            status = (self.path / name).stat()
            return f"{status.st_size}-{status.st_mtime_ns}"
        filesystem, prefix = self._store
        info = filesystem.get_file_info(f"{prefix}/{name}")
        return f"{info.size}-{info.mtime_ns}"


class _Lease:
    """A lock in an object store: a file that says whose it is, renewed by a thread."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder, self._name = folder, name
        self._owner = uuid.uuid4().hex
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {name}", daemon=True)
        self._turn = 0

    def take(self, seconds: float) -> None:
        """Take the lock once it is free or its holder has died; `Held` after ``seconds`` of its being renewed."""
        deadline = time.monotonic() + seconds
        seen, since = self._folder.read(self._name), time.monotonic()
        while True:
            # clocks of two machines differ, so a holder's life is judged by change, not by a time it wrote
            if seen is None or time.monotonic() - since > LEASE_SECONDS:
                self._write()
                # where two write at once the store keeps the last, so this looks again who it was
                time.sleep(0.5)
                if self._is_ours():
                    self._thread.start()
                    return
            now = self._folder.read(self._name)
            if now != seen:
                if seen is not None and time.monotonic() > deadline:
                    raise Held(f"{self._folder}/{self._name} is held by another process")
                seen, since = now, time.monotonic()
            time.sleep(1.0)

    def give_back(self) -> None:
        """End the renewal and free the lock; `Held` where it was taken over meanwhile."""
        self._ended.set()
        self._thread.join()
        if not self._is_ours():
            raise Held(f"{self._folder}/{self._name} was taken over by another process")
        self._folder.remove(self._name)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            # a renewal that fails does no harm: others take the lock only after six that are missing
            with contextlib.suppress(OSError):
                if not self._is_ours():
                    return
                self._write()

    def _write(self) -> None:
        self._turn += 1
        self._folder.write(self._name, json.dumps({"owner": self._owner, "turn": self._turn}).encode())

    def _is_ours(self) -> bool:
        content = self._folder.read(self._name)
        return content is not None and json.loads(content)["owner"] == self._owner
