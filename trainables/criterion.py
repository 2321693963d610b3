"""What a criterion is: the declaration of a training loss, and the loss of S replicas at once.

A criterion is one class in one file. The class says how it is called, which hyperparameters it has and what it
measures; everything else follows from that: validation, search space, labels, tracking, report. `trainables.criteria`
finds it by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from trainables.benchmarks import DataError
from trainables.metrics import Metric
from trainables.trial import Recipe

#: what a recipe calls the number of anchors, and how many are drawn where it says none
ANCHORS, DEFAULT_ANCHORS = "e", 100


@dataclass(frozen=True)
class Hyperparameter:
    """A number that a study file may set, vary in a grid or search: ``name`` there, ``symbol`` in labels and figures.

    ``default`` holds where neither the study file nor the benchmark's recipe gives a value. Values lie in
    [``low``, ``high``], without ``high`` itself where ``below_high``; ``whole`` ones are integers. ``log`` says that
    the ratio of two values matters, not their difference: axes and searches then are logarithmic.
    """

    name: str
    symbol: str
    default: float
    low: float = -math.inf
    high: float = math.inf
    below_high: bool = False
    whole: bool = False
    log: bool = False
    #: what it is, in a few words for messages and the report's words: "the number of anchors"
    meaning: str = ""
    #: whether as many anchors are drawn as it says
    counts_anchors: bool = False
    #: whether the criterion takes it as a tensor (S,) too, a value for each replica: see `trainables.points`
    by_replica: bool = False

    def problem(self, value: float) -> str | None:
        """What is wrong with ``value``, in words that follow the hyperparameter's name; None where it is accepted."""
        above = value < self.high if self.below_high else value <= self.high
        if value >= self.low and above and (not self.whole or value == int(value)):
            return None
        kind = "a whole number " if self.whole else ""
        if not math.isfinite(self.high):
            floor = f"{self.low:g} or more" if not self.whole else f"of at least {self.low:g}"
            bounds = floor if math.isfinite(self.low) else "given"
        else:
            bounds = f"at least {self.low:g} and {'below' if self.below_high else 'at most'} {self.high:g}"
        name = f"{self.name}, {self.meaning}," if self.meaning else self.name
        return f"{name} must be {kind}{bounds}, not {value:g}"

    def default_under(self, recipe: Recipe) -> float:
        """Its value where a study file gives none: the recipe's, else its own."""
        # a recipe's e is a number of anchors, whatever else a criterion of anyone's calls e
        if self.name == ANCHORS and not self.counts_anchors:
            return self.default
        return recipe.hyperparameters.get(self.name, self.default)

    def cast(self, value: float) -> float:
        """``value`` as an int or a float, so that equal settings are equal trials."""
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Setup:
    """What a criterion is made for: S replicas of one trial.

    ``values`` are the hyperparameters by name, each a number or an (S,) tensor; ``anchors`` (S, e, d) those of
    `trainables.anchors.draw_anchors`, drawn for every criterion alike.
    """

    seeds: tuple[int, ...]
    values: Mapping[str, float | Tensor]
    recipe: Recipe
    anchors: Tensor
    #: dimensions of the features, and number of coarse classes
    dimensions: int
    classes: int
    #: the data's fine labels (N,) or (N, m) of all samples that have a coarse class, for a criterion that reads them
    fine: Tensor | None = field(default=None, repr=False)

    @property
    def replicas(self) -> int:
        return len(self.seeds)


class View(NamedTuple):
    """What the replicas say of another view of a batch: ``logits`` (S, B, C) and ``features`` (S, B, d)."""

    logits: Tensor
    features: Tensor


@dataclass(frozen=True)
class Batch:
    """What the replicas say of one training batch: ``logits`` (S, B, C), ``features`` (S, B, d), ``targets`` (S, B).

    ``features`` are those that are probed: with `Recipe.projector` what the projector takes.
    """

    logits: Tensor
    features: Tensor
    targets: Tensor
    #: stream name -> the replicas' generators (CPU) of that name in this epoch, see `trainables.replicas.drawn`
    streams: Callable[[str], Sequence[torch.Generator]] = field(repr=False)
    #: a second view of the same samples, for a criterion of two `views`
    second: View | None = None
    #: the teacher's logits (S, B, C) of the same inputs, without gradient, for a criterion that has a `teacher`
    teacher: Tensor | None = None
    #: the samples' fine labels (S, B) or (S, B, m), for a criterion that reads them
    fine: Tensor | None = None
    #: the network's own features of all views, of which it made the logits; ``features`` where there are none
    origin: Tensor | None = None

    def apart(self, loss: Tensor) -> Tensor:
        """``loss`` (S,), of the logits, whose gradient stops at the features: it trains what lies above them alone.

        Raises `DataError` where the logits are not computed from the features.
        """
        features = self.features if self.origin is None else self.origin
        pull = None
        if features.requires_grad:
            (pull,) = torch.autograd.grad(loss.sum(), features, retain_graph=True, allow_unused=True)
        if pull is None:
            raise DataError(
                "the network's logits are not computed from its features, so that a classifier cannot be trained "
                "without them: return as features the very tensor that the classifier takes"
            )
        # subtracting this term takes the loss's gradient away from the features and leaves its value
        passed = (pull * features).flatten(1).sum(1)
        return loss - passed + passed.detach()


class Criterion(nn.Module):
    """A training loss for S replicas: made once per trial, called once per batch, one loss (S,) a call.

    Parameters and buffers of a criterion are trained, moved and checkpointed with the network; give them a leading
    dimension S, so that replica s depends on its own seed alone. What `measured` holds after a call is averaged over
    the epoch and tracked under the names declared in ``metrics``.
    """

    #: how the criterion is called in figures and tables
    label: ClassVar[str]
    #: what it is, in a few words for the report's words: "cross-entropy against softened targets"
    meaning: ClassVar[str] = ""
    hyperparameters: ClassVar[Sequence[Hyperparameter]] = ()
    metrics: ClassVar[Sequence[Metric]] = ()
    #: place in tables, figures and among colours; those of one place stand in the study file's order
    position: ClassVar[int] = 100
    #: whether the others are compared with it
    is_reference: ClassVar[bool] = False
    #: whether it reads fine labels, and is what the others are to come near: no rule chooses it, no test counts it
    reads_fine: ClassVar[bool] = False
    #: views of each sample that it looks at; with 2 the batch has a `Batch.second`, see `trainables.views`
    views: ClassVar[Literal[1, 2]] = 1

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup = setup
        self.measured: dict[str, Tensor] = {}

    def forward(self, batch: Batch) -> Tensor:
        """The loss (S,) of each replica, the mean over its batch."""
        raise NotImplementedError

    @classmethod
    def taken_by_replica(cls) -> list[Hyperparameter]:
        """Its hyperparameters of which each replica may have a value of its own."""
        return [each for each in cls.hyperparameters if each.by_replica]

    @classmethod
    def teacher(cls, values: Mapping[str, float]) -> tuple[str, dict[str, float]] | None:
        """The criterion and its hyperparameters by which networks of the same seeds are trained first; None for none.

        ``values`` are this criterion's hyperparameters, settled. The teacher's logits then stand in `Batch.teacher`.
        """
        return None

    @classmethod
    def settle(cls, given: Mapping[str, float], recipe: Recipe) -> dict[str, float]:
        """All hyperparameters: those ``given``, the others as the recipe has them, else at their own defaults."""
        return {
            hyperparameter.name: hyperparameter.cast(
                given.get(hyperparameter.name, hyperparameter.default_under(recipe))
            )
            for hyperparameter in cls.hyperparameters
        }

    @classmethod
    def anchor_count(cls, values: Mapping[str, float], recipe: Recipe) -> int:
        """How many anchors are drawn: what the hyperparameter that counts them says, else the recipe's e."""
        own = [values[hyperparameter.name] for hyperparameter in cls.hyperparameters if hyperparameter.counts_anchors]
        return int(own[0] if own else recipe.hyperparameters.get(ANCHORS, DEFAULT_ANCHORS))
