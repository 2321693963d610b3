"""Few-shot evaluation: batched runs against one task at a time: ``python -m benchmarks.few_shot``.

20 classes × 600 samples × 512 features, as of CIFAR-FS's novel classes; 5-way 1-shot, 15 queries, 10,000 runs.
Two ways of one task at a time: ``loader`` samples and collates it through a DataLoader, with labels of its own
and a mean per label, as few-shot libraries do; ``loop`` has the tasks drawn beforehand and gathers each from the
feature matrix. Where EasyFSL is installed (``pip install easyfsl``), its own prototypical networks, sampler and
evaluation on the same features are timed as well. All are timed on ``--tasks`` tasks and scaled to the number of runs,
in one process, with the same threads.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from benchmarks.machine import describe
from trainables.evaluators.few_shot import Runs, draw_runs, nearest_class_mean

CLASSES, SAMPLES, DIMENSIONS = 20, 600, 512
WAYS, QUERIES = 5, 15
Result = TypeVar("Result")


class Tasks(Sampler[list[int]]):
    """Draws the sample indices of one task after another."""

    def __init__(self, labels: list[int], tasks: int, shots: int) -> None:
        self.tasks, self.shots = tasks, shots
        self.of_class = {c: [i for i, label in enumerate(labels) if label == c] for c in set(labels)}

    def __len__(self) -> int:
        return self.tasks

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.tasks):
            picked = random.sample(sorted(self.of_class), WAYS)
            yield [i for c in picked for i in random.sample(self.of_class[c], self.shots + QUERIES)]


def through_a_loader(features: Tensor, labels: Tensor, tasks: int, shots: int) -> float:
    """Mean accuracy of tasks that a DataLoader samples and collates, with labels of their own from 0."""

    def collate(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        classes = sorted({label for _, label in samples})
        relabelled = torch.tensor([classes.index(label) for _, label in samples])
        return torch.stack([sample for sample, _ in samples]), relabelled

    dataset = list(zip(features, labels.tolist(), strict=True))
    sampler = Tasks(labels.tolist(), tasks, shots)
    loader: DataLoader[tuple[Tensor, int]] = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)  # type: ignore[arg-type]
    accuracy = []
    for samples, own in loader:
        of_class = own.view(WAYS, -1)
        by_class = samples.view(WAYS, shots + QUERIES, -1)
        support, support_labels = by_class[:, :shots].flatten(0, 1), of_class[:, :shots].flatten()
        means = torch.stack([support[support_labels == c].mean(0) for c in range(WAYS)])
        nearest = torch.cdist(by_class[:, shots:].flatten(0, 1), means).argmin(1)
        accuracy.append(float((nearest == of_class[:, shots:].flatten()).float().mean()))
    return sum(accuracy) / tasks


def by_easyfsl(features: Tensor, labels: Tensor, tasks: int, shots: int) -> float:
    """Mean accuracy by EasyFSL's nearest class mean on precomputed features."""
    from easyfsl.datasets import FeaturesDataset  # type: ignore[import-not-found]
    from easyfsl.methods import PrototypicalNetworks  # type: ignore[import-not-found]
    from easyfsl.samplers import TaskSampler  # type: ignore[import-not-found]
    from easyfsl.utils import evaluate  # type: ignore[import-not-found]

    dataset = FeaturesDataset(labels.tolist(), features, [str(c) for c in range(CLASSES)])
    # its sampler of version 1.5 cannot be made under torch 2.14: the indices are drawn alike, its collation is its own
    collation = SimpleNamespace(n_way=WAYS, n_shot=shots, n_query=QUERIES)
    collation._cast_input_data_to_tensor_int_tuple = TaskSampler._cast_input_data_to_tensor_int_tuple
    sampler = Tasks(labels.tolist(), tasks, shots)
    collate = partial(TaskSampler.episodic_collate_fn, collation)
    loader: DataLoader[Tensor] = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)
    return float(evaluate(PrototypicalNetworks(nn.Identity()), loader, device="cpu", use_tqdm=False))


def in_a_loop(features: Tensor, runs: Runs) -> float:
    """Mean accuracy of the runs, one after another."""
    own = torch.arange(WAYS).repeat_interleave(QUERIES)
    accuracy = []
    for support, queries in zip(runs.support, runs.queries, strict=True):
        nearest = torch.cdist(features[queries.flatten()], features[support].mean(1)).argmin(1)
        accuracy.append(float((nearest == own).float().mean()))
    return sum(accuracy) / len(accuracy)


def best(repeats: int, work: Callable[..., Result], *arguments: object) -> tuple[float, Result]:
    """The shortest of ``repeats`` durations, in seconds, and the result."""
    durations = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = work(*arguments)
        durations.append(time.perf_counter() - started)
    return min(durations), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=500, help="tasks that the slow ways are timed on")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many is taken, of each way")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    repeats, tasks = arguments.repeats, arguments.tasks

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(SAMPLES)
    centres = torch.randn(arguments.replicas, CLASSES, DIMENSIONS, generator=generator)
    noise = torch.randn(arguments.replicas, len(labels), DIMENSIONS, generator=generator)
    features = torch.relu(centres[:, labels] + 4 * noise)
    placed = features.to(arguments.device)
    print(f"{describe()}; {arguments.threads} threads, {arguments.device}")
    print(f"{arguments.replicas} × {CLASSES} × {SAMPLES} × {DIMENSIONS} features, {arguments.runs:,} runs")

    def batched(runs: Runs) -> float:
        return float(nearest_class_mean(placed, runs, [runs.support.shape[-1]]).mean())

    def draw(shots: int) -> Runs:
        return draw_runs(labels, ways=WAYS, shots=shots, queries=QUERIES, runs=arguments.runs, seed=0)

    print("                 seconds  × batched  accuracy")
    for shots in (1, 5):
        sampling, runs = best(repeats, draw, shots)
        seconds, accuracy = best(repeats, batched, runs.to(placed.device))
        print(f"{shots}-shot sampling {sampling:8.2f}")
        print(f"{shots}-shot batched  {seconds:8.2f}             {accuracy:.4f}")
        scale = arguments.replicas * arguments.runs / tasks
        took, accuracy = best(repeats, through_a_loader, features[0], labels, tasks, shots)
        # the loader draws its tasks as it goes, so the batched way is charged for drawing too
        print(f"{shots}-shot loader   {took * scale:8.2f}  {took * scale / (seconds + sampling):9.1f}  {accuracy:.4f}")
        if importlib.util.find_spec("easyfsl"):
            took, accuracy = best(repeats, by_easyfsl, features[0], labels, tasks, shots)
            ratio = took * scale / (seconds + sampling)
            print(f"{shots}-shot EasyFSL  {took * scale:8.2f}  {ratio:9.1f}  {accuracy:.4f}")
        few = Runs(runs.support[:tasks], runs.queries[:tasks])
        took, accuracy = best(repeats, in_a_loop, features[0], few)
        print(f"{shots}-shot loop     {took * scale:8.2f}  {took * scale / seconds:9.1f}  {accuracy:.4f}")


if __name__ == "__main__":
    main()
