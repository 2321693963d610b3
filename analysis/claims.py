"""The paper's claims on the hyperspectral benchmark as data, each with its tests and a verdict on this study.

python -m analysis.claims --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import command, entropy_estimate, feature_space, output, selection, sensitivity, statistics, trajectories
from analysis.output import Section
from analysis.reference import PAPER_ENTROPY_CORRELATION
from analysis.runs import Study
from analysis.schema import METRICS
from analysis.statistics import Difference, Estimate
from analysis.unmixing_table import PROBES

HOLDS, FAILS, UNDECIDED, UNTESTED = "holds", "does not hold", "undecided", "not tested here"

NAMES: Mapping[str, str] = {"ce": "CE", "ls": "LS", "fierce": "FIERCE", "confidence-penalty": "confidence penalty"}
#: margins of "similar" and "stable", ours: of stability, and relative to an MSE
STABILITY_MARGIN, MSE_MARGIN = 0.02, 0.10


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


def section(study: Study, out: Path, claims: Sequence[Claim] | None = None) -> Section:
    """Table ``claims``: a row per test of ``claims`` (by default `CLAIMS`), with its verdict."""
    caption = (
        f"A claim holds where the {statistics.LEVEL:.0%} interval of the paired difference on the same seeds lies on "
        "the claimed side of 0, does not hold where it lies on the other, and is undecided where it contains 0 or "
        "seeds are missing; a claim on several differences holds where all do. No correction for the number of tests."
    )
    chosen = "; ".join(f"{choice.label} ({choice.why})" for choice in selection.headline(study).values())
    table = output.save_table(study, judge(study, claims), out, "claims", caption)
    return Section("The paper's claims", (f"Trials compared: {chosen or 'none'}.", table))


def judge(study: Study, claims: Sequence[Claim] | None = None) -> pd.DataFrame:
    """A row per test of ``claims`` (by default `CLAIMS`): claim, where, measure, verdict, numbers."""
    rows = []
    for claim in CLAIMS if claims is None else claims:
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


def lowest(study: Study, metric: str, criterion: str, measure: str = "") -> Verdict:
    """``criterion`` has the lowest ``metric`` of CE, LS and FIERCE."""
    others = [name for name in ("ce", "ls", "fierce") if name != criterion]
    return _sided(study, metric, criterion, others, measure, sign=-1)


def similar(study: Study, metric: str, first: str, second: str, margin: float, relative: bool = False) -> Verdict:
    """The interval of the difference lies within ± ``margin``, or ± that share of ``second``'s mean."""
    chosen = selection.headline(study)
    bound = f"{margin:.0%}" if relative else f"{margin:g}"
    measure = f"{_axis(metric)}, {NAMES[first]} against {NAMES[second]}, within ±{bound}"
    if not {first, second} <= chosen.keys():
        return Verdict(measure, UNTESTED, absent(study, (first, second)))
    difference = selection.difference(study, metric, chosen[first].trial, chosen[second].trial)
    if difference is None:
        return Verdict(measure, UNTESTED, f"{metric} was not measured")
    width = margin * abs(selection.summary(study, metric)[chosen[second].trial].mean) if relative else margin
    return Verdict(measure, decide_within(difference, width), str(difference))


def worse_than_raw(study: Study, per_material: bool) -> Verdict:
    """CE's transfer MSE is higher than its raw MSE; as printed, or both summed over the materials."""
    measure = "both summed over materials" if per_material else "as printed: raw summed, transfer averaged"
    choice = selection.headline(study).get("ce")
    if choice is None:
        return Verdict(measure, UNTESTED, absent(study, ("ce",)))
    raw, transfer = (selection.values(study, metric) for metric in ("mse/raw", "mse/transfer"))
    if choice.trial not in raw.index or choice.trial not in transfer.index:
        return Verdict(measure, UNTESTED, "mse/transfer was not measured")
    scale = 1
    if per_material:
        fine = next((array["fine"] for array in _arrays(study, choice.trial) if "fine" in array), None)
        if fine is None:
            why = "the number of materials was not kept with the replicas"
            return Verdict(measure, UNTESTED, output.lost_note(study) or why)
        scale = fine.shape[-1]
    rows = (scale * transfer.T[choice.trial], raw.T[choice.trial])
    difference = statistics.paired(*rows, selection.planned(study, choice.trial))
    return Verdict(measure, decide(difference, 1), f"transfer − raw: {difference}")


def misleading(study: Study, probe: str) -> Verdict:
    """The criterion of the lowest raw MSE is not that of the lowest transfer MSE, and both by more than chance."""
    measure = f"transfer MSE, {PROBES[probe]}"
    chosen = {name: choice for name, choice in selection.headline(study).items() if name in ("ce", "ls", "fierce")}
    means = {metric: selection.summary(study, metric) for metric in ("mse/raw", probe)}
    if len(chosen) < 2 or not all(choice.trial in values for values in means.values() for choice in chosen.values()):
        return Verdict(measure, UNTESTED, "raw and transfer MSE of two criteria are needed")
    raw, transfer = (min(chosen, key=lambda name: means[metric][chosen[name].trial].mean) for metric in means)
    if raw == transfer:
        trials = [choice.trial for choice in chosen.values()]
        sure = [_surely_lowest(study, metric, trials, chosen[raw].trial) for metric in means]
        outcome = FAILS if all(sure) else UNDECIDED
        return Verdict(measure, outcome, f"{NAMES[raw]} has both the lowest raw and the lowest transfer MSE")
    first, second = chosen[raw].trial, chosen[transfer].trial
    differences = [
        selection.difference(study, "mse/raw", second, first),
        selection.difference(study, probe, first, second),
    ]
    outcome = combine([decide(difference, 1) for difference in differences if difference is not None])
    return Verdict(measure, outcome, f"lowest raw MSE: {NAMES[raw]}; lowest transfer MSE: {NAMES[transfer]}")


def bound_to_entropy(study: Study, metric: str) -> Verdict:
    """Along CE's training, feature entropy and ``metric`` have a negative rank correlation."""
    measure = f"rank correlation of feature entropy and {_axis(metric)} along training, CE"
    entropy, error = (trajectories.by_criterion(study, name).get("ce") for name in ("entropy/features", metric))
    if entropy is None or error is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    wanted = selection.planned(study, selection.headline(study)["ce"].trial)
    correlation = statistics.estimate(trajectories.rank_correlations(entropy, error), wanted)
    return Verdict(measure, decide(correlation, -1), str(correlation))


def approximates(study: Study, bound: float) -> Verdict:
    """Along CE's training, the anchors' entropy correlates with the features' by more than ``bound``."""
    measure = f"correlation along training above {bound:g}, CE"
    values = entropy_estimate.correlations(study).get("ce")
    if values is None:
        return Verdict(measure, UNTESTED, "not measured along training")
    correlation = statistics.estimate(values, selection.planned(study, selection.headline(study)["ce"].trial))
    above = Estimate(correlation.mean - bound, correlation.half, correlation.n, correlation.planned)
    return Verdict(measure, decide(above, 1), str(correlation))


def stable_anchors(study: Study, metric: str, start: int = 100) -> Verdict:
    """From e = ``start`` on ``metric`` stays within ±10% of its value there."""
    measure = f"{_axis(metric)}, within ±{MSE_MARGIN:.0%} of e = {start}"
    axis = sensitivity.along(study, "e")
    trials = axis.trials.set_index("e")["trial"] if axis and axis.is_line else pd.Series(dtype=int)
    found = selection.summary(study, metric)
    beyond = [e for e in trials.index if e > start and trials[e] in found]
    if start not in trials.index or trials[start] not in found or not beyond:
        return Verdict(measure, UNTESTED, f"needs e = {start} and a larger e at one λ")
    differences = {e: selection.difference(study, metric, int(trials[e]), int(trials[start])) for e in beyond}
    width = MSE_MARGIN * found[int(trials[start])].mean
    outcomes = [decide_within(difference, width) for difference in differences.values() if difference is not None]
    numbers = "; ".join(f"e = {e:g} less that: {difference}" for e, difference in differences.items())
    return Verdict(measure, combine(outcomes), f"e = {start}: {found[int(trials[start])]}; {numbers}")


def optimal_weight(study: Study, metric: str) -> Verdict:
    """Some λ inside the range that was run has a lower ``metric`` than both ends; CE counts as λ = 0."""
    measure = _axis(metric)
    found, trials = weights(study, metric)
    if len(trials) < 3:
        return Verdict(measure, UNTESTED, "needs three values of λ at one e")
    best = min(trials, key=lambda value: found[trials[value]].mean)
    ends = (min(trials), max(trials))
    text = f"lowest at λ = {best:g} ({found[trials[best]]}), of λ = {ends[0]:g} to {ends[1]:g}"
    if best in ends:
        sure = _surely_lowest(study, metric, list(trials.values()), trials[best])
        return Verdict(measure, FAILS if sure else UNDECIDED, f"{text}: an end of the range")
    differences = [selection.difference(study, metric, trials[best], trials[end]) for end in ends]
    outcome = combine([decide(difference, -1) for difference in differences if difference is not None])
    return Verdict(measure, outcome, text)


def other_weight(study: Study, probe: str) -> Verdict:
    """The λ of the lowest raw MSE has a higher transfer MSE than the λ that is best for it."""
    measure = f"transfer MSE, {PROBES[probe]}"
    (raw, trials), (transfer, again) = weights(study, "mse/raw"), weights(study, probe)
    if len(trials) < 3 or trials != again:
        return Verdict(measure, UNTESTED, "needs three values of λ at one e")
    first, second = (min(trials, key=lambda value: found[trials[value]].mean) for found in (raw, transfer))
    text = f"raw MSE lowest at λ = {first:g}, transfer MSE at λ = {second:g}"
    difference = selection.difference(study, probe, trials[first], trials[second])
    if first == second or difference is None:
        sure = [_surely_lowest(study, metric, list(trials.values()), trials[first]) for metric in ("mse/raw", probe)]
        return Verdict(measure, FAILS if all(sure) else UNDECIDED, text)
    return Verdict(measure, decide(difference, 1), f"{text}; transfer MSE there: {difference}")


def continuous(study: Study) -> Verdict:
    """FIERCE separates the coarse classes less than CE and LS do, in the feature space itself."""
    measure = "silhouette of the coarse classes (ours), FIERCE less CE and LS"
    values = feature_space.separation(study)
    if not {"ce", "ls", "fierce"} <= values.keys():
        return Verdict(measure, UNTESTED, "features of CE, LS and FIERCE are needed")
    wanted = selection.planned(study, selection.headline(study)["fierce"].trial)
    differences = [statistics.paired(values["fierce"], values[other], wanted) for other in ("ce", "ls")]
    outcome = combine([decide(difference, -1) for difference in differences])
    return Verdict(measure, outcome, "; ".join(map(str, differences)))


def elsewhere(study: Study, benchmark: str) -> Verdict:
    """A claim about another benchmark."""
    return Verdict(benchmark, UNTESTED, f"this study is of {study.trials['benchmark'].iloc[0]}")


CLAIMS: Sequence[Claim] = (
    Claim(
        "LS and FIERCE recover the fine labels from the output better than CE",
        "§5.2, Table 1",
        (
            partial(lower, metric="mse/raw", first="ls", second="ce"),
            partial(lower, metric="mse/raw", first="fierce", second="ce"),
        ),
    ),
    Claim("LS has the lowest raw MSE", "Table 1", (partial(lowest, metric="mse/raw", criterion="ls"),)),
    Claim(
        "FIERCE has the lowest transfer MSE",
        "§5.2, Table 1",
        tuple(partial(lowest, metric=probe, criterion="fierce", measure=name) for probe, name in PROBES.items()),
    ),
    Claim(
        "CE's transfer MSE is worse than its raw MSE",
        "§5.2",
        (partial(worse_than_raw, per_material=False), partial(worse_than_raw, per_material=True)),
    ),
    Claim(
        "The output distribution does not tell how well the features transfer",
        "§5.2",
        tuple(partial(misleading, probe=probe) for probe in PROBES),
    ),
    Claim(
        "Mutual information is lower under LS and FIERCE than under CE",
        "§5.2, table A1",
        (
            partial(lower, metric="information/mutual", first="ls", second="ce"),
            partial(lower, metric="information/mutual", first="fierce", second="ce"),
        ),
    ),
    Claim(
        "FIERCE has the lowest mutual information",
        "A.2, table A1",
        (partial(lowest, metric="information/mutual", criterion="fierce"),),
    ),
    Claim(
        "LS and FIERCE have a similar stability",
        "A.2, table A1",
        tuple(
            partial(similar, metric=metric, first="fierce", second="ls", margin=STABILITY_MARGIN)
            for metric in ("stability", "stability/released")
        ),
    ),
    Claim(
        "Neither LS nor FIERCE improves reliability",
        "A.2, figure A3",
        tuple(
            partial(higher, metric=metric, first=first, second="ce")
            for first in ("ls", "fierce")
            for metric in ("calibration/ece", "calibration/mce")
        ),
    ),
    Claim(
        "FIERCE raises the entropy of the feature space",
        "§3.2, §5.1",
        tuple(
            partial(higher, metric=metric, first="fierce", second="ce")
            for metric in ("entropy/features", "entropy/spectral", "entropy/anchors")
        ),
    ),
    Claim(
        "Entropy of the features and error on the fine labels are bound to each other",
        "§1, §5.1",
        tuple(partial(bound_to_entropy, metric=metric) for metric in ("mse/raw", "mse/transfer-least-squares")),
    ),
    Claim(
        "The approximation by anchors follows the entropy of the features",
        "A.4, figure A6",
        (partial(approximates, bound=0.0), partial(approximates, bound=PAPER_ENTROPY_CORRELATION)),
    ),
    Claim(
        "The MSE is stable from e = 100 anchors on",
        "A.1, figure A2",
        tuple(partial(stable_anchors, metric=metric) for metric in ("mse/raw", *PROBES)),
    ),
    Claim(
        "There is an optimal λ that is not degenerate",
        "A.1, figure A1",
        tuple(partial(optimal_weight, metric=metric) for metric in ("mse/raw", *PROBES)),
    ),
    Claim(
        "The best λ for the raw MSE is not the best for the transfer MSE",
        "A.1, figure A1",
        tuple(partial(other_weight, probe=probe) for probe in PROBES),
    ),
    Claim(
        "CE and LS split the classes into separate clusters, FIERCE keeps their continuity",
        "A.3, figure A4",
        (continuous,),
    ),
    Claim(
        "Confidence penalty behaves as label smoothing",
        "§5.1",
        tuple(
            partial(similar, metric=metric, first="confidence-penalty", second="ls", margin=MSE_MARGIN, relative=True)
            for metric in ("mse/raw", "mse/transfer-least-squares")
        ),
    ),
    Claim(
        "FIERCE needs no early stopping: its error stays low while CE's and LS's rises",
        "§5.1, figure 1",
        (partial(elsewhere, benchmark="age estimation"),),
    ),
    Claim("FIERCE improves few-shot accuracy", "§5.3, table 2", (partial(elsewhere, benchmark="CIFAR-FS and CUB"),)),
)


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
    against = " and ".join(NAMES[name] for name in others)
    measure = f"{measure or _axis(metric)}, {NAMES[first]} against {against}"
    if not {first, *others} <= chosen.keys():
        return Verdict(measure, UNTESTED, absent(study, (first, *others)))
    pairs = {name: difference(study, metric, chosen[first].trial, chosen[name].trial) for name in others}
    differences = {name: value for name, value in pairs.items() if value is not None}
    if len(differences) < len(others):
        return Verdict(measure, UNTESTED, f"{metric} was not measured")
    numbers = "; ".join(f"{NAMES[first]} − {NAMES[name]}: {value}" for name, value in differences.items())
    return Verdict(measure, combine([decide(value, sign) for value in differences.values()]), numbers)


def decide(value: Estimate, sign: int) -> str:
    """Whether the interval lies on the side of 0 that ``sign`` names."""
    if not value.complete or value.low <= 0 <= value.high:
        return UNDECIDED
    return HOLDS if value.mean * sign > 0 else FAILS


def _surely_lowest(study: Study, metric: str, trials: Sequence[int], best: int) -> bool:
    """Whether ``best`` has a lower ``metric`` than every other of ``trials``, by more than chance."""
    others = [selection.difference(study, metric, best, trial) for trial in trials if trial != best]
    return all(difference is not None and decide(difference, -1) == HOLDS for difference in others)


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


def weights(study: Study, metric: str) -> tuple[Mapping[int, Estimate], dict[float, int]]:
    """``metric`` by trial, and the trial of each λ at one e, with CE as λ = 0 where that was not run."""
    found = selection.summary(study, metric)
    axis = sensitivity.along(study, "lambda")
    if axis is None or not axis.is_line:
        return found, {}
    pairs = zip(axis.trials["lambda"], axis.trials["trial"], strict=True)
    trials = {float(value): int(trial) for value, trial in pairs if trial in found}
    ce = selection.headline(study).get("ce")
    if ce is not None and ce.trial in found:
        trials.setdefault(0.0, ce.trial)
    return found, trials


def _arrays(study: Study, trial: int) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of one replica after another, read as they are asked for."""
    seeds = study.final.loc[study.final["trial"] == trial, "seed"].unique()
    return (study.arrays(trial, int(seed)) for seed in seeds)


def absent(study: Study, criteria: Sequence[str]) -> str:
    """Which of ``criteria`` no trial is done of, as a sentence."""
    chosen = selection.headline(study)
    return "no trial is done of " + " and ".join(NAMES[name] for name in criteria if name not in chosen)


def _axis(metric: str) -> str:
    return METRICS.get(metric, (metric,))[0]


if __name__ == "__main__":
    command.run(section, __doc__)
