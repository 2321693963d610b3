"""What stands at an address that a user gave: told within seconds, in one sentence, whatever answers there.

Libraries try for minutes on an address that is not theirs, some with Ctrl-C shut out; so each is first looked at in a
thread or a process that is left behind when its time is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from analysis.addresses import masked, without_password
from study.errors import UserError

#: seconds within which a server takes a connection and says its first word
TIMEOUT = 5.0
#: seconds within which an address is judged
DEADLINE = 10.0
#: what every gRPC server answers with settings of its own (RFC 9113): the preface, then empty settings
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS_FRAME = 4
#: what Ray says of a file in which it found a cluster
AUTO = "auto"

Answer = TypeVar("Answer")


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What ``ask`` returns or raises; ``TimeoutError`` where it takes longer than ``seconds``.

    Ctrl-C works meanwhile.
    """
    answers: queue.SimpleQueue[tuple[Answer | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((ask(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, name="a look at an address", daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]


def is_local(address: str | None) -> bool:
    """Whether a study runs on this machine, on a Ray that it brings up itself."""
    return address in (None, "", "local")


def ray_cluster(address: str) -> str:
    """The Ray cluster at ``host:port``, ``ray://host:port`` or ``auto`` takes this user, in words; else `UserError`."""
    if address == AUTO:
        state, local_address = _probe("ray_auto", AUTO)
        if state != "ok":
            raise UserError(
                "no Ray cluster runs on this machine (--address auto); start one, or name its host:port, or leave "
                "--address and RAY_ADDRESS out"
            )
        return ray_cluster(local_address)
    host, port, by_client = _host_and_port(address)
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT) as connection:
            is_grpc = os.environ.get("RAY_USE_TLS", "0") not in ("0", "") or _speaks_grpc(connection)
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({reason(error)}); start it, or leave --address and RAY_ADDRESS out"
        ) from None
    state, why = _probe("ray_client" if by_client else "ray_head", f"{host}:{port}") if is_grpc else ("other", "")
    if state == "token":
        raise UserError(_refused_token(address))
    if state != "ok":
        ours, default = ("Ray's client (ray://)", 10001) if by_client else ("a Ray cluster's head", 6379)
        said = f" ({why})" if state == "failed" and why else ""
        raise UserError(
            f"a server answers at {address}, and it is not {ours}{said}; correct the port in --address or RAY_ADDRESS "
            f"(Ray's own choice is {default})"
        )
    return f"the Ray cluster at {address} answers"


def object_store(address: str, kind: str = "storage") -> None:
    """The object store takes the study's files, or lists them (``stored_files``); `UserError` with what it said."""
    state, why = _probe(kind, address)
    shown = without_password(address)
    if state == "other":
        raise UserError(f"storage: what answers for {shown} is no object store; {_ENDPOINT}")
    if state != "ok":
        raise UserError(f"storage: {shown} cannot be used ({why}); {_ENDPOINT}")


def stored_file(what: str, address: str) -> None:
    """There is such a file in its object store; `UserError`, that begins with ``what``, with what the store said."""
    state, why = _probe("stored_file", address)
    if state != "ok":
        raise UserError(f"{what}: {without_password(address)} cannot be fetched ({why}); {_ENDPOINT}")


_ENDPOINT = "correct the address, AWS_ENDPOINT_URL, or the login (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"


def reason(error: BaseException) -> str:
    """The cause in few words, on one line."""
    cause = getattr(error, "reason", None) or getattr(error, "orig", None) or error
    words = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return masked(words.strip().splitlines()[0])


def use_token() -> None:
    """Have Ray use the token that is in the environment; it reads the mode once, when it is imported."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _host_and_port(address: str) -> tuple[str, int, bool]:
    """Host and port of a cluster, and whether it is Ray's client that they are of."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.scheme in ("http", "https"):
        raise UserError(
            f"Ray's address {address!r} is one of its dashboard, which fierce submit takes; give host:port here"
        )
    port: int | None = None
    with contextlib.suppress(ValueError):
        port = parts.port
    if not parts.hostname or not port or parts.scheme not in ("", "ray") or parts.path not in ("", "/"):
        raise UserError(f"Ray's address {address!r} is not host:port, ray://host:port or auto")
    return parts.hostname, port, parts.scheme == "ray"


def _speaks_grpc(connection: socket.socket) -> bool:
    connection.settimeout(TIMEOUT)
    try:
        connection.sendall(_HELLO)
        frame = b""
        while len(frame) < 9 and (more := connection.recv(9 - len(frame))):
            frame += more
    except OSError:
        return False
    return len(frame) == 9 and frame[3] == _SETTINGS_FRAME


def _refused_token(address: str) -> str:
    given = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    whose = "another cluster's token than that of" if given else "no token that is taken by"
    mode = "" if os.environ.get("RAY_AUTH_MODE") == "token" else ", with RAY_AUTH_MODE=token"
    return (
        f"the token does not match: this user has {whose} the Ray cluster at {address}; give its own by "
        f"RAY_AUTH_TOKEN_PATH, a file, or RAY_AUTH_TOKEN{mode}"
    )


def _probe(kind: str, address: str) -> tuple[str, str]:
    """What `study.servers.probe` says of ``address``: its state, and in few words why."""
    path = os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path if folder)
    try:
        done = subprocess.run(
            # the folder of a script would come first among those to import from
            [sys.executable, "-P", str(Path(__file__).with_name("probe.py")), kind],
            input=address,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=DEADLINE,
        )
    except subprocess.TimeoutExpired:
        return "failed", f"no answer within {DEADLINE:.0f} s"
    try:
        answer = json.loads((done.stdout.splitlines() or [""])[-1])
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return "failed", masked(last, address)[:200]
    return answer["state"], masked(" ".join(answer["detail"].split()), address)[:200]
