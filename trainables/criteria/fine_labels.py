"""Training on the fine labels themselves: the ceiling that criteria of coarse labels are measured against."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.backbones import ReplicatedLinear
from trainables.criteria.ce import cross_entropy
from trainables.criterion import Batch, Criterion, Setup
from trainables.evaluators.probes import kinds_of
from trainables.replicas import streams


class FineLabels(Criterion):
    """Cross-entropy of the fine classes, or mean squared error of fine values, by a linear head on the features.

    What the same network, at the same recipe, would have where it was taught what is asked of it afterwards: no rival,
    and no bound either, since a head that is trained with it need not leave what a probe reads best. Values are
    standardized each over all labelled samples, and the error is the mean over them. The coarse classifier is the
    network's own, trained beside by cross-entropy whose gradient stops at the features, so that the coarse labels have
    no part in these.
    """

    label = "fine labels"
    meaning = "training on the fine labels themselves"
    position = 10
    reads_fine = True
    centre: Tensor
    scale: Tensor

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        assert setup.fine is not None
        self.kinds = kinds_of(setup.fine)
        if self.kinds is None:
            values = _values(setup.fine)
            deviation = values.std(0, correction=0)
            self.register_buffer("centre", values.mean(0))
            # a value that never varies is told already
            self.register_buffer("scale", deviation.where(deviation > 0, 1.0))
        outputs = values.shape[1] if self.kinds is None else len(self.kinds)
        self.head = ReplicatedLinear(setup.dimensions, outputs, streams(setup.seeds, "fine-head"))

    def forward(self, batch: Batch) -> Tensor:
        assert batch.fine is not None
        told = self.head(batch.features)
        if self.kinds is None:
            wanted = ((_values(batch.fine, 2) - self.centre) / self.scale).to(told.dtype)
            loss = (told - wanted).square().mean((1, 2))
        else:
            loss = cross_entropy(told, torch.searchsorted(self.kinds.to(told.device), batch.fine.long().contiguous()))
        total: Tensor = loss + batch.apart(cross_entropy(batch.logits, batch.targets))
        return total


def _values(fine: Tensor, samples: int = 1) -> Tensor:
    """Labels with ``samples`` leading dimensions, one value or several a sample, as floats (…, m)."""
    fine = fine.double()
    return fine if fine.dim() > samples else fine.unsqueeze(-1)
