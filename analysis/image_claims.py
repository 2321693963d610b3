"""The paper's claims on natural images, few-shot transfer (§5.3) and CIFAR-10 (figure A4), and this study's verdicts.

python -m analysis.image_claims --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from analysis import claims, command, few_shot_table
from analysis.claims import Claim, Test
from analysis.few_shot_table import BEST, FEATURES, LAST
from analysis.output import Section
from analysis.runs import Study


def section(study: Study, out: Path) -> Section:
    """Table ``claims``: figure A4's claims for the CIFAR-10 benchmark, table 2's for the others."""
    return claims.section(study, out, CIFAR10 if "cifar10" in set(study.trials["benchmark"]) else FEW_SHOT)


def _better(first: str, second: str) -> Iterator[Test]:
    """Accuracy of 1 shot as table 2 has it, then at the last epoch, on normalised features, and of 5 shots."""
    for k, kind, rule in ((1, "", BEST), (1, "", LAST), (1, "-normalized", BEST), (5, "", BEST)):
        yield partial(
            claims.higher,
            metric=f"accuracy/{k}-shot{kind}",
            first=first,
            second=second,
            measure=f"{k}-shot accuracy in per cent, features {FEATURES[kind]}, {rule}",
            difference=partial(few_shot_table.difference, rule=rule),
        )


FEW_SHOT: Sequence[Claim] = (
    Claim("FIERCE has a higher accuracy on new classes than CE", "§5.3, table 2", tuple(_better("fierce", "ce"))),
    Claim("FIERCE has a higher accuracy on new classes than LS", "§5.3, table 2", tuple(_better("fierce", "ls"))),
    Claim("LS improves the accuracy in transfer too", "§5.3, table 2", tuple(_better("ls", "ce"))),
    Claim(
        "FIERCE raises the entropy of the feature space",
        "§3.2",
        tuple(
            partial(claims.higher, metric=metric, first="fierce", second="ce")
            for metric in ("entropy/features", "entropy/spectral", "entropy/anchors")
        ),
    ),
)
CIFAR10: Sequence[Claim] = (
    Claim(
        "FIERCE reduces the distances between the classes",
        "A.3, figure A4",
        tuple(
            partial(claims.lower, metric="geometry/between-within", first="fierce", second=other)
            for other in ("ce", "ls")
        ),
    ),
    Claim(
        "FIERCE draws dogs and cats nearer to each other",
        "A.3, figure A4",
        tuple(partial(claims.lower, metric="geometry/cat-dog", first="fierce", second=other) for other in ("ce", "ls")),
    ),
    Claim("FIERCE smooths the representation", "A.3, figure A4", (claims.continuous,)),
)


if __name__ == "__main__":
    command.run(section, __doc__)
