"""Training of one trial: all its replicas, epoch by epoch, with a state that can be saved and restored exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables import arithmetic, benchmarks, contract, criteria, floors, kernels, network_contract, twins, views
from trainables.anchors import draw_anchors
from trainables.backbones import Looped
from trainables.benchmarks import Data, DataError, Split, make_options
from trainables.contract_words import owner_of
from trainables.criterion import Batch, Criterion, Setup, View
from trainables.evaluation import EpochSnapshot, Evaluation, pass_samples, predict
from trainables.evaluators import shared
from trainables.kernels import Kernel
from trainables.metrics import Metric
from trainables.projector import projected
from trainables.replay import Replays, Tally, is_recordable
from trainables.replicas import learning_rates, make_optimizer, stream, streams
from trainables.trial import Trial

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
    same trajectory up to floating-point reassociation. ``data`` is the benchmark's, where it is loaded already; ``own``
    hyperparameters have a value for each replica, in the order of the trial's seeds, some of which may then be the
    same.
    Raises ``LookupError`` for an unknown benchmark or criterion, `DataError` for what breaks
    `trainables.contract`, ``KeyError`` for an unknown training setting.
    """

    def __init__(
        self,
        trial: Trial,
        device: torch.device | str = "cpu",
        data: Data | None = None,
        own: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        arithmetic.settle()
        self.trial = trial
        self.device = torch.device(device)
        self.benchmark = benchmarks.find(trial.benchmark)
        self.options = make_options(self.benchmark.Options, trial.options)
        self.recipe = self.benchmark.recipe(trial.protocol, self.options).override(trial.training)
        kind = criteria.find(trial.criterion)
        self.hyperparameters: dict[str, Any] = {**kind.settle(trial.hyperparameters, self.recipe)}
        #: epochs completed
        self.epoch = 0

        self.owner = owner_of(self.benchmark)
        self.dtype = getattr(torch, self.recipe.dtype)
        for name, values in (own or {}).items():
            self.hyperparameters[name] = torch.tensor(values, dtype=self.dtype, device=self.device)
        # a CPU computes in bf16 too, at other numbers and no faster
        self.mixed_precision = self.recipe.mixed_precision and self.device.type != "cpu"
        if data is None:
            data = contract.load(self.benchmark, self.options, self.dtype)
        splits = [self.benchmark.split(data, self.options, stream(seed, "split")) for seed in trial.seeds]
        contract.check_splits(splits, trial.seeds, data, f"{self.owner}.split")
        self.parts = _stack(splits, self.device)
        self.evaluation = Evaluation(self.benchmark, self.options, data, self.parts, trial.cadence)
        sample = shared.training_sample(self.parts["train"])
        if sample is not None:
            self.parts.setdefault(shared.SAMPLE, sample)
        self.redraws = self._redraws(splits, data)
        self.data = data.to(self.device)
        if self.data.inputs.is_floating_point():
            self.data.inputs = self.data.inputs.to(self.dtype)

        network = self.benchmark.backbone(data, self.options, streams(trial.seeds, "init"))
        network_contract.check_replicas(network, f"{self.owner}.backbone")
        self.network = network.to(self.device, self.dtype)
        self._fit_inputs(self.network)
        features, _ = self._predict(self.parts["train"][:, :1])
        if self.recipe.projector is not None:
            self.network = self._projected(data.classes)
        if self.recipe.compile:
            self.network.compile()
        self.criterion = self._make_criterion(kind, features.shape[-1], data.classes)
        self.optimizer = make_optimizer(self.network, self.recipe, self.criterion.parameters())
        self.learning_rates = learning_rates(self.recipe)
        #: of noise views, each input's (S, 1, …); None for a criterion of one view, or where the benchmark augments
        self.view_noise = self._view_noise() if self.criterion.views > 1 else None
        #: what the replicas learn from, see `Criterion.teacher`
        self.teacher = self._make_teacher(data)
        # found out by comparing values, which waits for the device: here, and not in the first step
        self._augments = self.teacher is not None and views.augments(self.benchmark, self.data, self.options)
        # what the teacher says of each sample (S, N, C), once asked, where no augmentation changes it
        self._lessons: Tensor | None = None
        self._replays = self._make_replays()

    def run(self) -> Iterator[Record]:
        """Train the remaining epochs, one record each; a teacher that is not ready is trained first."""
        for _ in self.prepare():
            pass
        for metrics in self._epochs():
            metrics |= self._evaluate()
            columns = {name: value.double().tolist() for name, value in metrics.items()}
            yield Record(self.epoch, columns, time.time_ns() // 1_000_000)

    def prepare(self) -> Iterator[None]:
        """Train the teacher, where the criterion has one; comes back after each of its epochs, to save `state` say."""
        teacher = self.teacher
        if teacher is None or teacher.epoch == teacher.recipe.epochs:
            return
        yield from teacher.prepare()
        for _ in teacher._epochs():
            if teacher.epoch == teacher.recipe.epochs:
                # a trained teacher needs neither optimizer state nor its own teacher, so their memory is freed
                teacher.optimizer.state.clear()
                teacher.teacher = teacher._replays = None
            yield

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which `load` continues; ``torch.load(weights_only=True)`` reads them."""
        state = {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "criterion": self.criterion.state_dict(),
        }
        if self.kernel is not None:
            state["kernel"] = self.kernel.to_dict()
        return state if self.teacher is None else {**state, "teacher": self.teacher.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` of the same trial."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        # before 0.2 no criterion had a state, so checkpoints lack it
        self.criterion.load_state_dict(state.get("criterion", {}))
        self.epoch = state["epoch"]
        # the optimizer's memory is another from here on; what a checkpoint does not say was computed by the usual one
        self.compute_by(Kernel.from_dict(state["kernel"]) if "kernel" in state else None)
        if self.teacher is not None and "teacher" not in state and self.epoch == self.recipe.epochs:
            # a finished training is not taught any more, so its state holds no teacher
            self.teacher = None
        elif self.teacher is not None:
            self.teacher.load(state["teacher"])
            self._lessons = None

    def weights(self) -> dict[str, Tensor]:
        """The weights and buffers of all replicas, on CPU."""
        return {name: value.detach().cpu() for name, value in self.network.state_dict().items()}

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Features (S, n, d) and logits (S, n, C) of samples (n, …) stored as the data's are, in evaluation mode."""
        replicas = len(self.trial.seeds)

        def outputs(chunk: Tensor) -> tuple[Tensor, Tensor]:
            batch = self.benchmark.batch(chunk.expand(replicas, *chunk.shape[1:]), self.options, False, [])
            return self._answers(batch.to(self.dtype))[1:]

        return predict(self.network, outputs, inputs.unsqueeze(0), self._pass_samples(replicas))

    def arrays(self) -> dict[str, np.ndarray]:
        """What the evaluators keep after the last epoch, by name, (S, …) each."""
        return self.evaluation.arrays(self._snapshot())

    @property
    def batches(self) -> int:
        """How many there are in an epoch."""
        return -(-self.parts["train"].shape[1] // self.recipe.batch_size)

    @property
    def is_recorded(self) -> bool:
        """Whether steps are replayed from a recording, see `trainables.replay`."""
        return self._replays is not None and self._replays.is_recorded

    @property
    def kernel(self) -> Kernel | None:
        """By which the replicas' convolutions are computed, see `trainables.kernels`; None where there is no choice."""
        return kernels.in_use(self.network, self.device)

    def compute_by(self, kernel: Kernel | None) -> None:
        """Compute by ``kernel`` from now on, and a teacher too; by the usual one where that is None."""
        kernels.use(self.network, kernel)
        if self._replays is not None:
            self._replays.reset()
        if self.teacher is not None:
            self.teacher.compute_by(kernel)

    @property
    def anchors(self) -> Tensor:
        """The criterion's own anchors (S, e, d), or those that are drawn for every criterion alike."""
        own = getattr(self.criterion, "anchors", None)
        return own if isinstance(own, Tensor) else self.criterion.setup.anchors

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Every metric that is declared: the training's, the criterion's, the evaluators', and those one's twins.

        Which of them are of held-out samples is known once they were measured, see `Evaluation.metrics`.
        """
        return self.evaluation.metrics((*METRICS, *self.criterion.metrics), floored=self.criterion.is_reference)

    def _redraws(self, splits: Sequence[Split], data: Data) -> bool:
        """Whether each seed holds out other samples of the data."""
        if twins.HELDOUT not in self.parts:
            return False
        if len(set(self.trial.seeds)) == 1:
            other = stream(self.trial.seeds[0] + 1, "split")
            splits = [splits[0], self.benchmark.split(data, self.options, other)]
        first, second = (set(split[twins.HELDOUT].tolist()) for split in splits[:2])
        return first != second

    def _epochs(self) -> Iterator[dict[str, Tensor]]:
        """Train the remaining epochs, each with what was measured while training."""
        while self.epoch < self.recipe.epochs:
            metrics = self._train_epoch(self.epoch + 1)
            self.epoch += 1
            yield metrics

    @torch.no_grad()
    def _fit_inputs(self, network: nn.Module) -> None:
        """Show a network that asks for them each replica's training samples, see `Benchmark.backbone`."""
        fit = getattr(network, "fit_inputs", None)
        if fit is not None:
            # one replica at a time: all of them together may not fit
            fit(self._prepared(indices.unsqueeze(0), False, [])[0] for indices in self.parts["train"])

    def _make_criterion(self, kind: type[Criterion], dimensions: int, classes: int) -> Criterion:
        seeds, recipe = self.trial.seeds, self.recipe
        counts = kind.anchor_count(self.hyperparameters, recipe), Criterion.anchor_count({}, recipe)
        anchors, self.common_anchors = (
            draw_anchors(recipe.anchors, count, dimensions, streams(seeds, "anchors")).to(self.device, self.dtype)
            for count in counts
        )
        fine = self.data.fine[self.data.coarse >= 0] if kind.reads_fine else None
        setup = Setup(seeds, self.hyperparameters, recipe, anchors, dimensions, classes, fine)
        return kind(setup).to(self.device, self.dtype)

    def _projected(self, classes: int) -> nn.Module:
        """The network with the recipe's projector."""
        assert self.recipe.projector is not None
        train = self.parts["train"]
        last = (train.shape[1] - 1) % self.recipe.batch_size + 1
        sample = self._prepared(train[:, :1], False, [])
        generators = streams(self.trial.seeds, "projector")
        return projected(self.network, sample, classes, self.recipe.projector, generators, last)

    def _view_noise(self) -> Tensor | None:
        if views.augments(self.benchmark, self.data, self.options):
            return None
        train = self.parts["train"]
        scale = views.deviations(
            partial(self._prepared, train=False, generators=[]), train, self._pass_samples(train.shape[0])
        )
        return (self.recipe.view_noise * scale).to(self.dtype)

    def _make_teacher(self, data: Data) -> Training | None:
        wanted = self.criterion.teacher(self.hyperparameters)
        if wanted is None:
            return None
        criterion, hyperparameters = wanted
        teacher = self._another(replace(self.trial, criterion=criterion, hyperparameters=hyperparameters), data)
        # the teacher's data are the same, so it shares this copy on the device
        teacher.data, teacher.parts = self.data, self.parts
        return teacher

    def _another(self, trial: Trial, data: Data) -> Training:
        """A training like this one, of another trial on the same data."""
        return Training(trial, self.device, data)

    def _train_epoch(self, epoch: int) -> dict[str, Tensor]:
        seeds, recipe = self.trial.seeds, self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rates[epoch - 1]
        # a user's network may draw from the global stream (dropout): counted by epoch, so that a resume repeats it
        own = [stream(seed, "global", epoch).initial_seed() for seed in seeds]
        torch.manual_seed(own[0])
        for module in self.network.modules():
            if isinstance(module, Looped):
                module.reseed(own)
        augmentation = streams(seeds, "augmentation", epoch)
        # cached, so that a criterion's streams continue from batch to batch
        drawn_from = cache(lambda name: streams(seeds, name, epoch))

        indices = self._order(epoch)
        self.network.train()
        self.criterion.train()
        batches = torch.split(indices, recipe.batch_size, dim=1)
        if self._replays is not None:
            tally, rate = self._replays.tally, self.learning_rates[epoch - 1]
            alike = len(list(takewhile(lambda other: other == rate, self.learning_rates[epoch - 1 :])))
            self._replays.run(self._measured_step, batches, augmentation, drawn_from, rate, alike)
        else:
            tally = Tally.of(len(seeds), self.dtype, self.device)
            for batch in batches:
                tally.add(*self._measured_step(batch, augmentation, drawn_from), batch.shape[1])
        samples = indices.shape[1]
        # a diverged network's logits are NaN, whose argmax is some class: its accuracy is NaN instead
        counted = {"accuracy/train": tally.hits, **tally.measured}
        diverged = ~tally.losses.isfinite()
        means = {name: (value / samples).masked_fill(diverged, torch.nan) for name, value in counted.items()}
        return {"loss/train": tally.losses / samples, **means}

    def _measured_step(
        self,
        indices: Tensor,
        augmentation: Sequence[torch.Generator],
        drawn_from: Callable[[str], Sequence[torch.Generator]],
    ) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        """`_step`, and what the criterion measured in it."""
        return *self._step(indices, augmentation, drawn_from), self.criterion.measured

    def _make_replays(self) -> Replays | None:
        recipe, device = self.recipe, self.device
        networks = [self.network] if self.teacher is None else [self.network, self.teacher.network]
        if device.type != "cuda" or not recipe.cuda_graphs or recipe.compile:
            return None
        # a recording is of the GPU in use
        if device.index not in (None, torch.cuda.current_device()):
            return None
        if not is_recordable(self, self.benchmark, self.criterion, *networks):
            return None
        tally = Tally.of(len(self.trial.seeds), self.dtype, device)
        return Replays(tally, [self.network, self.criterion], partial(_recorded, self.optimizer))

    def _step(
        self,
        indices: Tensor,
        augmentation: Sequence[torch.Generator],
        drawn_from: Callable[[str], Sequence[torch.Generator]],
    ) -> tuple[Tensor, Tensor]:
        """Train on the samples at ``indices`` (S, B): the loss (S,), and how many were told rightly (S,).

        Nothing here waits for the device.
        """
        batch = self._batch(indices, augmentation, drawn_from)
        loss = self.criterion(batch)
        self._require_replicas(loss)
        self.optimizer.zero_grad(set_to_none=True)
        # a sum over replicas: each one's gradient is that of its own loss
        loss.sum().backward()
        self.optimizer.step()
        return loss.detach(), (batch.logits.detach().argmax(-1) == batch.targets).sum(1)

    def _batch(
        self,
        indices: Tensor,
        augmentation: Sequence[torch.Generator],
        drawn_from: Callable[[str], Sequence[torch.Generator]],
    ) -> Batch:
        """What the replicas, and their teacher, say of the training samples at ``indices`` (S, B)."""
        samples, second = indices.shape[1], None
        inputs = self._prepared(indices, True, augmentation)
        if self.criterion.views > 1:
            inputs = torch.cat(self._two_views(indices, inputs, drawn_from), 1)
        origin, features, logits = self._answers(inputs)
        if self.criterion.views > 1:
            second = View(logits[:, samples:], features[:, samples:])
        return Batch(
            logits[:, :samples],
            features[:, :samples],
            self.data.coarse[indices],
            drawn_from,
            second=second,
            teacher=self._taught(indices, inputs[:, :samples]),
            fine=self.data.fine[indices] if self.criterion.reads_fine else None,
            origin=origin,
        )

    def _two_views(
        self, indices: Tensor, first: Tensor, drawn_from: Callable[[str], Sequence[torch.Generator]]
    ) -> tuple[Tensor, Tensor]:
        """The inputs of both views, where the ``first`` one's are known as they are without noise."""
        if self.view_noise is None:
            return first, self._prepared(indices, True, drawn_from(views.SECOND))
        return (
            views.noisy(first, self.view_noise, drawn_from(views.FIRST)),
            views.noisy(first, self.view_noise, drawn_from(views.SECOND)),
        )

    @torch.no_grad()
    def _taught(self, indices: Tensor, inputs: Tensor) -> Tensor | None:
        """The teacher's logits (S, B, C), in evaluation mode, of the student's ``inputs`` at ``indices``."""
        if self.teacher is None:
            return None
        if self._augments or self.criterion.views > 1:
            self.teacher.network.eval()
            return self.teacher._answers(inputs)[2]
        if self._lessons is None:
            train = self.parts["train"]
            _, logits = self.teacher._predict(train, as_trained=True)
            self._lessons = logits.new_zeros(len(logits), len(self.data.inputs), logits.shape[2])
            self._lessons.scatter_(1, train.unsqueeze(2).expand_as(logits), logits)
        return self._lessons.gather(1, indices.unsqueeze(2).expand(-1, -1, self._lessons.shape[2]))

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

    def _snapshot(self, predict: floors.Predict | None = None) -> EpochSnapshot:
        """The replicas as they are, or what ``predict`` puts in the place of their networks."""
        return EpochSnapshot(
            epoch=self.epoch,
            epochs=self.recipe.epochs,
            seeds=self.trial.seeds,
            anchors=self.anchors,
            common_anchors=self.common_anchors,
            similarity=self.recipe.similarity,
            data=self.data,
            parts=self.parts,
            predict=predict or self._predict,
            owner=self.owner,
        )

    def _evaluate(self) -> dict[str, Tensor]:
        measured = self.evaluation.measure(self._snapshot())
        if self.criterion.is_reference and self.epoch == self.recipe.epochs:
            measured |= self.evaluation.measure_floors(measured, lambda kind: self._snapshot(self._untrained(kind)))
        return measured

    def _untrained(self, kind: str) -> floors.Predict:
        """What stands for the trained network where a floor of that ``kind`` is measured."""
        seeds = self.trial.seeds
        if kind == floors.INPUTS:
            prepared = partial(self._prepared, train=False, generators=[])
            return floors.inputs(prepared, self.parts["train"], self.data.classes, seeds, self._pass_samples(1))
        network = self.benchmark.backbone(self.data.to("cpu"), self.options, streams(seeds, "init"))
        network = network.to(self.device, self.dtype)
        kernels.use(network, self.kernel)
        self._fit_inputs(network)
        return partial(self._predict, network=network)

    def _inputs(self, indices: Tensor) -> Tensor:
        """The stored inputs (S, B, …) at ``indices`` (S, B)."""
        # faster than indexing, which copies value by value and not whole samples
        return torch.unflatten(self.data.inputs.index_select(0, indices.flatten()), 0, indices.shape)

    def _prepared(self, indices: Tensor, train: bool, generators: Sequence[torch.Generator]) -> Tensor:
        """The network's inputs (S, B, …) for the samples at ``indices`` (S, B)."""
        inputs = self.benchmark.batch(self._inputs(indices), self.options, train, generators)
        network_contract.check_batch(inputs, indices.shape, f"{self.owner}.batch")
        return inputs.to(self.dtype)

    def _answers(self, inputs: Tensor, network: nn.Module | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The features as the network gives them, and features and logits in the recipe's dtype."""
        network = self.network if network is None else network
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision):
            outputs = network(inputs)
        features, logits = network_contract.check_outputs(outputs, inputs.shape[:2], self.data.classes, network)
        return features, features.to(self.dtype), logits.to(self.dtype)

    def _predict(
        self, indices: Tensor, as_trained: bool = False, network: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features (S, n, d) and logits (S, n, C) of the samples at ``indices`` (S, n), in evaluation mode.

        ``as_trained`` takes the inputs of a training batch, where no augmentation is drawn; ``network`` is the one that
        is trained where none is given.
        """
        network = self.network if network is None else network
        generators = streams(self.trial.seeds, "augmentation") if as_trained else []

        def outputs(chunk: Tensor) -> tuple[Tensor, Tensor]:
            _, features, logits = self._answers(self._prepared(chunk, as_trained, generators), network)
            return features, logits

        return predict(network, outputs, indices, self._pass_samples(indices.shape[0]))

    def _pass_samples(self, replicas: int) -> int:
        return pass_samples(self.device, self.data.inputs[0].numel(), replicas)


@contextmanager
def _recorded(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Lets a step of ``optimizer`` be recorded, which torch's Adam asks to be told of."""
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    before = [group["capturable"] for group in groups]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group, held in zip(groups, before, strict=True):
            group["capturable"] = held


def _stack(splits: list[Split], device: torch.device) -> dict[str, Tensor]:
    """Every seed's split, stacked: part -> (S, n); empty parts are left out."""
    return {
        name: torch.stack([split[name] for split in splits]).to(device)
        for name, indices in splits[0].items()
        if len(indices)
    }
