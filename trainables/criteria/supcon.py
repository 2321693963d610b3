"""Supervised contrastive learning, SupCon (Khosla et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.backbones import ReplicatedLinear
from trainables.criteria.ce import cross_entropy
from trainables.criterion import Batch, Criterion, Hyperparameter, Setup
from trainables.replicas import streams

#: dimensions of the projection that is contrasted (Khosla et al.: 128)
PROJECTED = 128

TEMPERATURE = Hyperparameter("tau", "τ", 0.5, low=0.01, log=True, meaning="the temperature", by_replica=True)


def similarities(projected: Tensor, temperature: float | Tensor) -> Tensor:
    """Cosine similarities over the temperature, a number or (S,): (S, n, n) of (S, n, p); −∞ of each with itself."""
    unit = functional.normalize(projected, dim=-1)
    own = torch.eye(projected.shape[1], dtype=torch.bool, device=projected.device)
    if isinstance(temperature, Tensor):
        temperature = temperature.view(-1, 1, 1)
    return (torch.bmm(unit, unit.transpose(1, 2)) / temperature).masked_fill(own, -torch.inf)


def supervised(logits: Tensor, targets: Tensor) -> Tensor:
    """L_out (S,), mean over the n views, of `similarities` (S, n, n) and classes (S, n).

    Of view i the mean over the others p of its class of −log exp(s_ip) / Σ_{a ≠ i} exp(s_ia).
    """
    others = ~torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    alike = (targets.unsqueeze(1) == targets.unsqueeze(2)) & others
    # −∞ on the diagonal, which counts for nothing
    log_share = functional.log_softmax(logits, -1).masked_fill(~others, 0)
    return -((alike * log_share).sum(-1) / alike.sum(-1).clamp(min=1)).mean(1)


class SupCon(Criterion):
    """SupCon on two views of each sample, with a coarse classifier that learns beside and leaves the features alone.

    As there, a projection head of one hidden layer as wide as the features (at least 128) and 128 outputs is contrasted
    and then thrown away; the features before it are probed. The coarse classifier is the network's own, trained at the
    same time by cross-entropy on both views, whose gradient stops at the features: there it is trained afterwards,
    which would leave no coarse accuracy while training, and a gradient that went on would blend this criterion with CE.
    The loss is the sum of both. τ is .5 as in Chen et al. 2022, with whose criterion it is compared; Khosla et al. took
    .1.
    """

    label = "SupCon"
    meaning = "supervised contrastive learning: samples of one coarse class are drawn together"
    position = 8
    views = 2
    hyperparameters: ClassVar[Sequence[Hyperparameter]] = (TEMPERATURE,)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        generators = streams(setup.seeds, "projection")
        hidden = max(PROJECTED, setup.dimensions)
        self.projection = nn.Sequential(
            ReplicatedLinear(setup.dimensions, hidden, generators),
            nn.ReLU(),
            ReplicatedLinear(hidden, PROJECTED, generators),
        )

    def forward(self, batch: Batch) -> Tensor:
        if batch.second is None:
            raise ValueError(f"{self.label} needs a second view of each sample")
        projected = self.projection(torch.cat([batch.features, batch.second.features], 1))
        targets = torch.cat([batch.targets, batch.targets], 1)
        classified = cross_entropy(torch.cat([batch.logits, batch.second.logits], 1), targets)
        return self.contrast(projected, targets) + batch.apart(classified)

    def contrast(self, projected: Tensor, targets: Tensor) -> Tensor:
        """The contrastive loss (S,) of projected views (S, 2·B, p), all first views before the second ones."""
        return supervised(similarities(projected, self.setup.values["tau"]), targets)
