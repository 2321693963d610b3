"""Packages and servers that are older than is safe are refused, by the numbers of ``pyproject.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from servers import wsgi_server

from study.errors import UserError
from study.file.spec import StudySpec
from study.launch.preflight import preflight
from study.servers import checks, versions
from study.service import doctor

ROOT = Path(__file__).resolve().parents[3]
ASKED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]


@pytest.fixture(autouse=True)
def as_the_project_says(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is installed may be of an earlier state of the project than its file."""
    monkeypatch.setattr(metadata, "requires", lambda package: ASKED)
    versions.floors.cache_clear()
    yield
    versions.floors.cache_clear()


def test_the_floors_are_those_of_the_project() -> None:
    assert str(versions.floors()["mlflow"]) == ">=3.11"
    assert str(versions.floors()["ray"]) == ">=2.54"
    assert str(versions.floors()["torch"]) == ">=2.11"


@pytest.mark.parametrize(
    ("package", "version", "refused"),
    [
        ("mlflow", "3.10.1", True), ("mlflow", "3.11.0", False), ("mlflow", "3.11.0rc1", False),
        ("ray", "2.53.0", True), ("ray", "2.60.0", False), ("torch", "2.10.0+cu128", True),
        ("torch", "2.11.0+cu130", False), ("mlflow", "4.0", False), ("some-other", "0.1", False),
        ("mlflow", "of one's own", False),
    ],
)  # fmt: skip
def test_which_releases_will_do(package: str, version: str, refused: bool) -> None:
    assert bool(versions.fault(package, version)) == refused


def test_what_is_installed_here_will_do() -> None:
    versions.require()


def test_a_run_and_doctor_refuse_an_old_package(monkeypatch: pytest.MonkeyPatch) -> None:
    there = metadata.version
    monkeypatch.setattr(metadata, "version", lambda package: "2.53.0" if package == "ray" else there(package))
    study = StudySpec.model_validate({"name": "s", "benchmark": "tiny:Tiny", "criteria": ["ce"], "seeds": 1})
    with pytest.raises(UserError, match=r"ray 2\.53\.0 is too old: ray>=2\.54 is asked for; install it: pip install"):
        preflight(study)
    (check,) = [check for check in doctor._versions() if check.name == "ray"]
    assert not check.ok
    assert "2.54" in check.detail


def test_an_old_server_is_refused() -> None:
    with telling("3.9.0") as uri, pytest.raises(UserError, match=r"MLflow server at .* mlflow 3\.9\.0 is too old"):
        checks._check_release(uri)
    for says in ("3.17.0", "not found", ""):
        with telling(says) as uri:
            checks._check_release(uri)


def telling(version: str) -> AbstractContextManager[str]:
    """A server that answers with its version, whatever it is asked."""

    def application(environ: object, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [version.encode()]

    return wsgi_server(application)
