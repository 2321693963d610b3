"""Criteria of a user's own: one with a hyperparameter that is searched and a parameter that is trained, one plain."""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.criterion import Batch, Criterion, Hyperparameter, Setup


class Focal(Criterion):
    """(1 − q(y))^γ·CE (Lin et al. 2017), with a temperature of the logits that each replica learns."""

    label = "focal loss"
    hyperparameters = (Hyperparameter("gamma", "γ", 2.0, low=0),)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.sharpness = nn.Parameter(torch.ones(setup.replicas))

    def forward(self, batch: Batch) -> Tensor:
        logits = batch.logits * self.sharpness[:, None, None]
        ce = functional.cross_entropy(logits.transpose(1, 2), batch.targets, reduction="none")
        return ((1 - torch.exp(-ce)) ** self.setup.values["gamma"] * ce).mean(1)


def plain(logits: Tensor, features: Tensor, targets: Tensor, weight: float = 0.5) -> Tensor:
    """Cross-entropy and the features' mean square, of one replica."""
    return functional.cross_entropy(logits, targets) + weight * features.square().mean()


def elastic(logits: Tensor, features: Tensor, targets: Tensor, e: float = 0.5) -> Tensor:
    """Cross-entropy and e times the features' mean magnitude: this e counts no anchors."""
    return functional.cross_entropy(logits, targets) + e * features.abs().mean()


def anchored(
    logits: Tensor,
    features: Tensor,
    targets: Tensor,
    points: Annotated[float, Hyperparameter("points", "m", 6, low=2, whole=True, counts_anchors=True)] = 6,
) -> Tensor:
    """Cross-entropy, monitored at a number of anchors of its own."""
    return functional.cross_entropy(logits, targets)


def wrong(logits: Tensor, features: Tensor, targets: Tensor) -> Tensor:
    """Not a number but one for each sample."""
    return functional.cross_entropy(logits, targets, reduction="none")


def undecided(logits: Tensor, features: Tensor, targets: Tensor, form: str = "odd") -> Tensor:
    """A parameter that is no number."""
    return logits.sum()
