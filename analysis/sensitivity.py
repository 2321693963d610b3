"""A criterion's metrics against each of its hyperparameters, with intervals: the form of figures A1 and A2.

python -m analysis.sensitivity --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from analysis import command, output, selection, statistics
from analysis.numbers import number
from analysis.output import Figure, Section, Table
from analysis.runs import Study
from analysis.statistics import Estimate

#: metrics of one panel are told apart by colour, marker and line
LOOKS = (("#0077BB", "o", "-"), ("#AA3377", "s", "--"), ("#555555", "^", ":"))
#: panels, each a title and its metrics
Panels = Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Sweep:
    """A figure against the hyperparameter ``name``: its ``label`` at the axis, and the paper's that it is ``after``."""

    name: str
    label: str
    stem: str
    after: str = ""


@dataclass(frozen=True)
class Axis:
    """Trials along one hyperparameter: ``trials`` in its order; ``fixed`` says what the others are."""

    name: str
    trials: pd.DataFrame
    fixed: str
    is_line: bool


def section(
    study: Study,
    out: Path,
    criterion: str,
    sweeps: Sequence[Sweep],
    panels: Panels,
    title: str = "Sensitivity",
    labels: Mapping[str, str] | None = None,
) -> Section:
    """A figure per sweep of which at least three values were run, and table ``sensitivity`` of ``criterion``'s trials.

    ``labels`` are those of metrics within a panel, where they are not the study's own.
    """
    items: list[str | Figure | Table] = []
    for sweep in sweeps:
        axis = along(study, criterion, sweep.name)
        if axis is None:
            items.append(f"Sensitivity to {sweep.label}: fewer than three values were run.")
        else:
            items.append(figure(study, criterion, axis, sweep, panels, labels or {}, out))
    metrics = [metric for _, group in panels for metric in group]
    table = points(study, criterion, metrics)
    if len(table) > 1:
        caption = (
            f"Every {study.criterion(criterion).label} trial at the last epoch, {statistics.LEVEL:.0%} Student-t "
            "intervals over seeds."
        )
        items.append(output.save_table(study, table, out, "sensitivity", caption))
    return Section(title, tuple(items))


@lru_cache(maxsize=64)
def along(study: Study, criterion: str, name: str, least: int = 3) -> Axis | None:
    """Trials of ``criterion`` along its hyperparameter or setting ``name``; None with fewer than ``least`` values.

    Those that share the most frequent values of its other hyperparameters, as a line; else, for a search, all of them.
    """
    symbols = {each.name: each.symbol for each in (*study.criterion(criterion).hyperparameters, *study.varied)}
    others = [other for other in symbols if other != name]
    # rows of few columns are cheap to take
    table = study.trials[["trial", "criterion", "label", *study.axes]]
    rows = table[(table["criterion"] == criterion) & table["trial"].isin(study.final["trial"].unique())]
    if rows.empty or name not in symbols:
        return None
    # a setting that some trial lacks is a value of its own
    groups = list(rows.groupby(others, sort=True, dropna=False)) if others else [((), rows)]
    sizes = [group[name].nunique() for _, group in groups]
    if sizes and max(sizes) >= least:
        values, group = groups[sizes.index(max(sizes))]
        fixed = ", ".join(f"{symbols[other]} = {_given(value)}" for other, value in zip(others, values, strict=True))
        return Axis(name, group.drop_duplicates(name).sort_values(name), fixed, is_line=True)
    if rows[name].nunique() >= least:
        varying = f"all points, {', '.join(symbols[other] for other in others)} varies"
        return Axis(name, rows.sort_values(name), varying, is_line=False)
    return None


def points(study: Study, criterion: str, metrics: Sequence[str]) -> pd.DataFrame:
    """A row per trial of ``criterion`` in order of its hyperparameters, a column per metric: mean and interval."""
    hyperparameters = (*study.criterion(criterion).hyperparameters, *study.varied)
    rows = study.trials[study.trials["criterion"] == criterion]
    read = [hyperparameter for hyperparameter in hyperparameters if hyperparameter.name in rows]
    rows = rows.sort_values([hyperparameter.name for hyperparameter in read]) if read else rows
    table = pd.DataFrame({"trial": rows["trial"]})
    for hyperparameter in read:
        table[hyperparameter.symbol] = _distinct(rows[hyperparameter.name])
    for metric in metrics:
        estimates = selection.summary(study, metric)
        if estimates:
            table[study.metric(metric).label] = [str(estimates.get(trial, "–")) for trial in rows["trial"]]
    return table


def _given(value: object) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _distinct(values: pd.Series) -> list[str]:
    """``values`` as text, with as many digits as tell them apart."""
    if any(isinstance(value, str) for value in values):
        return [_given(value) for value in values]
    texts = [number(value) for value in values]
    for digits in (4, 5, 7, 10, 17):
        if len(set(texts)) == values.nunique():
            break
        texts = [number(value, digits) for value in values]
    return texts


def figure(
    study: Study, criterion: str, axis: Axis, sweep: Sweep, panels: Panels, names: Mapping[str, str], out: Path
) -> Figure:
    """A panel for each of ``panels``, its metrics against the hyperparameter of ``axis``, and the reference's mean."""
    measured = [(title, [m for m in group if selection.summary(study, m)]) for title, group in panels]
    measured = [(title, group) for title, group in measured if group]
    canvas, grid = plt.subplots(
        1, len(measured), figsize=(3.7 * len(measured), 3.3), squeeze=False, layout="constrained"
    )
    reference = selection.headline(study).get(study.reference)
    name, colour = study.criterion(study.reference).label, output.colour(study, study.reference)
    after = f", after figure {sweep.after}" if sweep.after else ""
    for axes, (title, group) in zip(grid.flat, measured, strict=True):
        own = (output.colour(study, criterion), output.marker(study, criterion), "-")
        for metric, (shade, marker, line) in zip(group, LOOKS if len(group) > 1 else (own,), strict=False):
            estimates = selection.summary(study, metric)
            label = names.get(metric, study.metric(metric).label) if len(group) > 1 else None
            style = line if axis.is_line else "none"
            errorbars(axes, axis, estimates, color=shade, marker=marker, linestyle=style, label=label)
            if reference and reference.trial in estimates:
                mean = estimates[reference.trial].mean
                axes.axhline(mean, color=colour, linestyle=line, linewidth=1)
                axes.annotate(name, (1, mean), xycoords=("axes fraction", "data"), fontsize=8, color=colour)
        scale(axes, axis)
        axes.set_xlabel(f"{sweep.label} ({axis.fixed})" if axis.fixed else sweep.label)
        axes.set_ylabel(title)
        if "MSE" in title:
            axes.set_yscale("log")
            lowest, highest = axes.get_ylim()
            axes.yaxis.set_major_formatter("{x:g}")
            # less than a decade has too few major ticks to read a value from
            axes.yaxis.set_minor_formatter("{x:g}" if highest < 10 * lowest else NullFormatter())
        if len(group) > 1:
            axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    labels = dict(zip(axis.trials["label"], axis.trials["trial"], strict=True))
    kind = study.criterion(criterion).label
    caption = (
        f"{kind} against {sweep.label.removeprefix(f'{kind} ')} at the last epoch{after}; "
        f"level lines are {name}'s means, in the line style of their metric. "
        f"{output.seeds_note(study, labels, statistics.LEVEL)}"
    )
    return output.save_figure(study, canvas, out, sweep.stem, caption)


def compared(axes: Axes, study: Study, metric: str, lines: Mapping[str, Axis], log: bool) -> None:
    """``metric`` of each criterion along its axis of ``lines``, all of one setting, whose words keep their order."""
    setting = next(iter(lines.values())).name
    rows = pd.concat([axis.trials[["trial", setting]] for axis in lines.values()]).sort_values("trial")
    values = rows[setting]
    is_words = not pd.api.types.is_numeric_dtype(values)
    places = {word: float(place) for place, word in enumerate(values.unique())} if is_words else {}
    estimates = selection.summary(study, metric)
    for criterion, axis in lines.items():
        trials = axis.trials.assign(**{setting: axis.trials[setting].map(places)}) if is_words else axis.trials
        placed = replace(axis, trials=trials.sort_values(setting))
        kind = study.criterion(criterion).label
        style = output.look(study, criterion) if axis.is_line else {"color": output.colour(study, criterion)}
        errorbars(
            axes,
            placed,
            estimates,
            marker=output.marker(study, criterion),
            label=f"{kind} ({axis.fixed})" if axis.fixed else kind,
            **({"linestyle": "none"} | style),
        )
    if is_words:
        axes.set_xticks(list(places.values()), list(places))
        axes.set_xlim(-0.5, len(places) - 0.5)
        return
    if log and (values > 0).all():
        axes.set_xscale("log")
    ticks = apart(values, axes)
    axes.set_xticks(ticks, [number(value, 4) for value in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def errorbars(axes: Axes, axis: Axis, estimates: Mapping[int, Estimate], **style: Any) -> None:
    """Means with their intervals along ``axis``, of the trials that have one."""
    rows = [(row[axis.name], estimates[row["trial"]]) for _, row in axis.trials.iterrows() if row["trial"] in estimates]
    halves = [estimate.half if estimate.complete else 0 for _, estimate in rows]
    axes.errorbar(
        [value for value, _ in rows], [estimate.mean for _, estimate in rows], halves, capsize=3, markersize=5, **style
    )  # fmt: skip


def scale(axes: Axes, axis: Axis) -> None:
    """Logarithmic, with room for 0, and ticks at the values that were run."""
    values = axis.trials[axis.name]
    smallest = values[values > 0].min()
    if (values == 0).any():
        axes.set_xscale("symlog", linthresh=smallest)
    elif (values > 0).all():
        axes.set_xscale("log")
    if axis.is_line:
        ticks = apart(values, axes)
        axes.set_xticks(ticks, [number(value, 4) for value in ticks])
        axes.xaxis.set_minor_locator(NullLocator())


def apart(values: Iterable[float], axes: Axes) -> list[float]:
    """Those of ``values`` whose labels stand apart along the x-axis of ``axes``, from the smallest on."""
    span = float(np.diff(axes.transData.transform([(limit, 0) for limit in axes.get_xlim()])[:, 0])[0])
    shown: list[float] = []
    free = -np.inf
    for value in sorted(set(values)):
        place = float(axes.transData.transform((value, 0))[0])
        # a digit is some 3 per cent of a panel wide, and a label is centred
        half = 0.015 * (2 + len(number(value, 4))) * span
        if place - half >= free:
            shown.append(value)
            free = place + half
    return shown


if __name__ == "__main__":
    command.run(section, __doc__)
