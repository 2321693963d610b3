"""What a choice without fine labels costs: a study made by hand, whose choices and errors are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import agreement, regret
from analysis.declarations import Metric
from analysis.regret import HINDSIGHT
from analysis.runs import Study
from analysis.statistics import estimate, sign_flip
from benchmarks.rules import left_out
from benchmarks.verdicts import Trial, made

TRIALS: list[Trial] = [
    ("ce", {}, "baseline"),
    *(("fierce", {"lambda": weight, "e": 100.0}, "grid") for weight in (0.1, 0.3, 1.0)),
]
#: trials × seeds; the last point loses .1 of coarse accuracy
ACCURACY = [[0.9, 0.92, 0.9, 0.92], [0.91, 0.91, 0.91, 0.91], [0.91, 0.91, 0.91, 0.91], [0.81, 0.81, 0.81, 0.81]]
ERRORS = [[10, 11, 12, 13], [7, 12, 7, 12], [9, 8, 9, 8], [1, 1, 1, 1]]
#: largest at λ = .3, smallest at λ = .1, and beyond both where accuracy is lost
ENTROPY = [[2] * 4, [1] * 4, [3] * 4, [9] * 4]
LIKELIHOOD = [[0.3] * 4, [0.2] * 4, [0.4] * 4, [0.1] * 4]


def study(higher: bool = False) -> Study:
    values = {
        "accuracy/validation": ACCURACY,
        "mse/fine-linear": 1 - np.array(ERRORS) if higher else ERRORS,
        "entropy/common-anchors-validation": ENTROPY,
        "likelihood/coarse-validation": LIKELIHOOD,
    }
    made_study = made("own", TRIALS, {name: np.array(value, float)[..., None] for name, value in values.items()})
    better = "higher" if higher else "lower"
    made_study.__dict__["metrics"] = {
        "mse/fine-linear": Metric("mse/fine-linear", "fine labels' MSE", better=better, fine=True)
    }
    return made_study


@pytest.mark.parametrize("higher", [False, True])
def test_each_rule_takes_its_point_among_the_feasible(higher: bool) -> None:
    costs = {cost.name: cost for cost in regret.costs(study(higher), "mse/fine-linear")}
    chosen = {name: cost.chosen for name, cost in costs.items()}
    # seeds 1 and 3 find λ = .3 best, seeds 0 and 2 find λ = .1 best: each half is scored at the other's choice
    assert chosen == {
        "reference": (0,),
        "anchor-entropy": (2,),
        "likelihood": (1,),
        "accuracy": (0,),
        HINDSIGHT: (2, 1),
    }
    assert costs["anchor-entropy"].error.mean == pytest.approx(8.5)
    assert costs["accuracy"].against is None and costs["reference"].against is None


def test_regret_is_less_the_best_of_the_other_half() -> None:
    costs = {cost.name: cost for cost in regret.costs(study(), "mse/fine-linear")}
    best = np.array([9, 12, 9, 12])
    for name, own in (
        ("anchor-entropy", [9, 8, 9, 8]),
        ("likelihood", [7, 12, 7, 12]),
        ("reference", [10, 11, 12, 13]),
    ):
        expected = estimate(own - best, 4)
        regret_of_rule = costs[name].regret
        assert regret_of_rule is not None
        assert (regret_of_rule.mean, regret_of_rule.half) == pytest.approx((expected.mean, expected.half))
    assert costs[HINDSIGHT].error.mean == pytest.approx(best.mean()) and costs[HINDSIGHT].regret is None


def test_the_difference_to_always_ce_is_paired() -> None:
    costs = {cost.name: cost for cost in regret.costs(study(), "mse/fine-linear")}
    against = costs["anchor-entropy"].against
    assert against is not None
    assert against.values == (-1, -3, -3, -5) and against.exact == sign_flip([-1, -3, -3, -5]) == 0.125


def test_the_section_is_left_out_where_it_cannot_be_made(tmp_path: Path) -> None:
    whole = regret.section(study(), tmp_path)
    assert whole is not None and (tmp_path / "regret.csv").is_file()
    table = (tmp_path / "regret.md").read_text(encoding="utf-8")
    assert "always CE" in table and "anchor-entropy" in table and "FIERCE λ=0.3 e=100 / FIERCE λ=0.1 e=100" in table
    for trials, lost in ((TRIALS[1:], ""), (TRIALS, "accuracy/validation"), (TRIALS, "mse/fine-linear")):
        values = {
            "accuracy/validation": ACCURACY,
            "mse/fine-linear": ERRORS,
            "entropy/common-anchors-validation": ENTROPY,
        }
        kept = {name: np.array(value, float)[-len(trials) :, :, None] for name, value in values.items() if name != lost}
        assert regret.section(made("own", trials, kept), tmp_path) is None


def test_agreement_is_over_the_samples_in_common() -> None:
    def said(indices: list[int], classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
        return np.array(indices), np.array(classes)

    first, second = said([5, 1, 3], [1, 0, 2]), said([3, 5, 8], [2, 0, 0])
    third = said([1, 3, 5], [0, 0, 1])
    # 1 of 2, 3 of 3 less one, 0 of 2
    assert agreement.agreement([first, second, third]) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert agreement.agreement([first, said([8], [0])]) != agreement.agreement([first, said([8], [0])])
    diverged = said([5, 1, 3], [-1, -1, -1])
    assert agreement.agreement([first, second, diverged]) == 0.5


def test_agreement_is_a_rule_of_the_report() -> None:
    arrays = {}
    for trial in range(len(TRIALS)):
        for seed in range(4):
            classes = np.array([0, 1, 0, 1 if trial == 1 else seed % 2])
            arrays[trial, seed] = {agreement.INDICES: np.arange(4), agreement.PREDICTED: classes}
    with_arrays = study()
    with_arrays.__dict__["_arrays"] = arrays
    assert regret.choices(with_arrays)["agreement"] == 1


def test_a_default_is_judged_where_it_was_not_chosen() -> None:
    """Of studies b and c the rule ``one`` is best, of a and c ``two``; a study counts once, whatever it measured."""
    regrets = pd.DataFrame(
        {
            "a mse": {"reference": 5.0, "one": 9.0, "two": 0.0, HINDSIGHT: -1.0},
            "b mse": {"reference": 1.0, "one": 1.0, "two": 8.0, HINDSIGHT: -1.0},
            "b accuracy": {"reference": 1.0, "one": 3.0, "two": 8.0, HINDSIGHT: -1.0},
            "c mse": {"reference": 6.0, "one": 2.0, "two": 5.0, HINDSIGHT: -1.0},
        }
    )
    table = left_out(regrets).set_index("study")
    assert table["best on the others"].to_dict() == {"a": "one", "b": "two", "c": "reference"}
    assert table["its regret %"].to_dict() == {"a": 9.0, "b": 8.0, "c": 6.0}
    assert table["always CE's %"].to_dict() == {"a": 5.0, "b": 1.0, "c": 6.0}
