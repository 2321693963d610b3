"""How much of the feature space a network uses: histogram, spectral and anchor entropy, and scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainables import anchors as anchor_points
from trainables.metrics import Metric

FEATURES = Metric(
    "entropy/features",
    "feature entropy (bits)",
    "released histogram of all values, 10 bins (age: 100), log2",
    "bits",
)
SPECTRAL = Metric(
    "entropy/spectral",
    "spectral entropy (bits)",
    "entropy of the normalised eigenvalues of the feature covariance",
    "bits",
)
ANCHORS = Metric(
    "entropy/anchors",
    "anchor entropy (bits)",
    "one-hot assignment to the nearest anchor (eq. 10), log2",
    "bits",
)
COMMON_ANCHORS = Metric(
    "entropy/common-anchors",
    "anchor entropy, common anchors (bits)",
    "the same by anchors of the benchmark's number, which are alike for every trial",
    "bits",
)
SCALE = Metric("features/scale", "feature scale", "standard deviation over all feature values")


def histogram_entropy(features: Tensor, bins: int = 10) -> Tensor:
    """Entropy (S,) in bits, 0..log2 bins, of a histogram of all values of (S, n, d) features.

    The released code's estimate: the d coordinates are pooled, the bins run from the smallest to the
    largest value. 0 where all values are equal, NaN where one is not finite or their range is not.
    """
    counts = []
    for values in features.flatten(1):
        low, high = (float(bound) for bound in values.aminmax())
        most = torch.finfo(values.dtype).max
        if high - low <= most:
            # values closer than numbers of their type can tell are equal
            rate = bins / (high - low) if (high - low) * most > bins else 0.0
            # twice as fast as torch.histc; the largest value belongs to the last bin
            position = (values - low).mul_(rate).clamp_(max=bins - 1)
            counts.append(torch.bincount(position.to(torch.int32), minlength=bins).to(values.dtype))
        else:
            counts.append(values.new_full((bins,), math.nan))
    return anchor_points.entropy(torch.stack(counts))


def spectral_entropy(features: Tensor) -> Tensor:
    """Entropy (S,) in bits, 0..log2 d, of the normalised eigenvalues of the covariance of (S, n, d) features.

    Two to its power is the effective rank (Roy and Vetterli, EUSIPCO 2007): how many directions the
    features spread over, unchanged by rotation and by scale. 0 where the features do not vary, NaN where
    one is not finite.
    """
    centred = features - features.mean(1, keepdim=True)
    covariance = torch.bmm(centred.transpose(1, 2), centred).double()
    finite = covariance.isfinite().all(-1).all(-1)
    eigenvalues = torch.linalg.eigvalsh(covariance.where(finite[:, None, None], 0.0)).clamp(min=0)
    share = eigenvalues / eigenvalues.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    bits = -torch.xlogy(share, share).sum(-1) / math.log(2)
    return bits.where(finite, math.nan).to(features.dtype)


def anchor_entropy(features: Tensor, anchors: Tensor, similarity: str) -> Tensor:
    """Entropy (S,) in bits, 0..log2 e, of the assignment of (S, n, d) features to their nearest of (S, e, d) anchors.

    Equation 10 over the whole part instead of a batch: the "approximation of our method" of figure A6.
    ``similarity`` is ``cosine``, ``dot`` or ``squared-distance``. NaN for a replica with a feature that is not finite,
    or whose length is not.
    """
    bits = anchor_points.nearest_anchor_entropy(anchor_points.similarity(features, anchors, similarity))
    # a feature without a finite length has cosine 0 with all anchors
    return bits.masked_fill(~features.norm(dim=-1).isfinite().all(-1), math.nan)


def scale(features: Tensor) -> Tensor:
    """Standard deviation (S,) over all values of (S, n, d) features."""
    values = features.flatten(1)
    # ten times as fast as torch.std
    return (values - values.mean(1, keepdim=True)).square_().mean(1).sqrt()
