"""Study homes that released versions made, each with a finished study ``grid`` and an interrupted ``search``."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from study.home import Home

FOLDER = Path(__file__).parent
#: what `make.py` wrote, below a folder of its version's name
ARCHIVE = "home.tar.xz"
VERSIONS = sorted(path.parent.name for path in FOLDER.glob(f"*/{ARCHIVE}"))
#: addresses that a developer's shell may name, which a home would go by
HIDDEN = ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "FIERCE_STORAGE")


def unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str = "0.1") -> Home:
    """The home of that version in ``folder``, at another place than where it was made."""
    for name in HIDDEN:
        monkeypatch.delenv(name, raising=False)
    with tarfile.open(FOLDER / version / ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return Home(folder / "home")
