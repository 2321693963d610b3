"""Table 2: few-shot accuracy by criterion, with both kinds of interval, at two epochs, beside the printed numbers.

python -m analysis.natural_images.table --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import command, output, selection, statistics, tables
from analysis.output import Section, Table
from analysis.runs import Study, spread
from analysis.statistics import Difference

#: suffix of the metric -> the features that it is measured on
FEATURES: Mapping[str, str] = {"": "as they are", "-normalized": "centred, unit length"}
#: which epoch counts
BEST, LAST = "best validation epoch", "last epoch"


def section(study: Study, out: Path, printed: Mapping[str, str] | None = None, start: int = 1) -> Section:
    """Tables ``few-shot`` (ours beside the ``printed`` ones) and ``few-shot-differences`` (paired, on the same seeds).

    ``printed``: criterion as printed -> its 1-shot accuracy in per cent; ``start``: see `scores`.
    """
    title = "Few-shot transfer: Table 2"
    shown = tables.rows(study)
    if not shown or not shots(study):
        return Section(title, ("No trial with few-shot accuracy is done.",))
    rows = output.printed(study, tuple((printed or {}).items()))
    first = _first_epoch(study, start)
    since = f" from epoch {first} on" if first > 1 else ""
    options = study.settings.get("benchmark", {})
    note = (
        "Accuracy in per cent on classes that training never saw: the nearest mean, in Euclidean distance, of K "
        f"labelled samples a class; {options.get('ways', 5)} classes a run (all of them where there are fewer), the "
        "same runs for every criterion and seed. Features as they are is the released evaluation; centred by the base "
        "classes' mean and scaled to unit length is common in the field. The epoch of the best validation accuracy, "
        f"chosen seed by seed{since} by the same measure on the validation classes, is the released rule; the "
        "last epoch needs no validation classes."
    )
    caption = (
        f"First line: mean over trainings, {output.seeds_note(study, shown, statistics.LEVEL)[:-1]}. Second line: half "
        "the 95% interval over the runs of one training, mean over trainings."
    )
    if rows:
        caption += " Printed rows: Table 2 of the paper, on its data and with its network."
    table = output.save_table(
        study, _beside(study, shown, rows, start), out, "few-shot", caption, numbers(study, shown, start)
    )
    items: list[str | Table] = [note, table]
    differences = _differences(study, shown, start)
    if len(differences):
        caption = (
            f"Paired differences in percentage points {tables.paired_tests(over='trainings')} Positive is better than "
            "the second."
        )
        items.append(output.save_table(study, differences, out, "few-shot-differences", caption))
    return Section(title, tuple(items))


def shots(study: Study) -> tuple[int, ...]:
    """The K whose accuracy was measured, ascending."""
    matches = (re.fullmatch(r"accuracy/(\d+)-shot", str(name)) for name in study.frame["metric"].unique())
    return tuple(sorted(int(match[1]) for match in matches if match))


@lru_cache(maxsize=64)
def scores(study: Study, metric: str, rule: str, start: int = 1) -> pd.DataFrame:
    """``metric`` of the replicas that are done, in per cent, at the epoch that ``rule`` (`BEST` or `LAST`) takes.

    Columns trial, seed, epoch, value, and runs: half the 95% interval over runs. `BEST` is the first epoch of the
    highest validation accuracy of that replica, from epoch ``start`` on where the study reaches it; a replica without
    one has no row.
    """
    # by position: to merge frames takes five times as long
    trial, seed, last = (study.final[name].to_numpy() for name in ("trial", "seed", "epoch"))
    _, place = np.unique(trial * (1 + seed.max(initial=0)) + seed, return_index=True)
    trial, seed, epoch = trial[place], seed[place], last[place]
    (value, measured), (runs, counted), (checked, known) = (
        _laid_out(study, name, trial, seed) for name in (metric, f"{metric}-ci", f"{metric}-validation")
    )
    taken = np.arange(len(trial))
    if rule == BEST:
        known &= ~np.isnan(checked) & (np.arange(known.shape[1]) >= _first_epoch(study, start))
        epoch = np.where(known, checked, -np.inf).argmax(axis=1)
        taken = taken[known[taken, epoch]]
    taken = taken[(measured & counted)[taken, epoch[taken]]]
    trial, seed, epoch = trial[taken], seed[taken], epoch[taken]
    value, runs = 100 * value[taken, epoch], 100 * runs[taken, epoch]
    return pd.DataFrame({"trial": trial, "seed": seed, "epoch": epoch, "value": value, "runs": runs})


def _laid_out(study: Study, metric: str, trial: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By epoch, 0 to the last of the study, ``metric`` of the replicas (n, 1 + epochs), and where it was measured."""
    epochs = 1 + int(study.frame["epoch"].max()) if len(study.frame) else 1
    values, there = np.zeros((len(trial), epochs)), np.zeros((len(trial), epochs), bool)
    course = study.courses.get(metric)
    if course is not None and len(trial):
        width = 1 + max(seed.max(), course["seed"].max())
        replicas, replica = trial * width + seed, course["trial"] * width + course["seed"]
        row = np.searchsorted(replicas, replica).clip(max=len(replicas) - 1)
        done = replicas[row] == replica
        at = row[done], course["epoch"][done]
        values[at], there[at] = course["value"][done], True
    return values, there


def difference(
    study: Study, metric: str, first: int, second: int, rule: str = BEST, start: int = 1
) -> Difference | None:
    """Paired difference of two trials in percentage points, on the seeds of both; None where one lacks ``metric``."""
    table = spread(scores(study, metric, rule, start), "seed", "trial")
    if not {first, second} <= set(table.columns):
        return None
    wanted = max(selection.planned(study, first), selection.planned(study, second))
    return statistics.paired(table[first], table[second], wanted)


def numbers(study: Study, shown: Mapping[str, int], start: int = 1) -> pd.DataFrame:
    """The table as numbers, in per cent: a row per trial, features, K and rule."""
    table = []
    for label, trial in shown.items():
        for kind, features in FEATURES.items():
            for k, rule, metric in _columns(study, kind):
                scored = scores(study, metric, rule, start)
                scored = scored[scored["trial"] == trial]
                value = statistics.estimate(scored["value"], selection.planned(study, trial))
                table.append(
                    {
                        "trial": trial,
                        "label": label,
                        "features": features,
                        "shots": k,
                        "epoch": rule,
                        "mean epoch": scored["epoch"].mean(),
                        "mean": value.mean,
                        "low over trainings": value.low if value.complete else None,
                        "high over trainings": value.high if value.complete else None,
                        "half over runs": scored["runs"].mean(),
                        "n": value.n,
                        "planned": value.planned,
                        "level": value.level,
                    }
                )
    return pd.DataFrame(table)


def _beside(study: Study, shown: Mapping[str, int], printed: Sequence[tuple[str, str]], start: int) -> pd.DataFrame:
    table = []
    for kind, features in FEATURES.items():
        for label, trial in shown.items():
            row = {"": label, "features": features}
            for k, rule, metric in _columns(study, kind):
                scored = scores(study, metric, rule, start)
                scored = scored[scored["trial"] == trial]
                value = statistics.estimate(scored["value"], selection.planned(study, trial))
                row[f"{k}-shot, {rule}"] = f"{value}; over runs ± {scored['runs'].mean():.2f}" if value.n else "–"
            table.append(row)
    for label, cell in printed:
        table.append({"": f"paper: {label}", "features": FEATURES[""], f"1-shot, {BEST}": cell})
    return pd.DataFrame(table).fillna("")


def _differences(study: Study, shown: Mapping[str, int], start: int) -> pd.DataFrame:
    """Each trial against CE, and FIERCE against LS."""
    chosen = selection.headline(study)
    pairs = []
    others = {label: selection.counterpart(study, trial) for label, trial in shown.items()}
    pairs += [
        (f"{label} − CE", trial, other)
        for label, trial in shown.items()
        if (other := others[label]) is not None and other != trial
    ]
    if {"ls", "fierce"} <= chosen.keys():
        ls, fierce = chosen["ls"], chosen["fierce"]
        pairs.append((f"{fierce.label} − {ls.label}", fierce.trial, ls.trial))
    table = []
    for kind, features in FEATURES.items():
        for label, first, second in pairs:
            cells = {
                f"{k}-shot, {rule}": str(difference(study, metric, first, second, rule, start) or "–")
                for k, rule, metric in _columns(study, kind)
            }
            table.append({"": label, "features": features} | cells)
    return pd.DataFrame(table)


def _columns(study: Study, kind: str) -> Iterator[tuple[int, str, str]]:
    """(K, rule, metric) of every column, the best validation epoch only where there are validation classes."""
    measured = set(study.frame["metric"].unique())
    for k in shots(study):
        metric = f"accuracy/{k}-shot{kind}"
        for rule in (BEST, LAST):
            if rule == LAST or f"{metric}-validation" in measured:
                yield k, rule, metric


def _first_epoch(study: Study, start: int) -> int:
    return start if study.final["epoch"].max() >= start else 1


if __name__ == "__main__":
    command.run(section, __doc__)
