"""optuna-dashboard behind a password: it has no login of its own, and lets whoever reaches it delete studies."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import optuna_dashboard
from optuna.storages import RDBStorage
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

USER = "admin"


def require_password(inner: WSGIApplication, user: str, password: str) -> WSGIApplication:
    """``inner`` for those who give ``user`` and ``password`` by HTTP basic authentication (RFC 7617), else 401."""

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        given = Request(environ).authorization
        if given is None or not (_same(given.username, user) and _same(given.password, password)):
            refusal = Response("log in first\n", 401, {"WWW-Authenticate": 'Basic realm="optuna-dashboard"'})
            return refusal(environ, start_response)
        return inner(environ, start_response)

    return outer


def _same(given: str | None, expected: str) -> bool:
    """In a time that does not tell how much of ``given`` is right."""
    return hmac.compare_digest((given or "").encode(), expected.encode())


def application() -> WSGIApplication:
    """What gunicorn serves; raises `SystemExit` where the password's file is empty."""
    password = Path("/run/secrets/dashboard_password").read_text(encoding="utf-8").strip()
    if not password:
        raise SystemExit("the secret dashboard_password is empty; remove its file and run `make secrets`")
    # given an address, the dashboard would ask for tables that the first study has not made yet
    storage = RDBStorage(os.environ["OPTUNA_STORAGE"], engine_kwargs={"pool_pre_ping": True})
    return require_password(optuna_dashboard.wsgi(storage), USER, password)
