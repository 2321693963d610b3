"""Rules that choose among trained networks without fine labels: what a label-free search goes by, and the report tests.

Each rule takes, among the points whose coarse validation accuracy stays within one standard error of cross-entropy's,
the one with the largest or smallest mean over the seeds of something measured on the validation part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rule:
    """One rule; ``words`` say what it takes.

    ``metric`` is empty for one that compares seeds, which no single trial's training can tell: the report computes it
    from what the replicas kept, and no search optimises it.
    """

    name: str
    metric: str
    direction: Literal["minimize", "maximize"]
    words: str

    @property
    def largest(self) -> bool:
        return self.direction == "maximize"


RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("feature-entropy", "entropy/features-validation", "maximize", "largest entropy of the pooled histogram"),
        Rule(
            "anchor-entropy", "entropy/common-anchors-validation", "maximize", "largest entropy of the nearest anchor"
        ),
        Rule("effective-rank", "entropy/spectral-validation", "maximize", "largest effective rank"),
        Rule("alpha-req", "spectrum/decay-distance-validation", "minimize", "spectral decay α nearest to 1"),
        Rule("likelihood", "likelihood/coarse-validation", "minimize", "largest coarse likelihood"),
        Rule("calibration", "calibration/ece-validation", "minimize", "smallest coarse calibration error"),
        Rule("accuracy", "accuracy/validation", "maximize", "largest coarse accuracy"),
        Rule("agreement", "", "maximize", "largest agreement of two seeds on samples that neither trained on"),
    )
}
#: the rule of ``label_free: true`` alone: of λ it cost least in the mean of four studies (docs/results.md)
DEFAULT = "anchor-entropy"
