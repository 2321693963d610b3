"""Real stores for the analysis: a SQLite file, and an MLflow server over it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.analysis.known_study import Store, write_store


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The study with known answers, in a SQLite store."""
    return write_store(tmp_path_factory.mktemp("known"))


@pytest.fixture(scope="session")
def mlflow_server(known: Store) -> Iterator[str]:
    """An MLflow server over the same store: its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", known.uri, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (known.folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            break
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError((known.folder / "server.log").read_text(encoding="utf-8")) from None
            time.sleep(0.2)
    yield url
    process.terminate()
    process.wait()
