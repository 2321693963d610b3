"""The paper's claims on the hyperspectral benchmark as data, each with its tests and a verdict on this study.

python -m analysis.hyperspectral.claims --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from analysis import associations, claims, command, output, paper, selection, statistics
from analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Claim, Evidence, Verdict
from analysis.hyperspectral.table import PROBES
from analysis.output import Section
from analysis.paper import CRITERIA, MSE_MARGIN, STABILITY_MARGIN
from analysis.runs import Study


def section(study: Study, out: Path) -> Section:
    """Table ``claims``: a row per test of `CLAIMS`, with its verdict."""
    return claims.section(study, out, CLAIMS)


def worse_than_raw(study: Study, per_material: bool) -> Verdict:
    """CE's transfer MSE is higher than its raw MSE; as printed, or both summed over the materials."""
    measure = "both summed over materials" if per_material else "as printed: raw summed, transfer averaged"
    choice = selection.headline(study).get("ce")
    if choice is None:
        return Verdict(measure, UNTESTED, claims.absent(study, ("ce",)))
    raw, transfer = (selection.by_trial(study, metric) for metric in ("mse/raw", "mse/transfer"))
    if choice.trial not in raw or choice.trial not in transfer:
        return Verdict(measure, UNTESTED, "mse/transfer was not measured")
    scale = 1
    if per_material:
        fine = next((array["fine"] for array in _arrays(study, choice.trial) if "fine" in array), None)
        if fine is None:
            why = "the number of materials was not kept with the replicas"
            return Verdict(measure, UNTESTED, output.lost_note(study) or why)
        scale = fine.shape[-1]
    rows = (scale * transfer[choice.trial], raw[choice.trial])
    difference = statistics.paired(*rows, selection.planned(study, choice.trial))
    return claims.conclude(study, measure, claims.decide(difference, 1), f"transfer − raw: {difference}", ("ce",))


def misleading(study: Study, probe: str) -> Verdict:
    """The criterion of the lowest raw MSE is not that of the lowest transfer MSE, and both by more than chance."""
    measure = f"transfer MSE, {PROBES[probe]}"
    chosen = {name: choice for name, choice in selection.headline(study).items() if name in CRITERIA}
    means = {metric: selection.summary(study, metric) for metric in ("mse/raw", probe)}
    if len(chosen) < 2 or not all(choice.trial in values for values in means.values() for choice in chosen.values()):
        return Verdict(measure, UNTESTED, "raw and transfer MSE of two criteria are needed")
    raw, transfer = (min(chosen, key=lambda name: means[metric][chosen[name].trial].mean) for metric in means)
    if raw == transfer:
        trials = [choice.trial for choice in chosen.values()]
        sure = claims.combine([claims.surely_lowest(study, metric, trials, chosen[raw].trial) for metric in means])
        evidence = Evidence(FAILS if sure.side == HOLDS else UNDECIDED, sure.p, sure.exact, sure.note)
        numbers = f"{study.criterion(raw).label} has both the lowest raw and the lowest transfer MSE"
        return claims.conclude(study, measure, evidence, numbers, list(chosen))
    first, second = chosen[raw].trial, chosen[transfer].trial
    pairs = [("mse/raw", second, first), (probe, first, second)]
    differences = [selection.difference(study, *pair) for pair in pairs]
    evidence = claims.combine([claims.decide(difference, 1) for difference in differences if difference is not None])
    # the two were singled out by the values that they are tested on
    evidence = replace(evidence, p=min(1.0, evidence.p * (len(chosen) - 1)))
    numbers = (
        f"lowest raw MSE: {study.criterion(raw).label}; lowest transfer MSE: {study.criterion(transfer).label}; "
        f"raw: {differences[0]}; transfer: {differences[1]}"
    )
    return claims.conclude(study, measure, evidence, numbers, list(chosen))


def other_weight(study: Study, probe: str) -> Verdict:
    """The λ of the lowest raw MSE has a lower one than the best for the transfer MSE, and a higher transfer MSE.

    Both are chosen on other seeds. That the transfer MSE is higher does not do: noise alone chooses another λ where raw
    MSE hardly tells two of them apart.
    """
    measure = f"transfer MSE, {PROBES[probe]}"
    (raw, trials), (transfer, again) = paper.weights(study, "mse/raw"), paper.weights(study, probe)
    if len(trials) < 3 or trials != again:
        return Verdict(measure, UNTESTED, "needs three values of λ at one e")
    first, second = (min(trials, key=lambda value: estimates[trials[value]].mean) for estimates in (raw, transfer))
    text = f"raw MSE lowest at λ = {first:g}, transfer MSE at λ = {second:g}"
    if first == second:
        lowest = [
            claims.surely_lowest(study, name, list(trials.values()), trials[first]) for name in ("mse/raw", probe)
        ]
        sure = claims.combine(lowest)
        evidence = Evidence(FAILS if sure.side == HOLDS else UNDECIDED, sure.p, sure.exact, sure.note)
        return claims.conclude(study, measure, evidence, text)
    errors = [paper.by_weight(study, metric, trials) for metric in ("mse/raw", probe)]
    best = [statistics.chosen_apart(table) for table in errors]
    wanted = statistics.left_to_test(max(selection.planned(study, trial) for trial in trials.values()))
    at_first, at_second = ([statistics.at(table, chosen) for table in errors] for chosen in best)
    differences = [statistics.paired(*pair, wanted) for pair in zip(at_first, at_second, strict=True)]
    numbers = f"{text}; chosen on other seeds, there less here: raw {differences[0]}; transfer {differences[1]}"
    evidence = claims.combine(
        [claims.decide(difference, sign) for difference, sign in zip(differences, (-1, 1), strict=True)]
    )
    return claims.conclude(study, measure, evidence, numbers)


CLAIMS: Sequence[Claim] = (
    Claim(
        "LS and FIERCE recover the fine labels from the output better than CE",
        "§5.2, Table 1",
        (
            partial(claims.lower, metric="mse/raw", first="ls", second="ce"),
            partial(claims.lower, metric="mse/raw", first="fierce", second="ce"),
        ),
    ),
    Claim("LS has the lowest raw MSE", "Table 1", (partial(paper.lowest, metric="mse/raw", criterion="ls"),)),
    Claim(
        "FIERCE has the lowest transfer MSE",
        "§5.2, Table 1",
        tuple(partial(paper.lowest, metric=probe, criterion="fierce", measure=name) for probe, name in PROBES.items()),
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
            partial(claims.lower, metric="information/mutual", first="ls", second="ce"),
            partial(claims.lower, metric="information/mutual", first="fierce", second="ce"),
        ),
    ),
    Claim(
        "FIERCE has the lowest mutual information",
        "A.2, table A1",
        (partial(paper.lowest, metric="information/mutual", criterion="fierce"),),
    ),
    Claim(
        "LS and FIERCE have a similar stability",
        "A.2, table A1",
        tuple(
            partial(claims.similar, metric=metric, first="fierce", second="ls", margin=STABILITY_MARGIN)
            for metric in ("stability", "stability/released")
        ),
    ),
    paper.RELIABILITY,
    Claim(
        "FIERCE raises the entropy of the feature space",
        "§3.2, §5.1",
        paper.RAISES_ENTROPY,
    ),
    Claim(
        "Entropy of the features and error on the fine labels are bound to each other",
        "§1, §5.1",
        tuple(
            partial(test, first="entropy/features", second=metric)
            for metric in ("mse/raw", "mse/transfer-least-squares")
            for test in (
                partial(associations.by_increments, criterion="ce", sign=-1),
                partial(associations.by_seeds, sign=-1),
                partial(associations.over_settings),
                partial(associations.along_training, criterion="ce"),
            )
        ),
    ),
    Claim(
        "The approximation by anchors follows the entropy of the features",
        "A.4, figure A6",
        tuple(
            partial(test, first="entropy/features", second="entropy/anchors")
            for test in (
                partial(associations.by_increments, criterion="ce", sign=1),
                partial(associations.by_seeds, sign=1),
                partial(associations.over_settings),
                partial(associations.along_training, criterion="ce", method="pearson"),
            )
        ),
    ),
    Claim(
        "The MSE is stable from e = 100 anchors on",
        "A.1, figure A2",
        tuple(partial(paper.stable_anchors, metric=metric) for metric in ("mse/raw", *PROBES)),
    ),
    Claim(
        "There is an optimal λ that is not degenerate",
        "A.1, figure A1",
        tuple(partial(paper.optimal_weight, metric=metric) for metric in ("mse/raw", *PROBES)),
    ),
    Claim(
        "The best λ for the raw MSE is not the best for the transfer MSE",
        "A.1, figure A1",
        tuple(partial(other_weight, probe=probe) for probe in PROBES),
    ),
    Claim(
        "CE and LS split the classes into separate clusters, FIERCE keeps their continuity",
        "A.3, figure A4",
        (paper.continuous,),
    ),
    Claim(
        "Confidence penalty behaves as label smoothing",
        "§5.1",
        tuple(
            partial(
                claims.similar, metric=metric, first="confidence-penalty", second="ls", margin=MSE_MARGIN, relative=True
            )
            for metric in ("mse/raw", "mse/transfer-least-squares")
        ),
    ),
    Claim(
        "FIERCE needs no early stopping: its error stays low while CE's and LS's rises",
        "§5.1, figure 1",
        (partial(claims.elsewhere, benchmark="age estimation"),),
    ),
    Claim(
        "FIERCE improves few-shot accuracy", "§5.3, table 2", (partial(claims.elsewhere, benchmark="CIFAR-FS and CUB"),)
    ),
)


def _arrays(study: Study, trial: int) -> list[dict[str, np.ndarray]]:
    seeds = study.final.loc[study.final["trial"] == trial, "seed"].unique()
    return [study.arrays(trial, int(seed)) for seed in seeds[:1]]


if __name__ == "__main__":
    command.run(section, __doc__)
