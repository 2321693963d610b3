"""No password of a server's address is in any file of a study, save the one that is its owner's alone."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from study.cli import app
from study.errors import UserError
from study.file.spec import StudySpec
from study.home import Home
from study.launch import sweep
from study.launch.preflight import preflight
from study.record import files, status
from study.servers import logins
from study.service import jobs

SECRET = "hush-7f3a"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "FIERCE_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    return Home(tmp_path / "home")


def address(path: Path) -> str:
    """A database whose address holds a secret: SQLite ignores what it does not know in a URI's query."""
    return f"sqlite:///file:{path}?uri=true&password={SECRET}"


def spec(**changes: object) -> StudySpec:
    values = {"name": "s", "benchmark": "tiny:Tiny", "criteria": ["ce", "ls"], "seeds": [1], "concurrency": 1}
    return StudySpec.model_validate(values | changes)


def holding(folder: Path, secret: str = SECRET) -> list[str]:
    """Names of the files below ``folder`` that hold the secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path.name for path in files if secret.encode() in path.read_bytes())


@pytest.mark.thorough
@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_planted_password_is_in_no_file(
    where: str, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (trouble := tmp_path / "trouble-once").write_text("3 raise", encoding="utf-8")
    named = {"tracking_uri": address(tmp_path / "mlflow.db"), "optuna_uri": address(tmp_path / "optuna.db")}
    study = spec(benchmark={"name": "tiny:Tiny", "trouble": str(trouble)}, storage=str(tmp_path / "storage"))
    if where == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named["tracking_uri"])
        monkeypatch.setenv("OPTUNA_STORAGE", named["optuna_uri"])
    else:
        study = study.model_copy(update=named)
    assert sweep.run(study, home).done == 2
    assert (tmp_path / "storage" / "s" / "tune" / "tuner.pkl").is_file()
    # databases, home and storage
    assert holding(tmp_path) == ([logins.LOGINS] if where == "file" else [])
    assert SECRET not in caplog.text
    if where == "file":
        kept = home.study("s") / logins.LOGINS
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert json.loads(kept.read_text(encoding="utf-8")) == named
    # what is kept is enough to go on
    again = files.load_spec(home, "s")
    assert sweep.run(again, home) == sweep.Outcome(2, 0, 0, False)
    assert SECRET not in status.read(home, "s").tracking_uri


def test_a_login_that_changed_is_the_new_one(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    old = spec(optuna_uri="postgresql://me:old@db/optuna")
    logins.keep(old, folder)
    kept = logins.without_passwords(old)
    assert kept.optuna_uri == "postgresql://me@db/optuna"
    assert logins.restored(kept, folder).optuna_uri == "postgresql://me:old@db/optuna"
    # another server's is not given to this one
    moved = spec(optuna_uri="postgresql://me@elsewhere/optuna")
    assert logins.restored(moved, folder) == moved
    logins.keep(kept, folder)
    assert list(folder.iterdir()) == []


def test_a_study_from_elsewhere_takes_its_login_from_the_environment(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = spec(optuna_uri="postgresql://me@db/optuna")
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://me:hush@db/optuna")
    assert home.optuna_uri(study) == "postgresql://me:hush@db/optuna"
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://me:hush@other/optuna")
    assert home.optuna_uri(study) == "postgresql://me@db/optuna"


def test_a_password_that_tune_would_write_is_refused(home: Home) -> None:
    with pytest.raises(UserError, match=r"s3://key@bucket/prefix holds a password.*AWS_SECRET_ACCESS_KEY"):
        home.storage(spec(storage=f"s3://key:{SECRET}@bucket/prefix"))
    data = spec(benchmark={"name": "hyperspectral", "data": f"s3://key:{SECRET}@bucket/scene.mat"})
    for address in (None, "auto"):
        with pytest.raises(UserError, match=r"benchmark.data: s3://key@bucket/scene.mat holds a password"):
            preflight(data, address)


def test_a_password_in_a_jobs_command_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("benchmark: tiny:Tiny\ncriteria: [ce]\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"--set optuna_uri=postgresql://me@db/optuna holds a password"):
        jobs.prepare("mine.yaml", [f"optuna_uri=postgresql://me:{SECRET}@db/optuna"], None, tmp_path)


def test_an_error_shows_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in (f"postgresql+psycopg://me:{SECRET}@x@127.0.0.1:1/o", f"http://me:{SECRET}@127.0.0.1:1"):
        for command in (["status", "s"], ["doctor"], ["report", "s"], ["studies"]):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            monkeypatch.setenv("OPTUNA_STORAGE", uri)
            result = CliRunner().invoke(app, command)
            assert SECRET not in result.output and "x@127" not in result.output, result.output


def test_a_login_that_an_older_release_kept(tmp_path: Path) -> None:
    (tmp_path / logins.LOGINS).write_text('{"storage_uri": "postgresql://me:old@db/optuna"}', encoding="utf-8")
    study = spec(storage_uri="postgresql://me@db/optuna")
    assert logins.restored(study, tmp_path).optuna_uri == "postgresql://me:old@db/optuna"
