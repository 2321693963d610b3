"""Shared fixtures: where the real data for tests stands."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    # a shell's background job ignores Ctrl-C, and so would all that the tests start; a handler is not inherited
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data for tests; the test is skipped where it is missing."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FIERCE_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set FIERCE_TEST_DATA")
    return folder
