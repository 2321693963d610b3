"""How the variance of the features falls off over its directions: the decay exponent of their spectrum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainables.metrics import Metric

DECAY = Metric(
    "spectrum/decay",
    "decay exponent α of the spectrum",
    "α of eigenvalues of the feature covariance that fall as rank^−α (α-ReQ)",
)
DISTANCE = Metric(
    "spectrum/decay-distance",
    "|α − 1| of the spectrum",
    "how far the decay exponent is from 1, the value of good generalisation by α-ReQ",
    better="lower",
)
#: eigenvalues at or below this share of the largest are rounding's, as of units that never fire
ROUNDING = 1e-10


def decay_exponent(features: Tensor) -> Tensor:
    """α (S,) of the power law rank^−α that the covariance eigenvalues of (S, n, d) features follow best.

    Least squares of log eigenvalue on log rank, each rank weighted by its inverse, so that a decade of ranks counts as
    any other (Stringer et al. 2019); ranks from 1 to the last whose eigenvalue is above `ROUNDING` of the largest.
    After Agrawal et al. (2022), "α-ReQ", NeurIPS, who fit the tail of features with many more dimensions. NaN where
    fewer than three eigenvalues are left, or a feature is not finite.
    """
    centred = features.double()
    centred = centred - centred.mean(1, keepdim=True)
    covariance = torch.bmm(centred.mT, centred)
    finite = covariance.isfinite().all(-1).all(-1)
    eigenvalues = torch.linalg.eigvalsh(covariance.where(finite[:, None, None], 0.0)).flip(-1)
    kept = eigenvalues > ROUNDING * eigenvalues[:, :1]
    rank = torch.arange(1, eigenvalues.shape[1] + 1, device=features.device, dtype=torch.float64)
    weight = kept / rank
    weight = weight / weight.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    x, y = rank.log(), eigenvalues.where(kept, 1.0).log()
    x = x - (weight * x).sum(-1, keepdim=True)
    slope = (weight * x * y).sum(-1) / (weight * x.square()).sum(-1)
    return torch.where(finite & (kept.sum(-1) >= 3), -slope, math.nan).to(features.dtype)
