"""Classes found again without their labels: clusters within each coarse class, and a linear probe taught by them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from scipy.optimize import linear_sum_assignment
from torch import Tensor

#: starts of k-means, of which the tightest is kept, and its iterations
_STARTS, _ITERATIONS = 2, 20


def within_classes(
    features: Tensor, coarse: Tensor, counts: Sequence[Sequence[int]], generators: Sequence[torch.Generator]
) -> Tensor:
    """Cluster (S, n) of each feature (S, n, d): k-means++ within each coarse class, numbered over all classes.

    ``counts[s][c]`` is how many clusters replica s has in coarse class c, whose samples are those of ``coarse`` (S, n).
    Replica s draws its starts from ``generators[s]`` (CPU).
    """
    numbered = torch.zeros_like(coarse)
    for s, generator in enumerate(generators):
        random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        values, classes = features[s].double().cpu().numpy(), coarse[s].cpu().numpy()
        clusters, first = np.zeros(len(classes), np.int64), 0
        for c, count in enumerate(counts[s]):
            members = np.flatnonzero(classes == c)
            if len(members):
                clusters[members] = first + _k_means(values[members], min(count, len(members)), random)
            first += count
        numbered[s] = torch.from_numpy(clusters)
    return numbered


def _k_means(values: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Cluster of each row, the tightest of several starts."""
    if count < 2:
        return np.zeros(len(values), np.int64)
    best, least = np.zeros(len(values), np.int64), np.inf
    for _ in range(_STARTS):
        with warnings.catch_warnings():
            # of samples that are all alike, some cluster has none
            warnings.simplefilter("ignore")
            centres, own = kmeans2(values, count, iter=_ITERATIONS, minit="++", seed=random)
        spread = float(np.square(values - centres[own]).sum())
        if spread < least:
            best, least = own.astype(np.int64), spread
    return best


def matched_accuracy(clusters: Tensor, labels: Tensor, groups: int, classes: int) -> Tensor:
    """Share (S,) of samples whose cluster (S, n) stands for their label (S, n), under the best pairing of the two.

    ``groups`` clusters are paired with ``classes`` labels one to one, so that most samples agree.
    """
    shares = []
    for own, true in zip(clusters, labels, strict=True):
        table = torch.bincount(own * classes + true, minlength=groups * classes).view(groups, classes).cpu().numpy()
        rows, columns = linear_sum_assignment(table, maximize=True)
        shares.append(table[rows, columns].sum() / len(true))
    return torch.tensor(shares, dtype=torch.float64, device=labels.device)
