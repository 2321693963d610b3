"""Time of the optimal-transport evaluation of 10,000 samples × 10 replicas, as a multiple of the time of sorting them.

python -m benchmarks.transport
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import ot
import torch
from torch import Tensor

from trainables.evaluators import transport

REPLICAS, SAMPLES, REPEATS = 10, 10_000, 30


def measure(*tasks: Callable[[], object]) -> list[float]:
    """Median seconds of each task, the tasks taking turns so that a busy machine slows all alike."""
    seconds = np.zeros((REPEATS, len(tasks)))
    for repeat in range(REPEATS):
        for column, task in enumerate(tasks):
            started = time.perf_counter()
            task()
            seconds[repeat, column] = time.perf_counter() - started
    return np.median(seconds, 0).tolist()


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    ages = torch.randint(0, 100, (REPLICAS, SAMPLES), generator=generator).float()
    features = ages / 50 + torch.randn(REPLICAS, SAMPLES, generator=generator)
    coarse = (ages > 36).long()
    logits = torch.stack([1 - features, features], -1)

    def plan() -> Tensor:
        return transport.age_by_rank(ages, SAMPLES)

    by_rank = plan()

    def evaluate(by_rank: Tensor) -> None:
        oriented = features * transport.orientation(features, logits).unsqueeze(1)
        retrieved = transport.transported(oriented, by_rank)
        means = transport.class_ages(ages, coarse, 2).gather(1, logits.argmax(-1))
        transport.interpolated_mse(ages, means, retrieved).min(1)

    def dense() -> None:
        plan = ot.emd_1d(features[0].double().numpy(), ages[0].double().numpy())
        SAMPLES * (plan @ ages[0].double().numpy())

    sorting, evaluation, planning = measure(
        lambda: features.sort(1), lambda: evaluate(by_rank), lambda: evaluate(plan())
    )
    print(f"{REPLICAS} × {SAMPLES:,} samples, one thread, median of {REPEATS}")
    print(f"sorting                              {sorting * 1e3:8.2f} ms")
    print(f"evaluation, plan at hand             {evaluation * 1e3:8.2f} ms  {evaluation / sorting:6.2f} × sorting")
    print(f"evaluation with its {REPLICAS} plans         {planning * 1e3:8.2f} ms  {planning / sorting:6.2f} × sorting")
    started = time.perf_counter()
    dense()
    print(f"POT's dense plan, one replica        {(time.perf_counter() - started) * 1e3:8.2f} ms")


if __name__ == "__main__":
    main()
