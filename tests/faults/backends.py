"""The servers that a study writes to, which can be stopped and started again: PostgreSQL and MLflow before it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from faults.hosts import until

#: PostgreSQL refuses to run as root
USER = "nobody"


class Postgres:
    """A PostgreSQL server at ``address``, which trusts whoever reaches it, with the databases mlflow and optuna."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        # above pytest's folders, which other users cannot enter
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        shutil.chown(self._folder, USER)
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", f"--pgdata={self._folder}/data")
        with (self._folder / "data" / "pg_hba.conf").open("a", encoding="utf-8") as rules:
            rules.write("host all all samenet trust\n")
        self.start()
        for name in ("mlflow", "optuna"):
            self._run(
                "psql", f"--host={address}", f"--port={port}", "--username=postgres", "-c", f"CREATE DATABASE {name}"
            )

    def uri(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@{self.address}:{self.port}/{database}"

    def start(self) -> None:
        options = f"-h {self.address} -p {self.port} -k {self._folder}"
        self._run(
            "pg_ctl", "start", "--wait", f"--pgdata={self._folder}/data", f"--log={self._folder}/log", "-o", options
        )

    def stop(self) -> None:
        """At once: whoever is connected is cut off, and the start that follows recovers from the log."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate", f"--pgdata={self._folder}/data")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def _run(self, *command: str) -> None:
        as_user = ["setpriv", f"--reuid={USER}", "--clear-groups", *command]
        done = subprocess.run(
            as_user, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr


class MLflow:
    """An MLflow server with its runs in ``database`` and its artifacts in ``folder``."""

    def __init__(self, address: str, port: int, database: str, folder: Path) -> None:
        self.uri = f"http://{address}:{port}"
        self._log = folder / "mlflow.log"
        self._command = [
            *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--workers", "1"),
            *("--artifacts-destination", str(folder / "artifacts"), "--host", address, "--port", str(port)),
            *("--allowed-hosts", f"{address}:{port}"),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, process_group=0)
        until(self._answers, "MLflow answers")

    def kill(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, 9)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
        except OSError:
            return False
        return True


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
