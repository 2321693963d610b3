"""Every route that a server publishes, told by its own application; run as a program, prints them as JSON.

``python routes.py mlflow|ray|dashboard``: a list of [method, path], as their frameworks write them. MLflow's reads the
environment of its server.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

#: methods of a path that answers to any
ANY = ("GET", "POST", "PUT", "PATCH", "DELETE")


def mlflow() -> Iterator[tuple[str, str]]:
    """Of the server with logins: FastAPI's own routes, and those of the Flask application behind them."""
    # as `mlflow server` says to the workers that it starts
    os.environ["_MLFLOW_SGI_NAME"] = "uvicorn"
    from mlflow.server import app, auth

    yield from _fastapi(auth.create_app(app).routes)
    for rule in app.url_map.iter_rules():
        yield from ((method, rule.rule) for method in sorted(rule.methods or ANY))


def _fastapi(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in routes:
        # newer releases keep an included router whole
        if (router := getattr(route, "original_router", None)) is not None:
            yield from _fastapi(router.routes, prefix + route.include_context.prefix)
        elif methods := getattr(route, "methods", None):
            yield from ((method, prefix + route.path) for method in sorted(methods))


def ray() -> Iterator[tuple[str, str]]:
    """Of the dashboard of a head, the Jobs API among them; aiohttp's files below /static are public."""
    from ray.dashboard import http_server_head, utils
    from ray.dashboard.optional_utils import DashboardHeadRouteTable
    from ray.dashboard.subprocesses.module import SubprocessModule
    from ray.dashboard.subprocesses.routes import SubprocessRouteTable

    # importing a module registers its routes
    assert http_server_head
    assert utils.get_all_modules(utils.DashboardHeadModule)
    assert utils.get_all_modules(SubprocessModule)
    for table in (DashboardHeadRouteTable, SubprocessRouteTable):
        for route in table._routes:
            if hasattr(route, "method"):
                yield from ((method, route.path) for method in (ANY if route.method == "*" else (route.method,)))


def dashboard() -> Iterator[tuple[str, str]]:
    """Of optuna-dashboard."""
    from optuna.storages import InMemoryStorage
    from optuna_dashboard._app import create_app

    for route in create_app(InMemoryStorage()).routes:
        yield from ((method, route.rule) for method in (ANY if route.method == "ANY" else (route.method,)))


def path_of(rule: str) -> str:
    """A path that matches ``rule``: ``/runs/<int:run>/{name}`` as ``/runs/1/1``."""
    rule = re.sub(r"<:re:\(/\.\*\)\?>", "", rule)
    return re.sub(r"<[^>]*>|\{[^}]*\}", "1", rule)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    listed = sorted(set({"mlflow": mlflow, "ray": ray, "dashboard": dashboard}[sys.argv[1]]()))
    print(json.dumps(listed))
