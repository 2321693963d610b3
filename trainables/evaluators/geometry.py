"""How classes lie in the feature space: in numbers, what figure 4 is read for."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.metrics import Metric

BETWEEN_WITHIN = Metric(
    "geometry/between-within",
    "between-class to within-class distance",
    "mean distance of two class means over the mean distance of a sample to its own class mean",
)
CAT_DOG = Metric(
    "geometry/cat-dog", "cat–dog distance", "distance of these class means over the mean distance of any two"
)


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean feature (S, C, d) of each class of (S, n, d) features with (S, n) labels; NaN for an absent class.

    >>> class_means(torch.tensor([[[1.0], [3.0], [8.0]]]), torch.tensor([[0, 0, 1]]), 2).tolist()
    [[[2.0], [8.0]]]
    """
    member = torch.nn.functional.one_hot(labels, classes).to(features.dtype)
    return torch.bmm(member.mT, features) / member.sum(1).unsqueeze(-1)


def between_within(features: Tensor, labels: Tensor, means: Tensor) -> Tensor:
    """Mean distance (S,) between two class means, over the mean distance of a sample to its own class mean.

    ``features`` (S, n, d), ``labels`` (S, n), ``means`` (S, C, d). Above 1, classes lie farther apart than
    their samples scatter; unchanged by rotation and by scale.
    """
    own = means.gather(1, labels.unsqueeze(-1).expand(features.shape))
    return _mean_distance(means) / _norm(features - own).mean(1)


def pair_distance(means: Tensor, first: int, second: int) -> Tensor:
    """Distance (S,) of two of the class means (S, C, d), over the mean distance of any two: below 1, they are near."""
    return _norm(means[:, first] - means[:, second]) / _mean_distance(means)


def _mean_distance(means: Tensor) -> Tensor:
    """Mean distance (S,) over all pairs of different classes."""
    first, second = torch.combinations(torch.arange(means.shape[1], device=means.device)).unbind(1)
    return _norm(means[:, first] - means[:, second]).mean(1)


def _norm(vectors: Tensor) -> Tensor:
    """Euclidean norm of vectors (…, d)."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return norms
