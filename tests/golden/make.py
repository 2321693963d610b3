"""Write a golden store: the study home that a released version leaves, for later versions to read and resume.

    PYTHONPATH=CHECKOUT:CHECKOUT/tests python tests/golden/make.py FOLDER

``CHECKOUT`` holds that version, ``FOLDER`` is the one to write, such as ``tests/golden/0.1``: ``home.tar.xz``, with a
finished grid study ``grid`` and a search ``search`` that was interrupted in its second trial, and what that version
itself exported from them, ``grid.csv`` and ``search.csv``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import torch

GRID = """
name: grid
benchmark: "tiny:Tiny"
criteria: [ce]
grid: {fierce: {lambda: [0.1, 1]}}
seeds: [1, 4]
training: {epochs: 4}
"""
#: an epoch waits, so that a signal finds the trial at work
SEARCH = """
name: search
benchmark: {name: "tiny:Tiny", pause: 0.2}
criteria: [ce]
search:
  criteria: {fierce: {lambda: {low: 0.1, high: 10, log: true}}}
  trials: 2
  objective: {label_free: true}
seeds: [1, 4]
training: {epochs: 8}
concurrency: 1
"""


def fierce(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from study.cli import main; main()", *arguments]


def interrupt(command: list[str]) -> None:
    """Run a study and end it in its second trial, as Ctrl-C does."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("trial 1 started"):
                break
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    assert process.returncode == 130, process.returncode


def main(folder: Path) -> None:
    """Write ``folder``."""
    with tempfile.TemporaryDirectory(prefix="golden-") as place:
        home = Path(place) / "home"
        os.environ["FIERCE_HOME"] = str(home)
        for name, text in (("grid", GRID), ("search", SEARCH)):
            (Path(place) / f"{name}.yaml").write_text(text, encoding="utf-8")
        subprocess.run(fierce("run", f"{place}/grid.yaml"), check=True)
        interrupt(fierce("run", f"{place}/search.yaml"))
        saved = torch.load(home / "studies" / "search" / "trials" / "1" / "checkpoint.pt", weights_only=True)
        assert 0 < len(saved["records"]) < 8, len(saved["records"])
        for name in ("grid", "search"):
            subprocess.run(fierce("status", name), check=True)
            subprocess.run(fierce("export", name, "--out", str(folder / f"{name}.csv")), check=True)
        with tarfile.open(folder / "home.tar.xz", "w:xz") as archive:
            archive.add(home, "home")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
