"""How alike the features of two criteria are: linear CKA of the networks of one seed.

python -m analysis.similarity --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import command, output, selection, statistics
from analysis.output import Section
from analysis.runs import Study


def section(study: Study, out: Path) -> Section | None:
    """Table ``cka`` of each pair of criteria; None where fewer than two kept features of the same samples."""
    chosen = selection.headline(study)
    rows = []
    for (_, first), (_, second) in combinations(chosen.items(), 2):
        values = of_trials(study, first.trial, second.trial)
        if len(values):
            estimate = statistics.estimate(values, selection.planned(study, first.trial))
            rows.append({"": f"{first.label} and {second.label}", "linear CKA": str(estimate)})
    if not rows:
        return None
    caption = (
        "How alike two networks of one seed see the held-out samples: linear CKA of their features, 0 to 1 (1: equal "
        "but for rotation and scale; Kornblith et al. 2019), mean over seeds with "
        f"{statistics.LEVEL:.0%} Student-t interval."
    )
    table = output.save_table(study, pd.DataFrame(rows), out, "cka", caption)
    return Section("Similarity of the criteria's features", (table,))


def of_trials(study: Study, first: int, second: int) -> pd.Series:
    """Linear CKA by seed, of the seeds whose replicas of both trials kept features of as many samples, all finite."""
    by_seed = {}
    seeds = [set(study.final.loc[study.final["trial"] == trial, "seed"]) for trial in (first, second)]
    for seed in sorted(seeds[0] & seeds[1]):
        kept = [_features(study.arrays(trial, int(seed))) for trial in (first, second)]
        one, other = kept
        if one is None or other is None or one.shape[:1] != other.shape[:1] or one.ndim != 2 or other.ndim != 2:
            continue
        if np.isfinite(one).all() and np.isfinite(other).all():
            by_seed[int(seed)] = linear_cka(one.astype(float), other.astype(float))
    return pd.Series(by_seed, dtype=float)


def _features(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Held-out features, of all samples where the benchmark kept them, else of those that are kept of every one."""
    return arrays.get("features", arrays.get("heldout-features"))


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Linear centred kernel alignment, 0 to 1, of features (n, d) and (n, d') of the same samples; NaN where constant.

    ‖XᵀY‖² / (‖XᵀX‖·‖YᵀY‖) of centred features, Frobenius norms: Kornblith et al. (2019), "Similarity of neural network
    representations revisited", ICML.
    """
    first, second = first - first.mean(0), second - second.mean(0)
    own = np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second)
    return float(np.linalg.norm(first.T @ second) ** 2 / own) if own else float("nan")


if __name__ == "__main__":
    command.run(section, __doc__)
