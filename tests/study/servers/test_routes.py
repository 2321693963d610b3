"""Whoever has not logged in is refused at every route that the service's servers publish, as they list them."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from optuna.storages import InMemoryStorage
from routes import path_of
from servers import TOKEN, USER, locked_dashboard, mlflow_environment, mlflow_server, ray_head, wsgi_server

ROOT = Path(__file__).resolve().parents[3]
#: asks for no login, as docs/service.md says: health, what an interface is drawn with, and where a login is given
OPEN = {
    "mlflow": {"/health", "/mlflow/server-info", "/build/<path:filename>", "/api/3.0/mlflow/server-info"}
    | {"/ajax-api/3.0/mlflow/server-info", "/static-files/<path:path>"},
    "ray": {"/", "/favicon.ico", "/api/authentication_mode", "/api/gcs_healthz"},
    "dashboard": set[str](),
}

pytestmark = pytest.mark.server

Route = tuple[str, str]


def listed(server: str, environment: Mapping[str, str]) -> list[Route]:
    """What the application of a server lists, in a process of its own."""
    command = [sys.executable, str(ROOT / "tests" / "routes.py"), server]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [(method, rule) for method, rule in json.loads(done.stdout.splitlines()[-1])]


def let_in(address: str, routes: Sequence[Route], headers: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """The routes that do anything but refuse a request with ``headers``, each with its status."""
    host = urlsplit(address).netloc

    def ask(route: Route) -> tuple[str, str, int]:
        connection = http.client.HTTPConnection(host, timeout=60)
        try:
            connection.request(route[0], path_of(route[1]), headers=dict(headers))
            return (*route, connection.getresponse().status)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        return [answer for answer in pool.map(ask, routes) if answer[2] not in (401, 403)]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def closed(server: str, routes: Sequence[Route]) -> list[Route]:
    return [route for route in routes if route[1] not in OPEN[server]]


def test_mlflow(tmp_path: Path) -> None:
    with mlflow_server(tmp_path) as address:
        routes = listed("mlflow", mlflow_environment(tmp_path))
        assert len(routes) > 400
        for part in ("/v1/traces", "/ajax-api/3.0/jobs", "mpu", "gateway", "/graphql", "users/create"):
            assert any(part in rule for _, rule in routes), part
        refused = closed("mlflow", routes)
        assert not let_in(address, refused, {})
        assert not let_in(address, refused, basic("nobody", "0" * 20))
        # a password is hashed for long to be compared, and by one piece of code for all
        assert not let_in(address, refused[::25], basic(USER, "0" * 20))


def test_ray() -> None:
    with ray_head({}) as address:
        routes = listed("ray", os.environ)
        assert len(routes) > 50
        assert {("POST", "/api/jobs/"), ("PUT", "/api/packages/{protocol}/{package_name}")} <= set(routes)
        refused = closed("ray", routes)
        assert not let_in(address, refused, {})
        assert not let_in(address, refused, {"Authorization": f"Bearer {TOKEN[::-1]}"})


def test_optuna_dashboard_and_a_route_that_was_left_open() -> None:
    routes = listed("dashboard", os.environ)
    assert len(routes) > 30
    inner = locked_dashboard(InMemoryStorage(), "admin", "right")

    def planted(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/api/studies" and environ["REQUEST_METHOD"] == "POST":
            start_response("400 Bad Request", [])
            return [b""]
        return inner(environ, start_response)

    with wsgi_server(inner) as address:
        assert not let_in(address, routes, {})
        assert not let_in(address, routes, basic("admin", "wrong"))
        # and the login opens what is asked for
        assert let_in(address, [("GET", "/api/studies")], basic("admin", "right")) == [("GET", "/api/studies", 200)]
    with wsgi_server(planted) as address:
        assert let_in(address, routes, {}) == [("POST", "/api/studies", 400)]
