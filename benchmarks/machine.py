"""Where a figure was measured: the line that says it, and the rate that the machine can reach."""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import torch


def describe() -> str:
    """Device, cores and versions."""
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} {platform.machine()} cores"
    )
    installed = []
    for name in ("torch", "ray", "mlflow", "optuna"):
        # `trainables` are measured where nothing else is installed, too
        with suppress(PackageNotFoundError):
            installed.append(f"{name} {version(name)}")
    return f"{device}; Python {platform.python_version()}, {', '.join(installed)}"


def matrix_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """GFLOP/s of one product of two 3000 × 3000 matrices with torch's current threads, the best of several."""
    a, b = (torch.randn(3000, 3000, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * 3000**3 / best / 1e9
