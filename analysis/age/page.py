"""The page of the age benchmark: its sections in order, and the paper's settings."""

from __future__ import annotations

from functools import partial

from analysis import paper, reliability, verdicts
from analysis.age import claims, early_stopping, feature_against_age, table
from analysis.pages import Page

PAGES = (
    Page(
        benchmarks=("age",),
        # figure 1; σ is the released code's
        settings={"ls": {"sigma": 0.1}, "fierce": {"lambda": 0.3, "e": 100.0}},
        metrics=("accuracy/coarse", "mse/transport", "mse/transport-heldout", "calibration/ece", "entropy/features"),
        summary=partial(verdicts.section, judged=claims.CLAIMS),
        claims=claims.CLAIMS,
        sections=(
            early_stopping.section,
            table.section,
            partial(
                paper.sensitivity_section,
                panels=(
                    ("age MSE (years²)", ("mse/transport", "mse/transport-heldout")),
                    ("share", ("interpolation/beta", "accuracy/coarse")),
                    ("feature entropy (bits)", ("entropy/features",)),
                ),
            ),
            feature_against_age.section,
            partial(reliability.section, columns=table.OUTPUT),
            claims.section,
        ),
    ),
)
