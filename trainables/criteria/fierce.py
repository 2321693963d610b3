"""FIERCE: cross-entropy regularised by the entropy of the feature space (§4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from trainables.anchors import assignment_entropy, chance_entropy, exponential_noise, similarity
from trainables.criteria.ce import cross_entropy
from trainables.criterion import Batch, Criterion, Hyperparameter, Setup
from trainables.metrics import Metric

CHANCE = Metric(
    "entropy/batch-chance",
    "anchor entropy of a batch by chance (bits)",
    "H that a batch of that size has on average where every sample takes any of the anchors with equal probability",
)
BATCH = Metric(
    "entropy/batch",
    "anchor entropy of a batch (bits)",
    "H of a training batch as the loss sees it, mean over the epoch's batches, log2",
    chance=CHANCE.name,
)


def regularised(ce: Tensor, bits: Tensor, strength: float | Tensor, e: int, form: str = "subtract") -> Tensor:
    """The loss (S,) of cross-entropy ``ce`` in nats and entropy ``bits``, ``strength`` being λ.

    ``subtract`` is CE − λ·H(r̃) (eq. 8); ``weighted`` is CE/(1+λ) + λ/(1+λ)·(log2 e − H), the released age
    code. CE in nats, H in bits, as in the released code (the paper states no base).
    """
    if form == "subtract":
        return ce - strength * bits
    return (ce + strength * (math.log2(e) - bits)) / (1 + strength)


class Fierce(Criterion):
    """CE − λ·H(r̃) (eq. 8), H of the features' assignment to e fixed anchors; the recipe says in which form."""

    label = "FIERCE"
    meaning = "cross-entropy less the entropy of the features' assignment to anchors, which spreads them out"
    position = 2
    hyperparameters: ClassVar[Sequence[Hyperparameter]] = (
        Hyperparameter("lambda", "λ", 1.0, low=0, log=True, by_replica=True, meaning="the weight of the entropy"),
        Hyperparameter(
            "e", "e", 100, low=2, whole=True, log=True, meaning="the number of anchors", counts_anchors=True
        ),
    )
    metrics: ClassVar[Sequence[Metric]] = (BATCH, CHANCE)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.anchors: Tensor
        # they are drawn again from the seeds
        self.register_buffer("anchors", setup.anchors, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        ce = cross_entropy(batch.logits, batch.targets)
        strength, recipe = self.setup.values["lambda"], self.setup.recipe
        # at λ = 0 nothing is assigned
        if isinstance(strength, int | float) and not strength:
            return ce
        samples, e = batch.targets.shape[1], self.anchors.shape[1]
        noise = exponential_noise((samples, e), batch.streams("gumbel"), ce.dtype, ce.device)
        bits = assignment_entropy(
            similarity(batch.features, self.anchors, recipe.similarity),
            noise,
            recipe.temperature,
            recipe.entropy_epsilon,
            recipe.assignment,
        )
        self.measured = {
            BATCH.name: bits.detach(),
            CHANCE.name: bits.new_full(bits.shape, chance_entropy(samples, e)),
        }
        return regularised(ce, bits, strength, e, recipe.entropy_form)
