"""How probable a network finds the coarse classes of samples that it was not trained on."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from trainables.metrics import Metric

NEGATIVE_LOG = Metric(
    "likelihood/coarse",
    "coarse negative log-likelihood (nats)",
    "mean −ln q(y) of the held-out samples' coarse class y",
    "nats",
    "lower",
)


def negative_log_likelihood(logits: Tensor, coarse: Tensor) -> Tensor:
    """Mean −ln q(y) (S,) of classes y (S, n) by logits (S, n, C), in nats.

    >>> import math, torch
    >>> logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]])
    >>> round(float(negative_log_likelihood(logits, torch.tensor([[1, 0]]))), 4) == round(math.log(8 / 3) / 2, 4)
    True
    """
    return functional.cross_entropy(logits.transpose(1, 2), coarse, reduction="none").mean(1)
