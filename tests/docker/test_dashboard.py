"""The password before optuna-dashboard, as clients of HTTP meet it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dashboard() -> ModuleType:
    specification = importlib.util.spec_from_file_location("dashboard", ROOT / "docker" / "dashboard.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def client(dashboard: ModuleType) -> Client:
    return Client(dashboard.require_password(Response("inside"), "admin", "Käse:7"))


def test_the_right_password_lets_in(client: Client) -> None:
    answer = client.get("/api/studies", auth=("admin", "Käse:7"))
    assert (answer.status_code, answer.text) == (200, "inside")


@pytest.mark.parametrize("login", [None, ("admin", "Käse"), ("admin", ""), ("", "Käse:7"), ("other", "Käse:7")])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_all_others_are_asked_for_it(client: Client, login: tuple[str, str] | None, method: str) -> None:
    answer = client.open("/api/studies/1", method=method, auth=login)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="optuna-dashboard"')
    assert "inside" not in answer.text


@pytest.mark.parametrize("header", ["Basic", "Basic !!", "Basic YWRtaW4=", "Bearer Käse:7", "Digest username=admin"])
def test_a_broken_login_is_refused(client: Client, header: str) -> None:
    assert client.get("/", headers={"Authorization": header}).status_code == 401
