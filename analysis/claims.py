"""Judging claims: a claim is a sentence with the tests that it is put to, and a page holds its own.

A test takes a study and gives a verdict. The tests here are of any metric and any criteria; a page adds those that
only its own claims need. How a verdict comes about: docs/method.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import output, selection, statistics
from analysis.output import Section
from analysis.runs import Study
from analysis.statistics import ALPHA, Difference

HOLDS, FAILS, UNDECIDED, UNTESTED = "holds", "does not hold", "undecided", "not tested here"
#: of a number that is printed and proves nothing
NO_VERDICT = "no verdict"
OUTCOMES = (HOLDS, FAILS, UNDECIDED, UNTESTED, NO_VERDICT)


@dataclass(frozen=True)
class Verdict:
    """What a test says: ``measure`` under which it was made, ``outcome``, and the ``numbers`` behind it.

    ``p`` and ``exact`` are those of `Evidence`, NaN where nothing was tested. The outcome is that of the test alone.
    ``searched``: whether there is none since a search chose what would be tested.
    """

    measure: str
    outcome: str
    numbers: str
    p: float = np.nan
    exact: float = np.nan
    searched: bool = False


@dataclass(frozen=True)
class Evidence:
    """To which ``side`` (`HOLDS` or `FAILS`) the numbers lean, and how surely.

    ``p`` is the t-test's, or the sign-flip test's, ``exact``, where that is above `ALPHA` or there is no variance: it
    is small only where both are. ``note`` says why nothing could be decided; p is NaN where nothing was tested.
    """

    side: str
    p: float = np.nan
    exact: float = np.nan
    note: str = ""

    @property
    def outcome(self) -> str:
        """The side where p is at most `ALPHA`, else undecided."""
        return self.side if self.p <= ALPHA else UNDECIDED


Test = Callable[[Study], Verdict]
#: paired difference in a metric of two trials; None where it was not measured
Paired = Callable[[Study, str, int, int], Difference | None]


@dataclass(frozen=True)
class Claim:
    """A claim, the paper's or anyone's: its ``sentence``, ``where`` it stands, and the tests that it is put to."""

    sentence: str
    where: str
    tests: Sequence[Test]


def section(study: Study, out: Path, claims: Sequence[Claim], title: str = "The paper's claims") -> Section:
    """Table ``claims`` under ``title``: a row per test of ``claims``, with its verdict."""
    data = judge(study, claims)
    count = int(data["p"].notna().sum())
    caption = (
        f"A verdict needs two tests: the paired t-test on the same seeds (p), with Holm's adjustment over the {count} "
        f"tests of this table (adjusted p), and the exact sign-flip test, each at {ALPHA:g}. A claim holds where both "
        "say so on the claimed side, does not hold where they say so on the other, and is undecided else; p is the "
        "exact one where that alone is too large. Of two metrics that go together both p are of pairing the seeds. "
        "A claim on several differences holds where all do (the largest p). "
        '"Within" is an equivalence test: two one-sided tests against the margin that is named; "at most" and "at '
        'least" are one-sided. "No verdict": a number that proves nothing.'
    )
    chosen = selection.headline(study)
    searched = [choice.label for choice in chosen.values() if choice.searched]
    if searched and len(study.confirmation.trials):
        caption += f" Chosen by the search, hence tested on the fresh seeds that confirm it: {'; '.join(searched)}."
    elif searched:
        caption += (
            f" Chosen by the search on the data that it would be tested on, hence no verdict: {'; '.join(searched)}."
        )
    shown = data.assign(**{name: data[name].map(p_cell) for name in ("p", "exact p", "adjusted p")})
    first = ("claim", "measured by", "verdict", "adjusted p", "numbers")
    table = output.save_table(study, shown, out, "claims", caption, data, first)
    words = "; ".join(f"{choice.label} ({choice.why})" for choice in chosen.values())
    return Section(title, (f"Trials compared: {words or 'none'}.", table))


def judge(study: Study, claims: Sequence[Claim]) -> pd.DataFrame:
    """A row per test of ``claims``: claim, where, measured by, verdict, p, exact p, adjusted p, numbers.

    The verdict is by Holm's adjusted p over all rows that have a p.
    """
    verdicts = tested(study, claims)
    adjusted = statistics.holm([verdict.p for _, verdict in verdicts])
    rows = [
        (
            claim.sentence,
            claim.where,
            verdict.measure,
            settled(verdict, float(p)),
            verdict.p,
            verdict.exact,
            p,
            verdict.numbers,
        )
        for (claim, verdict), p in zip(verdicts, adjusted, strict=True)
    ]
    columns = ["claim", "where", "measured by", "verdict", "p", "exact p", "adjusted p", "numbers"]
    return pd.DataFrame(rows, columns=columns)


def tested(study: Study, claims: Sequence[Claim]) -> list[tuple[Claim, Verdict]]:
    """Each claim with the verdict of each of its tests alone, which no adjustment has seen."""
    return [(claim, _tested(study, test)) for claim in claims for test in claim.tests]


def settled(verdict: Verdict, adjusted: float) -> str:
    """The outcome of ``verdict`` once its p is ``adjusted`` over its family."""
    return UNDECIDED if verdict.outcome in (HOLDS, FAILS) and not adjusted <= ALPHA else verdict.outcome


def _tested(study: Study, test: Test) -> Verdict:
    """The verdict on ``study``, or on the fresh seeds that confirm a search's choice where that is tested."""
    verdict = test(study)
    if not verdict.searched or study.confirmation.trials.empty:
        return verdict
    confirmed = test(study.confirmation)
    if confirmed.outcome == UNTESTED:
        return verdict
    return replace(confirmed, numbers=f"on fresh seeds: {confirmed.numbers}")


def conclude(
    study: Study, measure: str, evidence: Evidence, numbers: str = "", criteria: Sequence[str] = ()
) -> Verdict:
    """The verdict that ``evidence`` on ``criteria`` comes to: none where the search chose one of their trials."""
    chosen = selection.headline(study)
    searched = [chosen[name].label for name in criteria if name in chosen and chosen[name].searched]
    if searched:
        why = f"{' and '.join(searched)} was chosen on the data that it would be tested on"
        return Verdict(measure, NO_VERDICT, "; ".join(filter(None, (numbers, why))), searched=True)
    words = "; ".join(filter(None, (numbers, evidence.note)))
    return Verdict(measure, evidence.outcome, words, evidence.p, evidence.exact)


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
    """The difference lies within ± ``margin``, or ± that share of ``second``'s mean."""
    chosen = selection.headline(study)
    bound = f"{margin:.0%}" if relative else f"{margin:g}"
    names = " against ".join(study.criterion(name).label for name in (first, second))
    measure = f"{study.metric(metric).label}, {names}, within ±{bound}"
    if not {first, second} <= chosen.keys():
        return Verdict(measure, UNTESTED, absent(study, (first, second)))
    difference = selection.difference(study, metric, chosen[first].trial, chosen[second].trial)
    if difference is None:
        return Verdict(measure, UNTESTED, f"{metric} was not measured")
    if relative:
        rows = selection.by_trial(study, metric)
        of_both = (rows[chosen[first].trial], rows[chosen[second].trial])
        evidence = decide_within_share(*of_both, margin, difference.planned)
    else:
        evidence = decide_within(difference, margin)
    return conclude(study, measure, evidence, str(difference), (first, second))


def elsewhere(study: Study, benchmark: str) -> Verdict:
    """A claim about another benchmark."""
    return Verdict(benchmark, UNTESTED, f"this study is of {study.trials['benchmark'].iloc[0]}")


def decide(value: Difference, sign: int) -> Evidence:
    """Whether the mean lies on the side of 0 that ``sign`` names."""
    if not value.complete:
        return Evidence(UNDECIDED)
    side = HOLDS if value.mean * sign > 0 else FAILS
    return _evidence(side, value.p, value.exact, value.n)


def decide_within(value: Difference, width: float) -> Evidence:
    """Whether the mean lies within ± ``width`` (an equivalence test), or outside."""
    if not value.complete:
        return Evidence(UNDECIDED)
    if abs(value.mean) <= width:
        return _evidence(HOLDS, *statistics.within(value, width), value.n, one_sided=True)
    return _beyond(value, width if value.mean > 0 else -width)


def decide_within_share(first: pd.Series, second: pd.Series, share: float, planned: int) -> Evidence:
    """Whether the mean of ``first`` lies within ± ``share`` of that of ``second``, both by seed, or outside.

    Each bound is taken seed by seed, so that what it varies by counts: ``second``'s mean is no more certain than
    ``first``'s.
    """
    above = statistics.paired(first, (1 + share) * second, planned)
    under = statistics.paired((1 - share) * second, first, planned)
    bounds = [decide_at_most(bound, 0) for bound in (above, under)]
    # no mean lies beyond both
    return next((evidence for evidence in bounds if evidence.side == FAILS), combine(bounds))


def decide_at_most(value: Difference, bound: float) -> Evidence:
    """Whether the mean is below ``bound``, one-sided."""
    if not value.complete:
        return Evidence(UNDECIDED)
    if value.mean <= bound:
        return _evidence(HOLDS, *statistics.below(value, bound), value.n, one_sided=True)
    return _beyond(value, bound)


def combine(parts: Sequence[Evidence]) -> Evidence:
    """Holds where all do: the largest p counts. Does not where one does not: the smallest, times how many there are."""
    against = [part for part in parts if part.side == FAILS]
    if not against:
        if not parts or any(np.isnan(part.p) for part in parts):
            return Evidence(UNDECIDED)
        worst = max(parts, key=lambda part: part.p)
        return Evidence(HOLDS, worst.p, max(part.exact for part in parts), worst.note)
    best = min(against, key=lambda part: part.p)
    return Evidence(FAILS, min(1.0, best.p * len(parts)), best.exact, best.note)


def given(condition: Evidence, evidence: Evidence, note: str) -> Evidence:
    """``evidence``, where ``condition`` holds as well (the larger p counts); else undecided, as ``note`` says."""
    worse = max(condition, evidence, key=lambda part: part.p)
    if condition.outcome != HOLDS:
        return Evidence(UNDECIDED, worse.p, worse.exact, note)
    return Evidence(evidence.side, worse.p, worse.exact, evidence.note)


def surely_lowest(study: Study, metric: str, trials: Sequence[int], best: int) -> Evidence:
    """Whether ``best`` has a lower ``metric`` than every other of ``trials``, out of which its mean singled it."""
    others = [selection.difference(study, metric, best, trial) for trial in trials if trial != best]
    evidence = combine(
        [decide(difference, -1) if difference is not None else Evidence(UNDECIDED) for difference in others]
    )
    # any of them could have been the lowest
    return Evidence(evidence.side, min(1.0, evidence.p * len(trials)), evidence.exact, evidence.note)


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
    evidence = combine([decide(value, sign) for value in differences.values()])
    return conclude(study, measure, evidence, numbers, (first, *others))


def _beyond(value: Difference, bound: float) -> Evidence:
    """Evidence that the mean lies farther from 0 than ``bound`` does, on its side; above it where it is 0."""
    turned = value if bound < 0 else replace(value, mean=-value.mean, values=tuple(-number for number in value.values))
    return _evidence(FAILS, *statistics.below(turned, -abs(bound)), value.n, one_sided=True)


def _evidence(side: str, p: float, exact: float, n: int, one_sided: bool = False) -> Evidence:
    note = "" if statistics.smallest_p(n, one_sided) <= ALPHA else f"{n} seeds cannot decide"
    return Evidence(side, exact if np.isnan(p) or exact > max(p, ALPHA) else p, exact, note)


def p_cell(value: float) -> str:
    """As a table shows a p."""
    if np.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
