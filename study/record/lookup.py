"""A study that was run before, on this machine or on others: its file, and its runs in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis import schema
from analysis.addresses import without_password
from analysis.runs import Study, StudyNotFound
from study.errors import UserError
from study.file.spec import StudySpec
from study.home import Home
from study.record.files import load_spec
from study.servers.checks import check_tracking

if TYPE_CHECKING:
    from mlflow.entities import Run


def find_spec(home: Home, name: str) -> tuple[StudySpec, bool]:
    """The file of the study ``name``, and whether it is this machine's; else it is the one that MLflow keeps.

    Raises `UserError` where neither has it or the study's MLflow does not answer, or `analysis.runs.StoreError`.
    """
    try:
        spec = load_spec(home, name)
    except UserError as unknown:
        uri = home.tracking_uri()
        check_tracking(uri)
        kept = tracked_spec(uri, name)
        if kept is None:
            where = f"; nor does {without_password(uri)} hold it" if uri.startswith("http") else ""
            raise UserError(f"{unknown}{where}") from None
        return kept, False
    check_tracking(home.tracking_uri(spec))
    return spec, True


def tracked_spec(uri: str, name: str) -> StudySpec | None:
    """The study's file as MLflow keeps it, None where it does not."""
    try:
        text = Study.open(uri, name).file
    except StudyNotFound:
        return None
    # the file may name the server as the cluster's nodes see it, so the address that was just used replaces it
    return StudySpec.from_yaml(text).model_copy(update={"tracking_uri": uri}) if text else None


def runs(tracking_uri: str, name: str) -> Sequence[Run]:
    """All runs of the study in MLflow; none where it was never tracked. Raises `analysis.runs.StoreError`."""
    try:
        return Study.open(tracking_uri, name).runs
    except StudyNotFound:
        return ()


def identity(runs: Sequence[Run]) -> str:
    """What tells the study from others of its name, as MLflow holds it; empty where it does not."""
    tags = (run.data.tags for run in runs if run.data.tags.get(schema.LEVEL) == "study")
    return next((tag[schema.IDENTITY] for tag in tags if schema.IDENTITY in tag), "")


def is_running(runs: Sequence[Run]) -> bool:
    """Whether the study's own run is open: what can be known of a study on other machines."""
    return any(run.data.tags.get(schema.LEVEL) == "study" and run.info.status == "RUNNING" for run in runs)
