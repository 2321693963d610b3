"""Kernels that a training step starts on an accelerator, by criterion and mode, and how often the host waits there.

python -m benchmarks.launches

Counted and not timed, on a device that is pretended (tests/accelerator.py), so that it needs none: every operation of
torch that writes memory is one. A GPU that small networks leave idle is kept waiting by their number.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from accelerator import DEVICE, on_the_accelerator, within

from trainables import criteria
from trainables.training import Training
from trainables.trial import Trial

SEEDS = tuple(range(10))
#: benchmark, the modes of its replicas, and options that leave it a few steps
ROWS: tuple[tuple[str, tuple[str | None, ...], dict[str, Any]], ...] = (
    ("hyperspectral", (None,), {"pixels": 400}),
    ("age", ("grouped", "looped"), {"samples": 200, "size": 16, "width": 4}),
)


def counted(benchmark: str, criterion: str, options: dict[str, Any]) -> tuple[float, int]:
    """Kernels of one step, and waits of all."""
    trial = Trial(benchmark, criterion, SEEDS, options=options, training={"epochs": 1, "milestones": []})
    with on_the_accelerator(within("_step", "training.py")) as watch:
        training = Training(trial, DEVICE)
        for _ in training.prepare():
            pass
        watch.kernels.clear()
        training._train_epoch(1)
    steps = -(-training.parts["train"].shape[1] // training.recipe.batch_size)
    return watch.kernels.total() / steps, watch.waits.total()


def main() -> None:
    print(
        f"{'':22}" + "".join(f"{benchmark} {mode or '':8}".rjust(24) for benchmark, modes, _ in ROWS for mode in modes)
    )
    for criterion in criteria.names():
        cells = []
        for benchmark, modes, options in ROWS:
            for mode in modes:
                chosen = {**options, "mode": mode} if mode else options
                kernels, waits = counted(benchmark, criterion, chosen)
                cells.append(f"{kernels:.0f} kernels, {waits} waits".rjust(24))
        print(f"{criterion:22}{''.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
