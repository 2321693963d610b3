"""Studies side by side on one self-contained page, from MLflow alone.

What differs in their files, what each reaches, paired differences where seeds, data and splits are the same (refused in
words where they are not), and the same figures with one colour for each study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import claims, output, rendering, selection, sensitivity, statistics, trajectories
from analysis.across import pairing
from analysis.across.pairing import Match
from analysis.across.together import Together, differences
from analysis.output import Figure, Lead, Section, Table
from analysis.runs import Study
from analysis.statistics import Difference
from analysis.store import StoreError

#: metrics that the figures show at most
PANELS = 4


def write(stores: Sequence[tuple[str, str]], out: Path) -> Path:
    """Write ``out``/comparison.html of the studies of ``stores`` (tracking URI, name), figures and tables beside it.

    The first is what the others are compared with. Raises `StoreError` where a study cannot be read, where there is
    only one, and where one has no trial that is done.
    """
    if len({name for _, name in stores}) < len(stores) or len(stores) < 2:
        raise StoreError("a comparison is of two studies or more, each named once")
    together = Together([Study.open(uri, name) for uri, name in stores])
    for study in together.studies:
        if study.final.empty:
            raise StoreError(f"study {study.name!r} has no replica that is done, so there is nothing to compare yet")
    made = (overview, results, at_the_end, along_training, against_hyperparameters, others)
    sections = [section for make in made if (section := make(together, out))]
    return rendering.write(
        out / "comparison.html",
        "comparison.html.j2",
        title=" and ".join(study.name for study in together.studies),
        answer=answer(together),
        sections=sections,
        origin=output.provenance(together),
        command=f"fierce compare {' '.join(study.name for study in together.studies)}",
    )


def answer(together: Together) -> Section:
    """What may be subtracted from what, and what differs, in words."""
    sentences: list[str] = []
    for other in together.others:
        why = pairing.refusal(together.first, other)
        if why:
            sentences.append(
                f"{other.name} and {together.first.name} are not paired: {why}. Their means stand side by side, and no "
                "difference of theirs is tested."
            )
            continue
        rows = tested(together.first, other, together.main_metrics())
        sure = [each for each in rows if each.adjusted <= statistics.ALPHA]
        sentences.append(
            f"{other.name} and {together.first.name} are paired seed by seed: of {len(rows)} differences in the main "
            f"metrics {len(sure)} are told from 0 (Holm over all of them)."
        )
    return Section("The answer", (Lead(sentences[0]), *sentences[1:]))


def overview(together: Together, out: Path) -> Section:
    """The studies, and the table of what differs."""
    rows = [
        {
            "study": study.name,
            "benchmark": study.benchmark,
            "protocol": str(study.settings.get("protocol") or "–"),
            "trials done": f"{int((study.trials['state'] == 'done').sum())} of {study.planned_trials}",
            "seeds": str(len({seed for seeds in study.trials["planned"] for seed in seeds})),
            "data": ", ".join(sorted(set(study.trials["data_name"]) - {""})) or "not stated",
        }
        for study in together.studies
    ]
    items: list[str | Table] = [output.save_table(together, pd.DataFrame(rows), out, "studies", "The studies.")]
    table = differences(together)
    if len(table):
        caption = (
            "What differs between the study files (as they were resolved), the data and the code; the rest is equal."
        )
        items.append(output.save_table(together, table, out, "files", caption, first=tuple(table.columns)))
    else:
        items.append("Files, data and code are the same but for names and addresses.")
    lacking = [study.name for study in together.studies if not study.file]
    if lacking:
        items.append(f"No study file was kept with {' and '.join(lacking)}, so that nothing is said of it.")
    return Section("What differs", tuple(items))


def results(together: Together, out: Path) -> Section:
    """Tables of each other study beside the first, with paired differences where they may be taken."""
    items: list[str | Table] = []
    for place, other in enumerate(together.others):
        pairs = pairing.matches(together.first, other)
        if not pairs:
            items.append(f"{together.first.name} and {other.name} have no criterion in common that is done in both.")
            continue
        why = pairing.refusal(together.first, other)
        stem = "paired" if len(together.others) == 1 else f"paired-{place + 1}"
        names = f"{other.name} less {together.first.name}"
        if why:
            items.append(f"No paired difference {names}: {why}.")
        else:
            items.append(pairing.note(together.first, other))
        items.append(_beside(together, other, out, stem, together.main_metrics(), is_paired=not why))
    return Section("Results side by side", tuple(items))


def others(together: Together, out: Path) -> Section | None:
    """Tables of the metrics that are not the pages' main ones, whose differences are not tested."""
    metrics = [name for name in together.metrics() if name not in together.main_metrics()]
    items: list[str | Table] = []
    for place, other in enumerate(together.others):
        if not metrics or not pairing.matches(together.first, other):
            continue
        stem = "others" if len(together.others) == 1 else f"others-{place + 1}"
        is_paired = not pairing.refusal(together.first, other)
        items.append(_beside(together, other, out, stem, metrics, is_paired=is_paired, is_tested=False))
    return Section("Every other metric", tuple(items)) if items else None


@dataclass(frozen=True)
class Tested:
    """A paired difference: of which ``match`` and metric, p as for claims, and that adjusted (Holm's)."""

    match: Match
    metric: str
    difference: Difference
    p: float
    adjusted: float


def tested(first: Study, second: Study, metrics: Sequence[str]) -> list[Tested]:
    """Each match and metric of which both studies hold seeds in common; p is adjusted over all of them."""
    pairs = [(match, metric) for match in pairing.matches(first, second) for metric in metrics]
    values = [(*pair, value) for pair in pairs if (value := pairing.difference(first, second, pair[1], pair[0]))]
    p = [claims.decide(value, 1).p for *_, value in values]
    rows = zip(values, p, statistics.holm(p), strict=True)
    return [Tested(*value, own, float(adjusted)) for value, own, adjusted in rows]


def _beside(
    together: Together,
    other: Study,
    out: Path,
    stem: str,
    metrics: Sequence[str],
    is_paired: bool,
    is_tested: bool = True,
) -> Table:
    first = together.first
    found = tested(first, other, metrics) if is_paired else []
    by_key = {(each.match, each.metric): each for each in found}
    rows, data = [], []
    for match in pairing.matches(first, other):
        for metric in metrics:
            one, two = (
                selection.summary(first, metric).get(match.first),
                selection.summary(other, metric).get(match.second),
            )
            if one is None or two is None:
                continue
            row = {
                "criterion and setting": match.label,
                "metric": first.metric(metric).label,
                first.name: str(one),
                other.name: str(two),
            }
            numbers = {**row, "metric": metric, first.name: one.mean, other.name: two.mean}
            numbers |= {f"trial of {first.name}": match.first, f"trial of {other.name}": match.second}
            if (pair := by_key.get((match, metric))) is not None:
                row[f"{other.name} less {first.name}"] = str(pair.difference) if is_tested else pair.difference.bounds
                numbers |= {"difference": pair.difference.mean, "half": pair.difference.half}
                if is_tested:
                    row["adjusted p"] = claims.p_cell(pair.adjusted)
                    numbers |= {"p": pair.p, "adjusted p": pair.adjusted}
            rows.append(row)
            data.append(numbers)
    frame = pd.DataFrame(rows).fillna("–")
    caption = (
        f"Means at the last epoch with {statistics.LEVEL:.0%} Student-t intervals over seeds. Settings of one "
        "criterion that are in both studies stand in one row; where none is, the trials that speak for the criterion, "
        "first | second."
    )
    if is_paired and not is_tested:
        caption += " Differences are paired by seed, each interval for one by itself; none is tested."
    elif is_paired:
        caption += (
            f" Differences are paired by seed; adjusted p: Holm over the {len(by_key)} differences of this table, of "
            "the t-test, or of the exact sign-flip test where that alone is too large."
        )
    return output.save_table(together, frame, out, stem, caption, pd.DataFrame(data), first=tuple(frame.columns))


def at_the_end(together: Together, out: Path) -> Section | None:
    """Figure ``last-epoch``: the main metrics of the trial that speaks for each criterion, a colour for each study."""
    metrics, criteria = together.main_metrics()[:PANELS], _criteria(together)
    if not metrics or not criteria:
        return None
    size = (3.3 * len(metrics) + 1.2, 1.2 + 0.28 * len(criteria) * len(together.studies))
    canvas, grid = plt.subplots(1, len(metrics), figsize=size, squeeze=False, sharey=True, layout="constrained")
    offsets = np.linspace(-0.25, 0.25, len(together.studies))
    for axes, metric in zip(grid.flat, metrics, strict=True):
        for study, offset in zip(together.studies, offsets, strict=True):
            _points(axes, together, study, metric, criteria, float(offset))
        axes.set_yticks(range(len(criteria)), list(criteria.values()))
        axes.set_ylim(len(criteria) - 0.4, -0.6)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(_label(together, metric))
    output.legend_below(canvas, grid.flat[0])
    caption = (
        f"The trial that speaks for each criterion, at the last epoch. {_seeds(together)} Intervals of two studies "
        "that overlap may still differ: paired differences stand in the table."
    )
    return Section("At the last epoch", (output.save_figure(together, canvas, out, "last-epoch", caption),))


def _points(axes: Axes, together: Together, study: Study, metric: str, criteria: dict[str, str], offset: float) -> None:
    chosen, found = selection.headline(study), selection.summary(study, metric)
    look = together.look(study)
    shown = [(place, found[chosen[name].trial]) for place, name in enumerate(criteria) if name in chosen
             and chosen[name].trial in found]  # fmt: skip
    axes.errorbar(
        [value.mean for _, value in shown],
        [place + offset for place, _ in shown],
        xerr=[value.half if value.complete else 0 for _, value in shown],
        fmt=look["marker"], color=look["color"], capsize=3, label=study.name,
    )  # fmt: skip


def along_training(together: Together, out: Path) -> Section | None:
    """Figure ``trajectories``: a row per main metric, a column per criterion, a colour for each study."""
    criteria = _criteria(together)
    curves = {
        (metric, study): trajectories.by_criterion(study, metric)
        for metric in together.main_metrics()[:PANELS]
        for study in together.studies
    }
    metrics = [
        metric for metric in together.main_metrics()[:PANELS] if any(curves[metric, each] for each in together.studies)
    ]
    columns = [name for name in criteria if any(name in each for each in curves.values())]
    if not metrics or not columns:
        return None
    size = (2.9 * len(columns) + 0.6, 2.3 * len(metrics) + 0.4)
    canvas, grid = plt.subplots(
        len(metrics), len(columns), figsize=size, squeeze=False, sharey="row", layout="constrained"
    )
    for (row, column), axes in np.ndenumerate(grid):
        for study in together.studies:
            values = curves[metrics[row], study].get(columns[column])
            if values is not None:
                line = statistics.band(
                    values, selection.planned(study, selection.headline(study)[columns[column]].trial)
                )
                look = together.look(study)
                axes.plot(line.index, line["mean"], color=look["color"], linestyle=look["linestyle"], label=study.name)
                axes.fill_between(line.index, line["low"], line["high"], color=look["color"], alpha=0.2, linewidth=0)
        axes.locator_params(axis="x", integer=True, nbins=5)
        if row == 0:
            axes.set_title(criteria[columns[column]])
        if row == len(metrics) - 1:
            axes.set_xlabel("epoch")
        if column == 0:
            axes.set_ylabel(_label(together, metrics[row]))
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    canvas.legend(
        list(handles.values()), list(handles), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(handles)
    )
    figure = output.save_figure(
        together,
        canvas,
        out,
        "trajectories",
        f"Trajectories of the trial that speaks for each criterion. {_seeds(together)}",
    )
    return Section("Along training", (figure,))


def against_hyperparameters(together: Together, out: Path) -> Section | None:
    """A figure per hyperparameter of which two studies or more ran three values."""
    figures = []
    for name in _criteria(together):
        for hyperparameter in together.first.criterion(name).hyperparameters:
            axes = {
                study: axis
                for study in together.studies
                if (axis := sensitivity.along(study, name, hyperparameter.name))
            }
            if len(axes) > 1:
                figures.append(_sweep(together, out, name, hyperparameter.symbol, axes))
    return Section("Against hyperparameters", tuple(figures)) if figures else None


def _sweep(
    together: Together, out: Path, criterion: str, symbol: str, axes_of: dict[Study, sensitivity.Axis]
) -> Figure:
    metrics = together.main_metrics()[:PANELS]
    canvas, grid = plt.subplots(1, len(metrics), figsize=(3.3 * len(metrics), 3), squeeze=False, layout="constrained")
    for axes, metric in zip(grid.flat, metrics, strict=True):
        for study, axis in axes_of.items():
            look = together.look(study)
            style = look if axis.is_line else look | {"linestyle": "none"}
            sensitivity.errorbars(axes, axis, selection.summary(study, metric), label=study.name, **style)
        sensitivity.scale(axes, next(iter(axes_of.values())))
        axes.set_xlabel(symbol)
        axes.set_ylabel(_label(together, metric))
    output.legend_below(canvas, grid.flat[0])
    fixed = "; ".join(f"{study.name}: {axis.fixed}" for study, axis in axes_of.items() if axis.fixed)
    label = together.first.criterion(criterion).label
    caption = f"{label} against {symbol}{f' ({fixed})' if fixed else ''}. {_seeds(together)}"
    stem = f"sweep-{rendering.stem(criterion)}-{next(iter(axes_of.values())).name}"
    return output.save_figure(together, canvas, out, stem, caption)


def _criteria(together: Together) -> dict[str, str]:
    """Name -> label of the criteria that speak in some study, in the order of tables."""
    spoken = [name for study in together.studies for name in selection.headline(study)]
    return {name: next(each.criterion(name).label for each in together.studies if name in each.criteria)
            for name in dict.fromkeys(spoken)}  # fmt: skip


def _label(together: Together, metric: str) -> str:
    return next((study.metric(metric).label for study in together.studies if metric in study.metrics), metric)


def _seeds(together: Together) -> str:
    parts = []
    for study in together.studies:
        labels = {choice.label: choice.trial for choice in selection.headline(study).values()}
        parts.append(f"{study.name}: {output.seeds_note(study, labels, statistics.LEVEL)}")
    return " ".join(parts)
