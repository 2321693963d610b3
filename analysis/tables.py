"""Tables of a study's trials: means over seeds beside printed rows, and paired differences to the reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from analysis import selection, statistics
from analysis.runs import Study
from analysis.statistics import Difference, Estimate

#: printed rows: (source, label -> metric -> cell)
Printed = Sequence[tuple[str, Mapping[str, Mapping[str, str]]]]


def rows(study: Study, every: bool = False) -> dict[str, int]:
    """Trials that a table shows, label -> number: the baselines, and the one that speaks for each criterion.

    ``every``: all that are done.
    """
    chosen = {choice.trial for choice in selection.headline(study).values()}
    done = set(study.final["trial"])
    table = study.trials[study.trials["trial"].isin(done)]
    table = table[every | table["trial"].isin(chosen) | (table["role"] == "baseline")]
    # the order of equal criteria is that of their hyperparameters' values
    order = table.assign(order=table["criterion"].map(study.rank))
    settings = [each.name for each in study.varied]
    order[settings] = order[settings].apply(_ranked)
    order = order.sort_values(["order", *study.axes, "trial"])
    return dict(zip(order["label"].astype(str), order["trial"].astype(int), strict=True))


def _ranked(column: pd.Series) -> pd.Series:
    """The places of numbers or words in their order."""
    numbers = pd.to_numeric(column, errors="coerce")
    return column.astype(str).rank() if numbers.isna().any() else numbers


def beside(study: Study, shown: Mapping[str, int], columns: Mapping[str, str], printed: Printed = ()) -> pd.DataFrame:
    """A row per trial and one per printed row; only metrics that were measured have a column."""
    summaries = {metric: selection.summary(study, metric) for metric in columns}
    summaries = {metric: values for metric, values in summaries.items() if values}
    table = [
        {"": label} | {columns[metric]: str(values.get(trial, "–")) for metric, values in summaries.items()}
        for label, trial in shown.items()
    ]
    for source, cells in printed:
        for label, values in cells.items():
            table.append({"": f"{source}: {label}"} | {columns[metric]: values.get(metric, "") for metric in summaries})
    return pd.DataFrame(table)


def numbers(study: Study, shown: Mapping[str, int], metrics: Mapping[str, str]) -> pd.DataFrame:
    """The same as numbers, for the CSV file: trial, label, metric, mean, low, high, n, planned, level."""
    table = []
    for metric in metrics:
        summary = selection.summary(study, metric)
        for label, trial in shown.items():
            if trial in summary:
                value = summary[trial]
                table.append((trial, label, metric, value.mean, *_limits(value), value.n, value.planned, value.level))
    return pd.DataFrame(table, columns=["trial", "label", "metric", "mean", "low", "high", "n", "planned", "level"])


def against_reference(study: Study, shown: Mapping[str, int], columns: Mapping[str, str]) -> pd.DataFrame:
    """Paired difference of each trial to the reference criterion, a column per metric; empty where that was not run.

    Where settings vary, to its trial at the same ones (see `analysis.selection.counterpart`).
    """
    reference = study.criterion(study.reference).label
    table = [
        {"": f"{label} − {reference}"} | {columns[metric]: str(value) for metric, value in differences.items()}
        for label, differences in _differences(study, shown, columns).items()
    ]
    return pd.DataFrame(table).fillna("–")


def differences_caption(study: Study, seeds: str = "the same seeds") -> str:
    """What stands below a table of `against_reference`."""
    sentences = (
        f"Paired differences to {study.criterion(study.reference).label} {paired_tests(seeds)}",
        selection.compared(study),
    )
    return " ".join(filter(None, sentences))


def paired_tests(seeds: str = "the same seeds", over: str = "") -> str:
    """The end of a sentence on paired differences: which numbers a cell holds; ``over`` says what varies in them."""
    interval = f"{statistics.LEVEL:.0%} interval" + (f" over {over}" if over else "")
    return (
        f"on {seeds}: mean, {interval} and p of the paired t-test, each comparison for itself (no correction for their "
        "number); a corrected interval, where there is one, allows for training samples that the seeds share."
    )


def difference_numbers(study: Study, shown: Mapping[str, int], metrics: Iterable[str]) -> pd.DataFrame:
    """The same as numbers, for the CSV file."""
    table = [
        (
            *(shown[label], label, metric, value.mean, *_limits(value), value.p, value.n, value.planned, value.level),
            *_corrected(value),
        )
        for label, differences in _differences(study, shown, metrics).items()
        for metric, value in differences.items()
    ]
    difference = f"difference to {study.criterion(study.reference).label}"
    columns = ["trial", "label", "metric", difference, "low", "high", "p", "n", "planned", "level"]
    columns += ["corrected low", "corrected high"]
    return pd.DataFrame(table, columns=columns)


def _differences(study: Study, shown: Mapping[str, int], metrics: Iterable[str]) -> dict[str, dict[str, Difference]]:
    """label -> metric -> paired difference of that trial to the reference criterion; empty where that was not run."""
    differences: dict[str, dict[str, Difference]] = {}
    for label, trial in shown.items():
        other = selection.counterpart(study, trial)
        if other is not None and other != trial:
            pairs = ((metric, selection.difference(study, metric, trial, other)) for metric in metrics)
            differences[label] = {metric: value for metric, value in pairs if value is not None}
    return differences


def _corrected(value: Difference) -> tuple[float | None, float | None]:
    if not value.complete or np.isnan(value.corrected):
        return None, None
    return value.mean - value.corrected, value.mean + value.corrected


def _limits(value: Estimate) -> tuple[float | None, float | None]:
    return (value.low, value.high) if value.complete else (None, None)
