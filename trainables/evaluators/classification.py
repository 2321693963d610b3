"""What the outputs say of the coarse classes: accuracy, mutual information, stability (appendix A.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainables.anchors import entropy
from trainables.metrics import Metric

ACCURACY = (
    Metric(
        "accuracy/coarse", "coarse accuracy", "share of held-out samples whose coarse class is right", better="higher"
    ),
    Metric(
        "accuracy/validation",
        "coarse validation accuracy",
        "the same on the validation split",
        better="higher",
        twin_of="accuracy/coarse",
    ),
)
OUTPUT = (
    Metric("information/mutual", "mutual information (bits)", "H(mean q) − mean H(q), log2", "bits"),
    Metric(
        "stability",
        "stability",
        "1 − mean over classes of the deviation of q_c among the samples predicted as c",
        better="higher",
    ),
)
RELEASED_STABILITY = Metric(
    "stability/released", "stability, released", "the released code's: the last class alone", better="higher"
)


def accuracy(logits: Tensor, coarse: Tensor) -> Tensor:
    """Share (S,) of samples whose largest logit (S, n, C) is that of their class (S, n).

    Samples without a class (−1) are left out. NaN for a replica with a sample whose largest logit is not finite; a
    logit of −∞ rules its class out.

    >>> accuracy(torch.tensor([[[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]]]), torch.tensor([[0, 0, -1]])).tolist()
    [0.5]
    """
    largest, predicted = logits.max(-1)
    share = (predicted == coarse).sum(-1).to(logits.dtype) / (coarse >= 0).sum(-1)
    # the largest of a diverged network's would be any
    return share.masked_fill(~largest.isfinite().all(-1), torch.nan)


def mutual_information(probabilities: Tensor) -> Tensor:
    """H(mean q) − mean H(q) in bits (S,), 0..log2 C, of class probabilities q (S, n, C).

    >>> mutual_information(torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])).tolist()
    [1.0, 0.0]
    """
    return entropy(probabilities.mean(1)) - entropy(probabilities).mean(1)


def stability(probabilities: Tensor) -> Tensor:
    """1 − mean over classes of the standard deviation of q_c among the samples predicted as c: (S,).

    ``probabilities`` (S, n, C). The deviation is that of the population (divided by the number of
    samples). A class that no sample is predicted as is left out of the mean: it has nothing to vary. NaN for a
    replica with a probability that is.
    """
    return 1 - _deviations(probabilities).nanmean(-1)


def stability_released(probabilities: Tensor) -> Tensor:
    """`stability` as the released code computes it: 1 − the deviation of the last class alone (S,).

    NaN where no sample is predicted as the last class, and for a replica with a probability that is.
    """
    return 1 - _deviations(probabilities)[:, -1]


def _deviations(probabilities: Tensor) -> Tensor:
    """Standard deviation of q_c among the samples predicted as c: (S, C), NaN where there are none."""
    predicted = functional.one_hot(probabilities.argmax(-1), probabilities.shape[-1]).bool()
    samples = predicted.sum(1)
    zero = probabilities.new_zeros(())
    means = torch.where(predicted, probabilities, zero).sum(1) / samples
    squares = torch.where(predicted, probabilities - means.unsqueeze(1), zero).square().sum(1)
    # a NaN counts as the largest, and would spoil the class it is found at alone
    return (squares / samples).sqrt().masked_fill(probabilities.isnan().flatten(1).any(1, keepdim=True), torch.nan)
