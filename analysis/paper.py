"""What the paper's pages share: its three criteria, margins, the axes of figures A1 and A2, and tests of its claims."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd

from analysis import claims, feature_space, selection, sensitivity, statistics
from analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Claim, Evidence, Verdict
from analysis.runs import Study
from analysis.sensitivity import Axis, Sweep
from analysis.statistics import Estimate

#: the criteria that the paper compares
CRITERIA = ("ce", "ls", "fierce")
#: margins of "similar" and "stable", ours: of stability, and relative to an MSE
STABILITY_MARGIN, MSE_MARGIN = 0.02, 0.10
#: figures A1 and A2, but for their panels
sensitivity_section = partial(
    sensitivity.section,
    criterion="fierce",
    sweeps=(
        Sweep("lambda", "λ", "sensitivity-lambda", "A1"),
        Sweep("e", "number of anchors e", "sensitivity-anchors", "A2"),
    ),
    title="Sensitivity to λ and to the number of anchors",
)


def lowest(study: Study, metric: str, criterion: str, measure: str = "") -> Verdict:
    """``criterion`` has the lowest ``metric`` of CE, LS and FIERCE."""
    return claims.lowest(study, metric, criterion, [name for name in CRITERIA if name != criterion], measure)


def stable_anchors(study: Study, metric: str, start: int = 100) -> Verdict:
    """From e = ``start`` on ``metric`` stays within ±10% of its value there."""
    measure = f"{study.metric(metric).label}, within ±{MSE_MARGIN:.0%} of e = {start}"
    axis = sensitivity.along(study, "fierce", "e")
    trials = _by_value(axis) if axis and axis.is_line else {}
    estimates = selection.summary(study, metric)
    beyond = [e for e in trials if e > start and trials[e] in estimates]
    if start not in trials or trials[start] not in estimates or not beyond:
        return Verdict(measure, UNTESTED, f"needs e = {start} and a larger e at one λ")
    differences = {e: selection.difference(study, metric, trials[e], trials[start]) for e in beyond}
    rows = selection.by_trial(study, metric)
    outcomes = [
        claims.decide_within_share(rows[trials[e]], rows[trials[start]], MSE_MARGIN, difference.planned)
        for e, difference in differences.items()
        if difference is not None
    ]
    numbers = "; ".join(f"e = {e:g} less that: {difference}" for e, difference in differences.items())
    numbers = f"e = {start}: {estimates[trials[start]]}; {numbers}"
    return claims.conclude(study, measure, claims.combine(outcomes), numbers)


def optimal_weight(study: Study, metric: str) -> Verdict:
    """The best λ inside the range, chosen on other seeds, has a lower ``metric`` than both ends; CE is λ = 0."""
    measure = study.metric(metric).label
    estimates, trials = weights(study, metric)
    if len(trials) < 3:
        return Verdict(measure, UNTESTED, "needs three values of λ at one e")
    best = min(trials, key=lambda value: estimates[trials[value]].mean)
    ends = (min(trials), max(trials))
    text = f"lowest at λ = {best:g} ({estimates[trials[best]]}), of λ = {ends[0]:g} to {ends[1]:g}"
    if best in ends:
        sure = claims.surely_lowest(study, metric, list(trials.values()), trials[best])
        evidence = Evidence(FAILS if sure.side == HOLDS else UNDECIDED, sure.p, sure.exact, sure.note)
        return claims.conclude(study, measure, evidence, f"{text}: an end of the range")
    table = by_weight(study, metric, trials)
    inside = statistics.at(table, statistics.chosen_apart(table.drop(index=list(ends))))
    wanted = statistics.left_to_test(max(selection.planned(study, trial) for trial in trials.values()))
    differences = [statistics.paired(inside, table.T[end], wanted) for end in ends]
    numbers = "; ".join(f"less λ = {end:g}: {difference}" for end, difference in zip(ends, differences, strict=True))
    evidence = claims.combine([claims.decide(difference, -1) for difference in differences])
    return claims.conclude(study, measure, evidence, f"{text}; chosen on other seeds, {numbers}")


def by_weight(study: Study, metric: str, trials: Mapping[float, int]) -> pd.DataFrame:
    """``metric`` at the last epoch: λ × seeds, of the trial of each λ (see `weights`)."""
    rows = selection.values(study, metric).loc[list(trials.values())]
    return rows.set_axis(list(trials), axis=0)


def weights(study: Study, metric: str) -> tuple[Mapping[int, Estimate], dict[float, int]]:
    """``metric`` by trial, and the trial of each λ at one e, with CE as λ = 0 where that was not run."""
    estimates = selection.summary(study, metric)
    axis = sensitivity.along(study, "fierce", "lambda")
    if axis is None or not axis.is_line:
        return estimates, {}
    trials = {value: trial for value, trial in _by_value(axis).items() if trial in estimates}
    ce = selection.headline(study).get("ce")
    if ce is not None and ce.trial in estimates:
        trials.setdefault(0.0, ce.trial)
    return estimates, trials


def _by_value(axis: Axis) -> dict[float, int]:
    """The trial of each value along ``axis``."""
    return dict(zip(axis.trials[axis.name].tolist(), axis.trials["trial"].tolist(), strict=True))


def continuous(study: Study) -> Verdict:
    """FIERCE separates the coarse classes less than CE and LS do, in the feature space itself."""
    measure = "silhouette of the coarse classes (ours), FIERCE minus CE and LS"
    values = feature_space.separation(study)
    if not {"ce", "ls", "fierce"} <= values.keys():
        return Verdict(measure, UNTESTED, "features of CE, LS and FIERCE are needed")
    wanted = selection.planned(study, selection.headline(study)["fierce"].trial)
    differences = [statistics.paired(values["fierce"], values[other], wanted) for other in ("ce", "ls")]
    evidence = claims.combine([claims.decide(difference, -1) for difference in differences])
    return claims.conclude(study, measure, evidence, "; ".join(map(str, differences)), CRITERIA)


#: that FIERCE raises the entropy of the feature space
RAISES_ENTROPY = tuple(
    partial(claims.higher, metric=metric, first="fierce", second="ce")
    for metric in ("entropy/features", "entropy/spectral", "entropy/anchors")
)
#: put to the same tests wherever the outputs' calibration is measured
RELIABILITY = Claim(
    "Neither LS nor FIERCE improves reliability",
    "A.2, figure A3",
    tuple(
        partial(claims.higher, metric=metric, first=first, second="ce")
        for first in ("ls", "fierce")
        for metric in ("calibration/ece", "calibration/mce")
    ),
)
