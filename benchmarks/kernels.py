"""The kernel that a trial chooses against each that it could have been told to take, by width of the ResNet-18.

A choice as a trial makes it, from scratch, for every width; then whole training steps (batch, forward, backward,
optimizer) by each kernel, which take turns. On one thread of a CPU times are that thread's own.

    python -m benchmarks.kernels [--widths 4 8 16] [--seeds 3] [--size 32] [--batch 64] [--device cuda --bf16]
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.machine import describe
from trainables import kernel_choice, kernels
from trainables.kernels import Kernel
from trainables.training import Training
from trainables.trial import Trial


def step_seconds(training: Training, found: dict[Kernel, float], rounds: int) -> None:
    """Bring ``found`` up to the fastest of ``rounds`` more steps by each kernel."""
    clock = kernels.stopwatch(training.device)
    for _ in range(rounds):
        for kernel in kernels.ways(training.network, training.device):
            training.compute_by(kernel)
            started = clock()
            training._train_epoch(1)
            found[kernel] = min(found.get(kernel, float("inf")), clock() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{describe()}; {given.threads} threads, bf16 {given.bf16}")
    print(f"{given.seeds} seeds × batch {given.batch}, {given.size} pixels; ms a step, * chosen, + usual")
    for width in given.widths:
        options = {"samples": 2 * given.batch, "size": given.size, "width": width, "evaluation": 2}
        settings = {"batch_size": given.batch, "mixed_precision": given.bf16}
        trial = Trial("age", "ce", tuple(range(given.seeds)), options=options, training=settings)
        training = Training(trial, given.device)
        training.parts["train"] = training.parts["train"][:, : given.batch]
        usual = kernels.ways(training.network, training.device)[0]
        started = time.perf_counter()
        chosen = kernels.fastest(kernel_choice.measured(training), usual)
        spent = time.perf_counter() - started
        # what was drawn and allocated once is there for each kernel then
        step_seconds(training, {}, 1)
        found: dict[Kernel, float] = {}
        step_seconds(training, found, given.rounds)
        best = min(found.values())
        marks = {kernel: "*" * (kernel == chosen) + "+" * (kernel == usual) for kernel in found}
        times = "; ".join(f"{kernel}{marks[kernel]} {taken * 1e3:.0f}" for kernel, taken in found.items())
        behind, gain = found[chosen] / best - 1, found[usual] / found[chosen]
        print(f"width {width:2}: {times}", flush=True)
        print(f"  chosen {behind:.1%} behind the best, {gain:.2f}× the usual; choosing took {spent:.1f} s", flush=True)


if __name__ == "__main__":
    main()
