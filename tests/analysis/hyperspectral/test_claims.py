"""Verdicts on the known study, where every difference was put in by hand."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import claims
from analysis.claims import FAILS, HOLDS, NO_VERDICT, OUTCOMES, UNDECIDED, UNTESTED
from analysis.hyperspectral.claims import CLAIMS
from benchmarks.verdicts import made
from tests.analysis.known_study import EPOCHS, LEVELS, TRIALS, replica_arrays, value


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], str]:
    # fewer seeds than ten decide nothing over so many tests
    seeds, trials = range(10), [*TRIALS, ("confidence-penalty", {"beta": 0.1}, "baseline")]
    values = {
        metric: np.array(
            [
                [[value(metric, number % 7, seed, epoch + 1) for epoch in range(EPOCHS)] for seed in seeds]
                for number in range(len(trials))
            ]
        )
        for metric in LEVELS
    }
    for curves in values.values():
        curves[7, -1] = np.nan
    arrays = {(number, seed): replica_arrays(TRIALS[number][0], seed) for number in range(3) for seed in seeds}
    table = claims.judge(made("hyperspectral", trials, values, arrays=arrays), CLAIMS)
    return {(row["claim"], row["measured by"]): row["verdict"] for _, row in table.iterrows()}


@pytest.mark.parametrize(
    ("claim", "measure", "verdict"),
    [
        ("LS and FIERCE recover", "raw MSE, FIERCE against CE", HOLDS),
        # LS .082, FIERCE .056
        ("LS has the lowest raw MSE", "raw MSE", FAILS),
        ("FIERCE has the lowest transfer", "paper's probe, last", HOLDS),
        ("FIERCE has the lowest transfer", "paper's probe, best", HOLDS),
        ("FIERCE has the lowest transfer", "standardized", FAILS),
        ("FIERCE has the lowest transfer", "least squares", FAILS),
        # CE: transfer .078 against raw .102; four times .078 is more
        ("CE's transfer MSE is worse", "as printed", FAILS),
        ("CE's transfer MSE is worse", "both summed", HOLDS),
        ("The output distribution", "paper's probe, last", FAILS),
        ("The output distribution", "standardized", HOLDS),
        ("FIERCE has the lowest mutual", "mutual information", FAILS),
        # .935 − .93 is within .02
        ("LS and FIERCE have a similar", "stability, FIERCE", HOLDS),
        ("Neither LS nor FIERCE", "ECE, LS", HOLDS),
        ("FIERCE raises", "spectral", HOLDS),
        # both rise linearly: by the same at every epoch
        ("The approximation by anchors", "epoch to epoch", UNDECIDED),
        ("The approximation by anchors", "along training", NO_VERDICT),
        # e = 200: .058 against .056; .0020 against .0018 is more than a tenth, but by little
        ("The MSE is stable", "raw MSE", HOLDS),
        ("The MSE is stable", "best epoch", UNDECIDED),
        # λ = .1, 1, 4: .091, .056, .071, CE .102
        ("There is an optimal λ", "raw MSE", HOLDS),
        # CE .0008, λ=.1 .0009: an end
        ("There is an optimal λ", "least squares", FAILS),
        ("The best λ for the raw MSE", "paper's probe, last", FAILS),
        ("The best λ for the raw MSE", "standardized", HOLDS),
        ("CE and LS split", "silhouette", HOLDS),
        # a seed of confidence penalty is missing
        ("Confidence penalty", "raw MSE", UNDECIDED),
        ("FIERCE improves few-shot", "CUB", UNTESTED),
    ],
)
def test_verdict(verdicts: dict[tuple[str, str], str], claim: str, measure: str, verdict: str) -> None:
    outcomes = [value for (sentence, by), value in verdicts.items() if sentence.startswith(claim) and measure in by]
    assert outcomes == [verdict]


def test_every_claim_has_a_row_and_a_known_verdict(verdicts: dict[tuple[str, str], str]) -> None:
    assert len(verdicts) == sum(len(claim.tests) for claim in CLAIMS)
    assert set(verdicts.values()) <= set(OUTCOMES)
