"""A study home that was moved or copied: what it keeps as absolute addresses, as they are where it stands now.

Files below the home are read and written where the home is, whatever the tracking database says (`analysis.artifacts`),
so that nothing has to be changed for a report. The database's own addresses are brought up to date for MLflow's
interface and clients when a study is run, reported or browsed there. A home may be seen at two places at once, in a
container say, so a study that is being run is left as it is. A tracking server keeps addresses of its own.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.addresses import sqlite_path
from study.home import DATABASE, SPEC

if TYPE_CHECKING:
    from study.file.spec import StudySpec
    from study.home import Home

log = logging.getLogger(__name__)

#: first line of a study's file in a home: where the home was when the study was last run
RECORD = "# home: "


def keep(text: str, home: Home, name: str, place: Path | None = None) -> None:
    """Keep a study's file in the home, with the ``place`` of the home, else where it is, that its paths belong to."""
    path = home.study(name) / SPEC
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{RECORD}{place or home.root}\n{text}", encoding="utf-8")


def rebase(spec: StudySpec, home: Home) -> StudySpec:
    """``spec``, as a home keeps it, with the paths that moved with that home.

    That is what lies below the home; and files of the benchmark that are gone, but stand as they stood beside the home.
    """
    before = _last_place(home, spec.name)
    if before is None or before == home.root:
        return spec
    addresses = {key: getattr(spec, key) for key in ("storage", "tracking_uri", "optuna_uri")}
    options = {key: _moved(value, before, home.root, beside=True) for key, value in spec.benchmark.options.items()}
    moved = {key: _moved(value, before, home.root) for key, value in addresses.items()}
    benchmark = spec.benchmark.model_copy(update=options)
    return spec.model_copy(update={**moved, "benchmark": benchmark})


def _kept(home: Home, name: str) -> str | None:
    try:
        return (home.study(name) / SPEC).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _last_place(home: Home, name: str) -> Path | None:
    """Where the home was when the study was last run; None where it does not say."""
    text = _kept(home, name)
    # a home of before this was written down, or a study of another machine, has no such line
    if text is not None and text.startswith(RECORD):
        return Path(text.partition("\n")[0].removeprefix(RECORD))
    path = home.root / DATABASE
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(path, timeout=60)) as database:
            row = database.execute("SELECT artifact_location FROM experiments WHERE name = ?", (name,)).fetchone()
    except sqlite3.OperationalError:
        return None
    return _home_of(row[0]) if row else None


def _home_of(location: str) -> Path | None:
    """The home below which an experiment's artifacts are, None for a place that no home has made."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    from analysis import artifacts

    is_ours = artifacts.rebased(location, Path("/")) is not None
    return Path(local_file_uri_to_path(location)).parent.parent if is_ours else None


def _moved(value: Any, before: Path, now: Path, *, beside: bool = False) -> Any:
    """An address below ``before`` as it is below ``now``; anything else as it is."""
    if not isinstance(value, str):
        return value
    scheme = "sqlite:///" if value.startswith("sqlite:///") else ""
    path = Path(value.removeprefix(scheme))
    if path.is_relative_to(before):
        return f"{scheme}{now / path.relative_to(before)}"
    if beside and path.is_absolute() and not path.exists():
        candidate = Path(os.path.normpath(now / os.path.relpath(path, before)))
        if candidate.exists():
            return str(candidate)
    return value


def settle(
    home: Home, tracking_uri: str, names: Collection[str], is_running: Callable[[str], bool] = lambda name: False
) -> None:
    """Write into a database on this machine that the artifacts of the studies ``names`` are below ``home``.

    Of a database elsewhere than in the home, only where they are no longer at the old place. A study that
    ``is_running`` stays as it is, and so does a database that cannot be written.
    """
    path = sqlite_path(tracking_uri)
    if path is None or not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as database:
            experiments = database.execute("SELECT experiment_id, name, artifact_location FROM experiments").fetchall()
            for experiment, name, location in experiments:
                if name in names and (place := _new_place(home, path, location)) and not is_running(name):
                    text = _kept(home, name)
                    # the old address, which is overwritten below, is all that tells where the home was
                    if text is not None and not text.startswith(RECORD):
                        keep(text, home, name, _home_of(location))
                    _write(database, experiment, place)
    # a database without MLflow's tables yet, or on a disk that is read-only
    except sqlite3.OperationalError as error:
        log.info("the artifacts' addresses in %s stay as they are (%s)", path, error)


def _new_place(home: Home, database: Path, location: str) -> str | None:
    """Where an experiment's artifacts are, None where the database has that already."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    from analysis import artifacts

    place = artifacts.rebased(location, home.root)
    if place is None or place == location:
        return None
    if database.resolve() != (home.root / DATABASE).resolve():
        there, here = (Path(local_file_uri_to_path(uri)) for uri in (location, place))
        if there.is_dir() or not here.is_dir():
            return None
    return place


def relocate(tracking_uri: str, experiment: int, place: str) -> None:
    """Write into a SQLite database that the experiment's artifacts are at ``place``."""
    path = sqlite_path(tracking_uri)
    assert path is not None
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as database:
        _write(database, experiment, place)


def _write(database: sqlite3.Connection, experiment: int, place: str) -> None:
    """In one transaction, so that no kill leaves runs at two places."""
    database.execute("BEGIN IMMEDIATE")
    try:
        database.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (place, experiment))
        database.execute(
            "UPDATE runs SET artifact_uri = ? || '/' || run_uuid || '/artifacts' WHERE experiment_id = ?",
            (place, experiment),
        )
        database.execute("COMMIT")
    except BaseException:
        database.rollback()
        raise
