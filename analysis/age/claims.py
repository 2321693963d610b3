"""The paper's claims on age estimation (figures 1, A1, A2, A3 and A5), each with its tests and this study's verdicts.

python -m analysis.age.claims --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from analysis import associations, claims, command, paper, selection, statistics, trajectories
from analysis.age import early_stopping, feature_against_age
from analysis.age.early_stopping import ENTROPY, ERRORS
from analysis.associations import wanted
from analysis.claims import HOLDS, UNDECIDED, UNTESTED, Claim, Evidence, Verdict
from analysis.output import Section
from analysis.paper import MSE_MARGIN, STABILITY_MARGIN
from analysis.runs import Study
from analysis.statistics import Difference

#: margin of "the same accuracy", and of its loss that counts as a drop; ours
ACCURACY_MARGIN = 0.02
#: error -> that of the mean age of the predicted class, which whatever has trained is better than
CLASS_MEANS = {"mse/transport": "mse/class-mean", "mse/transport-heldout": "mse/class-mean-heldout"}


def section(study: Study, out: Path) -> Section:
    """Table ``claims``: a row per test, with its verdict."""
    judged = claims.section(study, out, CLAIMS)
    return Section(judged.title, (early_stopping.length(study), *judged.items))


def rises(study: Study, metric: str, criterion: str) -> Verdict:
    """The error is higher at the last epoch than at its best, which is chosen on other seeds."""
    measure = f"{study.metric(metric).label}, last less best epoch, {study.criterion(criterion).label}"
    rise = _gap(study, metric, criterion)
    if rise is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    return claims.conclude(study, measure, claims.decide(rise, 1), str(rise), (criterion,))


def stays_low(study: Study, metric: str) -> Verdict:
    """FIERCE, once it has trained, has an error at the last epoch of at most a tenth above that of every other.

    Every epoch is tested, since one that is chosen as the best on some seeds is not quite the best on the others.
    """
    measure = f"{study.metric(metric).label}, last less best epoch at most {MSE_MARGIN:.0%} of the best, FIERCE"
    curves = trajectories.by_criterion(study, metric).get("fierce")
    if curves is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    last, seeds = curves.iloc[-1], wanted(study, "fierce")
    best = curves.iloc[int(np.nanargmin(curves.mean(axis=1).to_numpy()))]
    # seed by seed, so that one that is best at the end still says by how much it is below the bound
    bounds = [statistics.paired(last, (1 + MSE_MARGIN) * curves.loc[epoch], seeds) for epoch in curves.index]
    evidence = claims.combine([claims.decide_at_most(bound, 0) for bound in bounds])
    numbers = f"lowest mean {best.mean():.4g}, at epoch {best.name}"
    if best.name != last.name:
        numbers = f"{statistics.paired(last, best, seeds)}; {numbers}"
    return _once_trained(study, measure, metric, evidence, numbers, ("fierce",))


def rises_less(study: Study, metric: str, other: str) -> Verdict:
    """FIERCE's error rises less after its best epoch than the other criterion's."""
    measure = f"{study.metric(metric).label}, last less best epoch, FIERCE against {study.criterion(other).label}"
    curves = trajectories.by_criterion(study, metric)
    if not {"fierce", other} <= curves.keys():
        return Verdict(measure, UNTESTED, "not measured along training")
    gaps = [trajectories.gap_apart(curves[criterion]) for criterion in ("fierce", other)]
    difference = statistics.paired(gaps[0], gaps[1], statistics.left_to_test(wanted(study, "fierce")))
    return _once_trained(study, measure, metric, claims.decide(difference, -1), str(difference), ("fierce", other))


def keeps_accuracy(study: Study, criterion: str) -> Verdict:
    """While the error rises, which must be decided, the coarse accuracy stays the same from its best epoch on.

    The epoch of the lowest error is chosen on other seeds.
    """
    name = study.criterion(criterion).label
    measure = f"coarse accuracy, last epoch less that of the best error, within ±{ACCURACY_MARGIN:g}, {name}"
    error, accuracy = (
        trajectories.by_criterion(study, metric).get(criterion) for metric in (ERRORS[0], "accuracy/coarse")
    )
    if error is None or accuracy is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    common = error.index.intersection(accuracy.index)
    seeds = statistics.left_to_test(wanted(study, criterion))
    rise = statistics.one_sample(trajectories.gap_apart(error.loc[common]), seeds)
    presupposed = claims.decide(rise, 1)
    if presupposed.outcome != HOLDS:
        return Verdict(measure, UNTESTED, f"that the error rises is not decided: {rise}")
    chosen = statistics.chosen_apart(error.loc[common])
    difference = statistics.one_sample(accuracy.iloc[-1] - statistics.at(accuracy, chosen), seeds)
    evidence = claims.given(presupposed, claims.decide_within(difference, ACCURACY_MARGIN), "")
    epochs = " or ".join(str(epoch) for epoch in sorted(set(chosen)))
    return claims.conclude(study, measure, evidence, f"from epoch {epochs} on: {difference}", (criterion,))


def close_to_early_ce(study: Study, metric: str) -> Verdict:
    """FIERCE, once it has trained, has an error at the last epoch of at least CE's at its best, less a tenth.

    CE's best epoch is chosen on other seeds.
    """
    measure = f"{study.metric(metric).label}, CE's best less FIERCE's last epoch at most {MSE_MARGIN:.0%} of CE's best"
    curves = trajectories.by_criterion(study, metric)
    if not {"fierce", "ce"} <= curves.keys():
        return Verdict(measure, UNTESTED, "not measured along training")
    fierce, ce = curves["fierce"], curves["ce"]
    best = statistics.at(ce, statistics.chosen_apart(ce))
    difference = statistics.paired(best, fierce.iloc[-1], statistics.left_to_test(wanted(study, "fierce")))
    # seed by seed, as the best is no more certain than what is compared with it
    evidence = claims.decide_at_most(statistics.paired((1 - MSE_MARGIN) * best, fierce.iloc[-1], difference.planned), 0)
    return _once_trained(study, measure, metric, evidence, str(difference), ("fierce", "ce"))


def entropy_falls(study: Study, criterion: str) -> Verdict:
    """The entropy is lower at the last epoch than at its highest, which is chosen on other seeds."""
    measure = f"{study.metric(ENTROPY).label}, last less highest, {study.criterion(criterion).label}"
    fall = _gap(study, ENTROPY, criterion, largest=True)
    if fall is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    return claims.conclude(study, measure, claims.decide(fall, -1), str(fall), (criterion,))


def beats_class_mean(study: Study, criterion: str) -> Verdict:
    """On held-out images, the interpolated ages are better than the mean age of the predicted class."""
    measure = f"held-out MSE, best β less class mean, {study.criterion(criterion).label}"
    choice = selection.headline(study).get(criterion)
    tables = [selection.by_trial(study, metric) for metric in (ERRORS[1], "mse/class-mean-heldout")]
    if choice is None or not all(choice.trial in table for table in tables):
        return Verdict(measure, UNTESTED, "not measured")
    first, second = (table[choice.trial] for table in tables)
    difference = statistics.paired(first, second, wanted(study, criterion))
    return claims.conclude(study, measure, claims.decide(difference, -1), str(difference), (criterion,))


def limit_of_accuracy(study: Study, metric: str) -> Verdict:
    """The best λ, chosen on other seeds, keeps CE's coarse accuracy, and the next larger λ loses some of it.

    Its error must be lower than each other's: noise alone chooses one that hardly differs from the best.
    """
    measure = f"λ of the lowest {study.metric(metric).label}; accuracy margin {ACCURACY_MARGIN:g}"
    estimates, trials = paper.weights(study, metric)
    ce = selection.headline(study).get("ce")
    if len(trials) < 3 or ce is None:
        return Verdict(measure, UNTESTED, "needs CE and three values of λ at one e")
    text = f"lowest at λ = {min(trials, key=lambda value: estimates[trials[value]].mean):g}"
    table = selection.values(study, "accuracy/coarse")
    if not {ce.trial, *trials.values()} <= set(table.index):
        return Verdict(measure, UNTESTED, "accuracy/coarse was not measured")
    accuracy, order = paper.by_weight(study, "accuracy/coarse", trials), sorted(trials)
    errors = paper.by_weight(study, metric, trials)
    best = statistics.chosen_apart(errors)
    larger = best.map(dict(pairwise(order)))
    if larger.isna().any():
        return Verdict(measure, UNDECIDED, f"{text}: the largest that was run, by some of the seeds")
    seeds = statistics.left_to_test(max(selection.planned(study, trial) for trial in trials.values()))
    kept = statistics.paired(table.T[ce.trial], statistics.at(accuracy, best), seeds)
    lost = statistics.paired(statistics.at(accuracy, larger), statistics.at(accuracy, best), seeds)
    evidence = claims.combine(
        [claims.decide_at_most(kept, ACCURACY_MARGIN), claims.decide(lost.less(-ACCURACY_MARGIN), -1)]
    )
    others = [
        statistics.paired(statistics.at(errors, best), errors.T[weight], seeds)
        for weight in order
        if weight != best.iloc[0]
    ]
    surely = claims.combine([claims.decide(difference, -1) for difference in others])
    evidence = claims.given(surely, evidence, "no λ is surely the best")
    numbers = f"{text}; chosen on other seeds, CE's accuracy less that there: {kept}; at the next λ less it: {lost}"
    return claims.conclude(study, measure, evidence, numbers)


def follows_weight(study: Study, metric: str) -> Verdict:
    """Over the values of λ, the interpolation coefficient has a positive rank correlation with λ."""
    measure = f"rank correlation of λ and {study.metric(metric).label}"
    _, trials = paper.weights(study, metric)
    if len(trials) < 3:
        return Verdict(measure, UNTESTED, "needs three values of λ at one e")
    order = sorted(trials)
    table = selection.values(study, metric).loc[[trials[value] for value in order]].to_numpy(float)
    # a coefficient that is the same at every λ has no rank correlation
    of_weights, of_values = (associations.standard(values) for values in (np.array(order)[:, None], table))
    seeds = max(selection.planned(study, trial) for trial in trials.values())
    correlation = statistics.one_sample((of_weights * of_values).sum(axis=0), seeds, scale=1)
    return claims.conclude(study, measure, claims.decide(correlation, 1), str(correlation))


def aligned(study: Study, other: str) -> Verdict:
    """Within the coarse classes, FIERCE's feature orders the ages better than the other criterion's."""
    measure = (
        f"rank correlation of feature and age within the classes (ours), FIERCE against {study.criterion(other).label}"
    )
    correlations = feature_against_age.correlations(study)
    if not all(len(correlations.get(criterion, ())) for criterion in ("fierce", other)):
        return Verdict(measure, UNTESTED, "features of both are needed")
    columns = [correlations[criterion]["within the classes"] for criterion in ("fierce", other)]
    difference = statistics.paired(columns[0], columns[1], wanted(study, "fierce"))
    return claims.conclude(study, measure, claims.decide(difference, 1), str(difference), ("fierce", other))


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
            partial(test, first=ENTROPY, second=metric)
            for metric in ERRORS
            for test in (
                *(
                    partial(associations.by_increments, criterion=criterion, sign=-1)
                    for criterion in ("ce", "ls", "fierce")
                ),
                partial(associations.by_seeds, sign=-1),
                partial(associations.over_settings),
                *(partial(associations.along_training, criterion=criterion) for criterion in ("ce", "ls", "fierce")),
            )
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
    paper.RELIABILITY,
)


def _gap(study: Study, metric: str, criterion: str, largest: bool = False) -> Difference | None:
    """Last less best epoch, chosen on other seeds; None where it was not measured along training."""
    curves = trajectories.by_criterion(study, metric).get(criterion)
    if curves is None:
        return None
    return statistics.one_sample(
        trajectories.gap_apart(curves, largest), statistics.left_to_test(wanted(study, criterion))
    )


def _once_trained(
    study: Study, measure: str, metric: str, evidence: Evidence, numbers: str, criteria: Sequence[str]
) -> Verdict:
    """The verdict, where FIERCE's error is lower than CE's class means: an error that never fell cannot rise."""
    chosen = selection.headline(study)
    errors, means = (selection.by_trial(study, name) for name in (metric, CLASS_MEANS[metric]))
    if "ce" not in chosen or chosen["ce"].trial not in means or chosen["fierce"].trial not in errors:
        return Verdict(measure, UNTESTED, f"{numbers}; whether FIERCE has trained needs CE's class means")
    difference = statistics.paired(errors[chosen["fierce"].trial], means[chosen["ce"].trial], wanted(study, "fierce"))
    note = f"FIERCE has not been shown to be better than CE's class means: {difference}"
    evidence = claims.given(claims.decide(difference, -1), evidence, note)
    return claims.conclude(study, measure, evidence, numbers, criteria)


if __name__ == "__main__":
    command.run(section, __doc__)
