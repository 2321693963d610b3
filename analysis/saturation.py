"""Which settings see what chance alone gives: metrics beside the metric of chance that they declare.

A regulariser that sees samples drawn at random where it should see the features is saturated by sampling.
"""

from __future__ import annotations

from analysis import selection, statistics
from analysis.runs import Study

#: how near to what chance gives cannot be told from it, as a share of that; ours
MARGIN = 0.01


def sentences(study: Study) -> list[str]:
    """A sentence for every setting and metric that at the last epoch cannot be told from chance.

    That is where the interval of their difference over the seeds lies within ± `MARGIN` of what chance gives; of a
    single seed the difference itself. A setting that lacks a planned seed has no interval and no sentence.
    """
    found = []
    for metric in study.metrics.values():
        own, chance = (selection.values(study, name).T for name in (metric.name, metric.chance))
        for trial, label in zip(study.trials["trial"], study.trials["label"], strict=True):
            if not metric.chance or trial not in own or trial not in chance:
                continue
            planned = selection.planned(study, trial)
            difference = statistics.paired(own[trial], chance[trial], planned)
            half = difference.half if difference.complete else 0.0
            width = MARGIN * float(chance[trial].mean())
            if difference.n == planned and abs(difference.mean) + half <= width:
                found.append(
                    f"{label} is saturated by sampling: its {metric.label} is "
                    f"{statistics.estimate(own[trial], planned)}, and {chance[trial].mean():.4g} by chance alone, the "
                    f"same to within ±{MARGIN:.0%}: what it sees of the features cannot be told from chance."
                )
    return found
