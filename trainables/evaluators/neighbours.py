"""Fine labels read off the nearest features: of single samples, and of class means."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def nearest(features: Tensor, queries: Tensor, k: int) -> Tensor:
    """Indices (S, q, k) of the ``k`` features (S, n, d) nearest to each query (S, q, d) in Euclidean distance."""
    centre = features.mean(1, keepdim=True)
    neighbours = []
    # distances between all pairs of one replica at a time
    for own, asked in zip(features - centre, queries - centre, strict=True):
        # less ‖query‖², which is the same for all
        distance = torch.addmm(own.square().sum(-1), asked, own.T, alpha=-2)
        neighbours.append(distance.topk(k, dim=-1, largest=False, sorted=False).indices)
    return torch.stack(neighbours)


def vote(labels: Tensor, neighbours: Tensor, classes: int) -> Tensor:
    """The most frequent label (S, q) among ``neighbours`` (S, q, k) with labels (S, n); a tie goes to the smallest."""
    own = labels.gather(1, neighbours.flatten(1)).view(neighbours.shape)
    counts = own.new_zeros(*own.shape[:2], classes).scatter_add_(2, own, torch.ones_like(own))
    # of equal counts argmax need not take the first
    return (counts * classes - torch.arange(classes, device=own.device)).argmax(-1)


def average(values: Tensor, neighbours: Tensor) -> Tensor:
    """The mean (S, q, m) of values (S, n, m) over ``neighbours`` (S, q, k)."""
    return torch.stack([own[near].mean(1) for own, near in zip(values, neighbours, strict=True)])


def nearest_mean(features: Tensor, labels: Tensor, queries: Tensor, classes: int) -> Tensor:
    """The class (S, q) of ``classes`` whose mean of features (S, n, d) with labels (S, n) is nearest to each query."""
    member = functional.one_hot(labels, classes).to(features.dtype)
    counts = member.sum(1)
    means = torch.bmm(member.mT, features) / counts.clamp(min=1).unsqueeze(-1)
    distance = torch.cdist(queries, means)
    return distance.masked_fill((counts == 0).unsqueeze(1), torch.inf).argmin(-1)
