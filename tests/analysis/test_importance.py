"""Importance from the store is Optuna's own, of the same points."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis import importance, selection
from analysis.declarations import Criterion, Hyperparameter
from analysis.statistics import Estimate

AXES = (Hyperparameter("lambda", "λ", log=True), Hyperparameter("e", "e", whole=True, log=True))


class Searched:
    """As much of a study as importance asks for."""

    varied = ()

    def __init__(self) -> None:
        self.settings = {"search": {"objective": {"metric": "mse/transfer", "direction": "minimize"}}}

    def criterion(self, name: str) -> Criterion:
        return Criterion(name, name, AXES)


def searched(count: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A study whose objective is a function of λ alone, and its points."""
    random = np.random.default_rng(1)
    points = pd.DataFrame({"lambda": np.exp(random.uniform(-4, 2, count)), "e": random.integers(10, 200, count) * 1.0})
    points["objective"] = [Estimate(abs(np.log(value)), 0.01, 10, 10) for value in points["lambda"]]
    monkeypatch.setattr(selection, "search", lambda _: {"mine": (None, points)})
    return Searched(), points


def test_it_is_what_optuna_says_of_the_same_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    study, points = searched(40, monkeypatch)
    shares = importance.by_criterion(study)["mine"]
    rows = list(points.itertuples(index=False))
    own = optuna.create_study()
    for row in rows:
        own.enqueue_trial({"lambda": row[0], "e": row[1]})

    def objective(trial: optuna.Trial) -> float:
        weight = trial.suggest_float("lambda", points["lambda"].min(), points["lambda"].max(), log=True)
        trial.suggest_float("e", points["e"].min(), points["e"].max(), log=True)
        return abs(np.log(weight))

    own.optimize(objective, n_trials=len(rows))
    assert shares == pytest.approx(optuna.importance.get_param_importances(own))
    assert list(shares) == ["lambda", "e"]
    assert sum(shares.values()) == pytest.approx(1)


def test_few_points_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    study, _ = searched(importance.FEWEST - 1, monkeypatch)
    assert importance.by_criterion(study) == {}


def test_a_study_that_is_made_is_not_announced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, _ = searched(12, monkeypatch)
    importance.by_criterion(study)
    assert "study created" not in capsys.readouterr().err
