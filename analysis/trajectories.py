"""Entropy and error against epochs, by criterion, with bands over the seeds: the form of figure 1.

python -m analysis.trajectories --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis import command, output, selection, statistics
from analysis.output import Section
from analysis.runs import Study, laid_out


def section(
    study: Study, out: Path, panels: Sequence[str] = (), errors: Sequence[str] = (), after: str = ""
) -> Section:
    """Figure ``trajectories``, ``after`` one of the paper's, and table ``turn`` of the trials that speak for criteria.

    ``panels`` are metrics, drawn where they were measured at two epochs or more; ``errors`` are those whose last
    epoch is compared with their best. A study with no metric of ``panels`` shows all that it has.
    """
    title = "Trajectories"
    chosen = selection.headline(study)
    drawn = {metric: curves for metric in panels if (curves := by_criterion(study, metric))}
    if not drawn:
        # what chance alone would give is level
        left_out = {*panels, *(metric.chance for metric in study.metrics.values())}
        others = [metric for metric in study.frame["metric"].cat.categories if metric not in left_out]
        drawn = {metric: curves for metric in others if (curves := by_criterion(study, metric))}
    if not drawn:
        return Section(title, ("No metric was measured at two epochs or more by a trial that is done.",))
    columns = 2 if len(drawn) > 1 else 1
    rows = -(-len(drawn) // columns)
    canvas, grid = plt.subplots(rows, columns, figsize=(4.6 * columns, 2.9 * rows), squeeze=False, layout="constrained")
    for axes in grid.flat[len(drawn) :]:
        axes.remove()
    for axes, (metric, curves) in zip(grid.flat, drawn.items(), strict=False):
        for criterion, values in curves.items():
            trial = chosen[criterion].trial
            line = statistics.band(values, selection.planned(study, trial))
            style = output.look(study, criterion)
            axes.plot(line.index, line["mean"], label=chosen[criterion].label, **style)
            axes.fill_between(line.index, line["low"], line["high"], color=style["color"], alpha=0.2, linewidth=0)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("epoch")
        axes.set_ylabel(study.metric(metric).label)
    output.legend_below(canvas, grid.flat[0])
    labels = {choice.label: choice.trial for choice in chosen.values()}
    form = f", after {after}" if after else ""
    caption = f"Trajectories by criterion{form}. {output.seeds_note(study, labels, statistics.LEVEL)}"
    figure = output.save_figure(study, canvas, out, "trajectories", caption)
    why = "; ".join(f"{choice.label} ({choice.why})" for choice in chosen.values())
    reasons = {choice.why for choice in chosen.values()}
    if len(chosen) > 1 and len(reasons) == 1:
        # a dozen criteria for one and the same reason
        why = f"{reasons.pop()} of each criterion"
    items: list[str | output.Figure | output.Table] = [f"Trials shown: {why}.", figure]
    table = _turn(study, errors)
    if len(table):
        caption = (
            "What early stopping would have saved: the error at the last epoch less the error at the best epoch, "
            "which is chosen on the other seeds, since noise alone makes some epoch a seed's best (its interval is "
            "narrow, as the choices share seeds); and the rank correlation of feature entropy and error along training "
            "(Spearman, mean over seeds), which drift alone gives as well."
        )
        items.append(output.save_table(study, table, out, "turn", caption))
    return Section(title, tuple(items))


@lru_cache(maxsize=32)
def by_criterion(study: Study, metric: str) -> dict[str, pd.DataFrame]:
    """``metric`` of the trial that speaks for each criterion, epochs × seeds; with values at two epochs or more."""
    frame = study.courses.get(metric)
    spreads: dict[str, pd.DataFrame] = {}
    if frame is None:
        return spreads
    for criterion, choice in selection.headline(study).items():
        taken = np.isin(frame["seed"], _done(study).get(choice.trial, ())) & (frame["trial"] == choice.trial)
        rows = laid_out({name: frame[name][taken] for name in ("epoch", "seed")}, frame["value"][taken])
        if len(rows) > 1 and rows.notna().to_numpy().any():
            spreads[criterion] = rows
    return spreads


@lru_cache(maxsize=4)
def _done(study: Study) -> Mapping[int, np.ndarray]:
    """trial -> its seeds that are done."""
    trials, seeds = study.final["trial"].to_numpy(), study.final["seed"].to_numpy()
    return {int(trial): np.unique(seeds[trials == trial]) for trial in np.unique(trials)}


def rank_correlations(first: pd.DataFrame, second: pd.DataFrame) -> pd.Series:
    """Spearman's correlation along training of two metrics (epochs × seeds), by seed, over the epochs of both."""
    epochs = first.index.intersection(second.index)
    return first.loc[epochs].rank().corrwith(second.loc[epochs].rank())


def gap(values: pd.DataFrame, largest: bool = False) -> pd.Series:
    """By seed, ``values`` (epochs × seeds) at the last epoch less the same at the other seeds' best epoch.

    Their best epoch is where their mean is smallest (``largest``: largest). A single seed has no others: NaN.
    """
    return values.iloc[-1] - statistics.at(values, statistics.chosen_on_others(values, largest))


def gap_apart(values: pd.DataFrame, largest: bool = False) -> pd.Series:
    """As `gap`, for a test: one best epoch, chosen on some of the seeds, for the seeds that are left."""
    chosen = statistics.chosen_apart(values, largest)
    return values.iloc[-1][chosen.index] - statistics.at(values, chosen)


def _turn(study: Study, errors: Sequence[str]) -> pd.DataFrame:
    chosen = selection.headline(study)
    entropies = by_criterion(study, "entropy/features")
    rows = []
    for metric in errors:
        for criterion, values in by_criterion(study, metric).items():
            wanted = selection.planned(study, chosen[criterion].trial)
            mean_best = values.mean(axis=1).idxmin()
            row = {
                "trial": chosen[criterion].label,
                "error": study.metric(metric).label,
                "last epoch": str(statistics.estimate(values.iloc[-1], wanted)),
                "best epoch": str(statistics.estimate(values.min(), wanted)),
                "last less best, chosen on the other seeds": str(statistics.estimate(gap(values), wanted)),
                "epoch of the best mean": str(mean_best),
            }
            if criterion in entropies:
                correlation = rank_correlations(entropies[criterion], values)
                row["rank correlation with entropy"] = str(statistics.estimate(correlation, wanted))
            rows.append(row)
    return pd.DataFrame(rows).fillna("–")


if __name__ == "__main__":
    command.run(section, __doc__)
