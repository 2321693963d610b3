"""The rivals in one table: what each criterion keeps of the fine labels under each probe, against the reference.

python -m analysis.rivals --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import command, measures, output, selection, shares, similarity, statistics, tables
from analysis.output import Figure, Section, Table
from analysis.runs import Study
from analysis.schema import ACCURACY
from analysis.statistics import Difference, Estimate, Ratio

#: the group of metrics that are compared
GROUP = "fine-probes"
#: fewer criteria than this beside the reference are no rivals
FEWEST = 2


@dataclass(frozen=True)
class Cell:
    """What one trial has of one metric; ``p`` is that of the difference after Holm, NaN where there is none."""

    value: Estimate
    difference: Difference | None
    p: float
    share: Ratio | None


def section(study: Study, out: Path) -> Section | None:
    """Means, differences and shares as tables, and figure ``rivals``.

    None without fine probes, the reference or `FEWEST` rivals. Where a search's choice is confirmed, they are of the
    fresh seeds alone.
    """
    fresh = study.confirmation
    seen = fresh if len(fresh.trials) and len(fresh.final) else study
    metrics = compared(seen)
    reference = selection.headline(seen).get(seen.reference)
    shown = tables.rows(seen, every=seen is fresh)
    others = {criterion for criterion in selection.headline(seen) if not seen.criterion(criterion).fine}
    if not metrics or reference is None or len(others) <= FEWEST:
        return None
    floor = next(iter(shares.rows(seen, metrics)), "")
    cells = compare(seen, shown, metrics, floor)
    items: list[str | Figure | Table] = []
    if seen is fresh:
        items.append("On fresh seeds, which had no part in any choice: defaults, and what the search chose.")
    caption = (
        f"Each criterion under each probe, on held-out samples at the last epoch: means with {statistics.LEVEL:.0%} "
        f"Student-t intervals ({_seeds(seen, shown)})."
    )
    if beyond := shares.above(seen, metrics):
        caption += f" {beyond}"
    means = _means(seen, shown, metrics, cells)
    items.append(output.save_table(study, means, out, "rivals", caption, _numbers(cells, shown)))
    items.append(_figure(seen, shown, metrics, cells, out))
    items.append(output.save_table(study, *_differences(seen, metrics, cells, out)))
    items += said(seen, cells)
    if any(cell.share is not None for row in cells.values() for cell in row.values()):
        items.append(output.save_table(study, *_shares(seen, metrics, cells, floor, out)))
    return Section("Rivals: what is kept of the fine labels", tuple(items))


def compared(study: Study) -> list[str]:
    """The first metric of each fine probe, as a probe of values is scored in several ways."""
    probes: dict[str, str] = {}
    for metric in measures.declared(study, GROUP):
        probes.setdefault(study.metric(metric).note.partition(":")[0] or metric, metric)
    return list(probes.values())


def compare(study: Study, shown: Mapping[str, int], metrics: Sequence[str], floor: str) -> dict[str, dict[str, Cell]]:
    """label -> metric -> what the trial has, with p after Holm over all differences but those of a ceiling."""
    reference = selection.headline(study)[study.reference].trial
    found: dict[tuple[str, str], tuple[Estimate, Difference | None]] = {}
    for metric in metrics:
        values = selection.summary(study, metric)
        for label, trial in shown.items():
            if trial in values:
                other = trial != reference
                found[label, metric] = (
                    values[trial],
                    selection.difference(study, metric, trial, reference) if other else None,
                )
    family = {
        key: difference.p
        for key, (_, difference) in found.items()
        if difference is not None and difference.complete and not shares.is_ceiling(study, shown[key[0]])
    }
    adjusted = dict(zip(family, statistics.holm(list(family.values())), strict=True))
    cells: dict[str, dict[str, Cell]] = {label: {} for label in shown}
    for (label, metric), (value, difference) in found.items():
        top = shares.is_ceiling(study, shown[label])
        part = None if top else shares.share(study, metric, shown[label], floor)
        cells[label][metric] = Cell(value, difference, float(adjusted.get((label, metric), np.nan)), part)
    return cells


def said(study: Study, cells: Mapping[str, Mapping[str, Cell]]) -> list[str]:
    """What is decided after Holm, a sentence for each probe."""
    label = study.criterion(study.reference).label
    sentences = []
    for metric in dict.fromkeys(metric for row in cells.values() for metric in row):
        sign = -1 if study.metric(metric).better == "lower" else 1
        decided = {
            name: sign * row[metric].difference.mean  # type: ignore[union-attr]
            for name, row in cells.items()
            if metric in row and row[metric].p < statistics.ALPHA
        }
        above = [name for name, difference in sorted(decided.items(), key=lambda each: -each[1]) if difference > 0]
        below = [name for name, difference in sorted(decided.items(), key=lambda each: each[1]) if difference < 0]
        parts = [f"better than {label}: {', '.join(above) or 'none'}", f"worse: {', '.join(below) or 'none'}"]
        sentences.append(
            f"Decided at p < {statistics.ALPHA:g} after Holm, {study.metric(metric).label}: {'; '.join(parts)}."
        )
    return sentences


def _means(
    study: Study, shown: Mapping[str, int], metrics: Sequence[str], cells: Mapping[str, Mapping[str, Cell]]
) -> pd.DataFrame:
    """A row per floor, per trial, and the ceiling last; columns: coarse accuracy, the probes, CKA to the reference."""
    columns = {metric: study.metric(metric).label for metric in metrics}
    coarse = selection.summary(study, ACCURACY)
    reference = selection.headline(study)[study.reference].trial
    alike = f"linear CKA with {study.criterion(study.reference).label}"
    rows: list[dict[str, str]] = [
        {"": f"floor: {name}"} | {columns[metric]: str(value) for metric, value in values.items()}
        for name, values in shares.rows(study, metrics).items()
    ]
    for label in sorted(shown, key=lambda label: shares.is_ceiling(study, shown[label])):
        trial = shown[label]
        named = f"ceiling: {label}" if shares.is_ceiling(study, trial) else label
        row = {"": named}
        if coarse:
            row[study.metric(ACCURACY).label] = str(coarse.get(trial, "–"))
        row |= {columns[metric]: str(cell.value) for metric, cell in cells[label].items()}
        if trial != reference and len(found := similarity.of_trials(study, trial, reference)):
            row[alike] = str(statistics.estimate(found, selection.planned(study, trial)))
        rows.append(row)
    order = ["", study.metric(ACCURACY).label, *columns.values(), alike]
    table = pd.DataFrame(rows)
    return table[[name for name in order if name in table]].fillna("–")


def _differences(
    study: Study, metrics: Sequence[str], cells: Mapping[str, Mapping[str, Cell]], out: Path
) -> tuple[pd.DataFrame, Path, str, str]:
    """Frame, folder, stem and caption of the paired differences to the reference."""
    label = study.criterion(study.reference).label
    rows = []
    for name, row in cells.items():
        told = {}
        for metric, cell in row.items():
            if cell.difference is not None:
                # a corrected interval stands in the file of numbers
                p = "" if np.isnan(cell.p) else f", {statistics.p_text(cell.p)}"
                told[study.metric(metric).label] = f"{cell.difference.bounds}{p}"
        if told:
            rows.append({"": f"{name} − {label}", **told})
    tested = sum(not np.isnan(cell.p) for row in cells.values() for cell in row.values())
    caption = (
        f"Paired differences to {label} on the same seeds, with {statistics.LEVEL:.0%} intervals and the p of the "
        f"paired t-test after Holm over all {tested} differences of the table that have one."
    )
    order = ["", *(study.metric(metric).label for metric in metrics)]
    return pd.DataFrame(rows, columns=order).fillna("–"), out, "rivals-differences", caption


def _shares(
    study: Study, metrics: Sequence[str], cells: Mapping[str, Mapping[str, Cell]], floor: str, out: Path
) -> tuple[pd.DataFrame, Path, str, str]:
    """Frame, folder, stem and caption of the shares of the way from floor to ceiling."""
    columns = {metric: study.metric(metric).label for metric in metrics}
    rows = [
        {"": name, **{columns[metric]: str(cell.share) for metric, cell in row.items() if cell.share is not None}}
        for name, row in cells.items()
        if any(cell.share is not None for cell in row.values())
    ]
    top = shares.ceiling(study)
    caption = (
        f"Share of the way from the {floor} to {_labels(study)[top] if top is not None else 'the ceiling'}, with "
        f"Fieller's {statistics.LEVEL:.0%} interval; none where the second is not surely better than the first."
    )
    return pd.DataFrame(rows, columns=["", *columns.values()]).fillna("–"), out, "rivals-shares", caption


def _numbers(cells: Mapping[str, Mapping[str, Cell]], shown: Mapping[str, int]) -> pd.DataFrame:
    rows = []
    for label, row in cells.items():
        for metric, cell in row.items():
            found: dict[str, object] = {
                "trial": shown[label],
                "label": label,
                "metric": metric,
                "mean": cell.value.mean,
            }
            if cell.value.complete:
                found |= {"low": cell.value.low, "high": cell.value.high}
            if (value := cell.difference) is not None:
                found |= {"difference": value.mean, "p": value.p, "exact_p": value.exact, "p_holm": cell.p}
                if value.complete:
                    found |= {"difference_low": value.low, "difference_high": value.high}
                    found |= {
                        "corrected_low": value.mean - value.corrected,
                        "corrected_high": value.mean + value.corrected,
                    }
            if cell.share is not None:
                found |= {"share": cell.share.value, "share_low": cell.share.low, "share_high": cell.share.high}
            rows.append({**found, "n": cell.value.n, "planned": cell.value.planned})
    return pd.DataFrame(rows)


def _figure(
    study: Study,
    shown: Mapping[str, int],
    metrics: Sequence[str],
    cells: Mapping[str, Mapping[str, Cell]],
    out: Path,
) -> Figure:
    """A panel per probe: every trial's mean with its interval, the floors and the ceiling as lines."""
    rivals = [label for label in shown if not shares.is_ceiling(study, shown[label])]
    height = 1.2 + 0.24 * len(rivals)
    canvas, axes = output.row_of_panels(len(metrics), 3.1, [height])
    criteria = study.trials.set_index("trial")["criterion"]
    top, bottoms = shares.ceiling(study), shares.rows(study, metrics)
    reference = selection.headline(study)[study.reference].trial
    for panel, metric in zip(np.ravel(axes), metrics, strict=True):
        summary = selection.summary(study, metric)
        for place, label in enumerate(reversed(rivals)):
            if metric not in cells[label]:
                continue
            value = cells[label][metric].value
            half = value.half if value.complete else 0.0
            colour = output.colour(study, criteria[shown[label]])
            panel.errorbar(value.mean, place, xerr=half, fmt="o", markersize=4, capsize=2, color=colour)
        if reference in summary:
            panel.axvline(summary[reference].mean, color="#5b6670", linewidth=0.8)
        for (name, values), style in zip(bottoms.items(), (":", "-."), strict=False):
            if metric in values:
                panel.axvline(values[metric].mean, color="#a04000", linestyle=style, linewidth=1, label=name)
        if top is not None and top in summary:
            panel.axvline(summary[top].mean, color="#11602b", linestyle="--", linewidth=1, label=_labels(study)[top])
        panel.locator_params(axis="x", nbins=4)
        panel.set_ylim(-0.6, len(rivals) - 0.4)
        panel.set_yticks(range(len(rivals)), list(reversed(rivals)) if panel is np.ravel(axes)[0] else [])
        panel.set_xlabel(study.metric(metric).label.replace(", ", ",\n"))
    if bottoms or top is not None:
        output.legend_below(canvas, np.ravel(axes)[0])
    label = study.criterion(study.reference).label
    caption = (
        f"The same as a figure: means with {statistics.LEVEL:.0%} intervals; the grey line is {label}, the others are "
        "the floors and the ceiling."
    )
    return output.save_figure(study, canvas, out, "rivals", caption)


def _labels(study: Study) -> Mapping[int, str]:
    return dict(zip(study.trials["trial"], study.trials["label"], strict=True))


def _seeds(study: Study, shown: Mapping[str, int]) -> str:
    return output.seeds_note(study, shown, statistics.LEVEL).rstrip(".")


if __name__ == "__main__":
    command.run(section, __doc__)
