"""The line that says where a figure was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import torch


def describe() -> str:
    """Device, cores and versions."""
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} {platform.machine()} cores"
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "mlflow", "optuna"))
    return f"{device}; Python {platform.python_version()}, {versions}"
