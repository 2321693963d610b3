"""The benchmarks that the project brings, so small that an epoch takes a moment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRAINABLES = Path(__file__).parent / "trainables"
#: options of benchmarks that make them small, where their defaults do not
SMALL: Mapping[str, Mapping[str, Any]] = {
    "hyperspectral": {"pixels": 200, "probe_epochs": 2, "validation": 0.2},
    "age": {"samples": 120, "size": 16, "width": 2},
    "cifar-fs": {"samples": 7, "size": 16, "width": 2, "queries": 2, "runs": 5},
    "cub": {"samples": 7, "size": 16, "width": 2, "queries": 2, "runs": 5},
    "cifar10-few-shot": {"samples": 12, "size": 16, "width": 2, "queries": 2, "runs": 5},
    "cifar10": {"samples": 20, "size": 16, "width": 2},
    "coarse-cifar10": {"samples": 20, "size": 16, "width": 2},
    "table": {"data": str(TRAINABLES / "flowers.csv"), "coarse": "colour", "fine": "kind"},
    "images": {
        "data": str(TRAINABLES / "pets.zip"),
        "groups": {"furred": ["cat", "dog"], "winged": ["owl", "wren"]},
        "size": 8,
        "width": 2,
    },
}
