"""The pages of natural images: sections in order, the paper's settings and printed numbers, by benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from analysis import feature_space, paper, trajectories, verdicts
from analysis.natural_images import claims, table
from analysis.own_data import table as own_table
from analysis.pages import Page

#: what figure A4 is read for on CIFAR-10, measured over all held-out samples
DISTANCES = ("geometry/between-within", "geometry/cat-dog")


def few_shot(benchmark: str, weight: float, printed: Mapping[str, str] | None = None, start: int = 1) -> Page:
    """The page of a few-shot benchmark whose λ is ``weight`` in the paper.

    ``printed`` are its cells of table 2: 1-shot accuracy in per cent on novel classes, interval over 10 trainings. The
    released code compares validation accuracies from epoch ``start`` on.
    """
    return Page(
        benchmarks=(benchmark,),
        settings={"ls": {"sigma": 0.1}, "fierce": {"lambda": weight, "e": 100.0}},
        metrics=("accuracy/coarse", "accuracy/1-shot", "accuracy/5-shot", "entropy/features"),
        summary=partial(verdicts.section, judged=claims.few_shot(start)),
        claims=claims.few_shot(start),
        sections=(
            partial(table.section, printed=printed, start=start),
            partial(
                trajectories.section,
                after="figure 1",
                panels=(
                    "accuracy/1-shot",
                    "accuracy/1-shot-normalized",
                    "accuracy/1-shot-validation",
                    "entropy/features",
                ),
            ),
            partial(
                paper.sensitivity_section,
                panels=(
                    ("accuracy, as they are", ("accuracy/1-shot", "accuracy/5-shot")),
                    ("accuracy, normalized", ("accuracy/1-shot-normalized", "accuracy/5-shot-normalized")),
                    ("feature entropy (bits)", ("entropy/features",)),
                ),
            ),
            partial(claims.section, judged=claims.few_shot(start)),
        ),
    )


PAGES = (
    few_shot("cifar-fs", 1.5, {"CE": "64.32 ± 0.7", "LS": "65.76 ± 0.57", "FIERCE": "66.16 ± 1.04"}, start=300),
    few_shot("cub", 2.0, {"CE": "59.61 ± 0.84", "LS": "59.87 ± 0.81", "FIERCE": "62.18 ± 0.59"}),
    # the paper gives no setting for CIFAR-10, so CIFAR-FS's stand in
    few_shot("cifar10-few-shot", 1.5),
    Page(
        benchmarks=("cifar10",),
        settings={"ls": {"sigma": 0.1}, "fierce": {"lambda": 1.5, "e": 100.0}},
        metrics=("accuracy/coarse", "calibration/ece", "entropy/features"),
        summary=partial(verdicts.section, judged=claims.CIFAR10),
        claims=claims.CIFAR10,
        sections=(
            partial(feature_space.section, distances=DISTANCES),
            partial(trajectories.section, panels=("accuracy/coarse", "entropy/features", *DISTANCES), after="figure 1"),
            partial(paper.sensitivity_section, panels=(("coarse accuracy", ("accuracy/coarse",)),)),
            partial(claims.section, judged=claims.CIFAR10),
        ),
    ),
    # no figure of the paper: CIFAR-FS's settings stand in, and no claim is judged
    Page(
        benchmarks=("coarse-cifar10",),
        settings={"ls": {"sigma": 0.1}, "fierce": {"lambda": 1.5, "e": 100.0}},
        metrics=("accuracy/coarse", "accuracy/fine-linear", "calibration/ece"),
        sections=(
            own_table.section,
            partial(trajectories.section, panels=("accuracy/coarse",)),
            partial(
                paper.sensitivity_section,
                panels=(
                    ("fine accuracy", ("accuracy/fine-linear", "accuracy/fine-neighbours")),
                    ("coarse accuracy", ("accuracy/coarse",)),
                ),
            ),
            feature_space.section,
        ),
    ),
)
