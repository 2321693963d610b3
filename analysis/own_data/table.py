"""Every metric at the last epoch by criterion, with paired differences.

python -m analysis.own_data.table --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from pathlib import Path

from analysis import command, output, selection, statistics, tables
from analysis.declarations import Metric
from analysis.output import Section, Table
from analysis.runs import Study

#: the criterion's own value
LOSS = "loss/train"


def section(study: Study, out: Path) -> Section:
    """Tables ``metrics`` and ``metrics-differences`` (paired, against the reference), a column per metric."""
    title = "Results"
    shown = tables.rows(study, every=True)
    if not shown:
        return Section(title, ("No trial is done.",))
    measured = sorted(map(str, study.final["metric"].unique()))
    # what a search chooses by stands in its section, and what is measured of every benchmark in tables of its own
    metrics = [name for name in measured if study.metric(name).twin_of not in measured and not study.metric(name).group]
    metrics.sort(key=lambda name: (_rank(study, name), name))
    # what the page's answer rests on
    if (asked := selection.fine_metric(study)) in measured:
        metrics = [asked, *(name for name in metrics if name != asked)]
    columns = {metric: study.metric(metric).label for metric in metrics}
    caption = (
        f"Means at the last epoch with {statistics.LEVEL:.0%} Student-t intervals over seeds: "
        f"{output.seeds_note(study, shown, statistics.LEVEL)}"
    )
    if len(metrics) < len(measured):
        caption += " Their values on the validation part stand in MLflow and in `fierce export`."
    table = tables.beside(study, shown, columns, ())
    data = tables.numbers(study, shown, columns)
    items: list[str | Table] = [output.save_table(study, table, out, "metrics", caption, data)]
    if declared := [sentence for metric in metrics if (sentence := _declared(study.metric(metric)))]:
        items.append(" ".join(declared))
    # what a criterion is trained on differs from another's by what it is, which no test need tell
    compared = {name: label for name, label in columns.items() if name != LOSS}
    differences = tables.against_reference(study, shown, compared)
    if len(differences):
        caption = tables.differences_caption(study)
        items.append(output.save_table(study, differences, out, "metrics-differences", caption))
    return Section(title, tuple(items))


def _rank(study: Study, name: str) -> int:
    """The page's main metrics first, then what has a better direction, then the others, and training last."""
    if name in study.page.metrics:
        return list(study.page.metrics).index(name) - len(study.page.metrics)
    return 2 if name in (LOSS, "accuracy/train") else int(study.metric(name).better == "none")


def _declared(metric: Metric) -> str:
    """What is said of a metric: how it is measured, and which values are better; nothing where nothing is."""
    direction = f"{metric.better} is better" if metric.better in ("lower", "higher") else ""
    words = "; ".join(filter(None, (metric.note, direction)))
    return f"{metric.label}: {words}." if words else ""


if __name__ == "__main__":
    command.run(section, __doc__)
