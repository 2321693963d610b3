"""Ray: one of our own on this machine, or a cluster that exists."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from study.errors import UserError

if TYPE_CHECKING:
    from study.spec import Resources

#: read by Ray and Tune when they are imported or started: quiet, no telemetry, our own handling of Ctrl-C
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # 2.60 warns of its coming default, which keeps a GPU visible to actors that asked for none
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}

#: nothing but small configs and reports passes through Ray's object store
OBJECT_STORE_BYTES = 100 * 2**20


@contextmanager
def connect(resources: Resources, address: str | None = None) -> Iterator[None]:
    """Ray, for as long as the context lasts.

    The cluster at ``address`` or ``RAY_ADDRESS``, else one started here and shut down at the end; one that this
    process is connected to already is used and left as it is. Raises `UserError` where the cluster does not answer
    or this machine has less than one trial asks for.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if not address:
        _secure()
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            _start(ray)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at {address} does not answer" if address else "Ray cannot be started here"
        raise UserError(f"{where}: {str(error).strip().splitlines()[0]}") from error
    try:
        if not address:
            _check_fits(resources, ray.cluster_resources())
        yield
    finally:
        ray.shutdown()


def slots(resources: Resources) -> int:
    """How many trials fit the cluster at the same time, one at least."""
    import ray

    whole = ray.cluster_resources()
    fits = whole.get("CPU", 0) / resources.cpus
    if resources.gpus:
        # a GPU is shared, but a trial never spans two
        fits = min(fits, whole.get("GPU", 0) * int(1 / resources.gpus))
    return max(1, int(fits))


def _secure() -> None:
    """Let only this process and its workers use the cluster that it starts: a token that nobody else knows."""
    if "RAY_AUTH_MODE" in os.environ:
        return
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Ray reads the mode when it is imported; after that its own default holds, which is a token too
    if "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"


def _start(ray: ModuleType) -> None:
    # workers import what the driver can import: a benchmark of the user's own, say
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )


def _check_fits(resources: Resources, whole: dict[str, float]) -> None:
    for kind, asked in (("CPU", resources.cpus), ("GPU", resources.gpus)):
        if asked > whole.get(kind, 0):
            raise UserError(
                f"resources.{kind.lower()}s: a trial asks for {asked:g} {kind}s, and this machine has "
                f"{whole.get(kind, 0):g}; lower it, or name a cluster with --address"
            )
