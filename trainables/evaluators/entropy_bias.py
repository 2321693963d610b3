"""The bias of a histogram's entropy, corrected: few samples in many bins make a distribution look less spread."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainables.evaluators.entropy import histogram_entropy
from trainables.metrics import Metric

CORRECTED = Metric(
    "entropy/features-corrected",
    "feature entropy, corrected (bits)",
    "100-bin histogram with the Miller–Madow correction of its bias",
    "bits",
)


def miller_madow(features: Tensor, bins: int) -> Tensor:
    """`histogram_entropy` (S,) in bits of (S, n, d) features plus (m − 1)/(2·N·ln 2): m occupied bins, N = n·d values.

    Miller (1955): the plug-in estimate is too low by that much to first order in 1/N.
    """
    occupied = []
    for values in features.flatten(1):
        low, high = values.aminmax()
        finite = bool((high - low).isfinite())
        occupied.append((torch.histc(values, bins, float(low), float(high)) > 0).sum() if finite else 1)
    m = torch.as_tensor(occupied, dtype=features.dtype, device=features.device)
    return histogram_entropy(features, bins) + (m - 1) / (2 * features[0].numel() * math.log(2))
