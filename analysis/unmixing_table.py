"""Table 1: raw and transfer MSE by criterion, the latter under every probe, beside the printed numbers.

python -m analysis.unmixing_table --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis import command, output, reference, selection, statistics
from analysis.output import Section, Table
from analysis.runs import Study
from analysis.statistics import Difference, Estimate

#: columns: metric -> heading
COLUMNS: Mapping[str, str] = {
    "accuracy/coarse": "coarse accuracy",
    "mse/raw": "raw MSE (sum)",
    "rmse/raw": "raw RMSE",
    "mse/transfer": "transfer MSE, paper's probe",
    "mse/transfer-min": "transfer MSE, paper's probe, best epoch",
    "mse/transfer-standardized": "transfer MSE, standardized",
    "mse/transfer-least-squares": "transfer MSE, least squares",
}
#: the probes of transfer MSE, the paper's first
PROBES: Mapping[str, str] = {
    "mse/transfer": "paper's probe, last epoch",
    "mse/transfer-min": "paper's probe, best epoch",
    "mse/transfer-standardized": "standardized features",
    "mse/transfer-least-squares": "least squares",
}
#: printed rows, by source
PRINTED = (("paper", reference.PAPER_UNMIXING), ("notebook", reference.NOTEBOOK_UNMIXING))
NOTE = (
    "Raw MSE is the squared error summed over the materials, and raw RMSE its square root (eq. 14); transfer MSE is "
    "the mean over the materials. Probes on frozen features: the paper's is a linear layer with softmax trained by "
    "Adam at a rate of 0.1; the standardized one is the same on standardized features at 0.01; least squares is "
    "closed-form, without softmax."
)


def section(study: Study, out: Path) -> Section:
    """Tables ``unmixing`` (ours beside the printed ones) and ``unmixing-differences`` (paired, against CE)."""
    shown = rows(study)
    if not shown:
        return Section("Unmixing: Table 1", ("No trial is done.",))
    caption = f"Means over seeds at the last epoch ({output.seeds_note(study, shown, statistics.LEVEL)[:-1]})"
    if printed := output.printed(study, PRINTED):
        caption += (
            ", beside Table 1 of the paper and the printed outputs of its released notebook, both on the authors' data"
        )
    caption += "."
    table = beside(study, shown, COLUMNS, printed)
    data = numbers(study, shown, COLUMNS)
    items: list[str | Table] = [NOTE, output.save_table(study, table, out, "unmixing", caption, data)]
    differences = against_ce(study, shown, COLUMNS)
    if len(differences):
        caption = (
            f"Paired differences to CE on the same seeds: mean, {statistics.LEVEL:.0%} interval and p of the paired "
            "t-test, each comparison for itself (no correction for their number). Negative is lower than CE."
        )
        data = difference_numbers(study, shown, COLUMNS)
        items.append(output.save_table(study, differences, out, "unmixing-differences", caption, data))
    return Section("Unmixing: Table 1", tuple(items))


def rows(study: Study, every: bool = False) -> dict[str, int]:
    """Trials that a table shows, label -> number: the baselines, and the one that speaks for each criterion.

    ``every``: all that are done.
    """
    chosen = {choice.trial for choice in selection.headline(study).values()}
    done = set(study.final["trial"])
    table = study.trials[study.trials["trial"].isin(done)]
    table = table[every | table["trial"].isin(chosen) | (table["role"] == "baseline")]
    order = table.assign(order=table["criterion"].map(lambda name: (*selection.ORDER, name).index(name)))
    order = order.sort_values(["order", "lambda", "e", "trial"])
    return dict(zip(order["label"].astype(str), order["trial"].astype(int), strict=True))


def beside(
    study: Study,
    shown: Mapping[str, int],
    columns: Mapping[str, str],
    printed: Sequence[tuple[str, Mapping[str, Mapping[str, str]]]],
) -> pd.DataFrame:
    """A row per trial and one per printed row; only metrics that were measured have a column."""
    found = {metric: selection.summary(study, metric) for metric in columns}
    found = {metric: values for metric, values in found.items() if values}
    table = [
        {"": label} | {columns[metric]: str(values.get(trial, "–")) for metric, values in found.items()}
        for label, trial in shown.items()
    ]
    for source, cells in printed:
        for label, values in cells.items():
            table.append({"": f"{source}: {label}"} | {columns[metric]: values.get(metric, "") for metric in found})
    return pd.DataFrame(table)


def numbers(study: Study, shown: Mapping[str, int], metrics: Mapping[str, str]) -> pd.DataFrame:
    """The same as numbers, for the CSV file: trial, label, metric, mean, low, high, n, planned, level."""
    table = []
    for metric in metrics:
        found = selection.summary(study, metric)
        for label, trial in shown.items():
            if trial in found:
                value = found[trial]
                table.append((trial, label, metric, value.mean, *_limits(value), value.n, value.planned, value.level))
    return pd.DataFrame(table, columns=["trial", "label", "metric", "mean", "low", "high", "n", "planned", "level"])


def against_ce(study: Study, shown: Mapping[str, int], columns: Mapping[str, str]) -> pd.DataFrame:
    """Paired difference of each trial to CE, a column per metric; empty where CE was not run."""
    table = [
        {"": f"{label} − CE"} | {columns[metric]: str(value) for metric, value in found.items()}
        for label, found in _differences(study, shown, columns).items()
    ]
    return pd.DataFrame(table).fillna("–")


def difference_numbers(study: Study, shown: Mapping[str, int], metrics: Iterable[str]) -> pd.DataFrame:
    """The same as numbers, for the CSV file."""
    table = [
        (shown[label], label, metric, value.mean, *_limits(value), value.p, value.n, value.planned, value.level)
        for label, found in _differences(study, shown, metrics).items()
        for metric, value in found.items()
    ]
    columns = ["trial", "label", "metric", "difference to CE", "low", "high", "p", "n", "planned", "level"]
    return pd.DataFrame(table, columns=columns)


def _differences(study: Study, shown: Mapping[str, int], metrics: Iterable[str]) -> dict[str, dict[str, Difference]]:
    """label -> metric -> paired difference of that trial to CE; empty where CE was not run."""
    ce = selection.headline(study).get("ce")
    if ce is None:
        return {}
    found: dict[str, dict[str, Difference]] = {}
    for label, trial in shown.items():
        if trial != ce.trial:
            pairs = ((metric, selection.difference(study, metric, trial, ce.trial)) for metric in metrics)
            found[label] = {metric: value for metric, value in pairs if value is not None}
    return found


def _limits(value: Estimate) -> tuple[float | None, float | None]:
    return (value.low, value.high) if value.complete else (None, None)


if __name__ == "__main__":
    command.run(section, __doc__)
