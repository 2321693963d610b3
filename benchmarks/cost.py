"""What `fierce run --dry-run` says a study takes against what it takes, and the live ETA against what was left.

python -m benchmarks.cost [--studies scene table textures faces many]

Each study is timed and then run at once, on the same machine: the ratio is predicted / true. The ETA's error is the
largest from a third of the way on, as a share of the whole time on the clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import describe
from study.file.spec import StudySpec
from study.home import Home
from study.launch import cost
from study.launch.remaining import Remaining
from study.launch.sweep import run

#: studies of five kinds on generated data; ``table`` is written first
STUDIES: Mapping[str, Mapping[str, Any]] = {
    "scene": {
        "benchmark": {"name": "hyperspectral", "data": "simulated", "probe_epochs": 100},
        "criteria": ["ce", "ls", "fierce"],
        "seeds": 3,
        "training": {"epochs": 50},
    },
    "table": {
        "benchmark": {"name": "table", "data": "", "coarse": "coarse", "fine": "fine"},
        "criteria": ["ce", "ls", "fierce", "confidence-penalty"],
        "seeds": 10,
        "training": {"epochs": 120},
    },
    "textures": {
        "benchmark": {"name": "cifar-fs", "data": "simulated", "size": 16, "width": 4, "samples": 30, "runs": 1000},
        "criteria": ["ce", "fierce"],
        "seeds": 3,
        "training": {"epochs": 40, "learning_rate": 0.05, "milestones": []},
    },
    "faces": {
        "benchmark": {"name": "age", "data": "simulated", "samples": 1000, "size": 32, "width": 4},
        "criteria": ["ce", "ls"],
        "seeds": 2,
        "training": {"epochs": 40, "batch_size": 64},
    },
    "many": {
        "benchmark": {"name": "hyperspectral", "data": "simulated", "pixels": 3000, "probe_epochs": 20},
        "criteria": ["ce"],
        "grid": {"fierce": {"lambda": [0.1, 0.3, 1, 4], "e": [50, 200]}},
        "seeds": 2,
        "training": {"epochs": 80},
    },
}


class Followed:
    """Notes what the ETA says at each event, and when the first trial began."""

    def __init__(self, predicted: cost.Cost) -> None:
        self.remaining = Remaining(predicted)
        self.said: list[tuple[float, float]] = []
        self.begun = self.last = 0.0

    def started(self, planned: int) -> None:
        self.remaining.planned = planned

    def trial_started(self, number: int, label: str, role: str) -> None:
        self.begun = self.begun or time.monotonic()
        self.remaining.begin(number, time.monotonic(), label)

    def epoch(self, number: int, epoch: int, epochs: int, means: Mapping[str, float]) -> None:
        self.remaining.epoch(number, epoch, epochs, time.monotonic())
        self._note()

    def trial_ended(self, number: int, state: str, reason: str | None, means: Mapping[str, float]) -> None:
        self.remaining.end(number, time.monotonic())
        self.last = time.monotonic()
        self._note()

    def message(self, text: str) -> None:
        print(text)

    def _note(self) -> None:
        now = time.monotonic()
        left = self.remaining.left(now)
        if left is not None:
            self.said.append((now, left))

    def error(self, started: float, ended: float) -> float:
        """The largest error from a third of the way on, as a share of all."""
        late = [(now, left) for now, left in self.said if now - started >= (ended - started) / 3]
        return max((abs(now + left - ended) / (ended - started) for now, left in late), default=float("nan"))


def table(folder: Path) -> Path:
    """A table of two coarse and four fine classes."""
    random = np.random.default_rng(0)
    fine = np.arange(4000) % 4
    frame = pd.DataFrame(random.normal(size=(4000, 40)) + fine[:, None])
    frame = frame.rename(columns=lambda name: f"x{name}").assign(
        coarse=np.where(fine < 2, "low", "high"), fine=[f"kind {each}" for each in fine]
    )
    frame.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def compare(name: str) -> None:
    """Time, run, and print the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        values = {"name": name, **STUDIES[name]}
        if name == "table":
            values["benchmark"] = {**values["benchmark"], "data": str(table(Path(folder)))}
        spec = StudySpec.model_validate(values)
        begun = time.monotonic()
        predicted = cost.predict(spec, small=0)
        assert predicted is not None
        took = time.monotonic() - begun
        followed = Followed(predicted)
        started = time.monotonic()
        outcome = run(spec, Home(Path(folder) / "home"), observer=followed)
        ended = time.monotonic()
        if outcome.missing or outcome.failed:
            raise SystemExit(f"{name}: {outcome}")
    true = ended - started
    start = max(kind.start for kind in predicted.kinds)
    print(
        f"{name}: predicted {predicted.seconds:.0f} s, true {true:.0f} s, ratio {predicted.seconds / true:.2f}; "
        f"a process started in {start:.1f} s, the first trial after {followed.begun - started:.1f} s, the end "
        f"{ended - followed.last:.1f} s after the last; timed in {took:.0f} s; "
        f"ETA off by {followed.error(started, ended):.0%} at most from a third on; "
        f"memory said {predicted.memory / 1e6:.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    names = parser.parse_args().studies
    print(describe(), flush=True)
    for name in names:
        compare(name)


if __name__ == "__main__":
    main()
