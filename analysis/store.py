"""MLflow's store: reading what a study left there, from a database or through a server.

Trajectories are read in bulk: from a database by one query, through a server by its bulk endpoint. One value at a
time (``get_metric_history``) takes minutes for a study of 60 trials with ten seeds.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import SqlMetric, SqlRun
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from analysis import runless, schema
from analysis.addresses import masked, sqlite_path, without_login, without_logins

#: the endpoint by which MLflow's own page draws its charts, and its limits: runs in a request, values in an answer
BULK_ENDPOINT = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
BULK_RUNS, BULK_VALUES = 100, 25_000
#: the databases store an infinite value as the largest float
LARGEST = np.finfo(np.float64).max
#: a server that does not answer is given up after about ten seconds
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}

# the store announces every step of its schema
logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


class StoreError(Exception):
    """The tracking store cannot answer; the message is one sentence for the user."""


class StudyNotFound(StoreError):
    """The tracking store holds no study of this name."""


def find(tracking_uri: str, study: str) -> tuple[Experiment, list[Run]]:
    """The experiment of ``study`` and all its runs that are not deleted, those of seeds that have none among them.

    Raises `StudyNotFound`, or `StoreError` where the store cannot be read.
    """
    _require_database(tracking_uri)
    with readable(tracking_uri), settings(PATIENCE):
        client = MlflowClient(tracking_uri)
        experiment = client.get_experiment_by_name(study)
    if experiment is not None and experiment.lifecycle_stage != "active":
        raise StudyNotFound(
            f"the MLflow experiment {study!r} in {without_login(tracking_uri)} was deleted: resume the study, which "
            "restores it"
        )
    if experiment is None:
        with readable(tracking_uri):
            others = [experiment.name for experiment in client.search_experiments(max_results=50)]
        there = ", ".join(sorted(set(others) - {"Default"})) or "none"
        raise StudyNotFound(f"there is no study {study!r} in {without_login(tracking_uri)}; studies there: {there}")
    with readable(tracking_uri):
        runs = _search(client, experiment.experiment_id, study)
    if not runs:
        raise StudyNotFound(
            f"the MLflow experiment {study!r} in {without_login(tracking_uri)} holds no run of a study of that name"
        )
    return experiment, runless.with_seeds(runs)


def history(tracking_uri: str, experiment_id: str, runs: Sequence[Run]) -> pd.DataFrame:
    """All values of ``runs``: columns run (position in ``runs``), metric (categorical), epoch, value."""
    index = pd.Index([run.info.run_id for run in runs], dtype=object)
    is_server = tracking_uri.startswith(("http://", "https://"))
    parts = _from_server(tracking_uri, runs) if is_server else _from_database(tracking_uri, experiment_id, runs)
    kept = []
    names: dict[str, int] = {}
    for part in parts:
        position = index.get_indexer(pd.Index(part["run_id"], dtype=object))
        codes, distinct = pd.factorize(part["key"])
        metric = np.array([names.setdefault(str(name), len(names)) for name in distinct], np.int64)[codes]
        value = part["value"].to_numpy(np.float64)
        value = np.where(np.abs(value) >= LARGEST, np.copysign(np.inf, value), value)
        value = np.where(part["is_nan"].to_numpy(bool), np.nan, value)
        columns = {"run": position, "metric": metric, "epoch": part["step"].to_numpy(np.int64), "value": value}
        # the experiment's other runs hold means over seeds
        kept.append(pd.DataFrame(columns)[position >= 0])
    if not kept:
        columns = {"run": np.empty(0, np.intp), "metric": np.empty(0, np.int64), "epoch": np.empty(0, np.int64)}
        kept = [pd.DataFrame({**columns, "value": np.empty(0)})]
    history: pd.DataFrame = pd.concat(kept, ignore_index=True)
    # in alphabetical order, whichever came first
    ordered = sorted(names)
    places = np.empty(len(names), np.int64)
    places[[names[name] for name in ordered]] = np.arange(len(names))
    history["metric"] = pd.Categorical.from_codes(places[history["metric"].to_numpy()], pd.Index(ordered))
    return history


def _from_database(tracking_uri: str, experiment_id: str, runs: Sequence[Run]) -> Iterator[pd.DataFrame]:
    """Values of an experiment's runs that are not deleted, in parts, from the database; none without ``runs``."""
    if not runs:
        return
    columns = (SqlMetric.run_uuid.label("run_id"), SqlMetric.key, SqlMetric.step, SqlMetric.value, SqlMetric.is_nan)
    query = (
        sqlalchemy.select(*columns)
        .join(SqlRun, SqlRun.run_uuid == SqlMetric.run_uuid)
        .where(SqlRun.experiment_id == int(experiment_id), SqlRun.lifecycle_stage == "active")
    )
    engine = sqlalchemy.create_engine(tracking_uri)
    try:
        with engine.connect().execution_options(stream_results=True) as connection:
            yield from pd.read_sql(query, connection, chunksize=100_000)
    finally:
        engine.dispose()


def _from_server(tracking_uri: str, runs: Sequence[Run]) -> Iterator[pd.DataFrame]:
    """Values of ``runs``, in parts, through the server's bulk endpoint."""
    client = MlflowClient(tracking_uri)
    by_metric: dict[str, list[str]] = {}
    for run in runs:
        for name in run.data.metrics:
            by_metric.setdefault(name, []).append(run.info.run_id)
    requested = [
        (name, ids[start : start + BULK_RUNS])
        for name, ids in by_metric.items()
        for start in range(0, len(ids), BULK_RUNS)
    ]
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda request: _bulk(client, *request), requested):
            part = pd.DataFrame(rows, columns=["run_id", "key", "step", "value"])
            # a NaN comes as the word, or as null
            part["value"] = pd.to_numeric(part["value"], errors="coerce")
            yield part.assign(is_nan=False)


def _bulk(client: MlflowClient, metric: str, run_ids: Sequence[str]) -> list[tuple[str, str, int, float]]:
    parameters = {"run_id": list(run_ids), "metric_key": metric, "max_results": BULK_VALUES}
    credentials = client._tracking_client.store.get_host_creds()
    answer = http_request(credentials, BULK_ENDPOINT, "GET", params=parameters)
    # a server without the endpoint, and a single run with a longer history, are asked the slow way
    rows = answer.json()["metrics"] if answer.status_code == 200 else None
    if rows is not None and len(rows) < BULK_VALUES:
        return [(row["run_id"], row["key"], int(row["step"]), row["value"]) for row in rows]
    if rows is not None and len(run_ids) > 1:
        middle = len(run_ids) // 2
        return _bulk(client, metric, run_ids[:middle]) + _bulk(client, metric, run_ids[middle:])
    return [
        (run_id, metric, value.step, value.value)
        for run_id in run_ids
        for value in client.get_metric_history(run_id, metric)
    ]


def _search(client: MlflowClient, experiment_id: str, study: str) -> list[Run]:
    """All runs of the study that are not deleted."""
    runs: list[Run] = []
    token = None
    while True:
        wanted = f"tags.`{schema.STUDY}` = '{study}'"
        page = client.search_runs([experiment_id], wanted, ViewType.ACTIVE_ONLY, 1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _require_database(tracking_uri: str) -> None:
    """A database that cannot be reached is said at once: MLflow would make an empty one, or try for minutes."""
    if path := sqlite_path(tracking_uri):
        if not path.is_file():
            raise StudyNotFound(f"there is no tracking store at {path}: run a study first, or name its folder")
    elif not tracking_uri.startswith(("http://", "https://")):
        with readable(tracking_uri):
            timeout = {} if tracking_uri.startswith("sqlite") else {"connect_timeout": 10}
            engine = sqlalchemy.create_engine(tracking_uri, connect_args=timeout)
            engine.connect().close()
            engine.dispose()


def disk_fault(error: BaseException) -> str | None:
    """The file of this machine that failed, in one sentence; None where a server or a database did."""
    if not isinstance(error, OSError) or isinstance(error, requests.RequestException):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or f"the disk of the tracking store or of {tempfile.gettempdir()}"
        return f"{where}: {error.strerror}; make room there, or set TMPDIR"
    if error.filename:
        return f"{error.filename}: cannot be read or written ({error.strerror}); set that right"
    return None


@contextlib.contextmanager
def readable(tracking_uri: str) -> Iterator[None]:
    """Turns a store's failure into one sentence."""
    try:
        yield
    # ImportError: the database's driver is not installed
    except (MlflowException, SQLAlchemyError, requests.RequestException, OSError, ImportError) as error:
        if fault := disk_fault(error):
            raise StoreError(fault) from None
        lines = masked(str(error).strip() or type(error).__name__, tracking_uri).splitlines()
        raise StoreError(
            f"the tracking store {without_login(tracking_uri)} cannot be read ({without_logins(lines[0])[:200]}): "
            "check the address and that the server is up"
        ) from None


@contextlib.contextmanager
def settings(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a while, where the user has set none."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
