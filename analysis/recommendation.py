"""Which criterion and setting to use: chosen on validation samples, then tested once where the choice had no part.

A choice among many points is the best in their noise, and its held-out value shares the luck of its seeds. So the test
is made on fresh seeds where the study has them; else on held-out samples of the same seeds, with all points that were
chosen among counted; else, where nothing was measured on validation samples, on seeds that did not choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from analysis import selection, shares, statistics
from analysis.claims import FAILS, HOLDS, Evidence
from analysis.runs import Study
from analysis.statistics import ALPHA, LEVEL, Difference, Estimate, Ratio

#: where the rival is tested: on ``fresh`` seeds that confirm a search; on the ``heldout`` samples of the seeds that
#: chose it on validation ones; on held-out samples of seeds set ``apart``; or not at all, chosen by a ``search``
How = Literal["fresh", "heldout", "apart", "search"]


@dataclass(frozen=True)
class Recommendation:
    """The best rival of the reference criterion, and whether it is shown to keep more of the fine labels.

    ``metric`` is of held-out samples, ``by`` what the choice was made by, in words, and ``among`` how many rivals there
    were. ``rival`` and ``reference`` are trials of the plan, ``ahead`` says whether the rival was the better one where
    it was chosen. ``part`` holds the trials that are tested, ``tested`` and ``against``. ``difference`` is the rival's
    ``metric`` less the reference's, by seed; its interval and ``evidence`` allow for the choice.
    """

    metric: str
    by: str
    among: int
    rival: int
    reference: int
    ahead: bool
    how: How
    part: Study
    tested: int
    against: int
    difference: Difference
    evidence: Evidence

    @property
    def wins(self) -> bool:
        """Whether the rival is recommended: the better one where it was chosen, and shown to be where it is tested."""
        return self.ahead and self.how != "search" and self.evidence.outcome == HOLDS

    @property
    def trial(self) -> int:
        """The trial of the plan that is recommended."""
        return self.rival if self.wins else self.reference


@dataclass(frozen=True)
class Way:
    """From what is there without training, the ``floor``, to what training on the fine labels gives, the ``ceiling``.

    ``floors`` are all that were measured, by what was measured in place of the trained network; the first is the
    ``floor``. ``shares`` says, by trial, how much of the way is kept: empty where the ceiling is not surely above it.
    """

    floors: Mapping[str, Estimate]
    ceiling: Estimate
    shares: Mapping[int, Ratio]


@lru_cache(maxsize=4)
def find(study: Study) -> Recommendation | None:
    """The recommendation; None without a fine metric, the reference or a rival, each done with all its seeds."""
    metric = selection.fine_metric(study)
    reference = reference_trial(study)
    if not metric or reference is None:
        return None
    return _by_validation(study, metric, reference) or _by_seeds(study, metric, reference)


def reference_trial(study: Study) -> int | None:
    """The trial of the criterion that the others are compared with, done with all its seeds."""
    rows = study.trials[study.trials["criterion"] == study.reference]
    spoken = selection.headline(study).get(study.reference)
    # where training settings vary, the one at which criteria are compared
    if study.varied and spoken is not None:
        rows = rows[rows["trial"] == spoken.trial]
    return next((int(trial) for trial in rows["trial"] if trial in whole(study)), None)


@lru_cache(maxsize=4)
def whole(study: Study) -> frozenset[int]:
    """The trials of coarse labels that are done with all their seeds."""
    table = study.trials[study.trials["state"] == "done"]
    done = [set(found) == set(planned) for found, planned in zip(table["found"], table["planned"], strict=True)]
    coarse = [not study.criterion(name).fine for name in table["criterion"]]
    return frozenset(map(int, table.loc[np.array(done, bool) & np.array(coarse, bool), "trial"]))


def rivals(study: Study) -> list[int]:
    """The trials that the choice is made among: of a searched criterion those that keep to the search's constraint.

    Where a grid varies training settings, those that are at the reference's.
    """
    found = selection.search(study)
    infeasible = {
        int(trial) for _, points in found.values() for trial in points.loc[~points["feasible"].astype(bool), "trial"]
    }
    table = study.trials[study.trials["criterion"] != study.reference]
    trials = [int(trial) for trial in table["trial"] if trial in whole(study) and trial not in infeasible]
    reference = reference_trial(study)
    if not study.varied or found or reference is None:
        return trials
    settings = selection.settings(study)
    return [trial for trial in trials if settings[trial] == settings[reference]]


def _by_validation(study: Study, metric: str, reference: int) -> Recommendation | None:
    """The rival that is best on validation samples, by the search's objective where there is one."""
    objective = selection.objective_metric(study)
    by = objective or selection.validation_of(study, metric)
    if not by:
        return None
    settings = (study.settings.get("search") or {}).get("objective") or {}
    lower = settings.get("direction") == "minimize" if objective else study.metric(metric).better == "lower"
    means = _whole_means(study, by, -1 if lower else 1)
    among = [trial for trial in rivals(study) if trial in means]
    if not among or reference not in means:
        return None
    # what was confirmed stays chosen
    confirmed = set(study.confirmation.trials["repeats"])
    best = max(among, key=means.__getitem__)
    searched = {best.trial for best, _ in selection.search(study).values() if best is not None}
    role = dict(zip(study.trials["trial"], study.trials["role"], strict=True))
    if role[best] == "search":
        best = max(searched & set(among), key=lambda trial: (trial in confirmed, means[trial]), default=best)
    words = selection.rule(study) if settings.get("label_free") else study.metric(by).label
    common = (metric, words, len(among), best, reference, means[best] > means[reference])
    fresh = _repeats(study.confirmation)
    if best in fresh and reference in fresh:
        part = study.confirmation
        difference = _difference(part, metric, fresh[best], fresh[reference])
        if difference is not None:
            evidence = _evidence(study, metric, difference, difference.p, difference.exact)
            return Recommendation(*common, "fresh", part, fresh[best], fresh[reference], difference, evidence)
    if role[best] == "search":
        difference = _difference(study, metric, best, reference)
        if difference is None:
            return None
        return Recommendation(*common, "search", study, best, reference, difference, Evidence(HOLDS))
    fixed = [trial for trial in among if role[trial] != "search"]
    difference = _difference(study, metric, best, reference, len(fixed))
    if difference is None:
        return None
    table = selection.values(study, metric)
    rows = (table.reindex(fixed) - table.loc[reference]).T.dropna()
    exact = statistics.sign_flip_best(rows, fixed.index(best)) if len(rows) else np.nan
    evidence = _evidence(study, metric, difference, min(1.0, len(fixed) * difference.p), exact)
    return Recommendation(*common, "heldout", study, best, reference, difference, evidence)


def _by_seeds(study: Study, metric: str, reference: int) -> Recommendation | None:
    """The rival that is best by the metric itself on the first two fifths of the seeds, tested on the others."""
    table = selection.values(study, metric)
    among = [trial for trial in rivals(study) if trial in table.index]
    if not among or reference not in table.index or table.shape[1] < 3:
        return None
    higher = study.metric(metric).better == "higher"
    options = table.loc[[reference, *among]]
    chosen = statistics.chosen_apart(options.loc[among], higher)
    best = chosen.iloc[0]
    if best is None:
        return None
    choosing = [seed for seed in table.columns if seed not in chosen.index]
    means = options[choosing].mean(axis=1)
    ahead = bool(means[best] > means[reference] if higher else means[best] < means[reference])
    tested = table[list(chosen.index)].T
    wanted = statistics.left_to_test(selection.planned(study, reference))
    difference = statistics.paired(tested[best], tested[reference], wanted)
    difference = selection.corrected(study, metric, int(best), difference)
    evidence = _evidence(study, metric, difference, difference.p, difference.exact)
    words = f"{study.metric(metric).label} of seeds {', '.join(map(str, choosing))}"
    common = (metric, words, len(among), int(best), reference, ahead)
    return Recommendation(*common, "apart", study, int(best), reference, difference, evidence)


def cost(found: Recommendation) -> Difference | None:
    """The rival's coarse accuracy less the reference's, where it is tested; None where it was not measured."""
    return selection.difference(found.part, "accuracy/coarse", found.tested, found.against)


def floors(study: Study, found: Recommendation) -> dict[str, Estimate]:
    """What was measured in place of the trained network, an untrained one first -> the metric of it."""
    planned = selection.planned(study, found.reference)
    return {words: statistics.estimate(values, planned) for words, values in shares.floors(study, found.metric).items()}


def way(study: Study, found: Recommendation) -> Way | None:
    """How far it is from what an untrained network keeps to what training on the fine labels gives.

    None where either was not measured, see `analysis.shares`.
    """
    top, lower = shares.ceiling(study), floors(study, found)
    values = selection.values(study, found.metric)
    if top is None or top not in values.index or not lower:
        return None
    planned = selection.planned(study, found.reference)
    first = next(iter(lower))
    kept = {trial: shares.share(study, found.metric, trial, first) for trial in (found.rival, found.reference)}
    return Way(
        lower,
        statistics.estimate(values.loc[top], planned),
        {trial: share for trial, share in kept.items() if share is not None},
    )


def _whole_means(study: Study, metric: str, sign: int) -> dict[int, float]:
    """By trial that has it of every planned seed, its mean, ``sign`` times."""
    return {
        trial: sign * found.mean
        for trial, found in selection.summary(study, metric).items()
        if found.n == found.planned
    }


def _repeats(study: Study) -> dict[int, int]:
    """Trial of the plan -> the trial of fresh seeds that trains it again, where that is done with all of them."""
    pairs = zip(study.trials["repeats"], study.trials["trial"], strict=True)
    return {int(repeated): int(trial) for repeated, trial in pairs if trial in whole(study)}


def _difference(study: Study, metric: str, rival: int, reference: int, options: int = 1) -> Difference | None:
    """The paired difference, with an interval that holds for all of so many ``options`` at once (Bonferroni)."""
    table = selection.values(study, metric)
    if not {rival, reference} <= set(table.index):
        return None
    level = 1 - (1 - LEVEL) / options
    wanted = max(selection.planned(study, trial) for trial in (rival, reference))
    rows = table.T
    found = statistics.paired(rows[rival], rows[reference], wanted, level)
    return selection.corrected(study, metric, rival, found)


def _evidence(study: Study, metric: str, difference: Difference, p: float, exact: float) -> Evidence:
    """Both tests must say so, as in a table of claims."""
    if not difference.complete:
        return Evidence(FAILS)
    better = difference.mean < 0 if study.metric(metric).better == "lower" else difference.mean > 0
    note = "" if statistics.smallest_p(difference.n) <= ALPHA else f"{difference.n} seeds cannot decide"
    return Evidence(HOLDS if better else FAILS, exact if np.isnan(p) or exact > max(p, ALPHA) else p, exact, note)
