"""Ray: one of our own on this machine, or a cluster that exists."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from analysis.addresses import sqlite_path
from study.errors import UserError
from study.servers.reach import is_local, ray_cluster, use_token

if TYPE_CHECKING:
    from study.file.spec import Resources
    from trainables.storage import Folder

#: read by Ray and Tune when they are imported or started: quiet, no telemetry, our own handling of Ctrl-C
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # 2.60 warns of its coming default, which keeps a GPU visible to actors that asked for none
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # trials work where the user started, or in a job's working directory, so that relative paths mean the same there
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}

#: nothing but small configs and reports passes through Ray's object store
OBJECT_STORE_BYTES = 100 * 2**20

#: a socket's path has at most so many bytes, and Ray's have this much below its temporary folder
MAX_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
LONGEST_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
#: the system's folder for what is temporary, whatever the user's is
SHORT_FOLDER = "/tmp"

#: seconds within which every node must say whether it sees the study's storage
PROBE_SECONDS = 120.0

#: seconds between two looks for the head, and after how many it is lost; after 60 Ray ends this process without a word
LOOK_SECONDS, LOST_SECONDS = 5.0, 20.0


@contextmanager
def connect(resources: Resources, address: str | None = None) -> Iterator[None]:
    """Ray, for as long as the context lasts.

    The cluster at ``address`` or ``RAY_ADDRESS``, else one started here and shut down at the end; one that this
    process is connected to already is used and left as it is. Raises `UserError` where the cluster does not answer
    or this machine has less than one trial asks for.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if is_local(address):
        address = None
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if address:
        use_token()
    else:
        _secure()
    import ray

    if ray.is_initialized():
        yield
        return
    with ExitStack() as temporary:
        if address:
            _join(ray, address)
        else:
            _start(ray, temporary.enter_context(_temporary_folder()))
        try:
            _check_fits(resources, ray.nodes(), address)
            yield
        finally:
            ray.shutdown()


def require_shared(folder: Folder, tracking_uri: str) -> None:
    """`UserError` where a node of a cluster of several does not see ``folder`` on its disk, or MLflow is a file."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if len(nodes) == 1:
        return
    if database := sqlite_path(tracking_uri):
        raise UserError(
            f"tracking_uri: {database} is a file, which {len(nodes)} nodes cannot write to; name an MLflow server by "
            "tracking_uri or MLFLOW_TRACKING_URI"
        )
    if not folder.on_disk:
        return
    marker = f".seen-{secrets.token_hex(8)}"
    folder.write(marker, b"")
    try:
        look = ray.remote(num_cpus=0)(os.path.exists)
        path = str(folder.path / marker)
        seen = {
            node: look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(path)
            for node in nodes
        }
        for node, answer in seen.items():
            if not ray.get(answer, timeout=PROBE_SECONDS):
                raise UserError(
                    f"storage: node {nodes[node]} does not see {folder}; name a folder that all nodes share, or "
                    "s3://bucket/prefix, by storage or FIERCE_STORAGE"
                )
    except ray.exceptions.RayError as error:
        raise UserError(f"the cluster's nodes cannot be asked for {folder}: {str(error).splitlines()[0]}") from error
    finally:
        folder.remove(marker)


@contextmanager
def watching(lost: Callable[[str], None]) -> Iterator[None]:
    """Calls ``lost`` with the head's address, from a thread, once the cluster's head was away for 20 s.

    By then calls to Ray hang, so that no exception can be raised where the cluster is used.
    """
    import ray

    address = ray.get_runtime_context().gcs_address
    host, _, port = address.rpartition(":")
    over = threading.Event()

    def watch() -> None:
        answered = time.monotonic()
        while not over.wait(LOOK_SECONDS):
            try:
                socket.create_connection((host, int(port)), LOOK_SECONDS).close()
                answered = time.monotonic()
            except OSError:
                if time.monotonic() - answered > LOST_SECONDS:
                    lost(address)
                    return

    thread = threading.Thread(target=watch, name="watch over the head", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _secure() -> None:
    """Let only this process and its workers use the cluster that it starts: a token that nobody else knows."""
    if "RAY_AUTH_MODE" in os.environ:
        return
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Ray reads the mode when it is imported; after that its own default holds, which is a token too
    if "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"


def _join(ray: ModuleType, address: str) -> None:
    # Ray itself would try for a quarter of an hour on an address that is not its own
    ray_cluster(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        why = " ".join(str(error).split())[:300]
        raise UserError(f"the Ray cluster at {address} answers, but cannot be joined: {why}") from error


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Where Ray keeps its session: its own choice, or a folder for the time being where that path is too long."""
    ours = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or SHORT_FOLDER).absolute() / "ray"
    if len(os.fsencode(ours)) + len(LONGEST_SOCKET) <= MAX_SOCKET_BYTES:
        yield ours
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="ray-", dir=SHORT_FOLDER, ignore_cleanup_errors=True)
    except OSError as error:
        raise UserError(
            f"Ray cannot be started below {ours}: its sockets' paths would have over {MAX_SOCKET_BYTES} bytes, and "
            f"{SHORT_FOLDER} cannot be used ({error.strerror}); set RAY_TMPDIR to a folder with a shorter path"
        ) from None
    with folder as short:
        yield Path(short)


def _start(ray: ModuleType, temporary: Path) -> None:
    # workers import what the driver can import: a benchmark of the user's own, say
    os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
    try:
        with _loopback():
            ray.init(
                # a cluster that runs on this machine is joined by its address alone
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(temporary),
            )
    # a node that a busy machine keeps waiting is a plain Exception
    except Exception as error:
        why = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(
            f"Ray cannot be started here, below {temporary}: {why}; where the machine was merely busy, run it again"
        ) from error


def _check_fits(resources: Resources, nodes: Sequence[Mapping[str, Any]], address: str | None) -> None:
    """A trial that no node has room for would be waited for without end."""
    gpus = 1.0 if resources.gpus == "auto" else resources.gpus
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    for kind, asked in (("CPU", resources.cpus), ("GPU", gpus)):
        most = max((node.get(kind, 0.0) for node in alive), default=0.0)
        if asked > most:
            where = f"no node of the cluster at {address} has more than" if address else "this machine has"
            hint = "lower it" if address else "lower it, or name a cluster with --address"
            raise UserError(
                f"resources.{kind.lower()}s: a trial asks for {asked:g} {kind}s, and {where} {most:g}; {hint}"
            )


@contextmanager
def _loopback() -> Iterator[None]:
    """Let all that Ray starts within listen on 127.0.0.1 alone.

    Ray resolves a 127.0.0.1 that it is given to the machine's own address, and listens on every interface then. Only
    without clusters, as it runs on systems whose firewall would ask about each port, does it keep to the loopback.
    """
    from ray._private import ray_constants as constants

    variable = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    before, given = constants.ENABLE_RAY_CLUSTER, os.environ.get(variable)
    constants.ENABLE_RAY_CLUSTER, os.environ[variable] = False, "0"
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        if given is None:
            del os.environ[variable]
        else:
            os.environ[variable] = given
