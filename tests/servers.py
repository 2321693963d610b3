"""Real servers on free ports of this machine: a Ray head with its Jobs API, MLflow with a login, and a bad network."""

from __future__ import annotations

import contextlib
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "0123456789abcdef" * 2
USER, PASSWORD = "reader", "correct-horse-battery"
#: seconds within which a server has to answer
START_SECONDS = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _serving(command: Sequence[str], environment: Mapping[str, str], folder: Path, url: str) -> Iterator[None]:
    """Run ``command`` until the context ends; it begins once ``url`` answers, with whatever status."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def ray_ports() -> dict[str, int]:
    """Free ports for a Ray head itself, its dashboard, an agent and Ray's client."""
    return {name: free_port() for name in ("port", "dashboard", "agent", "client")}


@contextlib.contextmanager
def ray_head(environment: Mapping[str, str], ports: Mapping[str, int] | None = None) -> Iterator[str]:
    """A Ray head with two cores that asks for `TOKEN`; the address of its Jobs API.

    Jobs find ``environment`` beside the variables of this process. ``ports`` are those of `ray_ports`.
    """
    ports = ports or ray_ports()
    address = f"http://127.0.0.1:{ports['dashboard']}"
    # a socket's path has at most 107 characters
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--temp-dir", folder),
            *("--node-ip-address", "127.0.0.1", "--port", str(ports["port"])),
            *("--include-dashboard", "true", "--dashboard-host", "127.0.0.1"),
            *("--dashboard-port", str(ports["dashboard"]), "--dashboard-agent-listen-port", str(ports["agent"])),
            *("--ray-client-server-port", str(ports["client"])),
            *("--num-cpus", "2", "--object-store-memory", "100000000"),
        ]
        cluster = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            # the jobs call fierce by its name
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        ours = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "OPTUNA_"))
        }
        with _serving(command, {**ours, **cluster, **environment}, Path(folder), f"{address}/api/version"):
            yield address


def mlflow_environment(folder: Path) -> dict[str, str]:
    """Environment of an MLflow server that asks for the login of `USER`, with all it keeps in ``folder``."""
    settings = folder / "auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'auth.db'}\nadmin_username = {USER}\n"
        f"admin_password = {PASSWORD}\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        # as in the service: each request would hash the password anew
        "auth_cache_ttl_seconds = 60\n",
        encoding="utf-8",
    )
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return ours | {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "0" * 32,
        # as in the service
        "MLFLOW_SERVER_ALLOWED_HOSTS": "localhost:*,127.0.0.1:*",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An MLflow server in the environment of `mlflow_environment`; its address."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)),
    ]
    address = f"http://127.0.0.1:{port}"
    with _serving(command, mlflow_environment(folder), folder, f"{address}/health"):
        yield address


@contextlib.contextmanager
def wsgi_server(application: WSGIApplication) -> Iterator[str]:
    """``application`` in this process, several requests at a time; its address."""
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


def locked_dashboard(storage: Any, user: str, password: str) -> WSGIApplication:
    """optuna-dashboard as the service has it, behind a login."""
    import optuna_dashboard

    require_password = runpy.run_path(str(ROOT / "docker" / "dashboard.py"))["require_password"]
    locked: WSGIApplication = require_password(optuna_dashboard.wsgi(storage), user, password)
    return locked


class Proxy:
    """A port that leads to another one, until it is `cut`; a context manager."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Proxy:
        self.mend()
        return self

    def __exit__(self, *raised: object) -> None:
        self.cut()

    def mend(self) -> None:
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        if self._listener is not None:
            # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open -= {source, sink}
