"""A study's own files: its study file as it is run, and the lock of the process that runs it."""

from __future__ import annotations

import difflib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from study.errors import UserError
from study.file.spec import StudySpec
from study.home import SPEC, Home
from study.record import moved
from study.servers import logins
from study.servers.reach import object_store
from trainables.storage import Folder, Held

LOCK, HOLDER = "lock", "driver.json"
#: in a study's folder at home while it is being renamed, see `study.record.renaming`
RENAMING = "renaming.json"


def studies_here(home: Home) -> list[str]:
    """The names of the studies whose files the home keeps, in order."""
    return sorted(path.parent.name for path in (home.root / "studies").glob(f"*/{SPEC}"))


def require_settled(home: Home, name: str) -> None:
    """`UserError` where a renaming of the study was interrupted."""
    try:
        meant = json.loads((home.study(name) / RENAMING).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    old, new = meant["from"], meant["to"]
    raise UserError(
        f"the renaming of study {old!r} to {new!r} was interrupted; finish it with: fierce rename {old} {new}"
    )


def load_spec(home: Home, name: str, *, settled: bool = True) -> StudySpec:
    """The file of a study that was run before, its paths as they are now.

    `UserError` where there is none, and, unless not ``settled``, where its renaming was interrupted.
    """
    if settled:
        require_settled(home, name)
    path, folder = home.study(name) / SPEC, home.files(name)
    kept: bytes | None
    if path.is_file():
        kept = _reading(path)
    else:
        with storing(folder):
            _require_reached(folder)
            kept = folder.read(SPEC)
    if kept is None:
        known = studies_here(home)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
        raise UserError(f"there is no study {name!r} in {home.root}; {hint}")
    return logins.restored(moved.rebase(_read_spec(kept, home.study(name) / SPEC), home), home.study(name))


def is_running(home: Home, name: str, spec: StudySpec | None = None) -> bool:
    """Whether some process holds the study; takes up to 10 s in an object store."""
    folder = home.files(name, spec)
    with storing(folder):
        _require_reached(folder)
        return folder.is_locked(LOCK)


@contextmanager
def held(folder: Folder, name: str) -> Iterator[None]:
    """Holds the study: two drivers would ask Optuna and write checkpoints beside each other."""
    lock = ExitStack()
    with storing(folder):
        try:
            lock.enter_context(folder.lock(LOCK, 0))
        except Held:
            try:
                holder = json.loads(folder.read(HOLDER) or b"")
                who = f"process {holder['pid']} on {holder['host']}"
            except (ValueError, KeyError):
                who = "another process"
            raise UserError(f"study {name!r} is being run by {who}; wait for it or end it first") from None
    try:
        with storing(folder):
            folder.write(HOLDER, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
    finally:
        with storing(folder):
            lock.close()


def kept_spec(folder: Folder, home: Home | None = None) -> StudySpec | None:
    """The study file as an earlier launch kept it, its paths as they are now; None where there was none."""
    kept = folder.read(SPEC)
    if kept is None:
        return None
    earlier = _read_spec(kept, folder / SPEC)
    return moved.rebase(earlier, home) if home else earlier


def keep_spec(spec: StudySpec, folder: Folder) -> None:
    """Keep the resolved study file; see `study.record.changes` for what it may be given in place of an earlier one."""
    folder.write(SPEC, logins.without_passwords(spec).to_yaml().encode())


def keep_at_home(spec: StudySpec, home: Home) -> None:
    """The study file as `load_spec` reads it, wherever the storage is, with the logins beside it."""
    here = home.study(spec.name)
    try:
        here.mkdir(parents=True, exist_ok=True)
        moved.keep(logins.without_passwords(spec).to_yaml(), home, spec.name)
        logins.keep(spec, here)
    except OSError as error:
        raise UserError(f"the study home's folder {here} cannot be written to ({error.strerror})") from None


@contextmanager
def storing(folder: Folder) -> Iterator[None]:
    """Turns a storage that fails into one sentence."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).splitlines()[0]
        raise UserError(
            f"the study's storage {folder} cannot be used ({why}); set that right, or name another"
        ) from error


def _require_reached(folder: Folder) -> None:
    """An object store answers: its client would try for minutes, with Ctrl-C shut out."""
    if not folder.on_disk:
        object_store(folder.address, "stored_files")


def _read_spec(content: bytes, where: Any) -> StudySpec:
    try:
        return StudySpec.from_yaml(content.decode("utf-8"), str(where))
    except UnicodeDecodeError:
        raise UserError(f"{where}: not a text file in UTF-8; convert it, or run the study under another name") from None


def _reading(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
