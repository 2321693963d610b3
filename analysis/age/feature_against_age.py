"""The one-dimensional feature against the age by criterion (figure A5), and how well it orders ages within a class.

python -m analysis.age.feature_against_age --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from analysis import command, output, selection, statistics
from analysis.feature_space import CLASSES, Arrays, kept_arrays, one_seed_each
from analysis.output import Figure, Section, Table
from analysis.runs import Study

COLUMNS = ["all ages", "within the classes", "images at one value"]
NEEDED = {"features", "fine", "coarse", "probabilities"}


def section(study: Study, out: Path) -> Section:
    """Figure ``feature-age`` from one seed, and table ``feature-age`` over all seeds."""
    title = "Feature against age: figure A5"
    chosen = selection.headline(study)
    kept = kept_arrays(study, _one_dimensional)
    if not kept:
        return Section(title, (output.lost_note(study) or "No features were kept with the replicas.",))

    def draw(axes: Axes, arrays: Arrays) -> None:
        feature = oriented(arrays)
        for number in np.unique(arrays["coarse"]):
            rows = arrays["coarse"] == number
            colour = CLASSES[number % len(CLASSES)]
            axes.scatter(arrays["fine"][rows], feature[rows], s=6, alpha=0.5, linewidths=0, c=colour, rasterized=True)
            axes.scatter([], [], s=25, color=colour, label=study.class_name(int(number)))
        axes.set_xlabel("age (years)")

    canvas, panels, drawn = one_seed_each(study, kept, draw)
    for axes in panels[:: output.PANELS]:
        axes.set_ylabel("feature")
    seeds = ", ".join(sorted({str(seed) for seed in drawn.values()}))
    caption = (
        f"The feature against the age on held-out images, after figure A5: seed {seeds}, coloured by coarse class. "
        "Its sign is turned so that it grows with the predicted class; each panel has a scale of its own."
    )
    items: list[str | Figure | Table] = [output.save_figure(study, canvas, out, "feature-age", caption)]
    rows = []
    for criterion, choice in chosen.items():
        if criterion in kept:
            values = correlations(study)[criterion]
            wanted = selection.planned(study, choice.trial)
            rows.append({"": choice.label} | {name: str(statistics.estimate(values[name], wanted)) for name in values})
    caption = (
        "Spearman's rank correlation of feature and age, over all images and within the coarse classes (mean over "
        "classes, weighted by their size): what the feature knows beyond the coarse label. Beside it the largest share "
        "of images whose feature is the same: where the last ReLU is 0 on all maps, they can't be told apart. Ours, to "
        f"put numbers to what the paper reads off the figure. Means with {statistics.LEVEL:.0%} Student-t intervals."
    )
    items.append(output.save_table(study, pd.DataFrame(rows), out, "feature-age", caption))
    return Section(title, tuple(items))


def oriented(arrays: Arrays) -> np.ndarray:
    """The feature (n,), turned so that it grows with the expected class Σ c·q_c; no age is used."""
    feature = arrays["features"].astype(float).reshape(len(arrays["coarse"]))
    expected = arrays["probabilities"].astype(float) @ np.arange(arrays["probabilities"].shape[1])
    covariance = np.mean((feature - feature.mean()) * (expected - expected.mean()))
    return -feature if covariance < 0 else feature


@lru_cache(maxsize=1)
def correlations(study: Study) -> dict[str, pd.DataFrame]:
    """criterion -> by seed: rank correlations of feature and age, and the share of images with one same feature."""
    tables = {}
    for criterion, kept in kept_arrays(study, _one_dimensional).items():
        rows = {}
        for seed, arrays in kept.items():
            feature, ages, coarse = oriented(arrays), arrays["fine"], arrays["coarse"]
            classes, sizes = np.unique(coarse, return_counts=True)
            within = [_spearman(feature[coarse == number], ages[coarse == number]) for number in classes]
            _, equal = np.unique(feature, return_counts=True)
            rows[seed] = (
                _spearman(feature, ages),
                float(np.average(within, weights=sizes)),
                equal.max() / len(feature),
            )
        tables[criterion] = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS)
    return tables


def _spearman(feature: np.ndarray, ages: np.ndarray) -> float:
    """NaN where either does not vary."""
    if len(ages) < 2 or np.ptp(feature) == 0 or np.ptp(ages) == 0:
        return np.nan
    return float(stats.spearmanr(feature, ages).statistic)


def _one_dimensional(kept: Arrays) -> bool:
    """Whether a one-dimensional feature was kept, with what it is compared with."""
    return set(kept) >= NEEDED and kept["features"].size == len(kept["coarse"])


if __name__ == "__main__":
    command.run(section, __doc__)
