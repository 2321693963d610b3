"""MLflow's and Optuna's own interfaces on this machine, as child processes that end together."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from study.errors import UserError

HOST = "127.0.0.1"
#: seconds within which a server has to listen, and to end
START_SECONDS = 180.0
END_SECONDS = 10.0

#: the databases' addresses may hold passwords, so they travel in the environment and not in the command line
_DASHBOARD = (
    "import os, sys, optuna_dashboard\n"
    "optuna_dashboard.run_server(os.environ['OPTUNA_STORAGE'], host=sys.argv[1], port=int(sys.argv[2]))"
)


@dataclass(frozen=True)
class Server:
    """One interface: what it is called, its command, what it finds in its environment, and its port on `HOST`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def servers(tracking_uri: str, optuna_uri: str, artifacts: Path, port: int, dashboard_port: int) -> list[Server]:
    """What has to be started: nothing for MLflow where the tracking is a server already."""
    command: tuple[str, ...] = (sys.executable, "-c", _DASHBOARD, HOST, str(dashboard_port))
    started = [Server("optuna-dashboard", command, {"OPTUNA_STORAGE": optuna_uri}, dashboard_port)]
    if urlsplit(tracking_uri).scheme not in ("http", "https"):
        command = (
            *(sys.executable, "-m", "mlflow", "server", "--artifacts-destination", str(artifacts)),
            *("--host", HOST, "--port", str(port), "--workers", "1"),
        )
        started.insert(0, Server("MLflow", command, {"MLFLOW_BACKEND_STORE_URI": tracking_uri}, port))
    return started


def serve(started: Sequence[Server], logs: Path, ready: Callable[[], Any]) -> None:
    """Run the servers until one ends or the process is asked to stop; ``ready`` is called once all listen.

    Their output goes to ``logs``. Raises `UserError` for a port in use and for a server that ends by itself.
    """
    require_free(started)
    logs.mkdir(parents=True, exist_ok=True)
    children: list[tuple[Server, subprocess.Popen[bytes], Path]] = []
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        for server in started:
            log = logs / f"{server.name.lower()}.log"
            with log.open("wb") as output:
                # a group of its own: the server's own workers end with it, and Ctrl-C reaches us alone
                child = subprocess.Popen(
                    server.command,
                    env={**os.environ, **server.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
            children.append((server, child, log))
        _wait_listening(children)
        ready()
        while True:
            _require_alive(children)
            time.sleep(0.5)
    finally:
        _end([child for _, child, _ in children])
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def require_free(started: Sequence[Server]) -> None:
    """`UserError` where a port is in use, or given twice."""
    if len({server.port for server in started}) < len(started):
        raise UserError(f"port {started[0].port} is given for both interfaces; choose another --dashboard-port")
    for server in started:
        with socket.socket() as probe:
            # as the servers themselves do: a port that was closed a moment ago is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, server.port))
            except OSError as error:
                flag = "--port" if server.name == "MLflow" else "--dashboard-port"
                why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be taken ({error.strerror})"
                raise UserError(
                    f"port {server.port} on {HOST} {why}; choose another for {server.name} by {flag}"
                ) from None


def _wait_listening(children: Sequence[tuple[Server, subprocess.Popen[bytes], Path]]) -> None:
    deadline = time.monotonic() + START_SECONDS
    for server, _, log in children:
        while True:
            _require_alive(children)
            try:
                socket.create_connection((HOST, server.port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise UserError(f"{server.name} does not listen after {START_SECONDS:.0f} s; see {log}") from None
                time.sleep(0.1)


def _require_alive(children: Sequence[tuple[Server, subprocess.Popen[bytes], Path]]) -> None:
    for server, child, log in children:
        if child.poll() is not None:
            raise UserError(f"{server.name} ended by itself with exit code {child.returncode}; see {log}")


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask the servers and their own workers to end, and end those that don't."""
    for child in children:
        _signal(child, signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    for child in children:
        # the server may end before its workers; its group is there as long as any of them
        while child.poll() is None or _signal(child, 0):
            if time.monotonic() > deadline:
                _signal(child, signal.SIGKILL)
                break
            time.sleep(0.05)
        child.wait()


def _signal(child: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to the child's group; whether there was any process in it. 0 only asks."""
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return False
    return True
