"""Evaluators: pure functions of a snapshot of the replicas, one idea a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from torch import Tensor

from trainables.metrics import Metric


@dataclass(frozen=True)
class Outputs:
    """What the replicas say of one part of the data, without gradients and in evaluation mode.

    Shapes, with S replicas and n samples: ``features`` (S, n, d), ``logits`` (S, n, C), ``coarse`` (S, n)
    int64, ``fine`` (S, n) or (S, n, m), ``indices`` (S, n) into the data.
    """

    features: Tensor
    logits: Tensor
    coarse: Tensor
    fine: Tensor
    indices: Tensor

    def take(self, which: Tensor) -> Outputs:
        """Those samples that ``which`` takes, indices or a mask (n,), of every replica."""
        return Outputs(*(getattr(self, field.name)[:, which] for field in fields(self)))


class Snapshot(Protocol):
    """The replicas at the end of an epoch, as an evaluator sees them."""

    #: 1-based, and the trial's number of epochs
    epoch: int
    epochs: int
    seeds: tuple[int, ...]
    #: fixed anchors (S, e, d): drawn for every criterion alike, so that their entropy can be monitored
    anchors: Tensor
    #: those of the recipe's number, whatever the trial's own: trials with different anchors are compared by them
    common_anchors: Tensor
    #: "cosine", "dot" or "squared-distance"
    similarity: str

    def has(self, part: str) -> bool:
        """Whether the split has ``part`` and it is not empty."""
        ...

    def outputs(self, part: str) -> Outputs:
        """Outputs on a part of the split ("train", "validation", "heldout", …), computed once per epoch."""
        ...


@dataclass(frozen=True)
class Evaluator:
    """A named measurement with its cadence.

    ``measure(snapshot)`` gives metric name -> (S,) float tensor. ``every`` is the cadence in epochs;
    0 is the last epoch alone, and the last epoch is always measured. ``arrays(snapshot)``, after the last
    epoch, gives name -> (S, …) tensor, kept as an artifact of each replica's run. ``metrics`` declares what
    ``measure`` gives; a metric that is not declared is tracked under its bare name. Where the split has a validation
    part, what reads held-out data is measured there as well (see `trainables.twins`), unless ``on_validation`` is
    False. With ``floors`` what reads fine labels is measured of untrained networks and raw inputs too (see
    `trainables.floors`).
    """

    name: str
    measure: Callable[[Snapshot], Mapping[str, Tensor]] | None = None
    every: int = 1
    arrays: Callable[[Snapshot], Mapping[str, Tensor]] | None = None
    metrics: Sequence[Metric] = ()
    on_validation: bool = True
    floors: bool = False
