"""Evaluation of one trial: what its evaluators measure at the end of an epoch, and what they keep at the end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables import contract, floors, twins
from trainables.benchmarks import Benchmark, Data, DataError
from trainables.contract_words import owner_of
from trainables.evaluators import Evaluator, Outputs, Snapshot
from trainables.metrics import Metric

#: how many input values one pass holds at most, over all replicas: on a CPU what its cache holds
PASS_VALUES = {"cpu": 2**20}
PASS_VALUES_ELSEWHERE = 2**25


@dataclass
class EpochSnapshot:
    """The replicas at the end of an epoch: see `trainables.evaluators.Snapshot`.

    ``parts`` are the split's that are not empty, (S, n) each; ``predict`` gives features (S, n, d) and logits (S, n, C)
    of the samples at such indices. ``owner`` is the benchmark's class, for messages. Raises `DataError` for a part that
    is not there.
    """

    epoch: int
    epochs: int
    seeds: tuple[int, ...]
    anchors: Tensor
    common_anchors: Tensor
    similarity: str
    data: Data
    parts: Mapping[str, Tensor]
    predict: Callable[[Tensor], tuple[Tensor, Tensor]]
    owner: str
    #: the parts that were read since this was emptied
    read: set[str] = field(default_factory=set, init=False)
    _outputs: dict[str, Outputs] = field(default_factory=dict, init=False)
    #: part -> whether all outputs of each replica (S,) on it are finite
    _finite: dict[str, Tensor] = field(default_factory=dict, init=False)

    def has(self, part: str) -> bool:
        return part in self.parts

    def outputs(self, part: str) -> Outputs:
        self.read.add(part)
        if part not in self._outputs:
            if part not in self.parts:
                raise DataError(
                    f"{self.owner}.evaluators read part {part!r}, which is empty or not in the split; it has "
                    f"{', '.join(self.parts)}"
                )
            indices = self.parts[part]
            features, logits = self.predict(indices)
            self._finite[part] = _finite(features) & _finite(logits)
            self._outputs[part] = Outputs(features, logits, self.data.coarse[indices], self.data.fine[indices], indices)
        return self._outputs[part]

    def of_finite_outputs(self, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The metrics, NaN for a replica with an output on a part in `read` that is not finite."""
        if not self.read:
            return dict(metrics)
        finite = torch.stack([self._finite[part] for part in self.read]).all(0)
        return {name: value.double().where(finite.to(value.device), torch.nan) for name, value in metrics.items()}


class Evaluation:
    """The evaluators of one trial: its benchmark's own, their twins, and those of every benchmark.

    ``parts`` are the split's that are not empty; ``cadence`` has the epochs between measurements, by evaluator, where
    the study sets them. Raises `DataError` for evaluators that break `trainables.contract`.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        options: Any,
        data: Data,
        parts: Mapping[str, Tensor],
        cadence: Mapping[str, int],
    ) -> None:
        self._where = f"{owner_of(benchmark)}.evaluators"
        self._cadence = cadence
        self._parts = frozenset(parts)
        made = benchmark.evaluators(data, options)
        evaluators = contract.all_evaluators(made, data, parts, self._where)
        #: the benchmark's own, and those of every benchmark, which stand behind them
        self._own, self._shared = evaluators[: len(made)], evaluators[len(made) :]
        self._twins: dict[str, Evaluator] = {}
        if set(twins.PARTS) <= self._parts:
            # an evaluator may keep what it computed of a part (plans, drawn runs), so another one sees the other part
            self._twins = _twins(contract.check_evaluators(benchmark.evaluators(data, options), self._where))
        #: metrics that were seen to be of held-out samples, and twins that were measured
        self._heldout: set[str] = set()
        self._validated: set[str] = set()

    def due(self, snapshot: EpochSnapshot) -> tuple[str, ...]:
        """The names of the evaluators that measure something at the snapshot's epoch."""
        return tuple(evaluator.name for evaluator in self._due((*self._own, *self._shared), snapshot))

    def measure(self, snapshot: EpochSnapshot) -> dict[str, Tensor]:
        """Metric -> (S,) of the evaluators that are due at the snapshot's epoch, and of their twins."""
        measured: dict[str, Tensor] = {}
        of_heldout: list[Evaluator] = []
        for evaluator in self._due(self._own, snapshot):
            metrics = self._measure(evaluator, snapshot, snapshot, measured)
            if twins.HELDOUT in snapshot.read and twins.VALIDATION not in snapshot.read:
                of_heldout.append(evaluator)
            if twins.HELDOUT in snapshot.read:
                self._heldout |= {name for name in metrics if twins.name_of(name)}
            measured |= metrics
        for evaluator in of_heldout:
            if evaluator.name in self._twins:
                on_validation = self._measure_twins(self._twins[evaluator.name], snapshot, measured)
                self._validated |= on_validation.keys()
                measured |= on_validation
        for evaluator in self._due(self._shared, snapshot):
            metrics = self._measure(evaluator, snapshot, snapshot, {})
            # a benchmark need not declare what it measures itself
            added = {name: value for name, value in metrics.items() if name not in measured}
            self._heldout |= {name for name in added if twins.name_of(name)}
            measured |= added
        return measured

    def measure_floors(
        self, measured: Mapping[str, Tensor], untrained: Callable[[str], EpochSnapshot]
    ) -> dict[str, Tensor]:
        """The floors of what was ``measured``; ``untrained`` makes a snapshot of each kind of `trainables.floors`."""
        evaluators = [each for each in (*self._own, *self._shared) if each.floors and each.measure is not None]
        wanted = {metric.name for metric in floors.bounded(evaluators)} & measured.keys()
        found: dict[str, Tensor] = {}
        for kind in floors.KINDS if wanted else ():
            snapshot = untrained(kind)
            for evaluator in evaluators:
                metrics = self._measure(evaluator, snapshot, snapshot, {})
                found |= {floors.name_of(name, kind): metrics[name] for name in wanted & metrics.keys()}
        self._heldout |= found.keys()
        return found

    def arrays(self, snapshot: EpochSnapshot) -> dict[str, np.ndarray]:
        """What the evaluators keep after the last epoch, by name, (S, …) each."""
        kept: dict[str, Any] = {}
        for evaluator in (*self._own, *self._shared):
            if evaluator.arrays is not None:
                where = f"{self._where}: {evaluator.name!r}"
                kept |= contract.check_arrays(evaluator.arrays(snapshot), len(snapshot.seeds), kept, where)
        return {name: torch.as_tensor(value).cpu().numpy() for name, value in kept.items()}

    def metrics(self, of_training: tuple[Metric, ...], floored: bool = False) -> tuple[Metric, ...]:
        """Those ``of_training``, what the evaluators declare, the twins of that, and its floors where ``floored``.

        Which of them are of held-out samples is known once they were measured; those of these that are not declared
        are there as well then.
        """
        evaluators = (*self._own, *self._shared)
        own = (metric for evaluator in evaluators for metric in evaluator.metrics)
        declared = (*of_training, *own, *twins.declared(evaluators, self._parts))
        if floored:
            declared = (*declared, *floors.declared(evaluators))
        names = {metric.name for metric in declared}
        others = [Metric(name) for name in sorted(self._heldout - names)]
        others += [twins.twin_of(metric) for metric in others if twins.name_of(metric.name) in self._validated - names]
        return tuple(replace(metric, heldout=metric.name in self._heldout) for metric in (*declared, *others))

    def _due(self, evaluators: tuple[Evaluator, ...], snapshot: EpochSnapshot) -> list[Evaluator]:
        """Those that measure something at the snapshot's epoch."""
        due = []
        for evaluator in evaluators:
            every = self._cadence.get(evaluator.name, evaluator.every)
            now = snapshot.epoch == snapshot.epochs or (every > 0 and snapshot.epoch % every == 0)
            if now and evaluator.measure is not None:
                due.append(evaluator)
        return due

    def _measure(
        self, evaluator: Evaluator, seen: Snapshot, snapshot: EpochSnapshot, known: Collection[str]
    ) -> dict[str, Tensor]:
        """What ``evaluator`` measures of the ``snapshot`` as it is ``seen``; names not among the ``known`` ones."""
        assert evaluator.measure is not None
        snapshot.read.clear()
        where = f"{self._where}: {evaluator.name!r}"
        metrics = contract.check_metrics(evaluator.measure(seen), len(snapshot.seeds), known, where)
        return snapshot.of_finite_outputs(metrics)

    def _measure_twins(
        self, evaluator: Evaluator, snapshot: EpochSnapshot, measured: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The twins of what ``evaluator`` measures, save those that another measures or declares itself."""
        others = (other for other in self._own if other.name != evaluator.name)
        taken = {metric.name for other in others for metric in other.metrics} | measured.keys()
        metrics = self._measure(evaluator, twins.OnValidation(snapshot), snapshot, {})
        named = {twins.name_of(name): value for name, value in metrics.items()}
        return {name: value for name, value in named.items() if name and name not in taken}


def pass_samples(device: torch.device, values: int, replicas: int) -> int:
    """How many samples of ``values`` input values, of each replica, one pass outside the training takes at once."""
    return max(1, PASS_VALUES.get(device.type, PASS_VALUES_ELSEWHERE) // (values * replicas))


@torch.no_grad()
def predict(
    network: nn.Module, outputs: Callable[[Tensor], tuple[Tensor, Tensor]], indices: Tensor, samples: int
) -> tuple[Tensor, Tensor]:
    """Features (S, n, d) and logits (S, n, C) of the samples at ``indices`` (S, n), in evaluation mode.

    ``outputs`` passes samples through the ``network``, and is asked for those of ``samples`` indices at a time.
    """
    network.eval()
    features, logits = zip(*(outputs(chunk) for chunk in torch.split(indices, samples, dim=1)), strict=True)
    return torch.cat(features, 1), torch.cat(logits, 1)


def _twins(evaluators: tuple[Evaluator, ...]) -> dict[str, Evaluator]:
    """By name, the evaluators to be measured on the validation part."""
    wanted = (evaluator for evaluator in evaluators if evaluator.measure is not None and evaluator.on_validation)
    return {evaluator.name: evaluator for evaluator in wanted}


def _finite(outputs: Tensor) -> Tensor:
    """Whether all of (S, n, …) are finite, by replica (S,)."""
    # NaN is both the smallest and the largest
    low, high = outputs.flatten(1).aminmax(dim=1)
    return low.isfinite() & high.isfinite()
