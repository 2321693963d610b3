"""What a hyperparameter does: fine metric and coarse accuracy against each, and a search's objective over its points.

python -m analysis.own_data.settings --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from analysis import command, output, selection, sensitivity
from analysis.declarations import Criterion
from analysis.output import Figure, Section
from analysis.runs import Study
from analysis.sensitivity import Sweep

ACCURACY = "accuracy/coarse"


def section(study: Study, out: Path) -> Section | None:
    """A figure for each hyperparameter of which three values were run; figure ``objective-…`` of each search."""
    figures: list[str | Figure | output.Table] = []
    for criterion in study.criteria.values():
        figures += _search(study, criterion, out)
        figures += _sweeps(study, criterion, out)
    return Section("What the settings do", tuple(figures)) if figures else None


def _sweeps(study: Study, criterion: Criterion, out: Path) -> list[Figure]:
    wanted = [metric for metric in (selection.fine_metric(study), ACCURACY) if metric]
    panels = [(study.metric(metric).label, (metric,)) for metric in wanted if selection.summary(study, metric)]
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
