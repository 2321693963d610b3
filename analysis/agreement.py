"""How often networks of two seeds say the same class of samples that neither was trained on."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from analysis.runs import Study

#: arrays that a replica keeps: its validation samples, and the coarse class that it says of each (−1: none)
INDICES, PREDICTED = "validation-indices", "validation-predicted"


def of_trial(study: Study, trial: int) -> float:
    """Share of samples on which two seeds agree, mean over pairs; NaN where fewer than two seeds kept predictions.

    A pair is compared on what is in the validation part of both.
    """
    seeds = study.final.loc[study.final["trial"] == trial, "seed"].unique()
    kept = [study.arrays(trial, int(seed)) for seed in seeds]
    return agreement([(arrays[INDICES], arrays[PREDICTED]) for arrays in kept if PREDICTED in arrays])


def agreement(said: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean over pairs of (indices, classes) of the share of their common indices with equal classes.

    Pairs without a common index don't count, nor does who says −1 of a sample. NaN where no pair is left.

    >>> agreement([(np.array([1, 2, 3]), np.array([0, 1, 1])), (np.array([3, 2, 7]), np.array([1, 0, 0]))])
    0.5
    """
    shares = []
    whole = [(indices, classes) for indices, classes in said if (classes >= 0).all()]
    for (first, one), (second, other) in combinations(whole, 2):
        _, mine, theirs = np.intersect1d(first, second, return_indices=True)
        if len(mine):
            shares.append(float(np.mean(one[mine] == other[theirs])))
    return float(np.mean(shares)) if shares else float("nan")
