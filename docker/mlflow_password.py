"""Tells MLflow the admin's password that stands in the secret, whatever it was: run it after making the secret anew."""

from __future__ import annotations

import os
from pathlib import Path

from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

store = SqlAlchemyStore()
store.init_db(os.environ["MLFLOW_AUTH_DATABASE_URI"])
store.update_user("admin", password=Path("/run/secrets/mlflow_admin_password").read_text(encoding="utf-8").strip())
