"""Figure 1: entropy and error along training, and what stopping early would have saved.

python -m analysis.age.early_stopping --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis import command, output, selection, statistics, trajectories
from analysis.output import Figure, Section, Table
from analysis.runs import Study
from analysis.statistics import Estimate

ENTROPY = "entropy/features"
#: errors whose turn is looked for: on training images as released, and on held-out images
ERRORS = ("mse/transport", "mse/transport-heldout")
PANELS = (ENTROPY, *ERRORS, "accuracy/coarse")
#: the training behind the paper's figure 1, by the released code: 172,000 images in batches of 256
PAPER_EPOCHS, PAPER_STEPS = 500, 336_000


def section(study: Study, out: Path) -> Section:
    """Figure ``figure1`` and table ``early-stopping`` for the trial that speaks for each criterion."""
    title = "Entropy and error along training: figure 1"
    drawn = {metric: curves for metric in PANELS if (curves := trajectories.by_criterion(study, metric))}
    items: list[str | Figure | Table] = [length(study)]
    if not drawn:
        return Section(title, (*items, "No metric was measured at two epochs or more by a trial that is done."))
    chosen = selection.headline(study)
    why = "; ".join(f"{choice.label} ({choice.why})" for choice in chosen.values())
    items += [f"Trials shown: {why}.", _figure(study, drawn, out)]
    rows = summary(study)
    if rows:
        table = pd.DataFrame([{**names, **{key: str(value) for key, value in row.items()}} for names, row in rows])
        data = pd.DataFrame(
            [
                {
                    **names,
                    "quantity": key,
                    "mean": value.mean,
                    "half": value.half,
                    "n": value.n,
                    "planned": value.planned,
                }
                for names, row in rows
                for key, value in row.items()
            ]
        )
        caption = (
            "What early stopping would have saved: the error at the last epoch less the error at the best epoch. A "
            "seed's own best epoch flatters it, since noise alone makes some epoch the best; chosen on the other "
            "seeds, the epoch is free of that, and a gap around 0 means that the error has not risen. Rank "
            "correlation: Spearman's, of feature entropy and error over the epochs, seed by seed. Means over seeds "
            f"with {statistics.LEVEL:.0%} Student-t intervals; errors in years²."
        )
        items.append(output.save_table(study, table, out, "early-stopping", caption, data))
    return Section(title, tuple(items))


def length(study: Study) -> str:
    """How long the replicas were trained, beside the paper, in a sentence or two."""
    epochs = int(study.trials["epochs"].max()) if study.trials["epochs"].notna().any() else study.frame["epoch"].max()
    words = f"Trained for {epochs} epochs; the paper's figure 1 took {PAPER_EPOCHS} (about {PAPER_STEPS:,} steps)."
    images, batch = _sizes(study)
    if images and batch:
        # the parts that are set aside are not known here
        steps = epochs * -(-images // batch)
        words = (
            f"Trained for {epochs} epochs in batches of {batch}: at most {steps:,} steps, were all {images:,} images "
            f"trained on. The paper's figure 1 took {PAPER_EPOCHS} epochs, about {PAPER_STEPS:,} steps."
        )
        if steps < PAPER_STEPS / 10:
            words += (
                " This is a short study: an error that has not turned in it may turn later, and an entropy that has "
                "not risen may still rise."
            )
    return words


def summary(study: Study) -> list[tuple[dict[str, str], dict[str, Estimate]]]:
    """For each error and criterion: their names, and last, best, their gap (twice) and the rank correlation."""
    chosen = selection.headline(study)
    entropies = trajectories.by_criterion(study, ENTROPY)
    rows = []
    for metric in ERRORS:
        for criterion, values in trajectories.by_criterion(study, metric).items():
            wanted = selection.planned(study, chosen[criterion].trial)
            quantities = {
                "last epoch": values.iloc[-1],
                "best epoch": values.min(),
                "last less best": values.iloc[-1] - values.min(),
                "last less best, chosen on the other seeds": trajectories.gap(values),
                "epoch of the best": values.dropna(axis=1, how="all").idxmin(),
            }
            if criterion in entropies:
                correlation = trajectories.rank_correlations(entropies[criterion], values)
                quantities["rank correlation with entropy"] = correlation
            names = {"": chosen[criterion].label, "error": study.metric(metric).label}
            rows.append((names, {key: statistics.estimate(values, wanted) for key, values in quantities.items()}))
    return rows


def _figure(study: Study, drawn: Mapping[str, Mapping[str, pd.DataFrame]], out: Path) -> Figure:
    chosen = selection.headline(study)
    rows = -(-len(drawn) // 2)
    canvas, grid = plt.subplots(rows, 2, figsize=(9.2, 2.9 * rows), squeeze=False, layout="constrained")
    for axes in grid.flat[len(drawn) :]:
        axes.remove()
    note = ""
    for axes, (metric, curves) in zip(grid.flat, drawn.items(), strict=False):
        low, high = 0.0, 1.0
        if metric == ENTROPY:
            low, high = _range(curves)
            note = f" Entropy is rescaled over this study: 0 is {low:.2f} and 1 is {high:.2f} bits."
        for criterion, values in curves.items():
            trial = chosen[criterion].trial
            line = statistics.band((values - low) / (high - low), selection.planned(study, trial))
            style = output.look(study, criterion)
            axes.plot(line.index, line["mean"], label=chosen[criterion].label, **style)
            axes.fill_between(line.index, line["low"], line["high"], color=style["color"], alpha=0.2, linewidth=0)
            if metric in ERRORS and line["mean"].notna().any():
                best = int(np.nanargmin(line["mean"]))
                marker = output.marker(study, criterion)
                axes.plot(line.index[best], line["mean"].iloc[best], marker=marker, color=style["color"])
        # an interval of few seeds may leave the range that the values can have
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, -0.03), top if metric in ERRORS else min(top, 1.03))
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("epoch")
        axes.set_ylabel("feature entropy, rescaled" if metric == ENTROPY else study.metric(metric).label)
    output.legend_below(canvas, grid.flat[0])
    labels = {choice.label: choice.trial for choice in chosen.values()}
    caption = (
        "Entropy of the features and mean squared error of the ages (years²) along training, after figure 1, with the "
        f"error on held-out images and the coarse accuracy beside them.{note} Markers: lowest mean. "
        f"{output.seeds_note(study, labels, statistics.LEVEL)}"
    )
    return output.save_figure(study, canvas, out, "figure1", caption)


def _range(curves: Mapping[str, pd.DataFrame]) -> tuple[float, float]:
    """Lowest and highest finite value of all criteria, seeds and epochs, apart from each other."""
    values = np.concatenate([curve.to_numpy(float).ravel() for curve in curves.values()])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return low, high if high > low else low + 1


def _sizes(study: Study) -> tuple[int, int]:
    """Images in the data and in a batch; 0 where the runs don't say."""
    images = batch = 0
    for run in study.runs:
        batch = batch or int(run.data.params.get("training.batch_size", 0))
        for dataset_input in run.inputs.dataset_inputs if run.inputs else ():
            images = images or int(json.loads(dataset_input.dataset.profile or "{}").get("samples", 0))
    return images, batch


if __name__ == "__main__":
    command.run(section, __doc__)
