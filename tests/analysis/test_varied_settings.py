"""Training settings that vary between trials: labels, pairs of alike trials, and no mean over different settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import claims, regret, selection, sensitivity, tables
from analysis.declarations import Hyperparameter
from analysis.own_data import table as own_table
from analysis.runs import Study
from benchmarks.verdicts import Trial, made

RATE = Hyperparameter("training.learning_rate", "learning_rate", log=True)
HIDDEN = Hyperparameter("benchmark.hidden", "hidden")
WEIGHTS = (0.1, 1.0, 10.0)


def at(rate: float, criterion: str, role: str = "grid", **values: float) -> Trial:
    return criterion, {"training.learning_rate": rate, **values}, role


def grid() -> Study:
    """CE and FIERCE at two learning rates: the second rate costs both 1, and FIERCE gains its λ's share of 0.1."""
    trials = [at(rate, "ce", "baseline") for rate in (0.01, 0.1)]
    trials += [at(rate, "fierce", e=100.0, **{"lambda": weight}) for rate in (0.01, 0.1) for weight in WEIGHTS]
    gains = [0.0, 0.0, *(2 * (0.1, 0.2, 0.3))]
    costs = [0.0, 1.0, *(3 * [0.0]), *(3 * [1.0])]
    seeds = 0.001 * np.arange(4)[None, :, None] * (1 + np.arange(8))[:, None, None]
    values = 2 + np.array(costs)[:, None, None] - np.array(gains)[:, None, None] + seeds + np.zeros((8, 4, 3))
    # held-out by the validation part's rule as well
    return made("own", trials, {"mse/raw": values, "accuracy/validation": values}, varied=[RATE])


def test_labels_say_what_varies_and_nothing_else() -> None:
    study = grid()
    assert study.trials["label"].tolist()[:3] == [
        *("CE learning_rate=0.01", "CE learning_rate=0.1", "FIERCE λ=0.1 e=100 learning_rate=0.01")
    ]
    words = made("own", [("ce", {"benchmark.hidden": text}, "grid") for text in ("[64, 32]", "[8]")], _zeros(2))
    assert words.trials["label"].tolist() == ["CE (trial 0)", "CE (trial 1)"]
    words = made(
        "own", [("ce", {"benchmark.hidden": text}, "grid") for text in ("[64, 32]", "[8]")], _zeros(2), varied=[HIDDEN]
    )
    assert words.trials["label"].tolist() == ["CE hidden=[64, 32]", "CE hidden=[8]"]


def _zeros(trials: int) -> dict[str, np.ndarray]:
    return {"mse/raw": np.zeros((trials, 4, 3))}


def test_every_trial_is_paired_with_the_reference_at_its_own_settings() -> None:
    study = grid()
    pairs = {trial: selection.counterpart(study, trial) for trial in range(2, 8)}
    assert pairs == {2: 0, 3: 0, 4: 0, 5: 1, 6: 1, 7: 1}
    numbers = tables.difference_numbers(study, tables.rows(study, every=True), ["mse/raw"])
    # the cost of the rate, which is 1, is in none of the differences
    found = dict(zip(numbers["trial"], numbers["difference to CE"], strict=True))
    noise = {trial: 0.0015 * (trial - pair) for trial, pair in pairs.items()}
    expected = {trial: noise[trial] - 0.1 * (1 + (trial - 2) % 3) for trial in pairs}
    assert found == pytest.approx(expected)
    assert selection.compared(study) == "Each is compared with CE at the same learning_rate; what has none is left out."


def test_one_without_a_reference_at_its_settings_is_left_out_and_not_paired_with_another() -> None:
    trials = [at(0.01, "ce", "baseline"), at(0.1, "fierce", e=100.0, **{"lambda": 1.0})]
    study = made("own", trials, _zeros(2), varied=[RATE])
    assert selection.counterpart(study, 1) is None
    assert tables.against_reference(study, tables.rows(study, every=True), {"mse/raw": "MSE"}).empty
    words = selection.compared(study)
    assert "learning_rate differ between criteria" in words and "CE learning_rate=0.01" in words


def test_the_trials_that_speak_for_the_criteria_are_alike() -> None:
    # FIERCE was run at another rate first, and LS at that alone
    trials = [at(0.1, "fierce", e=100.0, **{"lambda": 1.0}), at(0.1, "ls", sigma=0.1)]
    trials += [at(rate, "ce") for rate in (0.01, 0.1)] + [at(0.01, "fierce", e=100.0, **{"lambda": 1.0})]
    study = made("own", trials, {"mse/raw": 1 + np.random.default_rng(0).normal(size=(5, 4, 3))}, varied=[RATE])
    chosen = {criterion: choice.trial for criterion, choice in selection.headline(study).items()}
    assert chosen == {"ce": 3, "ls": 1, "fierce": 0}
    verdict = claims.lower(study, "mse/raw", "fierce", "ce")
    assert str(selection.difference(study, "mse/raw", 0, 3)) in verdict.numbers


def test_a_search_chooses_each_criterion_s_settings_by_its_objective() -> None:
    trials = [at(0.5, "ce", "baseline"), *(at(rate, "ce", "search") for rate in (0.01, 0.1))]
    trials += [at(rate, "fierce", "search", e=100.0, **{"lambda": 1.0}) for rate in (0.02, 0.2)]
    levels = np.array([5.0, 3.0, 2.0, 1.0, 4.0])[:, None, None] + 0.01 * np.arange(4)[None, :, None]
    settings = {
        "search": {
            "objective": {"metric": "mse/raw", "direction": "minimize"},
            "constraint": {"metric": "accuracy/coarse", "within_of_ce": 0.05},
            "criteria": {"ce": {}, "fierce": {}},
        }
    }
    accuracy = np.array([0.9, 0.86, 0.8, 0.9, 0.9])[:, None, None] + np.zeros((5, 4, 3))
    values = {"mse/raw": levels + np.zeros((5, 4, 3)), "accuracy/coarse": accuracy}
    study = made("own", trials, values, settings, varied=[RATE])
    study.__dict__["confirmation"] = study
    study.trials["repeats"] = -1
    chosen = {criterion: choice.trial for criterion, choice in selection.headline(study).items()}
    # CE's best by the error lost too much accuracy, as against the baseline and not the searched ones
    assert chosen == {"ce": 1, "fierce": 3}
    assert selection.counterpart(study, 3) == 1
    # what was not chosen has no reference at its own rate
    assert selection.counterpart(study, 4) is None


def test_a_sweep_is_at_one_setting() -> None:
    axis = sensitivity.along(grid(), "fierce", "lambda")
    assert axis is not None and axis.is_line and axis.fixed == "e = 100, learning_rate = 0.01"
    assert axis.trials["trial"].tolist() == [2, 3, 4]
    table = sensitivity.points(grid(), "fierce", ["mse/raw"])
    assert table["learning_rate"].tolist() == ["0.01", "0.1"] * 3


def test_the_cost_of_choosing_is_reckoned_at_one_setting() -> None:
    assert regret.points(grid()) == [0, 2, 3, 4]


def test_every_row_of_the_report_s_table_is_one_trial(tmp_path: Path) -> None:
    study = grid()
    study.__dict__["metrics"] = {}
    own_table.section(study, tmp_path)
    rows = pd.read_csv(tmp_path / "metrics.csv")
    assert rows.groupby("label")["trial"].nunique().max() == 1 and rows["trial"].nunique() == 8
