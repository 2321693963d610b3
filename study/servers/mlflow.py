"""How MLflow is reached, and what is said where it is not."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from analysis.addresses import masked, sqlite_path, without_password
from study.errors import UserError
from study.servers.sqlite import write_ahead

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: a server that is away must not hold up the training: the client's own defaults retry for minutes
CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class TrackingError(UserError):
    """The tracking server could not be used."""


def open_client(uri: str) -> MlflowClient:
    """A client of the server or database at ``uri``; `TrackingError` where it cannot be reached."""
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    # MLflow takes seconds to import, and an error or --help must not wait for it
    from mlflow import MlflowClient

    # the store announces every step of its schema
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with tracking_errors(uri):
        write_ahead(uri)
        with writing(uri):
            return MlflowClient(tracking_uri=uri)


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Turns a failed request into one sentence."""
    from sqlite3 import Error as SQLiteError

    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    from analysis.store import StoreError

    try:
        yield
    except StoreError as error:
        raise TrackingError(str(error)) from error
    except (MlflowException, SQLAlchemyError, SQLiteError, requests.RequestException, OSError) as error:
        from analysis.store import disk_fault

        if fault := disk_fault(error):
            raise TrackingError(fault) from None
        shown = without_password(uri)
        what = masked((str(error).strip() or type(error).__name__).splitlines()[0], uri)
        # Tune writes what an error came of into the study's folder, and MLflow's own hold the address as it is
        raise TrackingError(f"the tracking server {shown} did not do as asked ({what[:200]})") from None


def writing(uri: str) -> AbstractContextManager[Any]:
    """Held while writing to SQLite: MLflow reads and then writes in one transaction, which two cannot do at once."""
    path = sqlite_path(uri)
    return FileLock(f"{path}.lock", is_singleton=True) if path else nullcontext()
