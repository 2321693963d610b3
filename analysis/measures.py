"""What is measured of every benchmark: probes of the fine labels, and the geometry of the features, by trial.

python -m analysis.measures --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis import command, output, selection, shares, statistics, tables
from analysis.output import Section, Table
from analysis.runs import Study

#: groups of metrics as they are declared, each with its title and the stem of its table
GROUPS: Mapping[str, tuple[str, str]] = {
    "fine-probes": ("Fine labels read from the features, at the last epoch", "fine-probes"),
    "label-free": ("The features without fine labels, at the last epoch", "label-free"),
}


def section(study: Study, out: Path) -> Section | None:
    """Tables ``fine-probes`` and ``label-free`` of all trials, with paired differences; None without such metrics.

    Held-out samples; what was measured on validation ones is in MLflow.
    """
    shown = tables.rows(study, every=True)
    items: list[str | output.Figure | Table] = []
    for group, (title, stem) in GROUPS.items():
        metrics = declared(study, group)
        if shown and metrics:
            items += _tables(study, shown, metrics, out, title, stem)
    return Section("All probes and measures", tuple(items)) if items else None


def declared(study: Study, group: str) -> Sequence[str]:
    """The metrics of ``group`` that a trial has at its last epoch, without those of the validation part."""
    own = [name for name, metric in study.metrics.items() if metric.group == group and not name.endswith("validation")]
    return [metric for metric in own if selection.summary(study, metric)]


def _tables(
    study: Study, shown: Mapping[str, int], metrics: Sequence[str], out: Path, title: str, stem: str
) -> list[Table]:
    columns = {metric: study.metric(metric).label for metric in metrics}
    seeds = output.seeds_note(study, shown, statistics.LEVEL)
    said = [study.metric(metric) for metric in metrics]
    # several scores of one probe, and one score of several, share their words
    words = [note if ": " in note else f"{metric.label}: {note}" for metric in said for note in metric.note.split("; ")]
    notes = "; ".join(dict.fromkeys(words))
    beyond = shares.above(study, metrics)
    made = [
        output.save_table(
            study,
            tables.beside(study, shown, columns, _floors(study, metrics)),
            out,
            stem,
            f"{title}, means over seeds on held-out samples ({seeds[:-1]}). {notes}. {beyond}".rstrip(),
            tables.numbers(study, shown, columns),
        )
    ]
    differences = tables.against_reference(study, shown, columns)
    if len(differences):
        caption = f"The same metrics. {tables.differences_caption(study)}"
        numbers = tables.difference_numbers(study, shown, metrics)
        made.append(output.save_table(study, differences, out, f"{stem}-differences", caption, numbers))
    return made


def _floors(study: Study, metrics: Sequence[str]) -> tables.Printed:
    """Rows of what is read where nothing was trained, without a number where that was not measured."""
    found = {
        name: {metric: str(value) for metric, value in values.items()}
        for name, values in shares.rows(study, metrics).items()
    }
    return [("floor", found)] if found else []


if __name__ == "__main__":
    command.run(section, __doc__)
