"""Cross-entropy, what the other criteria are compared with."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from trainables.criterion import Batch, Criterion


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """−log q(y) (S,), mean over the batch (eq. 3), in nats; logits (S, B, C), targets (S, B)."""
    return functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)


class CrossEntropy(Criterion):
    """The loss of eq. 3."""

    label = "CE"
    meaning = "cross-entropy on the coarse labels alone, with which the others are compared"
    position = 0
    is_reference = True

    def forward(self, batch: Batch) -> Tensor:
        return cross_entropy(batch.logits, batch.targets)
