"""What one more short trial costs: studies of one-epoch, one-seed trials, complete with search database and tracking.

python -m benchmarks.short_trials --trials 4 44
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe
from study.file.spec import StudySpec
from study.home import Home
from study.launch.sweep import run


def seconds(trials: int) -> float:
    """Wall seconds of a whole study of so many trials, Ray's start included."""
    strengths = [round(0.1 * number, 1) for number in range(trials)]
    text = (
        "name: short\nbenchmark: 'tests.tiny:Tiny'\nseeds: 1\ntraining: {epochs: 1}\n"
        f"grid: {{fierce: {{lambda: {strengths}}}}}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        outcome = run(StudySpec.from_yaml(text), Home(Path(folder)))
        took = time.perf_counter() - started
    if outcome.done != trials:
        raise SystemExit(f"{outcome.done} of {trials} trials done")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[4, 44], help="sizes of the studies, ascending")
    sizes = parser.parse_args().trials
    # imports are paid once a process
    seconds(1)
    print(describe())
    before: tuple[int, float] | None = None
    for trials in sizes:
        took = seconds(trials)
        line = f"{trials} trials {took:.1f} s"
        if before:
            line += f": {(took - before[1]) / (trials - before[0]):.2f} s a further trial than of {before[0]}"
        print(line, flush=True)
        before = trials, took


if __name__ == "__main__":
    main()
