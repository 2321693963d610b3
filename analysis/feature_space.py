"""t-SNE of the features by criterion (figure A4), and how far the coarse classes stand apart in them.

python -m analysis.feature_space --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Canvas

from analysis import command, output, selection, statistics
from analysis.output import Figure, Section, Table
from analysis.runs import Study

#: arrays that a replica kept after its last epoch, by name
Arrays = Mapping[str, np.ndarray]
#: samples that the classes' separation is computed of at most
POINTS = 1500
#: points of one panel at most: t-SNE of 1,500 took half of a report's time, and shows no more than this does
DRAWN = 600
#: steps of t-SNE: of 600 points 1,000 took twice the time, and left a divergence of .306 in place of .310
STEPS = 500
#: coarse class -> colour
CLASSES = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB", "#222222", "#994F00", "#40B0A6")


def section(study: Study, out: Path, distances: Sequence[str] = ()) -> Section:
    """Figure ``feature-space`` from one seed, and table ``separation`` over all seeds, with metrics ``distances``."""
    title = "Feature space: figure A4"
    chosen = selection.headline(study)
    kept = kept_arrays(study, _finite)
    if not kept:
        return Section(title, (output.lost_note(study) or "No features were kept with the replicas.",))

    def draw(axes: Axes, arrays: Arrays) -> None:
        places = embed(arrays["features"])
        coarse = arrays["coarse"][: len(places)]
        if arrays["features"].shape[1] == 1:
            # a row for each class, its samples beside each other
            places[:, 1] = coarse + np.random.default_rng(0).uniform(-0.3, 0.3, len(places))
        opacity = _opacity(arrays.get("fine"), len(places))
        for number in np.unique(coarse):
            rows = coarse == number
            colours = [(*to_rgb(CLASSES[number % len(CLASSES)]), float(alpha)) for alpha in opacity[rows]]
            axes.scatter(places[rows, 0], places[rows, 1], s=7, c=colours, linewidths=0, rasterized=True)
            axes.scatter([], [], s=25, color=CLASSES[number % len(CLASSES)], label=study.class_name(int(number)))
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)

    canvas, _, panels = one_seed_each(study, kept, draw)
    seeds = ", ".join(sorted({str(seed) for seed in panels.values()}))
    shares = any(arrays[panels[criterion]].get("fine", np.empty(0)).ndim == 2 for criterion, arrays in kept.items())
    fading = "; the fainter, the more mixed the sample (its largest fine value)" if shares else ""
    drawn = f"seed {seeds}, at most {DRAWN} samples a panel, coloured by coarse class{fading}"
    caption = (
        f"t-SNE (scikit-learn, perplexity 30) of the held-out features, after figure A4: {drawn}. Positions and "
        "distances between panels have no meaning."
    )
    if all(arrays[panels[criterion]]["features"].shape[1] == 1 for criterion, arrays in kept.items()):
        caption = (
            f"The one held-out feature, across, in place of figure A4's t-SNE: {drawn}. Each class has a row, in which "
            "height has no meaning."
        )
    items: list[str | Figure | Table] = [output.save_figure(study, canvas, out, "feature-space", caption)]
    geometry = {metric: means for metric in distances if (means := selection.summary(study, metric))}
    rows = [
        {
            "trial": chosen[criterion].label,
            "silhouette of the coarse classes": str(
                statistics.estimate(values, selection.planned(study, chosen[criterion].trial))
            ),
        }
        | {
            study.metric(metric).label: str(means.get(chosen[criterion].trial, "–"))
            for metric, means in geometry.items()
        }
        for criterion, values in separation(study).items()
    ]
    if rows:
        caption = (
            "How far the coarse classes stand apart: silhouette score in the feature space itself, −1 to 1 (1: tight "
            f"and well separated), mean over seeds with {statistics.LEVEL:.0%} Student-t interval. Ours, to put a "
            "number to what the paper reads off the figure."
        )
        if geometry:
            caption += (
                f" Beside it: {'; '.join(f'{metric.label}: {metric.note}' for metric in map(study.metric, geometry))}."
            )
        items.append(output.save_table(study, pd.DataFrame(rows), out, "separation", caption))
    return Section(title, tuple(items))


def embed(features: np.ndarray) -> np.ndarray:
    """Positions (n, 2) of the first at most `DRAWN` rows of ``features`` (samples, d), the same at every call.

    One feature stays the position across, and nothing is put beside it.
    """
    part = features[:DRAWN].astype(np.float32)
    if part.shape[1] == 1:
        return np.concatenate([part, np.zeros_like(part)], axis=1)
    perplexity = min(30.0, (len(part) - 1) / 3)
    # scikit-learn takes a second to import, which what only asks for a page's metrics need not wait for
    from sklearn.manifold import TSNE

    positions: np.ndarray = TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=STEPS).fit_transform(part)
    return positions


@lru_cache(maxsize=1)
def separation(study: Study) -> dict[str, pd.Series]:
    """criterion -> silhouette score of the coarse classes in the feature space, by seed."""
    from sklearn.metrics import silhouette_score

    separations = {}
    for criterion, kept in kept_arrays(study, _finite).items():
        scores = {}
        for seed, arrays in kept.items():
            coarse = arrays["coarse"][:POINTS]
            if 1 < len(np.unique(coarse)) < len(coarse):
                scores[seed] = float(silhouette_score(arrays["features"][:POINTS].astype(np.float32), coarse))
        if scores:
            separations[criterion] = pd.Series(scores)
    return separations


def kept_arrays(study: Study, usable: Callable[[Arrays], bool]) -> dict[str, dict[int, Arrays]]:
    """criterion -> seed -> what the replicas of the trial that speaks for it kept, where that is ``usable``.

    A criterion without any is left out.
    """
    kept_by_criterion: dict[str, dict[int, Arrays]] = {}
    for criterion, choice in selection.headline(study).items():
        seeds = study.final.loc[study.final["trial"] == choice.trial, "seed"].unique()
        arrays = {int(seed): study.arrays(choice.trial, int(seed)) for seed in seeds}
        kept_by_criterion[criterion] = {seed: kept for seed, kept in arrays.items() if usable(kept)}
    return {criterion: arrays for criterion, arrays in kept_by_criterion.items() if arrays}


def one_seed_each(
    study: Study, kept: Mapping[str, Mapping[int, Arrays]], draw: Callable[[Axes, Arrays], None]
) -> tuple[Canvas, Sequence[Axes], dict[str, int]]:
    """A panel for each criterion of ``kept``, with a legend below: the figure, its panels, and criterion -> seed.

    ``draw`` is given a panel and the arrays of one seed: the same for all criteria where there is one, so of the same
    split and initial weights.
    """
    common = set.intersection(*(set(arrays) for arrays in kept.values()))
    seeds = {criterion: min(common or arrays) for criterion, arrays in kept.items()}
    chosen = selection.headline(study)
    canvas, grid = output.row_of_panels(len(kept), 3.3, [3.4])
    panels = list(grid.flat)
    for axes, (criterion, seed) in zip(panels, seeds.items(), strict=True):
        draw(axes, kept[criterion][seed])
        axes.set_title(chosen[criterion].label, color=output.colour(study, criterion))
    output.legend_below(canvas, panels[0])
    return canvas, panels, seeds


def _finite(kept: Arrays) -> bool:
    """Whether features were kept, all of them finite."""
    return {"features", "coarse"} <= set(kept) and bool(np.isfinite(kept["features"]).all())


def _opacity(fine: np.ndarray | None, n: int) -> np.ndarray:
    """0.9 for a pure sample, less in proportion to its largest share; 0.7 where the fine labels are no shares."""
    if fine is None or fine.ndim != 2:
        return np.full(n, 0.7)
    largest: np.ndarray = fine[:n].max(1).clip(0, 1)
    return 0.9 * largest**2


if __name__ == "__main__":
    command.run(section, __doc__)
