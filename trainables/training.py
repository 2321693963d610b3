"""Training of one trial: all its replicas, epoch by epoch, with a state that can be saved and restored exactly."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables import benchmarks, contract, criteria, network_contract, twins
from trainables.anchors import draw_anchors
from trainables.backbones import Looped
from trainables.benchmarks import Data, DataError, Split, make_options
from trainables.contract_words import owner_of
from trainables.criterion import Batch, Criterion, Setup
from trainables.evaluators import Evaluator, Outputs, shared
from trainables.evaluators import Snapshot as EvaluatorSnapshot
from trainables.metrics import Metric
from trainables.replicas import make_optimizer, stream, streams
from trainables.trial import Trial

#: how many input values one evaluation pass holds at most, over all replicas: on a CPU what its cache holds
EVALUATION_VALUES = {"cpu": 2**20}
EVALUATION_VALUES_ELSEWHERE = 2**25

#: measured of every trial while it trains
METRICS = (
    Metric("loss/train", "training loss", "the criterion's value, mean over the epoch's batches"),
    Metric(
        "accuracy/train",
        "training accuracy",
        "coarse accuracy over the epoch's batches, while training",
        better="higher",
    ),
)


@dataclass(frozen=True)
class Record:
    """One epoch of a trial: metric name -> one value per replica, in the order of the trial's seeds.

    A metric with a slower cadence is absent in other epochs. ``time`` is when the epoch ended, in ms since 1970.
    """

    epoch: int
    metrics: dict[str, list[float]]
    time: int

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for a checkpoint."""
        return {"epoch": self.epoch, "metrics": self.metrics, "time": self.time}


class Training:
    """All replicas of one trial on one device.

    Replica s depends on its seed alone, not on its neighbours: trained alone or among ten it follows the
    same trajectory up to floating-point reassociation. ``data`` is the benchmark's, where it is loaded already.
    Raises ``LookupError`` for an unknown benchmark or criterion, `DataError` for what breaks
    `trainables.contract`, ``KeyError`` for an unknown training setting.
    """

    def __init__(self, trial: Trial, device: torch.device | str = "cpu", data: Data | None = None) -> None:
        # idle units drive Adam's moments and soft assignments below 1e-38, where CPU arithmetic is many times slower;
        # threads inherit the setting, so it comes before the first parallel operation
        torch.set_flush_denormal(True)
        self.trial = trial
        self.device = torch.device(device)
        self.benchmark = benchmarks.find(trial.benchmark)
        self.options = make_options(self.benchmark.Options, trial.options)
        self.recipe = self.benchmark.recipe(trial.protocol, self.options).override(trial.training)
        kind = criteria.find(trial.criterion)
        self.hyperparameters = kind.settle(trial.hyperparameters, self.recipe)
        #: epochs completed
        self.epoch = 0

        self.owner = owner_of(self.benchmark)
        self.dtype = getattr(torch, self.recipe.dtype)
        if data is None:
            data = contract.load(self.benchmark, self.options, self.dtype)
        splits = [self.benchmark.split(data, self.options, stream(seed, "split")) for seed in trial.seeds]
        contract.check_splits(splits, trial.seeds, data, f"{self.owner}.split")
        self.parts = _stack(splits, self.device)
        made = self.benchmark.evaluators(data, self.options)
        self.evaluators = contract.all_evaluators(made, data, self.parts, f"{self.owner}.evaluators")
        #: the evaluators of every benchmark, which stand behind its own
        self._shared = {evaluator.name for evaluator in self.evaluators[len(made) :]}
        sample = shared.training_sample(self.parts["train"])
        if sample is not None:
            self.parts.setdefault(shared.SAMPLE, sample)
        self.redraws = self._redraws(splits, data)
        self._twins = self._make_twins(data)
        #: metrics that were seen to be of held-out samples
        self._heldout: set[str] = set()
        self.data = data.to(self.device)
        if self.data.inputs.is_floating_point():
            self.data.inputs = self.data.inputs.to(self.dtype)

        network = self.benchmark.backbone(data, self.options, streams(trial.seeds, "init"))
        network_contract.check_replicas(network, f"{self.owner}.backbone")
        self.network = network.to(self.device, self.dtype)
        if self.recipe.compile:
            self.network.compile()
        self.criterion = self._make_criterion(kind, data.classes)
        self.optimizer = make_optimizer(self.network, self.recipe, self.criterion.parameters())

    def run(self) -> Iterator[Record]:
        """Train the remaining epochs, one record each."""
        while self.epoch < self.recipe.epochs:
            metrics = self._train_epoch(self.epoch + 1)
            self.epoch += 1
            metrics |= self._evaluate()
            columns = {name: value.double().tolist() for name, value in metrics.items()}
            yield Record(self.epoch, columns, time.time_ns() // 1_000_000)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which `load` continues; ``torch.load(weights_only=True)`` reads them."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "criterion": self.criterion.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` of the same trial."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        # states of before 0.2 have none, since no criterion had any
        self.criterion.load_state_dict(state.get("criterion", {}))
        self.epoch = state["epoch"]

    def weights(self) -> dict[str, Tensor]:
        """The weights and buffers of all replicas, on CPU."""
        return {name: value.detach().cpu() for name, value in self.network.state_dict().items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """What the evaluators keep after the last epoch, by name, (S, …) each."""
        snapshot = _Snapshot(self)
        kept: dict[str, Any] = {}
        for evaluator in self.evaluators:
            if evaluator.arrays is not None:
                where = f"{self.owner}.evaluators: {evaluator.name!r}"
                kept |= contract.check_arrays(evaluator.arrays(snapshot), len(self.trial.seeds), kept, where)
        return {name: torch.as_tensor(value).cpu().numpy() for name, value in kept.items()}

    @property
    def anchors(self) -> Tensor:
        """The criterion's own anchors (S, e, d), or those that are drawn for every criterion alike."""
        own = getattr(self.criterion, "anchors", None)
        return own if isinstance(own, Tensor) else self.criterion.setup.anchors

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Every metric that is declared: the training's, the criterion's, the evaluators', and those one's twins.

        Which of them are of held-out samples is known once they were measured; those of these that are not declared
        are there as well then.
        """
        own = (metric for evaluator in self.evaluators for metric in evaluator.metrics)
        known = (*METRICS, *self.criterion.metrics, *own, *twins.declared(self.evaluators, self.parts))
        named = {metric.name for metric in known}
        found = (Metric(name) for name in sorted(self._heldout - named))
        return tuple(replace(metric, heldout=metric.name in self._heldout) for metric in (*known, *found))

    def _redraws(self, splits: Sequence[Split], data: Data) -> bool:
        """Whether each seed holds out other samples of the data."""
        if twins.HELDOUT not in self.parts:
            return False
        if len(splits) == 1:
            other = stream(self.trial.seeds[0] + 1, "split")
            splits = [*splits, self.benchmark.split(data, self.options, other)]
        first, second = (set(split[twins.HELDOUT].tolist()) for split in splits[:2])
        return first != second

    def _make_twins(self, data: Data) -> Mapping[str, Evaluator]:
        """By name, evaluators to be measured on the validation part; none where the split lacks one of the parts."""
        if not set(twins.PARTS) <= self.parts.keys():
            return {}
        # made anew: what an evaluator keeps of a part (plans, drawn runs) is not that of another
        made = self.benchmark.evaluators(data, self.options)
        return {
            evaluator.name: evaluator
            for evaluator in contract.check_evaluators(made, f"{self.owner}.evaluators")
            if evaluator.measure is not None and evaluator.on_validation
        }

    def _make_criterion(self, kind: type[Criterion], classes: int) -> Criterion:
        seeds, recipe = self.trial.seeds, self.recipe
        features, _ = self._predict(self.parts["train"][:, :1])
        counts = kind.anchor_count(self.hyperparameters, recipe), Criterion.anchor_count({}, recipe)
        anchors, self.common_anchors = (
            draw_anchors(recipe.anchors, count, features.shape[-1], streams(seeds, "anchors")).to(
                self.device, self.dtype
            )
            for count in counts
        )
        setup = Setup(seeds, self.hyperparameters, recipe, anchors, features.shape[-1], classes)
        return kind(setup).to(self.device, self.dtype)

    def _train_epoch(self, epoch: int) -> dict[str, Tensor]:
        seeds, recipe = self.trial.seeds, self.recipe
        decays = sum(epoch > milestone for milestone in recipe.milestones)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * recipe.gamma**decays
        # a user's network may draw from the global stream (dropout): counted by epoch, so that a resume repeats it
        own = [stream(seed, "global", epoch).initial_seed() for seed in seeds]
        torch.manual_seed(own[0])
        if isinstance(self.network, Looped):
            self.network.reseed(own)
        augmentation = streams(seeds, "augmentation", epoch, device=self.device)
        # a criterion's streams go on from batch to batch
        drawn_from = cache(lambda name: streams(seeds, name, epoch, device=self.device))

        indices = self._order(epoch)
        losses = torch.zeros(len(seeds), dtype=self.dtype, device=self.device)
        hits = torch.zeros_like(losses)
        measured: dict[str, Tensor] = {}
        self.network.train()
        self.criterion.train()
        for batch in torch.split(indices, recipe.batch_size, dim=1):
            features, logits = self._outputs(batch, True, augmentation)
            targets = self.data.coarse[batch]
            loss = self.criterion(Batch(logits, features, targets, drawn_from))
            self._require_replicas(loss)
            self.optimizer.zero_grad(set_to_none=True)
            # a sum over replicas: each one's gradient is that of its own loss
            loss.sum().backward()
            self.optimizer.step()
            losses += loss.detach() * batch.shape[1]
            for name, value in self.criterion.measured.items():
                measured[name] = measured.get(name, 0) + value * batch.shape[1]
            hits += (logits.detach().argmax(-1) == targets).sum(1)
        samples = indices.shape[1]
        # the largest logit of a diverged network would be any
        counted = {"accuracy/train": hits, **measured}
        diverged = ~losses.isfinite()
        means = {name: (value / samples).masked_fill(diverged, torch.nan) for name, value in counted.items()}
        return {"loss/train": losses / samples, **means}

    def _require_replicas(self, loss: Tensor) -> None:
        if loss.shape != (len(self.trial.seeds),):
            raise DataError(
                f"the criterion {self.trial.criterion} must give one loss a replica, ({len(self.trial.seeds)},), and "
                f"gave {tuple(loss.shape)}"
            )

    def _order(self, epoch: int) -> Tensor:
        """Every replica's training indices (S, n) in its own random order."""
        train = self.parts["train"]
        permutations = [torch.randperm(train.shape[1], generator=g) for g in streams(self.trial.seeds, "order", epoch)]
        return train.gather(1, torch.stack(permutations).to(self.device))

    def _evaluate(self) -> dict[str, Tensor]:
        snapshot = _Snapshot(self)
        measured: dict[str, Tensor] = {}
        heldout: list[str] = []
        due = [each for each in self.evaluators if each.measure is not None and self._due(each)]
        for evaluator in due:
            if evaluator.name not in self._shared:
                metrics = self._measure(evaluator, snapshot, snapshot, measured)
                if twins.HELDOUT in snapshot.read and twins.VALIDATION not in snapshot.read:
                    heldout.append(evaluator.name)
                if twins.HELDOUT in snapshot.read:
                    self._heldout |= {name for name in metrics if twins.name_of(name)}
                measured |= metrics
        for name in heldout:
            if name in self._twins:
                measured |= self._measure_twins(self._twins[name], snapshot, measured)
        for evaluator in due:
            if evaluator.name in self._shared:
                metrics = self._measure(evaluator, snapshot, snapshot, {})
                # a benchmark need not declare what it measures itself
                added = {name: value for name, value in metrics.items() if name not in measured}
                self._heldout |= {name for name in added if twins.name_of(name)}
                measured |= added
        return measured

    def _measure(
        self, evaluator: Evaluator, seen: EvaluatorSnapshot, snapshot: _Snapshot, known: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """What ``evaluator`` measures of the ``snapshot`` as it is ``seen``; names not among the ``known`` ones."""
        assert evaluator.measure is not None
        snapshot.read.clear()
        where = f"{self.owner}.evaluators: {evaluator.name!r}"
        metrics = contract.check_metrics(evaluator.measure(seen), len(self.trial.seeds), known, where)
        return snapshot.of_finite_outputs(metrics)

    def _measure_twins(
        self, evaluator: Evaluator, snapshot: _Snapshot, measured: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The twins of what ``evaluator`` measures, save those that another measures or declares itself."""
        others = (each for each in self.evaluators if each.name not in {evaluator.name, *self._shared})
        own = {metric.name for each in others for metric in each.metrics} | measured.keys()
        found = self._measure(evaluator, twins.OnValidation(snapshot), snapshot, {})
        named = {twins.name_of(name): value for name, value in found.items()}
        return {name: value for name, value in named.items() if name and name not in own}

    def _due(self, evaluator: Evaluator) -> bool:
        every = self.trial.cadence.get(evaluator.name, evaluator.every)
        return self.epoch == self.recipe.epochs or (every > 0 and self.epoch % every == 0)

    def _inputs(self, indices: Tensor) -> Tensor:
        """The stored inputs (S, B, …) at ``indices`` (S, B)."""
        # copies whole samples, where indexing goes value by value
        return torch.unflatten(self.data.inputs.index_select(0, indices.flatten()), 0, indices.shape)

    def _outputs(self, indices: Tensor, train: bool, augmentation: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """The network's features and logits for the samples at ``indices`` (S, B)."""
        inputs = self.benchmark.batch(self._inputs(indices), self.options, train, augmentation)
        network_contract.check_batch(inputs, indices.shape, f"{self.owner}.batch")
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.mixed_precision):
            outputs = self.network(inputs.to(self.dtype))
        features, logits = network_contract.check_outputs(outputs, indices.shape, self.data.classes, self.network)
        return features.to(self.dtype), logits.to(self.dtype)

    @torch.no_grad()
    def _predict(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Features (S, n, d) and logits (S, n, C) of the samples at ``indices`` (S, n), in evaluation mode."""
        self.network.eval()
        sample = self.data.inputs[0].numel() * indices.shape[0]
        values = EVALUATION_VALUES.get(self.device.type, EVALUATION_VALUES_ELSEWHERE)
        features, logits = [], []
        for chunk in torch.split(indices, max(1, values // sample), dim=1):
            part_features, part_logits = self._outputs(chunk, False, [])
            features.append(part_features)
            logits.append(part_logits)
        return torch.cat(features, 1), torch.cat(logits, 1)


class _Snapshot:
    """The replicas at the end of an epoch: see `trainables.evaluators.Snapshot`."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._outputs: dict[str, Outputs] = {}
        #: part -> whether all outputs of each replica (S,) on it are finite; and the parts read of late
        self._finite: dict[str, Tensor] = {}
        self.read: set[str] = set()
        self.epoch = training.epoch
        self.epochs = training.recipe.epochs
        self.seeds = training.trial.seeds
        self.anchors, self.common_anchors = training.anchors, training.common_anchors
        self.similarity: str = training.recipe.similarity

    def has(self, part: str) -> bool:
        return part in self._training.parts

    def outputs(self, part: str) -> Outputs:
        self.read.add(part)
        if part not in self._outputs:
            data, parts = self._training.data, self._training.parts
            if part not in parts:
                raise DataError(
                    f"{self._training.owner}.evaluators read part {part!r}, which is empty or not in the split; it has "
                    f"{', '.join(parts)}"
                )
            indices = parts[part]
            features, logits = self._training._predict(indices)
            self._finite[part] = _finite(features) & _finite(logits)
            self._outputs[part] = Outputs(features, logits, data.coarse[indices], data.fine[indices], indices)
        return self._outputs[part]

    def of_finite_outputs(self, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The metrics, NaN for a replica with an output on a part in `read` that is not finite."""
        if not self.read:
            return dict(metrics)
        finite = torch.stack([self._finite[part] for part in self.read]).all(0)
        return {name: value.double().where(finite.to(value.device), torch.nan) for name, value in metrics.items()}


def _finite(outputs: Tensor) -> Tensor:
    """Whether all of (S, n, …) are finite, by replica (S,)."""
    # NaN is both the smallest and the largest
    low, high = outputs.flatten(1).aminmax(dim=1)
    return low.isfinite() & high.isfinite()


def _stack(splits: list[Split], device: torch.device) -> dict[str, Tensor]:
    """Every seed's split, stacked: part -> (S, n); empty parts are left out."""
    return {
        name: torch.stack([split[name] for split in splits]).to(device)
        for name, indices in splits[0].items()
        if len(indices)
    }
