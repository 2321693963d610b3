"""A study under another name: its experiment in MLflow, its study in Optuna, its files.

What is meant is written down first, in the study's folder, and goes last: a renaming that was interrupted is finished
by the same command, and until then the study is run under neither name. Trials, runs and their numbers stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from analysis import artifacts, schema
from analysis.addresses import without_password
from study.errors import UserError
from study.file.spec import StudySpec
from study.home import SPEC, Home
from study.record import files, moved, runs, tracking
from study.record.deleting import require_own
from study.record.files import LOCK, RENAMING, held, storing
from study.servers.checks import check_servers
from study.servers.database import rename_study
from study.servers.mlflow import open_client, tracking_errors, writing

if TYPE_CHECKING:
    from mlflow.entities import Experiment


def rename(
    home: Home, old: str, new: str, is_meant: Callable[[StudySpec], bool] = lambda spec: True
) -> StudySpec | None:
    """Call the study ``old`` of this home ``new``; its file from then on, None where that is not meant.

    ``is_meant`` is asked once nothing stands in the way, unless the renaming was begun before.
    `UserError` where it is unknown or is being run, where ``new`` is no name or is another study's, in this home or in
    its servers, and where a server does not answer.
    """
    meant = _meant(home, old, new)
    where = new if meant and not (home.study(old) / SPEC).is_file() else old
    spec = files.load_spec(home, where, settled=False)
    renamed = StudySpec.from_yaml(spec.model_copy(update={"name": new}).to_yaml(), f"fierce rename {old}")
    uri, optuna_uri = home.tracking_uri(spec), home.optuna_uri(spec)
    check_servers(uri, optuna_uri, home.storage(spec))
    from study.record import trials

    here, there = home.files(old, spec), home.files(new, spec)
    # a lock where a folder was before would make it again
    is_moved = meant is not None and here.on_disk and there.exists(SPEC)
    with held(there if is_moved else here, old):
        if meant is None:
            study = trials.load_study(spec, home)
            _require_free(home, renamed)
            if not is_meant(spec):
                return None
            meant = {"from": old, "to": new, "identity": trials.study_identity(study) if study else ""}
            home.study(old).mkdir(parents=True, exist_ok=True)
            _write(home.study(old) / RENAMING, json.dumps(meant))
        _rename_experiment(home, uri, renamed, meant)
        rename_study(optuna_uri, old, new)
        with storing(here):
            if not is_moved and (not here.on_disk or here.path != home.study(old)):
                here.move(there, kept=(LOCK,))
        try:
            if home.study(old).is_dir():
                home.study(old).rename(home.study(new))
        except OSError as error:
            raise UserError(
                f"{home.study(old)} cannot be renamed ({error.strerror}); give the same command again"
            ) from None
        with storing(there):
            files.keep_spec(renamed, there)
        files.keep_at_home(renamed, home)
        (home.study(new) / RENAMING).unlink()
    return renamed


def _meant(home: Home, old: str, new: str) -> dict[str, Any] | None:
    """What an interrupted renaming meant, None where there was none."""
    for name in (old, new):
        if (path := home.study(name) / RENAMING).is_file():
            meant: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if (meant["from"], meant["to"]) != (old, new):
                files.require_settled(home, name)
            return meant
    return None


def _require_free(home: Home, renamed: StudySpec) -> None:
    """The new name is nobody's."""
    from study.record import trials

    name, uri = renamed.name, home.tracking_uri(renamed)
    folder = home.files(name, renamed)
    with storing(folder):
        taken = str(folder) if folder.exists(SPEC) or home.study(name).exists() else ""
    with tracking_errors(uri):
        if open_client(uri).get_experiment_by_name(name) is not None:
            taken = without_password(uri)
    if trials.load_study(renamed, home) is not None:
        taken = without_password(home.optuna_uri(renamed))
    if taken:
        raise UserError(f"there is a study {name!r} in {taken} already; choose another name")


def _rename_experiment(home: Home, uri: str, renamed: StudySpec, meant: dict[str, Any]) -> None:
    """The experiment, and what its runs tell of the study's name."""
    client, old, new = open_client(uri), meant["from"], meant["to"]
    with tracking_errors(uri), writing(uri):
        experiment = client.get_experiment_by_name(old)
        if experiment is not None:
            require_own(client, experiment, meant["identity"], uri)
            if experiment.lifecycle_stage != "active":
                client.restore_experiment(experiment.experiment_id)
            client.rename_experiment(experiment.experiment_id, new)
        experiment = client.get_experiment_by_name(new)
        if experiment is None:
            return
        _move_artifacts(home, uri, experiment, new)
        for run in runs.search(client, experiment.experiment_id, {schema.STUDY: old}):
            # the study's own run last: its tag tells that all others were done
            if run.data.tags.get(schema.LEVEL) != "study":
                client.set_tag(run.info.run_id, schema.STUDY, new)
        for run in runs.search(client, experiment.experiment_id, {schema.LEVEL: "study"}):
            client.update_run(run.info.run_id, name=new)
            client.set_tag(run.info.run_id, schema.STUDY, new)
            tracking.keep_file(uri, client.get_run(run.info.run_id), renamed)


def _move_artifacts(home: Home, uri: str, experiment: Experiment, new: str) -> None:
    """A home keeps a study's artifacts below its name, where a later study of the old name would be."""
    location = experiment.artifact_location
    if home.artifacts(uri) is None or artifacts.rebased(location, home.root) is None:
        return
    source = home.root / artifacts.FOLDER / Path(urlsplit(location).path).name
    target = home.root / artifacts.FOLDER / new
    try:
        if source.is_dir() and not target.exists():
            source.rename(target)
    except OSError as error:
        raise UserError(f"{source} cannot be renamed ({error.strerror}); give the same command again") from None
    if target.is_dir():
        moved.relocate(uri, int(experiment.experiment_id), target.as_uri())


def _write(path: Path, text: str) -> None:
    try:
        aside = path.with_name(f".{path.name}.part")
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); set that right") from None
