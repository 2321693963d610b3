"""What one Tune trial works at: a trial or several, or a part of each, and what becomes of it after a failure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from study.launch.placement import Capacity, larger
from trainables import assignment
from trainables.assignment import Assignment, Share

#: how often a trial is taken up again after its node was lost, which is no fault of its own
NODE_LOSSES = 10
#: why an attempt at a trial ended: an ``error`` may not come again, a ``refusal`` will, and a ``storage`` that failed
#: is no fault of the trial's
Cause = Literal["error", "refusal", "memory", "node", "storage"]


@dataclass(frozen=True)
class Piece:
    """A trial, or a part of one, to be trained, and how its earlier attempts ended.

    ``most`` is how many points may be trained together with it, itself among them, where an attempt failed; None while
    the study alone says that.
    """

    #: number of the Optuna trial
    optuna: int
    assignment: Assignment
    share: Share
    failures: int = 0
    node_losses: int = 0
    most: int | None = None

    @property
    def number(self) -> int:
        """The number that the trial has everywhere else."""
        return self.assignment.number

    @property
    def place(self) -> tuple[int, int]:
        """Which part of its trial it is."""
        return self.assignment.addition, self.assignment.shard.position

    @property
    def seeds(self) -> Sequence[int]:
        return self.assignment.trial.seeds


def for_tune(group: Sequence[Piece]) -> dict[str, Any]:
    """The config that the trainable is called with; the largest of their shares is that of all."""
    share = max((piece.share for piece in group), key=size)
    return assignment.to_config([replace(piece.assignment, share=share) for piece in group])


def size(share: Share) -> tuple[float, float]:
    """By which of two shares one is the larger."""
    return share.gpus, share.cpus


def again(group: Sequence[Piece], cause: Cause, max_failures: int, capacity: Capacity) -> list[Piece | None]:
    """What each of a ``group`` that failed is tried again as, None where it is not.

    Where memory ran out, in groups of half the size, and one alone with a larger share; after an error, which may be of
    any one of them, each by itself, and that attempt counts for none.
    """
    if len(group) > 1 and cause in ("memory", "error", "refusal"):
        most = math.ceil(len(group) / 2) if cause == "memory" else 1
        return [replace(piece, most=most) for piece in group]
    return [_again(piece, cause, max_failures, capacity) for piece in group]


def _again(piece: Piece, cause: Cause, max_failures: int, capacity: Capacity) -> Piece | None:
    if cause == "memory":
        share = larger(piece.share, capacity)
        return None if share is None else replace(piece, share=share)
    if cause == "error" and piece.failures < max_failures:
        return replace(piece, failures=piece.failures + 1)
    if cause == "node" and piece.node_losses < NODE_LOSSES:
        return replace(piece, node_losses=piece.node_losses + 1)
    return None
