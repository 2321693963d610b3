"""What the settings do: fine metric and coarse accuracy against each, and a search's objective over its points.

python -m analysis.own_data.settings --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis import command, output, selection, sensitivity, statistics
from analysis.declarations import Criterion
from analysis.output import Figure, Section
from analysis.runs import Study
from analysis.schema import ACCURACY
from analysis.sensitivity import Sweep


def section(study: Study, out: Path) -> Section | None:
    """A figure for each hyperparameter of which three values were run, and for each setting that varies.

    Of each search, figure ``objective-…``.
    """
    figures: list[str | Figure | output.Table] = []
    for criterion in study.criteria.values():
        figures += _search(study, criterion, out)
        figures += _sweeps(study, criterion, out)
    figures += _varied(study, out)
    return Section("What the settings do", tuple(figures)) if figures else None


def _metrics(study: Study) -> list[str]:
    wanted = dict.fromkeys(metric for metric in (selection.fine_metric(study), ACCURACY) if metric)
    return [metric for metric in wanted if selection.summary(study, metric)]


def _varied(study: Study, out: Path) -> list[Figure]:
    """Figure ``settings-…`` of each setting that varies: a line for each criterion that was run at several values."""
    figures = []
    for setting in study.varied:
        found = {name: sensitivity.along(study, name, setting.name, least=2) for name in study.criteria}
        axes = {name: axis for name, axis in found.items() if axis is not None}
        if not axes or not _metrics(study):
            continue
        columns = len(_metrics(study))
        canvas, grid = plt.subplots(1, columns, figsize=(3.7 * columns, 3.3), squeeze=False, layout="constrained")
        for panel, metric in zip(grid.flat, _metrics(study), strict=True):
            sensitivity.compared(panel, study, metric, axes, setting.log)
            panel.set_xlabel(setting.symbol)
            panel.set_ylabel(study.metric(metric).label)
        output.legend_below(canvas, grid.flat[0])
        shown = pd.concat([axis.trials for axis in axes.values()])
        labels = dict(zip(shown["label"], shown["trial"], strict=True))
        seeds = output.seeds_note(study, labels, statistics.LEVEL)
        caption = f"Each criterion against {setting.symbol} at the last epoch, all else alike along a line. {seeds}"
        figures.append(output.save_figure(study, canvas, out, f"settings-{_stem(setting.name)}", caption))
    return figures


def _sweeps(study: Study, criterion: Criterion, out: Path) -> list[Figure]:
    panels = [(study.metric(metric).label, (metric,)) for metric in _metrics(study)]
    found = []
    for each in criterion.hyperparameters:
        axis = sensitivity.along(study, criterion.name, each.name)
        if axis is not None and panels:
            sweep = Sweep(each.name, f"{criterion.label} {each.symbol}", f"settings-{_stem(criterion.name, each.name)}")
            found.append(sensitivity.figure(study, criterion.name, axis, sweep, panels, {}, out))
    return found


def _search(study: Study, criterion: Criterion, out: Path) -> list[Figure]:
    """The objective of every searched point, against two hyperparameters as a shade, and the best one marked."""
    best, points = selection.search(study).get(criterion.name, (None, None))
    if points is None:
        return []
    searched = [each for each in criterion.hyperparameters if points[each.name].nunique() >= 3]
    rows = points[[value is not None for value in points["objective"]]]
    if len(searched) < 2 or len(rows) < 3:
        return []
    across, up = searched[:2]
    canvas, axes = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    means = np.array([value.mean for value in rows["objective"]])
    feasible = rows["feasible"].to_numpy(bool)
    limits = {"vmin": means.min(), "vmax": means.max(), "cmap": "viridis"}
    places = rows[[across.name, up.name]].to_numpy(float)
    drawn = axes.scatter(
        places[feasible, 0],
        places[feasible, 1],
        c=means[feasible],
        s=60,
        label=None if feasible.all() else "within the constraint",
        **limits,
    )
    if not feasible.all():
        axes.scatter(
            places[~feasible, 0],
            places[~feasible, 1],
            c=means[~feasible],
            s=60,
            marker="X",
            label="outside the constraint",
            **limits,
        )
    if best is not None:
        own = places[(rows["trial"] == best.trial).to_numpy()][0]
        axes.scatter(
            own[0], own[1], s=220, facecolors="none", edgecolors="#CC3311", linewidths=2, label=f"chosen: {best.label}"
        )
    for axis, each, values in (("x", across, places[:, 0]), ("y", up, places[:, 1])):
        if each.log and (values > 0).all():
            getattr(axes, f"set_{axis}scale")("log")
            getattr(axes, f"{axis}axis").set_major_formatter("{x:g}")
        getattr(axes, f"set_{axis}label")(f"{criterion.label} {each.symbol}")
    canvas.colorbar(drawn, label=study.metric(selection.objective_metric(study)).label)
    output.legend_below(canvas, axes)
    rule = selection.rule(study)
    caption = f"Every searched point of {criterion.label}: mean over the seeds of what was searched for, {rule}."
    return [output.save_figure(study, canvas, out, f"objective-{_stem(criterion.name)}", caption)]


def _stem(*names: str) -> str:
    """Names as part of a file's name: a criterion of anyone's is ``package.module:name``."""
    return re.sub(r"[^\w.-]", "-", "-".join(names))


if __name__ == "__main__":
    command.run(section, __doc__)
