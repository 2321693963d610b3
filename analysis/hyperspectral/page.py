"""The page of the hyperspectral benchmark: its sections in order, and what the paper and its notebook print of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from analysis import feature_space, paper, reliability, trajectories, verdicts
from analysis.hyperspectral import claims, entropy_estimate, table
from analysis.pages import Page

#: Table 1, as printed: criterion -> metric -> cell. Raw MSE is summed over materials and transfer MSE averaged over
#: them. CE's raw cell is garbled in print and its transfer cell cannot be read.
PAPER: Mapping[str, Mapping[str, str]] = {
    "CE": {"mse/raw": "0.200 ± 0.002 (garbled)", "mse/transfer": "unreadable"},
    "LS σ=0.4": {"mse/raw": "0.066 ± 0.1", "mse/transfer": "0.017 ± 0.08"},
    "FIERCE λ=1": {"mse/raw": "0.130 ± 0.008", "mse/transfer": "0.006 ± 0.001"},
}
#: the released notebook's printed outputs, one run each
NOTEBOOK: Mapping[str, Mapping[str, str]] = {
    "CE": {"mse/raw": "0.177", "mse/transfer": "0.512", "mse/transfer-min": "0.278"},
    "LS σ=0.4": {"mse/raw": "0.064", "mse/transfer": "0.065"},
    "FIERCE λ=1": {"mse/raw": "0.119", "mse/transfer": "0.0045"},
}
#: the notebook's metrics of the output distribution (table A1), where FIERCE has λ = 4; ECE and MCE, printed in per
#: cent, as shares
NOTEBOOK_OUTPUT: Mapping[str, Mapping[str, str]] = {
    "CE": {
        "information/mutual": "1.711",
        "stability/released": "0.883",
        "calibration/ece": "0.0040",
        "calibration/mce": "0.0686",
    },
    "LS σ=0.4": {
        "information/mutual": "0.554",
        "stability/released": "0.930",
        "calibration/ece": "0.1507",
        "calibration/mce": "0.3660",
    },
    "FIERCE λ=4": {
        "information/mutual": "0.393",
        "stability/released": "0.931",
        "calibration/ece": "0.1391",
        "calibration/mce": "0.3951",
    },
}

PAGES = (
    Page(
        benchmarks=("hyperspectral",),
        # Table 1
        settings={"ls": {"sigma": 0.4}, "fierce": {"lambda": 1.0, "e": 100.0}},
        metrics=("accuracy/coarse", "mse/raw", "mse/transfer-least-squares", "calibration/ece", "entropy/features"),
        summary=partial(verdicts.section, judged=claims.CLAIMS),
        claims=claims.CLAIMS,
        sections=(
            partial(table.section, printed=(("paper", PAPER), ("notebook", NOTEBOOK))),
            partial(
                trajectories.section,
                after="figure 1",
                panels=("entropy/features", "mse/raw", "mse/transfer-least-squares", "accuracy/coarse"),
                errors=("mse/raw", "mse/transfer-least-squares"),
            ),
            partial(
                paper.sensitivity_section,
                panels=(
                    ("raw MSE", ("mse/raw",)),
                    ("transfer MSE", ("mse/transfer", "mse/transfer-standardized", "mse/transfer-least-squares")),
                    ("coarse accuracy", ("accuracy/coarse",)),
                ),
                labels=table.PROBES,
            ),
            partial(reliability.section, printed=(("notebook", NOTEBOOK_OUTPUT),)),
            feature_space.section,
            entropy_estimate.section,
            claims.section,
        ),
    ),
)
