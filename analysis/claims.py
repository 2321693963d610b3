"""Judging claims: a claim is a sentence with the tests that it is put to, and a page holds its own.

A test takes a study and gives a verdict. The tests here are of any metric and any criteria; a page adds those that
only its own claims need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis import output, selection, statistics
from analysis.output import Section
from analysis.runs import Study
from analysis.statistics import Difference, Estimate

HOLDS, FAILS, UNDECIDED, UNTESTED = "holds", "does not hold", "undecided", "not tested here"


@dataclass(frozen=True)
class Verdict:
    """What a test says: ``measure`` under which it was made, ``outcome``, and the ``numbers`` behind it."""

    measure: str
    outcome: str
    numbers: str


Test = Callable[[Study], Verdict]
#: paired difference in a metric of two trials; None where it was not measured
Paired = Callable[[Study, str, int, int], Difference | None]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: its ``sentence``, ``where`` it stands, and the tests that it is put to."""

    sentence: str
    where: str
    tests: Sequence[Test]


def section(study: Study, out: Path, claims: Sequence[Claim]) -> Section:
    """Table ``claims``: a row per test of ``claims``, with its verdict."""
    caption = (
        f"A claim holds where the {statistics.LEVEL:.0%} interval of the paired difference on the same seeds lies on "
        "the claimed side of 0, does not hold where it lies on the other, and is undecided where it contains 0 or "
        "seeds are missing; a claim on several differences holds where all do. No correction for the number of tests."
    )
    chosen = "; ".join(f"{choice.label} ({choice.why})" for choice in selection.headline(study).values())
    table = output.save_table(study, judge(study, claims), out, "claims", caption)
    return Section("The paper's claims", (f"Trials compared: {chosen or 'none'}.", table))


def judge(study: Study, claims: Sequence[Claim]) -> pd.DataFrame:
    """A row per test of ``claims``: claim, where, measure, verdict, numbers."""
    rows = []
    for claim in claims:
        for test in claim.tests:
            verdict = test(study)
            rows.append((claim.sentence, claim.where, verdict.measure, verdict.outcome, verdict.numbers))
    return pd.DataFrame(rows, columns=["claim", "where", "measured by", "verdict", "numbers"])


def lower(study: Study, metric: str, first: str, second: str, measure: str = "") -> Verdict:
    """``first`` has a lower ``metric`` than ``second``."""
    return _sided(study, metric, first, [second], measure, sign=-1)


def higher(
    study: Study, metric: str, first: str, second: str, measure: str = "", difference: Paired = selection.difference
) -> Verdict:
    """``first`` has a higher ``metric`` than ``second``, at the last epoch or as ``difference`` compares them."""
    return _sided(study, metric, first, [second], measure, sign=1, difference=difference)


def lowest(study: Study, metric: str, criterion: str, others: Sequence[str], measure: str = "") -> Verdict:
    """``criterion`` has a lower ``metric`` than each of ``others``."""
    return _sided(study, metric, criterion, others, measure, sign=-1)


def similar(study: Study, metric: str, first: str, second: str, margin: float, relative: bool = False) -> Verdict:
    """The interval of the difference lies within ± ``margin``, or ± that share of ``second``'s mean."""
    chosen = selection.headline(study)
    bound = f"{margin:.0%}" if relative else f"{margin:g}"
    names = " against ".join(study.criterion(name).label for name in (first, second))
    measure = f"{study.metric(metric).label}, {names}, within ±{bound}"
    if not {first, second} <= chosen.keys():
        return Verdict(measure, UNTESTED, absent(study, (first, second)))
    difference = selection.difference(study, metric, chosen[first].trial, chosen[second].trial)
    if difference is None:
        return Verdict(measure, UNTESTED, f"{metric} was not measured")
    width = margin * abs(selection.summary(study, metric)[chosen[second].trial].mean) if relative else margin
    return Verdict(measure, decide_within(difference, width), str(difference))


def elsewhere(study: Study, benchmark: str) -> Verdict:
    """A claim about another benchmark."""
    return Verdict(benchmark, UNTESTED, f"this study is of {study.trials['benchmark'].iloc[0]}")


def decide(value: Estimate, sign: int) -> str:
    """Whether the interval lies on the side of 0 that ``sign`` names."""
    if not value.complete or value.low <= 0 <= value.high:
        return UNDECIDED
    return HOLDS if value.mean * sign > 0 else FAILS


def decide_within(value: Estimate, width: float) -> str:
    """Whether the interval lies within ± ``width``, outside, or across."""
    if not value.complete:
        return UNDECIDED
    if -width <= value.low and value.high <= width:
        return HOLDS
    return FAILS if value.low > width or value.high < -width else UNDECIDED


def combine(outcomes: Sequence[str]) -> str:
    """Holds where all do; does not where one does not."""
    if FAILS in outcomes:
        return FAILS
    return HOLDS if outcomes and all(outcome == HOLDS for outcome in outcomes) else UNDECIDED


def surely_lowest(study: Study, metric: str, trials: Sequence[int], best: int) -> bool:
    """Whether ``best`` has a lower ``metric`` than every other of ``trials``, by more than chance."""
    others = [selection.difference(study, metric, best, trial) for trial in trials if trial != best]
    return all(difference is not None and decide(difference, -1) == HOLDS for difference in others)


def absent(study: Study, criteria: Sequence[str]) -> str:
    """Which of ``criteria`` no trial is done of, as a sentence."""
    chosen = selection.headline(study)
    return "no trial is done of " + " and ".join(study.criterion(name).label for name in criteria if name not in chosen)


def _sided(
    study: Study,
    metric: str,
    first: str,
    others: Sequence[str],
    measure: str,
    sign: int,
    difference: Paired = selection.difference,
) -> Verdict:
    chosen = selection.headline(study)
    against = " and ".join(study.criterion(name).label for name in others)
    measure = f"{measure or study.metric(metric).label}, {study.criterion(first).label} against {against}"
    if not {first, *others} <= chosen.keys():
        return Verdict(measure, UNTESTED, absent(study, (first, *others)))
    pairs = {name: difference(study, metric, chosen[first].trial, chosen[name].trial) for name in others}
    differences = {name: value for name, value in pairs.items() if value is not None}
    if len(differences) < len(others):
        return Verdict(measure, UNTESTED, f"{metric} was not measured")
    numbers = "; ".join(
        f"{study.criterion(first).label} − {study.criterion(name).label}: {value}"
        for name, value in differences.items()
    )
    return Verdict(measure, combine([decide(value, sign) for value in differences.values()]), numbers)
