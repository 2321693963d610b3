"""Shared fixtures: where the real data for tests stands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data for tests; the test is skipped where it is missing."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FIERCE_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set FIERCE_TEST_DATA")
    return folder
