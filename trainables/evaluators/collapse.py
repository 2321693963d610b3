"""How far the features of a class have fallen together: class separation, and two measures of neural collapse."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from trainables.metrics import Metric

SEPARATION = Metric(
    "geometry/class-separation",
    "class separation R²",
    "1 − mean cosine distance within a coarse class over that of any two samples (Kornblith et al. 2021)",
)
CDNV = Metric(
    "geometry/cdnv",
    "class-distance normalized variance",
    "mean variance of two coarse classes over the squared distance of their means (Galanti et al. 2022)",
)
NC1 = Metric(
    "geometry/nc1",
    "neural collapse NC1",
    "trace of within-class covariance times the pseudo-inverse of the between-class one, over the classes "
    "(Papyan et al. 2020)",
)
METRICS = (SEPARATION, CDNV, NC1)


def class_separation(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Class separation R² (S,), at most 1, of (S, n, d) features by (S, n) labels.

    1 − d_within / d_total, where d_within is the mean cosine distance of two samples of a class and d_total that of any
    two, each class counting alike and a sample's distance to itself included. 1 where each class lies on a ray, 0 where
    the classes lie alike. A class without a sample is left out. Kornblith et al. (2021), "Why do better loss functions
    lead to less transferable features?", NeurIPS, appendix. A feature that is 0 has cosine 0 with all.
    """
    # the mean cosine over all pairs of two sets is the product of their mean unit vectors
    means, present = _means(functional.normalize(features.double(), dim=-1), labels, classes)
    counted = present.sum(-1)
    within = 1 - means.square().sum(-1).where(present, 0.0).sum(-1) / counted
    total = 1 - (means.sum(1) / counted.unsqueeze(-1)).square().sum(-1)
    return (1 - within / total).to(features.dtype)


def class_distance_normalized_variance(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """CDNV (S,), 0 or more, of (S, n, d) features by (S, n) labels: mean over pairs of classes that have a sample.

    (Var_i + Var_j) / (2·‖μ_i − μ_j‖²), with the variance summed over dimensions: 0 in full collapse. Galanti, György
    and Hutter (2022), "On the role of neural collapse in transfer learning", ICLR. NaN for fewer than two classes.
    """
    means, present = _means(features.double(), labels, classes)
    squares = (features.double() - _own(means, labels)).square().sum(-1, keepdim=True)
    variance = _means(squares, labels, classes)[0].squeeze(-1)
    first, second = torch.combinations(torch.arange(classes, device=features.device)).unbind(1)
    distance = (means[:, first] - means[:, second]).square().sum(-1)
    ratio = (variance[:, first] + variance[:, second]) / (2 * distance)
    both = present[:, first] & present[:, second]
    return ratio.where(both, math.nan).nanmean(-1).to(features.dtype)


def within_between(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """NC1 (S,), 0 or more: tr(Σ_W Σ_B⁺) / C of (S, n, d) features by (S, n) labels, 0 in full collapse.

    Σ_W is the mean over samples of the covariance within their class, Σ_B the covariance of the means of the C classes
    that have a sample. Papyan, Han and Donoho (2020), PNAS 117. NaN for fewer than two classes.
    """
    double = features.double()
    means, present = _means(double, labels, classes)
    counted = present.sum(-1)
    centre = means.sum(1, keepdim=True) / counted[:, None, None]
    # Σ_B⁺ by its eigenvectors in the C means, of which there are fewer than dimensions
    between = (means - centre).where(present.unsqueeze(-1), 0.0)
    _, singular, right = torch.linalg.svd(between, full_matrices=False)
    least = singular[:, :1] * torch.finfo(torch.float64).eps * max(between.shape[1:])
    inverse = torch.where(singular > least, counted.unsqueeze(-1) / singular.square(), 0.0)
    scattered = torch.bmm(double - _own(means, labels), right.mT).square().mean(1)
    return ((scattered * inverse).sum(-1) / counted).where(counted > 1, math.nan).to(features.dtype)


def _means(values: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean (S, C, d) of (S, n, d) values by class, 0 for a class without a sample; and which have one, (S, C)."""
    member = functional.one_hot(labels, classes).to(values.dtype)
    counts = member.sum(1)
    return torch.bmm(member.mT, values) / counts.clamp(min=1).unsqueeze(-1), counts > 0


def _own(means: Tensor, labels: Tensor) -> Tensor:
    """The mean (S, n, d) of each sample's class."""
    return means.gather(1, labels.unsqueeze(-1).expand(-1, -1, means.shape[-1]))
