"""Points of one criterion, trials that differ in its hyperparameters alone, as one program of P·S replicas.

A trial by itself is a program of one point.

A small network leaves a GPU idle, and ten λ of ten seeds are one batch of a hundred. Replicas do not depend on their
neighbours, so that every point has the numbers that it has alone, up to floating-point reassociation, and a state of
its own, from which it goes on alone or among others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables import criteria
from trainables.backbones import is_looped
from trainables.benchmarks import Data, find, make_options
from trainables.kernels import Kernel
from trainables.training import Record, Training
from trainables.trial import Trial


def apart(trials: Sequence[Trial]) -> str | None:
    """What keeps ``trials`` from being one program, in words that follow "the trials"; None where nothing does.

    At least two, which have everything but hyperparameters in common, of these only such that a criterion takes by
    replica, and none that is 0 in one trial alone: at 0 a criterion may leave out a term, and measure less.
    """
    first = trials[0]
    if len(trials) < 2:
        return "are one alone"
    if any(replace(trial, hyperparameters={}) != replace(first, hyperparameters={}) for trial in trials):
        return "differ in more than hyperparameters"
    settled = _settled(trials)
    for hyperparameter in criteria.find(first.criterion).hyperparameters:
        values = [each[hyperparameter.name] for each in settled]
        if len(set(values)) == 1:
            continue
        if not hyperparameter.by_replica:
            return f"differ in {hyperparameter.name}, of which all replicas have the same"
        if 0 in values:
            return f"differ in whether {hyperparameter.name} is 0"
    return None


def company(trial: Trial) -> str:
    """What trials of one program have in common, as a text: nothing keeps those `apart` that have the same."""
    (settled,) = _settled([trial])
    for hyperparameter in criteria.find(trial.criterion).hyperparameters:
        if hyperparameter.by_replica:
            settled[hyperparameter.name] = settled[hyperparameter.name] != 0
    return json.dumps(replace(trial, hyperparameters=settled).to_dict(), sort_keys=True, default=str)


class Apart(ValueError):
    """Trials that are no one program, and must be trained each by itself."""


class Points:
    """The training of one or several ``trials`` at once; `Apart` where something keeps several from being one program.

    Raises what `Training` raises, too.
    """

    def __init__(self, trials: Sequence[Trial], device: torch.device | str = "cpu", data: Data | None = None) -> None:
        reason = apart(trials) if len(trials) > 1 else None
        if reason is not None:
            raise Apart(f"the trials {reason}: train each by itself")
        self.trials = tuple(trials)
        seeds = trials[0].seeds
        settled = _settled(trials)
        own = {
            name: [each[name] for each in settled for _ in seeds]
            for name in settled[0]
            if len({each[name] for each in settled}) > 1
        }
        self.training = Training(replace(trials[0], seeds=seeds * len(trials)), device, data, own)
        if len(trials) > 1 and is_looped(self.training.network):
            raise Apart("the trials' networks are stepped one after another, and gain nothing together")

    def prepare(self) -> Iterator[None]:
        """See `Training.prepare`."""
        return self.training.prepare()

    def run(self) -> Iterator[tuple[Record, ...]]:
        """Train the remaining epochs; of each the record of every point, in the order of the trials."""
        for record in self.training.run():
            yield tuple(
                replace(record, metrics={name: values[part] for name, values in record.metrics.items()})
                for part in self._parts()
            )

    def states(self) -> list[dict[str, Any]]:
        """Of every point what `Training.state` of it alone gives."""
        whole = self.training.state()
        if len(self.trials) == 1:
            return [whole]
        return [_mapped(whole, partial(_replicas, part=part)) for part in self._parts()]

    def load(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Continue from a state of every point, all of one epoch and kernel: ``ValueError`` otherwise."""
        if len({(state["epoch"], str(state.get("kernel"))) for state in states}) > 1:
            raise ValueError("the points' states are of different epochs or kernels: go on with each by itself")
        self.training.load(_joined(states))

    def weights(self) -> list[dict[str, Tensor]]:
        """Of every point the weights and buffers of its replicas, on CPU."""
        whole = self.training.weights()
        if len(self.trials) == 1:
            return [whole]
        return [{name: _replicas(value, part) for name, value in whole.items()} for part in self._parts()]

    def arrays(self) -> list[dict[str, np.ndarray]]:
        """Of every point what the evaluators keep after the last epoch."""
        whole = self.training.arrays()
        return [{name: value[part] for name, value in whole.items()} for part in self._parts()]

    @property
    def kernel(self) -> Kernel | None:
        """See `Training.kernel`."""
        return self.training.kernel

    def _parts(self) -> list[slice]:
        count = len(self.trials[0].seeds)
        return [slice(start, start + count) for start in range(0, count * len(self.trials), count)]


def _replicas(tensor: Tensor, part: slice) -> Tensor:
    """Those of ``part``; a tensor that has none, such as a number of steps, as it is."""
    # a slice would be saved with the memory of all points, and a copy beside it might not fit a GPU
    return (tensor[part] if tensor.dim() else tensor).to("cpu", copy=True)


def _settled(trials: Sequence[Trial]) -> list[dict[str, float]]:
    """All hyperparameters of each trial."""
    first = trials[0]
    benchmark = find(first.benchmark)
    recipe = benchmark.recipe(first.protocol, make_options(benchmark.Options, first.options)).override(first.training)
    return [criteria.find(first.criterion).settle(trial.hyperparameters, recipe) for trial in trials]


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with each tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(each, change) for name, each in value.items()}
    if isinstance(value, list):
        return [_mapped(each, change) for each in value]
    return value


def _joined(values: Sequence[Any]) -> Any:
    """Values of one form as one: their tensors one after another, all else as the first has it."""
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(list(values)) if first.dim() else first
    if isinstance(first, Mapping):
        return {name: _joined([value[name] for value in values]) for name in first}
    if isinstance(first, list):
        return [_joined(each) for each in zip(*values, strict=True)]
    return first
