"""Optuna's database, which may go away for a while, or for good."""

from __future__ import annotations

import functools
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from sqlite3 import Error as SQLiteError
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import text
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError

from analysis.addresses import masked, without_password
from study.errors import UserError
from study.servers.sqlite import write_ahead

log = logging.getLogger(__name__)

#: what Optuna's cache, which stands before every such storage, calls beside the public methods
_FROM_CACHE = ("_create_new_trial", "_set_trial_param", "_get_best_trial_id", "_get_trials")

#: seconds for which a database that does not answer is waited for, and the longest pause between two tries
PATIENCE, PAUSE = 300.0, 5.0


class PatientStorage(RDBStorage):
    """Optuna's storage, which asks again while its database is being restarted.

    Each of its methods is one transaction. Where the answer to one was lost, asking again finds it done: a trial told
    twice is told, and a trial made twice waits for its turn or is taken up by the next launch.
    """


def _patiently(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def asked_again(storage: PatientStorage, *arguments: Any, **named: Any) -> Any:
        deadline, pause = time.monotonic() + PATIENCE, 0.2
        asked = 0
        while True:
            try:
                return method(storage, *arguments, **named)
            except UpdateFinishedTrialError:
                if not asked:
                    raise
                return True
            except StorageInternalError as error:
                if not isinstance(error.__cause__, OperationalError | InterfaceError) or time.monotonic() > deadline:
                    raise
                log.warning("Optuna's database does not answer; asking again in %.1f s", pause)
            except (OperationalError, InterfaceError):
                if time.monotonic() > deadline:
                    raise
            time.sleep(pause)
            asked, pause = asked + 1, min(2 * pause, PAUSE)

    return asked_again


for _name in (*BaseStorage.__abstractmethods__, *_FROM_CACHE):
    setattr(PatientStorage, _name, _patiently(getattr(RDBStorage, _name)))


def open_storage(uri: str) -> PatientStorage:
    """Optuna's database at ``uri``; `UserError` where it cannot be opened."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    options: dict[str, Any] = {"pool_pre_ping": True}
    if uri.startswith("sqlite:"):
        options["connect_args"] = {"timeout": 60}
    with optuna_errors(uri):
        write_ahead(uri)
        return PatientStorage(uri, engine_kwargs=options)


def rename_study(uri: str, old: str, new: str) -> None:
    """Call the study ``old`` in the database ``new``, in one transaction; nothing where there is none of that name.

    Optuna itself can only copy a study, trial by trial, to another numbering of its own.
    """
    storage = open_storage(uri)
    with optuna_errors(uri), storage.engine.begin() as connection:
        renamed = {"old": old, "new": new}
        connection.execute(text("UPDATE studies SET study_name = :new WHERE study_name = :old"), renamed)


@contextmanager
def optuna_errors(uri: str) -> Iterator[None]:
    """Turns a failure of Optuna's database at ``uri`` into one sentence."""
    try:
        yield
    except (ArgumentError, SQLAlchemyError, SQLiteError, optuna.exceptions.StorageInternalError, ImportError) as error:
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"Optuna's database {without_password(uri)} cannot be used: {masked(what, uri)[:200]}"
        ) from None
