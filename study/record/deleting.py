"""A study that is deleted: its experiment in MLflow, its study in Optuna, its files.

What tells where the others are, the home's study file, goes last: a deletion that was interrupted is finished by the
same command. Optuna's study goes after MLflow's experiment, since it tells whether that is this study's.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import schema
from analysis.addresses import without_password
from study.errors import UserError
from study.home import SPEC, Home
from study.record import runs
from study.record.files import LOCK, held, load_spec, storing
from study.servers.checks import check_servers
from study.servers.database import optuna_errors
from study.servers.mlflow import open_client, tracking_errors, writing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


def delete(home: Home, name: str) -> None:
    """Delete the study ``name`` of this home.

    MLflow keeps the experiment as deleted, under another name, until ``mlflow gc``. `UserError` where the study is
    unknown or is being run, where a server does not answer, and where MLflow holds another study of that name.
    """
    spec = load_spec(home, name)
    uri, optuna_uri, folder = home.tracking_uri(spec), home.optuna_uri(spec), home.files(name, spec)
    check_servers(uri, optuna_uri, home.storage(spec))
    import optuna

    from study.record import trials

    with held(folder, name):
        study = trials.load_study(spec, home)
        _delete_experiment(uri, name, trials.study_identity(study) if study else "")
        if study is not None:
            with optuna_errors(optuna_uri):
                optuna.delete_study(study_name=name, storage=study._storage)
        if home.artifacts(uri) is not None:
            _remove(home.root / "artifacts" / name)
        with storing(folder):
            folder.clear({LOCK, SPEC})
        for path in home.study(name).iterdir():
            if path.name not in (LOCK, SPEC):
                _remove(path)
        with storing(folder):
            folder.remove(SPEC)
        _remove(home.study(name) / SPEC)
    with storing(folder):
        folder.clear(())
    _remove(home.study(name))


def _delete_experiment(uri: str, name: str, identity: str) -> None:
    """Delete the study's experiment, under a name that leaves its own to others."""
    client = open_client(uri)
    with tracking_errors(uri), writing(uri):
        existing = client.get_experiment_by_name(name)
        if existing is not None:
            require_own(client, existing, identity, uri)
            if existing.lifecycle_stage != "active":
                client.restore_experiment(existing.experiment_id)
            client.rename_experiment(existing.experiment_id, _deleted(existing, name))
        # all such names and not the one above alone: a deletion that was interrupted may have left another
        for experiment in client.search_experiments():
            if experiment.name == _deleted(experiment, name):
                client.delete_experiment(experiment.experiment_id)


def _deleted(experiment: Experiment, name: str) -> str:
    return f"{name} (deleted {experiment.experiment_id})"


def require_own(client: MlflowClient, experiment: Experiment, identity: str, uri: str) -> None:
    """`UserError` where the experiment is another study's than the one of this ``identity``."""
    for run in runs.search(client, experiment.experiment_id, {schema.LEVEL: "study"}):
        theirs = run.data.tags.get(schema.IDENTITY)
        if theirs and identity and theirs != identity:
            raise UserError(
                f"the MLflow experiment {experiment.name!r} at {without_password(uri)} holds another study of that "
                "name, so that nothing was changed; rename that experiment in MLflow first"
            )


def _remove(path: Path) -> None:
    """Remove a file or a folder where there is one."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path} cannot be deleted ({error.strerror}); set that right, and give the same command again"
        ) from None
