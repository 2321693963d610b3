"""Ctrl-C reaches what the tests start, wherever they are run from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"


def test_a_process_that_a_test_starts_takes_ctrl_c() -> None:
    assert subprocess.check_output([sys.executable, "-c", PROGRAM], encoding="utf-8") == "True\n"


def test_so_does_one_of_a_suite_in_the_background() -> None:
    """A shell without job control starts background jobs with SIGINT ignored."""
    here = f"{Path(__file__)}::{test_a_process_that_a_test_starts_takes_ctrl_c.__name__}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", here],
        capture_output=True,
        encoding="utf-8",
        cwd=Path(__file__).parents[1],
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert done.returncode == 0, done.stdout
