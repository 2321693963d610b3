"""Raw and transfer MSE against λ (figure A1) and against the number of anchors e (figure A2), with intervals.

python -m analysis.sensitivity --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from analysis import command, output, selection, statistics
from analysis.output import Figure, Section, Table
from analysis.runs import Study
from analysis.schema import METRICS
from analysis.statistics import Estimate
from analysis.unmixing_table import PROBES

#: panels of the hyperspectral benchmark, each with its metrics
PANELS: Sequence[tuple[str, Sequence[str]]] = (
    ("raw MSE", ("mse/raw",)),
    ("transfer MSE", ("mse/transfer", "mse/transfer-standardized", "mse/transfer-least-squares")),
    ("coarse accuracy", ("accuracy/coarse",)),
)
#: metrics of one panel are told apart by colour, marker and line
LOOKS = (("#0077BB", "o", "-"), ("#AA3377", "s", "--"), ("#555555", "^", ":"))
SYMBOLS: Mapping[str, str] = {"lambda": "λ", "e": "number of anchors e"}


@dataclass(frozen=True)
class Axis:
    """FIERCE trials along one hyperparameter: ``trials`` in its order; ``fixed`` says what the other one is."""

    name: str
    trials: pd.DataFrame
    fixed: str
    is_line: bool


def section(study: Study, out: Path, panels: Sequence[tuple[str, Sequence[str]]] = PANELS) -> Section:
    """Figures ``sensitivity-lambda`` and ``sensitivity-anchors`` where at least three values were run, and a table."""
    items: list[str | Figure | Table] = []
    for name, stem, form in (("lambda", "sensitivity-lambda", "A1"), ("e", "sensitivity-anchors", "A2")):
        axis = along(study, name)
        if axis is None:
            items.append(f"Sensitivity to {SYMBOLS[name]}: fewer than three values were run.")
        else:
            items.append(_figure(study, axis, panels, out, stem, form))
    metrics = [metric for _, group in panels for metric in group]
    table = points(study, metrics)
    if len(table) > 1:
        caption = f"Every FIERCE trial at the last epoch, {statistics.LEVEL:.0%} Student-t intervals over seeds."
        items.append(output.save_table(study, table, out, "sensitivity", caption))
    return Section("Sensitivity to λ and to the number of anchors", tuple(items))


def along(study: Study, name: str) -> Axis | None:
    """FIERCE trials along ``name`` ("lambda" or "e"); None with fewer than three values.

    Those that share the other hyperparameter's most frequent value, as a line; else, for a search, all of them.
    """
    other = "e" if name == "lambda" else "lambda"
    rows = study.trials[(study.trials["criterion"] == "fierce") & study.trials["trial"].isin(set(study.final["trial"]))]
    sizes = rows.groupby(other)[name].nunique()
    if len(sizes) and sizes.max() >= 3:
        value = sizes.idxmax()
        shared = rows[rows[other] == value].drop_duplicates(name).sort_values(name)
        return Axis(name, shared, f"{SYMBOLS[other].split()[-1]} = {value:g}", is_line=True)
    if rows[name].nunique() >= 3:
        return Axis(name, rows.sort_values(name), f"all points, {SYMBOLS[other].split()[-1]} varies", is_line=False)
    return None


def points(study: Study, metrics: Sequence[str]) -> pd.DataFrame:
    """A row per FIERCE trial in order of λ and e, a column per metric: mean and interval in words."""
    rows = study.trials[study.trials["criterion"] == "fierce"].sort_values(["lambda", "e"])
    table = pd.DataFrame(
        {"trial": rows["trial"], "λ": rows["lambda"].map("{:.3g}".format), "e": rows["e"].map("{:.0f}".format)}
    )
    for metric in metrics:
        found = selection.summary(study, metric)
        if found:
            table[METRICS.get(metric, (metric,))[0]] = [str(found.get(trial, "–")) for trial in rows["trial"]]
    return table


def _figure(
    study: Study, axis: Axis, panels: Sequence[tuple[str, Sequence[str]]], out: Path, stem: str, form: str
) -> Figure:
    measured = [(title, [m for m in group if selection.summary(study, m)]) for title, group in panels]
    measured = [(title, group) for title, group in measured if group]
    canvas, grid = plt.subplots(
        1, len(measured), figsize=(3.7 * len(measured), 3.3), squeeze=False, layout="constrained"
    )
    reference = selection.headline(study).get("ce")
    for axes, (title, group) in zip(grid.flat, measured, strict=True):
        for metric, (colour, marker, line) in zip(group, LOOKS, strict=False):
            found = selection.summary(study, metric)
            label = PROBES.get(metric, METRICS.get(metric, (metric,))[0]) if len(group) > 1 else None
            style = line if axis.is_line else "none"
            _errorbars(axes, axis, found, color=colour, marker=marker, linestyle=style, label=label)
            if reference and reference.trial in found:
                mean = found[reference.trial].mean
                axes.axhline(mean, color=output.COLOURS["ce"], linestyle=line, linewidth=1)
                axes.annotate(
                    "CE", (1, mean), xycoords=("axes fraction", "data"), fontsize=8, color=output.COLOURS["ce"]
                )
        _scale(axes, axis)
        axes.set_xlabel(f"{SYMBOLS[axis.name]} ({axis.fixed})")
        axes.set_ylabel(title)
        if "MSE" in title:
            axes.set_yscale("log")
            lowest, highest = axes.get_ylim()
            axes.yaxis.set_major_formatter("{x:g}")
            # less than a decade has too few major ticks to read a value from
            axes.yaxis.set_minor_formatter("{x:g}" if highest < 10 * lowest else NullFormatter())
        if len(group) > 1:
            axes.legend(fontsize=8)
    labels = dict(zip(axis.trials["label"], axis.trials["trial"], strict=True))
    caption = (
        f"FIERCE against {SYMBOLS[axis.name]} at the last epoch, after figure {form}; red lines are CE's means, in the "
        f"line style of their metric. {output.seeds_note(study, labels, statistics.LEVEL)}"
    )
    return output.save_figure(study, canvas, out, stem, caption)


def _errorbars(axes: Axes, axis: Axis, found: Mapping[int, Estimate], **style: Any) -> None:
    rows = [(row[axis.name], found[row["trial"]]) for _, row in axis.trials.iterrows() if row["trial"] in found]
    halves = [estimate.half if estimate.complete else 0 for _, estimate in rows]
    axes.errorbar(
        [value for value, _ in rows], [estimate.mean for _, estimate in rows], halves, capsize=3, markersize=5, **style
    )  # fmt: skip


def _scale(axes: Axes, axis: Axis) -> None:
    """Logarithmic, with room for λ = 0, and ticks at the values that were run."""
    values = axis.trials[axis.name]
    smallest = values[values > 0].min()
    if (values == 0).any():
        axes.set_xscale("symlog", linthresh=smallest)
    else:
        axes.set_xscale("log")
    if axis.is_line:
        axes.set_xticks(values, [f"{value:g}" for value in values], rotation=60)
        axes.xaxis.set_minor_locator(NullLocator())


if __name__ == "__main__":
    command.run(section, __doc__)
