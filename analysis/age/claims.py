"""The paper's claims on age estimation (figures 1, A1, A2, A3 and A5), each with its tests and this study's verdicts.

python -m analysis.age.claims --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from analysis import claims, command, paper, selection, statistics, trajectories
from analysis.age import early_stopping, features
from analysis.age.early_stopping import ENTROPY, ERRORS
from analysis.claims import UNDECIDED, UNTESTED, Claim, Verdict
from analysis.output import Section
from analysis.paper import MSE_MARGIN, STABILITY_MARGIN
from analysis.runs import Study

#: margin of "the same accuracy", and of its loss that counts as a drop; ours
ACCURACY_MARGIN = 0.02


def section(study: Study, out: Path) -> Section:
    """Table ``claims``: a row per test, with its verdict."""
    found = claims.section(study, out, CLAIMS)
    return Section(found.title, (early_stopping.length(study), *found.items))


def rises(study: Study, metric: str, criterion: str) -> Verdict:
    """The error is higher at the last epoch than at its best, which is chosen on the other seeds."""
    measure = f"{study.metric(metric).label}, last less best epoch, {study.criterion(criterion).label}"
    curves = trajectories.by_criterion(study, metric).get(criterion)
    if curves is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    found = statistics.estimate(early_stopping.gap(curves), _wanted(study, criterion))
    return Verdict(measure, claims.decide(found, 1), str(found))


def stays_low(study: Study, metric: str) -> Verdict:
    """FIERCE's error at the last epoch is within a tenth of its best."""
    measure = f"{study.metric(metric).label}, last less best epoch within {MSE_MARGIN:.0%} of the best, FIERCE"
    curves = trajectories.by_criterion(study, metric).get("fierce")
    if curves is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    found = statistics.estimate(early_stopping.gap(curves), _wanted(study, "fierce"))
    best = float(curves.mean(axis=1).min())
    return Verdict(measure, claims.decide_within(found, MSE_MARGIN * best), f"{found}; best {best:.4g}")


def rises_less(study: Study, metric: str, other: str) -> Verdict:
    """FIERCE's error rises less after its best epoch than the other criterion's."""
    measure = f"{study.metric(metric).label}, last less best epoch, FIERCE against {study.criterion(other).label}"
    curves = trajectories.by_criterion(study, metric)
    if not {"fierce", other} <= curves.keys():
        return Verdict(measure, UNTESTED, "not measured along training")
    gaps = [early_stopping.gap(curves[criterion]) for criterion in ("fierce", other)]
    found = statistics.paired(gaps[0], gaps[1], _wanted(study, "fierce"))
    return Verdict(measure, claims.decide(found, -1), str(found))


def keeps_accuracy(study: Study, criterion: str) -> Verdict:
    """From the epoch of the lowest mean error to the last one, the coarse accuracy stays the same."""
    name = study.criterion(criterion).label
    measure = f"coarse accuracy, last epoch less that of the best error, within ±{ACCURACY_MARGIN:g}, {name}"
    error, accuracy = (
        trajectories.by_criterion(study, metric).get(criterion) for metric in (ERRORS[0], "accuracy/coarse")
    )
    if error is None or accuracy is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    common = error.index.intersection(accuracy.index)
    best = int(np.nanargmin(error.loc[common].mean(axis=1)))
    if best == len(common) - 1:
        return Verdict(measure, UNTESTED, "the error is lowest at the last epoch: it has not risen")
    found = statistics.estimate(accuracy.iloc[-1] - accuracy.loc[common].iloc[best], _wanted(study, criterion))
    return Verdict(measure, claims.decide_within(found, ACCURACY_MARGIN), f"from epoch {common[best]} on: {found}")


def close_to_early_ce(study: Study, metric: str) -> Verdict:
    """FIERCE's error at the last epoch is within a tenth of CE's at its best epoch."""
    measure = f"{study.metric(metric).label}, FIERCE's last epoch less CE's best, within ±{MSE_MARGIN:.0%}"
    curves = trajectories.by_criterion(study, metric)
    if not {"fierce", "ce"} <= curves.keys():
        return Verdict(measure, UNTESTED, "not measured along training")
    fierce, ce = curves["fierce"], curves["ce"]
    best = ce.iloc[-1] - early_stopping.gap(ce)
    found = statistics.paired(fierce.iloc[-1], best, _wanted(study, "fierce"))
    return Verdict(measure, claims.decide_within(found, MSE_MARGIN * float(best.mean())), str(found))


def entropy_falls(study: Study, criterion: str) -> Verdict:
    """The entropy is lower at the last epoch than at its highest, which is chosen on the other seeds."""
    measure = f"{study.metric(ENTROPY).label}, last less highest, {study.criterion(criterion).label}"
    curves = trajectories.by_criterion(study, ENTROPY).get(criterion)
    if curves is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    found = statistics.estimate(early_stopping.gap(curves, largest=True), _wanted(study, criterion))
    return Verdict(measure, claims.decide(found, -1), str(found))


def bound_to_entropy(study: Study, metric: str, criterion: str) -> Verdict:
    """Along training, feature entropy and error have a negative rank correlation."""
    name = study.criterion(criterion).label
    measure = f"rank correlation of feature entropy and {study.metric(metric).label} along training, {name}"
    curves = [trajectories.by_criterion(study, name).get(criterion) for name in (ENTROPY, metric)]
    if curves[0] is None or curves[1] is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    found = statistics.estimate(trajectories.rank_correlations(curves[0], curves[1]), _wanted(study, criterion))
    return Verdict(measure, claims.decide(found, -1), str(found))


def beats_class_mean(study: Study, criterion: str) -> Verdict:
    """On held-out images, the interpolated ages are better than the mean age of the predicted class."""
    measure = f"held-out MSE, best β less class mean, {study.criterion(criterion).label}"
    choice = selection.headline(study).get(criterion)
    tables = [selection.values(study, metric) for metric in (ERRORS[1], "mse/class-mean-heldout")]
    if choice is None or not all(choice.trial in table.index for table in tables):
        return Verdict(measure, UNTESTED, "not measured")
    first, second = (table.T[choice.trial] for table in tables)
    found = statistics.paired(first, second, _wanted(study, criterion))
    return Verdict(measure, claims.decide(found, -1), str(found))


def limit_of_accuracy(study: Study, metric: str) -> Verdict:
    """The best λ keeps CE's coarse accuracy, and the next larger λ loses some of it."""
    measure = f"λ of the lowest {study.metric(metric).label}; accuracy margin {ACCURACY_MARGIN:g}"
    found, trials = paper.weights(study, metric)
    ce = selection.headline(study).get("ce")
    if len(trials) < 3 or ce is None:
        return Verdict(measure, UNTESTED, "needs CE and three values of λ at one e")
    best = min(trials, key=lambda value: found[trials[value]].mean)
    text = f"lowest at λ = {best:g}"
    larger = sorted(value for value in trials if value > best)
    if not larger:
        return Verdict(measure, UNDECIDED, f"{text}: the largest that was run")
    kept = selection.difference(study, "accuracy/coarse", trials[best], ce.trial)
    lost = selection.difference(study, "accuracy/coarse", trials[larger[0]], trials[best])
    if kept is None or lost is None:
        return Verdict(measure, UNTESTED, "accuracy/coarse was not measured")
    outcomes = [
        claims.decide(replace(each, mean=each.mean + ACCURACY_MARGIN), sign) for each, sign in ((kept, 1), (lost, -1))
    ]
    return Verdict(
        measure, claims.combine(outcomes), f"{text}; accuracy less CE's: {kept}; at λ = {larger[0]:g} less that: {lost}"
    )


def follows_weight(study: Study, metric: str) -> Verdict:
    """Over the values of λ, the interpolation coefficient has a positive rank correlation with λ."""
    measure = f"rank correlation of λ and {study.metric(metric).label}"
    _, trials = paper.weights(study, metric)
    if len(trials) < 3:
        return Verdict(measure, UNTESTED, "needs three values of λ at one e")
    table = selection.values(study, metric).loc[[trials[value] for value in sorted(trials)]].dropna(axis=1)
    # a coefficient that is the same at every λ has no rank correlation
    varying = table.loc[:, table.nunique() > 1]
    values = {seed: stats.spearmanr(sorted(trials), varying[seed]).statistic for seed in varying}
    wanted = max(selection.planned(study, trial) for trial in trials.values())
    found = statistics.estimate(pd.Series(values, dtype=float), wanted)
    return Verdict(measure, claims.decide(found, 1), str(found))


def aligned(study: Study, other: str) -> Verdict:
    """Within the coarse classes, FIERCE's feature orders the ages better than the other criterion's."""
    measure = (
        f"rank correlation of feature and age within the classes (ours), FIERCE against {study.criterion(other).label}"
    )
    found = features.correlations(study)
    if not all(len(found.get(criterion, ())) for criterion in ("fierce", other)):
        return Verdict(measure, UNTESTED, "features of both are needed")
    columns = [found[criterion]["within the classes"] for criterion in ("fierce", other)]
    difference = statistics.paired(columns[0], columns[1], _wanted(study, "fierce"))
    return Verdict(measure, claims.decide(difference, 1), str(difference))


CLAIMS: Sequence[Claim] = (
    Claim(
        "CE and LS reach a minimal error early, then rise",
        "§1, §5.1, figure 1",
        tuple(partial(rises, metric=metric, criterion=criterion) for criterion in ("ce", "ls") for metric in ERRORS),
    ),
    Claim(
        "While CE's and LS's errors rise, their accuracy remains stable",
        "§1, §5.1",
        tuple(partial(keeps_accuracy, criterion=criterion) for criterion in ("ce", "ls")),
    ),
    Claim(
        "FIERCE reaches an overall lower error",
        "§5.1, figure 1",
        tuple(partial(paper.lowest, metric=metric, criterion="fierce") for metric in ERRORS),
    ),
    Claim(
        "FIERCE needs no early stopping: its error stays low",
        "§1, figure 1",
        (
            *(partial(stays_low, metric=metric) for metric in ERRORS),
            *(partial(rises_less, metric=metric, other=other) for other in ("ce", "ls") for metric in ERRORS),
        ),
    ),
    Claim(
        "FIERCE does not significantly outperform CE in CE's first epochs",
        "§6",
        tuple(partial(close_to_early_ce, metric=metric) for metric in ERRORS),
    ),
    Claim(
        "Entropy of the features and error are negatively correlated",
        "§1, §5.1, figure 1",
        tuple(
            partial(bound_to_entropy, metric=metric, criterion=criterion)
            for metric in ERRORS
            for criterion in ("ce", "ls", "fierce")
        ),
    ),
    Claim(
        "Under CE and LS the entropy of the features reaches a maximum, then decreases",
        "§5.1, figure 1",
        tuple(partial(entropy_falls, criterion=criterion) for criterion in ("ce", "ls")),
    ),
    Claim(
        "FIERCE raises the entropy of the feature space",
        "§5.1, figure 1",
        tuple(
            partial(claims.higher, metric=metric, first="fierce", second=other)
            for other in ("ce", "ls")
            for metric in (ENTROPY, "entropy/features-corrected", "entropy/anchors")
        ),
    ),
    Claim(
        "The features tell more of the age than the coarse class does",
        "§5.1",
        tuple(partial(beats_class_mean, criterion=criterion) for criterion in ("ce", "ls", "fierce")),
    ),
    Claim(
        "Under FIERCE the features align with the ages, under CE and LS they are random within a class",
        "A.3, figure A5",
        tuple(partial(aligned, other=other) for other in ("ce", "ls")),
    ),
    Claim(
        "There is an optimal λ that is not degenerate",
        "A.1, figure A1",
        tuple(partial(paper.optimal_weight, metric=metric) for metric in ERRORS),
    ),
    Claim(
        "The best λ is the limit beyond which the accuracy drops",
        "A.1, figure A1",
        tuple(partial(limit_of_accuracy, metric=metric) for metric in ERRORS),
    ),
    Claim(
        "The interpolation coefficient grows with λ",
        "§5.1",
        tuple(partial(follows_weight, metric=f"interpolation/beta{part}") for part in ("", "-heldout")),
    ),
    Claim(
        "The error is stable from e = 75 anchors on",
        "A.1, figure A2",
        tuple(partial(paper.stable_anchors, metric=metric, start=75) for metric in ERRORS),
    ),
    Claim(
        "FIERCE has the highest mutual information",
        "A.2",
        tuple(
            partial(claims.higher, metric=f"information/mutual{suffix}", first="fierce", second=other)
            for suffix in ("", "-double-softmax")
            for other in ("ce", "ls")
        ),
    ),
    Claim(
        "The stability is similar for each criterion",
        "A.2",
        tuple(
            partial(claims.similar, metric=f"stability{suffix}", first="fierce", second=other, margin=STABILITY_MARGIN)
            for suffix in ("", "-double-softmax")
            for other in ("ce", "ls")
        ),
    ),
    Claim(
        "Neither LS nor FIERCE improves reliability",
        "A.2, figure A3",
        tuple(
            partial(claims.higher, metric=metric, first=first, second="ce")
            for first in ("ls", "fierce")
            for metric in ("calibration/ece", "calibration/mce")
        ),
    ),
)


def _wanted(study: Study, criterion: str) -> int:
    return selection.planned(study, selection.headline(study)[criterion].trial)


if __name__ == "__main__":
    command.run(section, __doc__)
