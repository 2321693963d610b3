"""FIERCE whose anchors follow the features, by the vector quantisation of van den Oord et al. 2017 (appendix A.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainables.criteria.fierce import Fierce
from trainables.criterion import Batch, Hyperparameter, Setup
from trainables.metrics import Metric
from trainables.replicas import drawn

#: an anchor is dead where its moving count is below this share of the mean count of its replica's anchors
DEAD_SHARE = 0.1

DEAD = Metric(
    "anchors/dead",
    "dead anchors of a batch",
    "anchors that were put onto a feature of the batch since hardly any feature was nearest to them, mean over the "
    "epoch's batches",
)


def nearest_anchors(features: Tensor, anchors: Tensor) -> Tensor:
    """Index (S, B) of the anchor (S, e, d) nearest to each feature (S, B, d) by Euclidean distance."""
    # the feature's own square is the same for all anchors
    squares = anchors.square().sum(-1).unsqueeze(1)
    return torch.baddbmm(squares, features, anchors.transpose(1, 2), alpha=-2).argmin(-1)


class FierceLearned(Fierce):
    """FIERCE (CE − λ·H) whose anchors are moving averages of the features nearest to them; the paper left that open.

    After each batch, with n_i features nearest to anchor i and γ the decay (source: .99): N_i ← γ·N_i + (1 − γ)·n_i,
    m_i ← γ·m_i + (1 − γ)·Σ features, and the anchor is m_i / N_i. Nearest is by Euclidean distance, as there, whatever
    similarity the entropy takes. At first N_i is 1 and the anchor where FIERCE's is. An anchor with N_i below a tenth
    of the mean count is dead: it is put onto a feature of the batch, drawn from the stream "reseeding", at the mean
    count. No gradient reaches the anchors. At λ = 0 this is cross-entropy, and they stay.
    """

    label = "FIERCE, learned"
    meaning = "FIERCE with anchors that follow the features"
    position = 4
    hyperparameters = (
        *Fierce.hyperparameters,
        Hyperparameter("decay", "γ", 0.99, low=0, high=1, below_high=True, meaning="the decay of the moving averages"),
    )
    metrics = (*Fierce.metrics, DEAD)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.counts: Tensor
        self.sums: Tensor
        # unlike FIERCE's they cannot be drawn again
        self.register_buffer("anchors", setup.anchors.clone())
        self.register_buffer("counts", setup.anchors.new_ones(setup.anchors.shape[:2]))
        self.register_buffer("sums", setup.anchors.clone())

    def forward(self, batch: Batch) -> Tensor:
        loss = super().forward(batch)
        # at λ = 0 FIERCE assigns nothing and measures nothing, so no anchor moves
        if self.measured:
            self.measured[DEAD.name] = self.move(batch)
        return loss

    @torch.no_grad()
    def move(self, batch: Batch) -> Tensor:
        """Move the anchors after the batch; how many were dead (S,)."""
        features, decay = batch.features.detach(), self.setup.values["decay"]
        nearest = functional.one_hot(nearest_anchors(features, self.anchors), self.anchors.shape[1]).to(features.dtype)
        self.counts.lerp_(nearest.sum(1), 1 - decay)
        self.sums.lerp_(torch.bmm(nearest.transpose(1, 2), features), 1 - decay)

        mean = self.counts.mean(1, keepdim=True)
        dead = self.counts < DEAD_SHARE * mean
        # as many draws for each batch, dead anchors or none: a replica must draw the same alone as among others
        samples, e = features.shape[1], dead.shape[1]
        chosen = drawn(
            lambda values, g: values.random_(0, samples, generator=g),
            (e,),
            batch.streams("reseeding"),
            torch.int64,
            features.device,
        )
        reborn = features.gather(1, chosen.unsqueeze(2).expand(-1, -1, features.shape[2]))
        self.counts.copy_(torch.where(dead, mean, self.counts))
        self.sums.copy_(torch.where(dead.unsqueeze(2), reborn * mean.unsqueeze(2), self.sums))
        # the loss's backward pass may still need the anchors that it was computed with, so these are a new tensor
        self.anchors = self.sums / self.counts.unsqueeze(2)
        return dead.sum(1).to(features.dtype)
