"""Reliability diagrams (figure A3) and the metrics of the output distribution (table A1), by criterion.

python -m analysis.reliability --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import command, output, selection, statistics, tables
from analysis.output import Figure, Section, Table
from analysis.runs import Study

COLUMNS: Mapping[str, str] = {
    "information/mutual": "mutual information (bits)",
    "stability": "stability",
    "stability/released": "stability, released code",
    "calibration/ece": "ECE",
    "calibration/mce": "MCE",
}


def section(
    study: Study,
    out: Path,
    columns: Mapping[str, str] = COLUMNS,
    printed: tables.Printed = (),
) -> Section:
    """Figure ``reliability`` and table ``output-metrics``: ``columns`` (metric -> heading), beside ``printed`` rows."""
    items: list[str | Figure | Table] = []
    stacks = curves(study)
    if stacks:
        items.append(_figure(study, stacks, out))
    else:
        items.append(output.lost_note(study) or "No reliability curve was kept with the replicas.")
    shown = tables.rows(study)
    printed = output.printed(study, printed)
    table = tables.beside(study, shown, columns, printed)
    if len(table.columns) > 1:
        beside = ", beside the released notebook's (table A1; one run on the authors' data)" if printed else ""
        caption = (
            "Metrics of the output distribution at the last epoch, means over seeds "
            f"({output.seeds_note(study, shown, statistics.LEVEL)[:-1]}){beside}. ECE and MCE are shares, over "
            "all class probabilities in 10 bins."
        )
        if "stability/released" in columns:
            caption += " The released code's stability counts the last class alone."
        data = tables.numbers(study, shown, columns)
        items.append(output.save_table(study, table, out, "output-metrics", caption, data))
    return Section("Reliability and the output distribution: figure A3, table A1", tuple(items))


def curves(study: Study) -> dict[str, np.ndarray]:
    """criterion -> reliability curves (seeds, bins, 3) of confidence, frequency and count; those that were kept."""
    stacks = {}
    for criterion, choice in selection.headline(study).items():
        seeds = study.final.loc[study.final["trial"] == choice.trial, "seed"].unique()
        kept = [study.arrays(choice.trial, int(seed)).get("reliability") for seed in seeds]
        there = [curve for curve in kept if curve is not None]
        if there:
            stacks[criterion] = np.stack(there)
    return stacks


def _figure(study: Study, stacks: Mapping[str, np.ndarray], out: Path) -> Figure:
    chosen = selection.headline(study)
    canvas, grid = output.row_of_panels(len(stacks), 2.9, [2.9, 1.0], sharex=True, sharey="row")
    for (diagram, shares), (criterion, stack) in zip(grid.T, stacks.items(), strict=True):
        colour = output.colour(study, criterion)
        count = stack[..., 2]
        # a bin that is empty under some seeds is drawn from the others, without an interval
        lines = statistics.band(pd.DataFrame(stack[..., 1].T), selection.planned(study, chosen[criterion].trial))
        confidence = statistics.band(pd.DataFrame(stack[..., 0].T), len(stack))["mean"]
        diagram.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
        halves = (lines["high"] - lines["mean"]).fillna(0)
        diagram.errorbar(confidence, lines["mean"], halves, color=colour, marker="o", markersize=4, capsize=3)
        diagram.set_title(chosen[criterion].label, color=colour)
        diagram.set(xlim=(0, 1), ylim=(0, 1))
        bins = stack.shape[1]
        shares.bar(
            (np.arange(bins) + 0.5) / bins, (count / count.sum(1, keepdims=True)).mean(0), 0.9 / bins, color=colour
        )
        shares.set_yscale("log")
        shares.set_xlabel("class probability")
        shares.tick_params(labelbottom=True)
    for diagram, shares in grid.T[:: output.PANELS]:
        diagram.set_ylabel("observed frequency")
        shares.set_ylabel("share")
    labels = {choice.label: choice.trial for criterion, choice in chosen.items() if criterion in stacks}
    caption = (
        "Reliability diagrams, after figure A3: above, how often the class is right against the probability given to "
        "it, over all class probabilities; below, the share of the probabilities in each bin (logarithmic). "
        f"{output.seeds_note(study, labels, statistics.LEVEL)}"
    )
    return output.save_figure(study, canvas, out, "reliability", caption)


if __name__ == "__main__":
    command.run(section, __doc__)
