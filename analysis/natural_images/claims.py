"""The paper's claims on natural images, few-shot transfer (§5.3) and CIFAR-10 (figure A4), and this study's verdicts.

python -m analysis.natural_images.claims --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from analysis import claims, command, paper
from analysis.claims import Claim, Test
from analysis.natural_images import table
from analysis.natural_images.table import BEST, FEATURES, LAST
from analysis.output import Section
from analysis.runs import Study


def section(study: Study, out: Path, judged: Sequence[Claim] = ()) -> Section:
    """Table ``claims``: a row per test of ``judged``, with its verdict."""
    return claims.section(study, out, judged)


def _better(first: str, second: str, start: int) -> Iterator[Test]:
    """Accuracy of 1 shot as table 2 has it, then at the last epoch, on normalised features, and of 5 shots."""
    for k, kind, rule in ((1, "", BEST), (1, "", LAST), (1, "-normalized", BEST), (5, "", BEST)):
        yield partial(
            claims.higher,
            metric=f"accuracy/{k}-shot{kind}",
            first=first,
            second=second,
            measure=f"{k}-shot accuracy in per cent, features {FEATURES[kind]}, {rule}",
            difference=partial(table.difference, rule=rule, start=start),
        )


def few_shot(start: int = 1) -> Sequence[Claim]:
    """Table 2's claims, with epochs chosen from ``start`` on."""
    return (
        Claim(
            "FIERCE has a higher accuracy on new classes than CE",
            "§5.3, table 2",
            tuple(_better("fierce", "ce", start)),
        ),
        Claim(
            "FIERCE has a higher accuracy on new classes than LS",
            "§5.3, table 2",
            tuple(_better("fierce", "ls", start)),
        ),
        Claim("LS improves the accuracy in transfer too", "§5.3, table 2", tuple(_better("ls", "ce", start))),
        Claim(
            "FIERCE raises the entropy of the feature space",
            "§3.2",
            paper.RAISES_ENTROPY,
        ),
    )


#: figure A4's claims
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
    Claim("FIERCE smooths the representation", "A.3, figure A4", (paper.continuous,)),
)


if __name__ == "__main__":
    command.run(section, __doc__)
