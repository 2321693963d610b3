"""How well read-off fine labels agree with the true ones: R², mean squared error, rank correlation."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def r_squared(predicted: Tensor, true: Tensor) -> Tensor:
    """R² (S,), at most 1, of (S, n, m) predictions: the mean over those m values that vary.

    1 − squared error over squared deviation from the mean; 0 is what a constant reaches. NaN where no value varies.
    """
    true = true.double()
    spread = (true - true.mean(1, keepdim=True)).square().sum(1)
    error = (predicted.double() - true).square().sum(1)
    return (1 - error / spread).where(spread > 0, math.nan).nanmean(-1)


def mean_squared_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Squared error (S,) of (S, n, m) predictions, mean over samples and values."""
    return (predicted.double() - true.double()).square().mean((1, 2))


def spearman(predicted: Tensor, true: Tensor) -> Tensor:
    """Rank correlation (S,) of (S, n, m) predictions, ties at their mean rank: the mean over those m values that vary.

    A prediction that is the same for all samples has correlation 0. NaN where no true value varies.
    """
    first, second = (_ranks(values.mT) for values in (predicted.double(), true.double()))
    first, second = (ranks - ranks.mean(-1, keepdim=True) for ranks in (first, second))
    length = first.norm(dim=-1) * second.norm(dim=-1)
    correlation = (first * second).sum(-1) / length.where(length > 0, 1.0)
    return torch.where(second.norm(dim=-1) > 0, correlation, math.nan).nanmean(-1)


def _ranks(values: Tensor) -> Tensor:
    """Ranks (…, n) from 0 of values (…, n), equal ones at the mean of theirs."""
    values = values.contiguous()
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return (below + upto - 1).double() / 2
