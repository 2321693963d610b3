"""Addresses as they may be shown, and relative ones made absolute; SQLAlchemy and urllib say what is what."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy

from analysis.addresses import absolute, has_secret, masked, sqlite_path, without_login, without_password

WITH_PASSWORD = [
    ("postgresql://me:hush@db:5432/optuna", "postgresql://me@db:5432/optuna"),
    ("postgresql+psycopg://me:hu%40sh@db/optuna", "postgresql+psycopg://me@db/optuna"),
    ("http://me:hu@sh@host:5000/path", "http://me@host:5000/path"),
    ("postgresql://me:hu@sh@db/optuna", "postgresql://me@db/optuna"),
    ("mysql://me:hu/s#h?@db/optuna", "mysql://me@db/optuna"),
    ("http://me:hu/sh@host", "http://me@host"),
    ("s3://key:hush@bucket/prefix?region=eu", "s3://key@bucket/prefix?region=eu"),
    ("http://:hush@host", "http://@host"),
    ("postgresql://db/optuna?user=me&password=hush", "postgresql://db/optuna?user=me&password=…"),
    ("postgresql://me:hush@db/optuna?sslpassword=hush&x=1", "postgresql://me@db/optuna?sslpassword=…&x=1"),
    ("https://host/path?access_token=hush#there", "https://host/path?access_token=…#there"),
    ("mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dhush", "mssql+pyodbc:///?odbc_connect=…"),
]


@pytest.mark.parametrize(("address", "shown"), WITH_PASSWORD)
def test_no_password_is_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown
    assert has_secret(address) and not has_secret(shown)
    assert masked(f"cannot open '{address}' (refused)") == f"cannot open '{shown}' (refused)"
    assert masked(f"<{address}> then {address}, {address}", address).count("hu") == 0


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:5000",
        "http://host:5000/path@there",
        "sqlite:////home/me@work/optuna.db",
        "s3://bucket/a:b@c",
        "postgresql://me@db/optuna?passfile=",
        "ray://host:10001",
        "/home/me:x@y/mlruns",
        "",
    ],
)
def test_what_holds_no_password_stays(address: str) -> None:
    assert without_password(address) == address
    assert masked(f"at {address} it failed", address) == f"at {address} it failed"
    assert not has_secret(address)


@pytest.mark.parametrize(("address", "shown"), WITH_PASSWORD[:2])
def test_sqlalchemy_hides_the_same(address: str, shown: str) -> None:
    assert sqlalchemy.make_url(shown) == sqlalchemy.make_url(address)._replace(password=None)


def test_a_login_is_left_out_whole() -> None:
    assert without_login("http://me:hu@sh@host:5000/path") == "http://host:5000/path"
    assert without_login("http://me@host") == "http://host"
    assert without_login("sqlite:///optuna.db") == "sqlite:///optuna.db"


def test_a_password_alone_in_a_message_is_masked_where_its_address_is_known() -> None:
    assert masked("no host 'sh@db'", "postgresql://me:hu@sh@db/optuna") == "no host '…db'"
    assert masked("login me with hu%sh", "postgresql://me:hu%25sh@db/optuna") == "login me with …"


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:///mlflow.db",
        "sqlite:///below/mlflow.db",
        "sqlite:///../mlflow.db?timeout=5",
        "sqlite+pysqlite:///mlflow.db",
        "sqlite:////var/mlflow.db",
    ],
)
def test_a_relative_database_is_the_one_that_sqlalchemy_opens_here(address: str, tmp_path: Path) -> None:
    opened = sqlalchemy.make_url(address).database
    resolved = absolute(address, tmp_path)
    assert sqlalchemy.make_url(resolved).database == str(tmp_path / str(opened))
    assert sqlite_path(resolved) == tmp_path / str(opened)
    assert sqlalchemy.make_url(resolved).query == sqlalchemy.make_url(address).query
    assert absolute(resolved, Path("/elsewhere")) == resolved


@pytest.mark.parametrize(
    "address",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://me@db/optuna",
        "http://host:5000",
        "s3://bucket/prefix",
        "databricks",
        "databricks://profile",
        "",
    ],
)
def test_what_is_no_path_stays(address: str, tmp_path: Path) -> None:
    assert absolute(address, tmp_path) == address


@pytest.mark.parametrize("address", ["mlruns", "./mlruns"])
def test_a_relative_folder(address: str, tmp_path: Path) -> None:
    assert absolute(address, tmp_path) == str(tmp_path / "mlruns")


@pytest.mark.parametrize("address", ["file:mlruns", "file:./mlruns", "file://./mlruns"])
def test_a_relative_folder_as_a_url(address: str, tmp_path: Path) -> None:
    assert absolute(address, tmp_path) == (tmp_path / "mlruns").as_uri()


def test_a_relative_address_is_that_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:///mlflow.db") == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("HOME", "/home/me")
    assert absolute("~/mlruns") == "/home/me/mlruns"
