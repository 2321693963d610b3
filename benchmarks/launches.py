"""Kernels that a training step starts on an accelerator, by criterion and mode, and how often the host waits there.

    python -m benchmarks.launches
    python -m benchmarks.launches --device cuda [--bf16] [--no-graphs] [--criteria ce fierce]

Counted on a device that is pretended (tests/accelerator.py), so that it needs none: every operation of torch that
writes memory is one. On a GPU each is counted as it runs, with what a step takes and the share of it in which the GPU
computes: one that small networks leave idle is kept waiting by the number of kernels.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import describe
from trainables import criteria
from trainables.benchmarks import Data, find, make_options
from trainables.training import Training
from trainables.trial import Trial

SEEDS = tuple(range(10))
#: benchmark, the modes of its replicas, and options that leave it a few steps; those of a GPU are of its real size
ROWS: tuple[tuple[str, tuple[str | None, ...], dict[str, Any]], ...] = (
    ("hyperspectral", (None,), {"pixels": 400}),
    ("age", ("grouped", "looped"), {"samples": 200, "size": 16, "width": 4}),
)
ROWS_OF_A_GPU: tuple[tuple[str, tuple[str | None, ...], dict[str, Any]], ...] = (
    ("hyperspectral", (None,), {"pixels": 9000}),
    ("age", ("grouped", "looped", "bmm"), {"samples": 1400, "size": 64, "width": 16, "channels_last": True}),
)


def _trial(benchmark: str, criterion: str, options: dict[str, Any], **settings: Any) -> Trial:
    return Trial(benchmark, criterion, SEEDS, options=options, training={"epochs": 3, "milestones": [], **settings})


def counted(benchmark: str, criterion: str, options: dict[str, Any]) -> str:
    """Kernels of one step, and waits of all, on the device that is pretended."""
    from accelerator import DEVICE, on_the_accelerator, within

    with on_the_accelerator(within("_step", "training.py")) as watch:
        training = Training(_trial(benchmark, criterion, options, epochs=1), DEVICE)
        for _ in training.prepare():
            pass
        watch.kernels.clear()
        training._train_epoch(1)
    return f"{watch.kernels.total() / training.batches:.0f} kernels, {watch.waits.total()} waits"


def measured(
    benchmark: str, criterion: str, options: dict[str, Any], data: Data, mixed_precision: bool, recorded: bool
) -> str:
    """Of one step on a GPU: kernels, ms, and the share of these in which a kernel ran."""
    trial = _trial(benchmark, criterion, options, mixed_precision=mixed_precision, cuda_graphs=recorded)
    training = Training(trial, "cuda", data)
    for _ in training.prepare():
        pass
    training._train_epoch(1)
    torch.cuda.synchronize()
    started = time.perf_counter()
    training._train_epoch(2)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as found:
        training._train_epoch(3)
        torch.cuda.synchronize()
    ran = [event for event in found.events() or () if event.device_type == DeviceType.CUDA]
    busy = sum(event.time_range.elapsed_us() for event in ran) / 1e6
    return f"{len(ran) / training.batches:.0f}, {1e3 * seconds / training.batches:.2f} ms, {busy / seconds:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda"])
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--no-graphs", action="store_true", help="on a GPU: steps as they come, never recorded")
    parser.add_argument("--criteria", nargs="+", default=criteria.names())
    given = parser.parse_args()
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    rows = ROWS if given.device is None else ROWS_OF_A_GPU
    print(f"{describe()}; bf16 {given.bf16}")
    print(
        f"{'':22}" + "".join(f"{benchmark} {mode or '':8}".rjust(24) for benchmark, modes, _ in rows for mode in modes)
    )
    loaded: dict[str, Data] = {}
    for criterion in given.criteria:
        print(f"{criterion:22}", end="", flush=True)
        for benchmark, modes, options in rows:
            for mode in modes:
                chosen = {**options, "mode": mode} if mode else options
                if given.device is None:
                    cell = counted(benchmark, criterion, chosen)
                else:
                    if benchmark not in loaded:
                        kind = find(benchmark)
                        loaded[benchmark] = kind.load(make_options(kind.Options, chosen))
                    cell = measured(benchmark, criterion, chosen, loaded[benchmark], given.bf16, not given.no_graphs)
                print(cell.rjust(24), end="", flush=True)
        print()


if __name__ == "__main__":
    main()
