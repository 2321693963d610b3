"""Is this machine, or a cluster, able to run a study."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from study.errors import UserError
from study.servers.checks import check_answers, check_database, check_ray, check_tracking
from study.servers.reach import reason
from study.servers.versions import fault
from study.service import jobs

#: a study keeps features and weights of every replica: some MB a trial
MIN_FREE_BYTES = 1_000_000_000
PACKAGES = ("fierce-study", "ray", "torch", "torchvision", "optuna", "mlflow", "pot", "numpy", "scipy", "pandas")
#: environment variable: optuna-dashboard's address, else this port on the host of the cluster's head
DASHBOARD_VARIABLE = "FIERCE_DASHBOARD"
DASHBOARD_PORT = 8080


@dataclass(frozen=True)
class Check:
    """One line of ``fierce doctor``; ``detail`` says what was found or what to do."""

    name: str
    ok: bool
    detail: str


def examine(home: Path, tracking_uri: str, optuna_uri: str, address: str | None = None) -> list[Check]:
    """Everything a study needs on this machine, each looked at by itself."""
    return [
        *_versions(),
        _try("devices", devices),
        _try("ray", lambda: check_ray(address)),
        _try("home", lambda: check_home(home)),
        _try("disk", lambda: check_disk(home)),
        _try("tracking", lambda: check_tracking(tracking_uri)),
        _try("optuna", lambda: check_database(optuna_uri, "optuna_uri")),
    ]


def examine_cluster(address: str | None, tracking_uri: str, optuna_uri: str | None) -> list[Check]:
    """Everything that a submitted study needs, asked from this machine, each looked at by itself.

    ``address`` is the Jobs API's (else `study.service.jobs.address_of`'s default);
    ``optuna_uri`` None where it is not known.
    """
    checks = []
    try:
        cluster = jobs.open_cluster(address)
        checks += [
            Check("ray", True, f"{cluster.address} answers; this machine has Ray {metadata.version('ray')}"),
            _try("nodes", cluster.nodes),
            _try("jobs", cluster.under_way),
        ]
        head = urlsplit(cluster.address).hostname
    except UserError as error:
        checks.append(Check("ray", False, str(error)))
        head = urlsplit(address or jobs.DEFAULT_ADDRESS).hostname
    checks.append(_try("tracking", lambda: _check_tracking_server(tracking_uri)))
    if optuna_uri is not None:
        checks.append(_try("optuna", lambda: check_database(optuna_uri, "OPTUNA_STORAGE")))
    dashboard = os.environ.get(DASHBOARD_VARIABLE) or f"http://{head or '127.0.0.1'}:{DASHBOARD_PORT}"
    checks.append(_try("optuna-dashboard", lambda: check_answers(f"{dashboard}/dashboard/", "optuna-dashboard")))
    return checks


def devices() -> str:
    """CPU cores and GPUs, in words."""
    import torch

    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    named = ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus)
    return f"{os.cpu_count()} CPU cores; {named or 'no GPU'}"


def check_home(home: Path) -> str:
    """The study home can be written to; it is made where there is none."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise UserError(
            f"the study home {home} cannot be written to ({reason(error)}); choose another by --home or FIERCE_HOME"
        ) from None
    return f"{home.resolve()} can be written to"


def check_disk(home: Path) -> str:
    """There is room for checkpoints and artifacts."""
    folder = next(parent for parent in (home.resolve(), *home.resolve().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise UserError(f"only {free / 1e9:.1f} GB are free at {folder}; make room or choose another --home")
    return f"{free / 1e9:.0f} GB free at {folder}"


def _check_tracking_server(uri: str) -> str:
    if urlsplit(uri).scheme not in ("http", "https"):
        raise UserError("no MLflow server is named; set MLFLOW_TRACKING_URI, to http://127.0.0.1:5000 say")
    return check_tracking(uri)


def _versions() -> list[Check]:
    checks = [Check("python", True, f"{platform.python_version()} on {platform.platform()}")]
    for package in PACKAGES:
        try:
            installed = metadata.version(package)
            why = fault(package, installed)
            checks.append(Check(package, not why, f"{why}; pip install --upgrade {package}" if why else installed))
        except metadata.PackageNotFoundError:
            checks.append(Check(package, False, f"not installed; pip install {package}"))
    return checks


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except UserError as error:
        return Check(name, False, str(error))
