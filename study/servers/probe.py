"""A look at one address, in a process of its own, which can be ended where the library hangs in its own code.

``python probe.py KIND``, the address on standard input, since it may hold a login; the answer is a line of JSON:
``{"state": "ok" | "token" | "other" | "failed", "detail": …}``, ``other`` for a server of another kind.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable
from typing import Any


def ray_head(address: str) -> tuple[str, str]:
    """The head of a Ray cluster at ``host:port``."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError, RayError

    try:
        GcsClient(address=address).check_alive([], timeout=5)
    except AuthenticationError as error:
        return "token", str(error)
    except RayError as error:
        return ("other" if "Method not found" in str(error) else "failed"), str(error)
    return "ok", address


def ray_client(address: str) -> tuple[str, str]:
    """The server of Ray's client (``ray://``) at ``host:port``."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc

    messages: Any = ray_client_pb2
    request = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
    try:
        ray_client_pb2_grpc.RayletDriverStub(init_grpc_channel(address)).ClusterInfo(request, timeout=5)
    except grpc.RpcError as error:
        kinds = {"UNAUTHENTICATED": "token", "UNIMPLEMENTED": "other"}
        return kinds.get(error.code().name, "failed"), error.details()
    return "ok", address


def ray_auto(address: str) -> tuple[str, str]:
    """Where Ray finds a cluster by itself; the detail is its address."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        return "ok", canonicalize_bootstrap_address_or_die(address)
    except (ConnectionError, ValueError) as error:
        return "failed", str(error)


def storage(address: str) -> tuple[str, str]:
    """An object store that takes a file and gives it back."""
    from trainables.storage import Folder

    folder, name, content = Folder(address), f".seen-{uuid.uuid4().hex}", uuid.uuid4().bytes
    try:
        folder.write(name, content)
        held = folder.read(name)
        folder.remove(name)
    except (OSError, ValueError) as error:
        return "failed", str(error)
    return ("ok" if held == content else "other"), address


def stored_files(address: str) -> tuple[str, str]:
    """A prefix of an object store, to read from."""
    from trainables.storage import Folder

    try:
        Folder(address).names()
    except (OSError, ValueError) as error:
        return "failed", str(error)
    return "ok", address


def stored_file(address: str) -> tuple[str, str]:
    """A file in an object store."""
    from trainables.storage import Folder

    base, mark, query = address.partition("?")
    parent, _, name = base.rpartition("/")
    try:
        return ("ok" if Folder(f"{parent}{mark}{query}").exists(name) else "failed"), "there is no such file"
    except (OSError, ValueError) as error:
        return "failed", str(error)


KINDS: dict[str, Callable[[str], tuple[str, str]]] = {
    look.__name__: look for look in (ray_head, ray_client, ray_auto, storage, stored_files, stored_file)
}

if __name__ == "__main__":
    state, detail = KINDS[sys.argv[1]](sys.stdin.read())
    print(json.dumps({"state": state, "detail": detail}), flush=True)
    # what a library does at its end may wait for a server
    os._exit(0)
