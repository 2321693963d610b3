"""A run's artifacts, found in the home that they are in.

MLflow's database keeps an absolute address for each run's artifacts. A home that was moved or copied takes the folder
``artifacts`` along beside the database ``mlflow.db``, so what stands there is read and written, wherever the database
says that it once stood: a copy never reads or changes what is its original's. That needs no writing, so that a home
on a read-only disk is read too. A server resolves its addresses itself.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path

from analysis import schema, store
from analysis.store import StoreError

#: folder beside the home's database: below it one for each experiment
FOLDER = "artifacts"
#: no progress bar for a file of a megabyte
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
#: runs whose artifacts are listed at a time
LISTED = 8


def rebased(location: str, home: Path) -> str | None:
    """An experiment's ``location`` as it is below ``home``; None for one that no home has made."""
    if urlsplit(location).scheme != "file":
        return None
    path = Path(local_file_uri_to_path(location))
    return (home / FOLDER / path.name).as_uri() if path.parent.name == FOLDER else None


def folder(tracking_uri: str, run: Run) -> Path | None:
    """Where the run's artifacts are on this machine; None where only the tracking server can tell."""
    if not tracking_uri.startswith("sqlite:///") or urlsplit(run.info.artifact_uri).scheme not in ("", "file"):
        return None
    recorded = Path(local_file_uri_to_path(run.info.artifact_uri))
    experiment = _below_home(recorded.parent.parent)
    if experiment is not None:
        beside = Path(tracking_uri.removeprefix("sqlite:///")).absolute().parent / experiment
        if beside.is_dir():
            return beside / recorded.parent.name / recorded.name
    return recorded


def _below_home(experiment: Path) -> Path | None:
    """An experiment's folder, seen from the home that made it; None for any other place."""
    if experiment.parent.name == FOLDER:
        return Path(FOLDER, experiment.name)
    return Path(FOLDER) if experiment.name == FOLDER else None


def read(tracking_uri: str, run: Run, name: str) -> bytes | None:
    """Content of a run's artifact; None where the run has none of that name.

    Raises `StoreError` where the store cannot answer, and where the artifacts of the whole study are gone.
    """
    place = folder(tracking_uri, run)
    if place is None:
        client = MlflowClient(tracking_uri)
        with store.readable(tracking_uri), store.settings(QUIET), tempfile.TemporaryDirectory() as scratch:
            if name not in {file.path for file in client.list_artifacts(run.info.run_id)}:
                return None
            return Path(client.download_artifacts(run.info.run_id, name, scratch)).read_bytes()
    try:
        return (place / name).read_bytes()
    except FileNotFoundError:
        experiment = place.parent.parent
        # a home makes the folder with a study's first artifact, its file
        if not experiment.is_dir() and experiment.parent.name == FOLDER:
            study = run.data.tags.get(schema.STUDY, experiment.name)
            raise StoreError(
                f"the artifacts of study {study!r} are not at {experiment}: move or copy the home's folder {FOLDER} "
                "along with its mlflow.db"
            ) from None
        return None
    except OSError as error:
        raise StoreError(f"the artifact {place / name} cannot be read ({error.strerror}); set that right") from error


def fetch(tracking_uri: str, run: Run, name: str) -> bytes | None:
    """As `read`, of an artifact that ought to be there: a server is asked for it once, and for nothing else."""
    if folder(tracking_uri, run) is None:
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch) / "file"
            # whatever went wrong, `read` says it
            with contextlib.suppress(Exception):
                _repository(tracking_uri, run)._download_file(name, str(place))
                return place.read_bytes()
    return read(tracking_uri, run, name)


def _repository(tracking_uri: str, run: Run) -> ArtifactRepository:
    """Where the run's artifacts are, which MLflow's client would ask the server for once more."""
    return get_artifact_repository(run.info.artifact_uri, tracking_uri=tracking_uri)


def write(tracking_uri: str, run: Run, file: Path, below: str = "") -> None:
    """Put ``file`` among the run's artifacts, in the folder ``below``, in place of an older one of its name.

    Raises what MLflow's client or the disk raises.
    """
    place = folder(tracking_uri, run)
    if place is None:
        _repository(tracking_uri, run).log_artifact(str(file), below or None)
        return
    (place / below).mkdir(parents=True, exist_ok=True)
    # whole or not at all, for who reads meanwhile
    aside = place / below / f".{file.name}.part"
    try:
        shutil.copyfile(file, aside)
        aside.replace(place / below / file.name)
    finally:
        aside.unlink(missing_ok=True)


def kept(run: Run) -> set[str]:
    """Names of the artifacts that the run was given, as far as it says so itself."""
    return schema.listed(run.data.tags, schema.KEPT)


def lacking(tracking_uri: str, runs: Iterable[Run]) -> list[Run]:
    """Those of ``runs`` that lack an artifact which they were given."""
    given = [run for run in runs if kept(run)]
    with ThreadPoolExecutor(LISTED) as pool:
        whole = pool.map(lambda run: kept(run) <= names(tracking_uri, run), given)
        return [run for run, is_whole in zip(given, whole, strict=True) if not is_whole]


def names(tracking_uri: str, run: Run) -> set[str]:
    """Names of the run's artifacts."""
    place = folder(tracking_uri, run)
    if place is None:
        with store.readable(tracking_uri):
            return {file.path for file in _repository(tracking_uri, run).list_artifacts()}
    return {file.name for file in place.iterdir()} if place.is_dir() else set()
