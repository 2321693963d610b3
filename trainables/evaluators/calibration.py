"""Calibration of the class probabilities: reliability curve, ECE and MCE (figure A3, table A1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainables.metrics import Metric

ERRORS = (
    Metric(
        "calibration/ece",
        "ECE",
        "expected calibration error over all class probabilities, 10 bins",
        better="lower",
    ),
    Metric(
        "calibration/mce",
        "MCE",
        "maximum calibration error over all class probabilities, 10 bins",
        better="lower",
    ),
)


def reliability(probabilities: Tensor, coarse: Tensor, bins: int = 10) -> Tensor:
    """Reliability curve (S, bins, 3): mean confidence, observed frequency and count of each bin.

    One against all, as in the released code: each of the n·C class probabilities (S, n, C) is a
    prediction of its own, right where its class is the sample's (S, n). The bins are of equal width over
    [0, 1], open below and closed above (0 belongs to the first). Confidence and frequency of an empty bin
    are NaN. In float64.

    >>> certain = torch.tensor([[[0.875, 0.125], [0.875, 0.125]]])
    >>> reliability(certain, torch.tensor([[0, 1]]), bins=2).tolist()
    [[[0.125, 0.5, 2.0], [0.875, 0.5, 2.0]]]
    """
    confidence = probabilities.flatten(1).double()
    right = functional.one_hot(coarse, probabilities.shape[-1]).flatten(1).double()
    inner_edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)[1:-1]
    member = functional.one_hot(torch.bucketize(confidence, inner_edges), bins).double()
    # one product sums all three over all bins, in the same order every time
    sums = torch.bmm(member.transpose(1, 2), torch.stack([confidence, right, torch.ones_like(right)], -1))
    count = sums[..., 2:]
    return torch.cat([sums[..., :2] / count, count], -1)


def expected_calibration_error(curve: Tensor) -> Tensor:
    """ECE (S,), 0..1, of a `reliability` curve: |confidence − frequency|, weighted by the bins' shares.

    A share, not a percentage; the paper and the released notebook print per cent.

    >>> expected_calibration_error(torch.tensor([[[0.125, 0.5, 6.0], [0.875, 0.75, 2.0]]])).tolist()
    [0.3125]
    """
    count = curve[..., 2]
    return (_gaps(curve) * count).sum(-1) / count.sum(-1)


def maximum_calibration_error(curve: Tensor) -> Tensor:
    """MCE (S,), 0..1, of a `reliability` curve: the largest |confidence − frequency| of its non-empty bins."""
    return _gaps(curve).amax(-1)


def _gaps(curve: Tensor) -> Tensor:
    """|confidence − frequency| (S, bins), 0 in empty bins."""
    confidence, frequency, count = curve.unbind(-1)
    return torch.where(count > 0, (confidence - frequency).abs(), 0.0)
