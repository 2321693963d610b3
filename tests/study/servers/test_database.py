"""A database that does not answer for a while."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import TrialState

from study.servers import database
from study.servers.database import PatientStorage


@contextmanager
def away(path: Path) -> Iterator[threading.Timer]:
    """The database refuses everyone until the timer, which the context waits for, frees it."""
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(1.0, connection.rollback)
    with closing(connection):
        yield timer
        timer.join()


def open_study(path: Path) -> optuna.Study:
    # a connection that is refused at once, as that of a server that is down
    storage = PatientStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 0}})
    return optuna.create_study(storage=storage, study_name="s", load_if_exists=True)


def test_it_is_asked_again_until_it_answers(tmp_path: Path) -> None:
    study = open_study(tmp_path / "optuna.db")
    with away(tmp_path / "optuna.db") as timer:
        timer.start()
        trial = study.ask()
        assert not timer.is_alive()
    trial.set_user_attr("role", "search")
    with away(tmp_path / "optuna.db") as timer:
        timer.start()
        study.tell(trial, 1.0)
        assert not timer.is_alive()
    assert [(trial.state, trial.value) for trial in open_study(tmp_path / "optuna.db").trials] == [
        (TrialState.COMPLETE, 1.0)
    ]


def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.5)
    study = open_study(tmp_path / "optuna.db")
    with away(tmp_path / "optuna.db") as timer:
        with pytest.raises(StorageInternalError):
            study.ask()
        timer.start()


def test_a_trial_is_still_told_only_once(tmp_path: Path) -> None:
    study = open_study(tmp_path / "optuna.db")
    trial = study.ask()
    study.tell(trial, 1.0)
    with pytest.raises(UpdateFinishedTrialError):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [2.0])
