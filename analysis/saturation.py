"""Which settings see what chance alone gives: metrics beside the metric of chance that they declare.

A regulariser that sees samples drawn at random where it should see the features is saturated by sampling.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis import selection, statistics
from analysis.declarations import Metric
from analysis.runs import Study

#: what it means for the choice among settings
MEANING = (
    "For the choice: there the criterion's own term has little left to ask for, so that a larger weight adds little of "
    "what it is for and takes more from cross-entropy; look for a better setting at smaller weights."
)
#: how near to what chance gives cannot be told from it, as a share of that; ours
MARGIN = 0.01


def sentences(study: Study) -> list[str]:
    """A sentence for every metric with the settings that at the last epoch cannot be told from chance by it.

    That is where the interval of their difference over the seeds lies within ± `MARGIN` of what chance gives; of a
    single seed the difference itself. A setting that lacks a planned seed has no interval and is not named.
    """
    return [
        _sentence(metric.label, saturated)
        for metric in study.metrics.values()
        if (saturated := _saturated(study, metric))
    ]


def labels(study: Study) -> set[str]:
    """The settings that `sentences` name."""
    return {label for metric in study.metrics.values() for label, *_ in _saturated(study, metric)}


def _saturated(study: Study, metric: Metric) -> list[tuple[str, str, str]]:
    """Of each setting that cannot be told from chance: label, its value with its interval, and chance's."""
    saturated: list[tuple[str, str, str]] = []
    if not metric.chance:
        return saturated
    own, chance = (selection.values(study, name).T for name in (metric.name, metric.chance))
    for trial, label in zip(study.trials["trial"], study.trials["label"], strict=True):
        if trial not in own or trial not in chance:
            continue
        planned = selection.planned(study, trial)
        difference = statistics.paired(own[trial], chance[trial], planned)
        half = difference.half if difference.complete else 0.0
        width = MARGIN * float(chance[trial].mean())
        if difference.n == planned and abs(difference.mean) + half <= width:
            estimate = str(statistics.estimate(own[trial], planned))
            saturated.append((label, estimate, f"{chance[trial].mean():.4g}"))
    return saturated


def _sentence(metric: str, saturated: Sequence[tuple[str, str, str]]) -> str:
    if len(saturated) == 1:
        ((label, estimate, chance),) = saturated
        return (
            f"{label} is saturated by sampling: its {metric} is {estimate}, and {chance} by chance alone, the same to "
            f"within ±{MARGIN:.0%}: what it sees of the features cannot be told from chance. {MEANING}"
        )
    listed = "; ".join(f"{label} has {estimate}, and {chance} by chance" for label, estimate, chance in saturated)
    return (
        f"{len(saturated)} settings are saturated by sampling: their {metric} is what chance alone gives, to within "
        f"±{MARGIN:.0%}, so that what they see of the features cannot be told from chance ({listed}). {MEANING}"
    )
