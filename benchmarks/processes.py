"""Ten seeds as one tensor program against a process for each seed, all at the same time, on one device.

Whole trials, every evaluator included and nothing tracked: from the start of the processes to the end of the last, and
the epochs alone, without imports, data, and what the first and the last epoch do once. ``alone`` is one such process
that has the device to itself. Ray is not needed.

    python -m benchmarks.processes --data jasper_ridge.mat --device cuda --epochs 30
    python -m benchmarks.processes --benchmark age --data UTKFace_64px.zip --options samples=6000 --device cuda --bf16
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.criteria import numbers
from benchmarks.machine import describe
from trainables import kernel_choice
from trainables.training import Training
from trainables.trial import Trial


def child(case: dict[str, Any]) -> None:
    """Train one trial; print the seconds of its epochs, the first and the last apart."""
    torch.set_num_threads(case["threads"])
    training = Training(Trial.from_dict(case["trial"]), case["device"])
    kernel_choice.settle(training)
    # a record's numbers are on the host, so that the device is done with it
    ends = [time.perf_counter() for _ in training.run()]
    print(json.dumps({"epochs": ends[-2] - ends[0], "count": len(ends) - 2, "kernel": str(training.kernel or "")}))


def finish(cases: list[dict[str, Any]]) -> tuple[float, list[dict[str, Any]]]:
    """Wall seconds of a process for each of ``cases``, all at once, and what each printed."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.processes", "--child"]
    workers = [
        subprocess.Popen([*command, json.dumps(case)], stdout=subprocess.PIPE, encoding="utf-8") for case in cases
    ]
    told = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise SystemExit("a process failed: its message is above")
    return time.perf_counter() - started, [json.loads(text) for text in told]


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="hyperspectral")
    parser.add_argument("--data", default="simulated")
    parser.add_argument("--options", nargs="*", default=[], help="of the benchmark, as name=number")
    parser.add_argument("--criteria", nargs="+", default=["ce", "fierce"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, help="the recipe's by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    given = parser.parse_args()
    cores = os.cpu_count() or 1
    data = given.data if given.data == "simulated" else str(Path(given.data).resolve())
    settings = {"epochs": given.epochs, "mixed_precision": given.bf16}
    settings |= {} if given.batch is None else {"batch_size": given.batch}

    def case(criterion: str, seeds: tuple[int, ...], beside: int) -> dict[str, Any]:
        options = {"data": data, **numbers(given.options)}
        trial = Trial(given.benchmark, criterion, seeds, options=options, training=settings)
        return {"trial": trial.to_dict(), "threads": max(1, cores // beside), "device": given.device}

    print(f"{describe()}; {cores} cores, bf16 {given.bf16}")
    print(f"{given.benchmark}, {given.seeds} seeds, {given.epochs} epochs; s of whole trials, and ms an epoch")
    seeds = tuple(range(given.seeds))
    for criterion in given.criteria:
        rows = {
            "together": [case(criterion, seeds, 1)],
            "at once": [case(criterion, (seed,), given.seeds) for seed in seeds],
            "alone": [case(criterion, seeds[:1], 1)],
        }
        found = {}
        for name, cases in rows.items():
            wall, told = finish(cases)
            each = max(one["epochs"] / one["count"] for one in told)
            found[name] = wall, each
            print(f"{criterion:8}  {name:8}  {wall:7.1f} s  {1e3 * each:9.1f} ms  {told[0]['kernel']}", flush=True)
        (wall, each), (apart, each_apart), (alone, each_alone) = found.values()
        print(
            f"{criterion:8}  together is {apart / wall:.2f}× as fast as {given.seeds} processes at once (epochs "
            f"{each_apart / each:.2f}×), and {given.seeds * alone / wall:.2f}× as one after another (epochs "
            f"{given.seeds * each_alone / each:.2f}×)",
            flush=True,
        )


if __name__ == "__main__":
    main()
