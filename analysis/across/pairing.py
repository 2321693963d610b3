"""Which trials of two studies may be subtracted seed by seed, and why others may not.

A paired difference is of the same samples: the same data, split alike, and the same seeds. What the stores do not tell
is not assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis import selection, statistics
from analysis.runs import Study
from analysis.statistics import Difference


@dataclass(frozen=True)
class Match:
    """A trial of the first study and one of the second that are set side by side, and what they are called."""

    label: str
    first: int
    second: int


def refusal(first: Study, second: Study) -> str:
    """Why no trial of ``second`` is paired with one of ``first``, in a sentence; empty where they may be."""
    one, other = f"study {first.name!r}", f"study {second.name!r}"
    prints = [set(study.trials["fingerprint"]) for study in (first, second)]
    for name, held in zip((one, other), prints, strict=True):
        if not held - {""}:
            return f"{name} does not say which data it was trained on (it holds no fingerprint)"
        if len(held) > 1:
            return f"the trials of {name} were trained on different data"
    if prints[0] != prints[1]:
        digests = " and ".join(next(iter(held))[:12] for held in prints)
        return f"they were trained on different data (fingerprints {digests})"
    seeds = [_seeds(study) for study in (first, second)]
    if not seeds[0] & seeds[1]:
        spoken = " and ".join(_spoken(each) for each in seeds)
        return f"they have no seed in common ({spoken}), so that each seed's weights, order and split are others"
    return _split_refusal(first, second, sorted(seeds[0] & seeds[1]))


def _split_refusal(first: Study, second: Study, seeds: list[int]) -> str:
    """Why their splits are not known to be one."""
    own, others = _splits(first), _splits(second)
    for study, held in ((first, own), (second, others)):
        if any(len(digests) > 1 for digests in held.values()):
            return f"the trials of study {study.name!r} are split in several ways"
    if own and others:
        unlike = [seed for seed in seeds if own.get(seed) != others.get(seed)]
        if unlike:
            return f"seed {unlike[0]} holds out other samples in one than in the other, by the digests of their splits"
        return ""
    options = [study.settings.get("benchmark") for study in (first, second)]
    if options[0] is None or options[0] != options[1]:
        lacking = " and ".join(study.name for study, held in ((first, own), (second, others)) if not held)
        return (
            f"the store of {lacking} holds no digest of its splits, as those of before 0.2, and their benchmark "
            "settings differ, by which a split is drawn"
        )
    return ""


def note(first: Study, second: Study) -> str:
    """On what the pairing of two studies rests, in a sentence."""
    common = _seeds(first) & _seeds(second)
    by = "by its digest" if _splits(first) and _splits(second) else "since their benchmark settings are the same"
    own, others = (_seeds(study) - common for study in (first, second))
    alone = [f"{_spoken(each)} of {study.name}" for study, each in ((first, own), (second, others)) if each]
    left = f" Seeds without a partner are left out: {'; '.join(alone)}." if alone else ""
    return f"The same data by its fingerprint, {_spoken(common)}, each with the same split {by}.{left}"


def matches(first: Study, second: Study) -> list[Match]:
    """Trials of both that are set side by side, in the order of tables.

    Those of one criterion and one setting; of a criterion without such, the trials that speak for it in each.
    """
    found: list[Match] = []
    chosen = [selection.headline(study) for study in (first, second)]
    settings = [_by_setting(study) for study in (first, second)]
    for criterion in (name for name in first.criteria if name in second.criteria):
        equal = [key for key in settings[0] if key[0] == criterion and key in settings[1]]
        for key in equal:
            (label, one), (_, other) = settings[0][key], settings[1][key]
            found.append(Match(label, one, other))
        if not equal and criterion in chosen[0] and criterion in chosen[1]:
            one_choice, other_choice = chosen[0][criterion], chosen[1][criterion]
            label = f"{one_choice.label} | {other_choice.label}"
            found.append(Match(label, one_choice.trial, other_choice.trial))
    return found


def difference(first: Study, second: Study, metric: str, match: Match) -> Difference | None:
    """``second`` less ``first`` of a match, on the seeds of both; None without a common seed or ``metric``."""
    one, other = (selection.by_trial(study, metric) for study in (first, second))
    if match.first not in one or match.second not in other:
        return None
    common = set(selection.planned_seeds(first, match.first)) & set(selection.planned_seeds(second, match.second))
    if not common:
        return None
    value = statistics.paired(other[match.second], one[match.first], len(common))
    return selection.corrected(first, metric, match.first, value)


def _by_setting(study: Study) -> dict[tuple[object, ...], tuple[str, int]]:
    """(criterion, its settings) -> label and number of the first trial that is done."""
    done = set(study.final["trial"])
    varied = {each.name for each in study.varied}
    found: dict[tuple[object, ...], tuple[str, int]] = {}
    for _, row in study.trials[study.trials["trial"].isin(done)].iterrows():
        own = [each.name for each in study.criterion(row["criterion"]).hyperparameters]
        read = tuple((name, str(row[name])) for name in sorted({*own, *varied}) if row[name] == row[name])
        found.setdefault((row["criterion"], read), (str(row["label"]), int(row["trial"])))
    return found


def _seeds(study: Study) -> set[int]:
    return {seed for seeds in study.trials["planned"] for seed in seeds}


def _splits(study: Study) -> Mapping[int, set[str]]:
    """The digest of each seed's split; several where the trials are split otherwise."""
    found: dict[int, set[str]] = {}
    for seeds in study.splits.values():
        for seed, digest in seeds.items():
            found.setdefault(seed, set()).add(digest)
    return found


def _spoken(seeds: set[int]) -> str:
    """``seeds 0 to 9``, ``seeds 1, 4`` or ``seed 3``."""
    listed = sorted(seeds)
    if len(listed) > 2 and listed[-1] - listed[0] == len(listed) - 1:
        return f"seeds {listed[0]} to {listed[-1]}"
    return f"seed{'s' * (len(listed) > 1)} {', '.join(map(str, listed))}"
