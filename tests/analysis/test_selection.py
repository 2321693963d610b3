"""Which trial speaks for a criterion, and which point a search found: the known study's answers, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from analysis import selection
from analysis.runs import Study
from analysis.statistics import estimate
from tests.analysis.known_study import LEVELS, SEEDS, Store, value


@pytest.fixture
def study(known: Store) -> Study:
    return Study.open(known.uri, known.name)


def searched(study: Study, monkeypatch: pytest.MonkeyPatch, **search: Any) -> str:
    """The label of the point that a search with these settings finds; "none" without one."""
    space = {"criteria": {"fierce": {"lambda": {"low": 0.1, "high": 4}}}}
    monkeypatch.setattr(Study, "settings", {"search": space | search})
    best, points = selection.search(study)["fierce"]
    assert list(points["trial"]) == [3, 4, 5, 6, 7]
    return best.label if best else "none"


def test_the_papers_setting_speaks_for_its_criterion(study: Study) -> None:
    chosen = selection.headline(study)
    assert {name: choice.trial for name, choice in chosen.items()} == {
        "ce": 0,
        "ls": 1,
        "fierce": 2,
        "confidence-penalty": 8,
    }
    assert chosen["fierce"].why == "the paper's setting"


def test_summary_is_the_mean_over_seeds_at_the_last_epoch(study: Study) -> None:
    estimates = selection.summary(study, "mse/raw")
    assert {trial: estimates[trial].mean for trial in range(7)} == pytest.approx(dict(enumerate(LEVELS["mse/raw"])))
    assert estimates[8].n == len(SEEDS) - 1 and not estimates[8].complete
    assert 7 not in estimates


def test_difference_pairs_seeds(study: Study) -> None:
    by_hand = [value("mse/raw", 1, seed, 6) - value("mse/raw", 0, seed, 6) for seed in SEEDS]
    difference = selection.difference(study, "mse/raw", 1, 0)
    assert difference is not None
    expected = estimate(by_hand, len(SEEDS))
    assert (difference.mean, difference.half) == pytest.approx((expected.mean, expected.half))


def test_search_keeps_to_its_constraint(study: Study) -> None:
    # the study file's: lowest mse/transfer with accuracy at most .01 below CE's .989; e = 200 is lower and infeasible
    best, points = selection.search(study)["fierce"]
    assert best is not None and best.trial == 3
    assert points.set_index("trial")["feasible"].to_dict() == {3: True, 4: False, 5: False, 6: False, 7: False}
    assert selection.rule(study) == "lowest mse/transfer with accuracy/coarse at most 0.01 below CE's"


def test_search_without_a_constraint(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = {"metric": "mse/transfer", "direction": "minimize"}
    assert searched(study, monkeypatch, objective=objective) == "FIERCE λ=1 e=200"


def test_search_for_the_largest(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = {"metric": "entropy/anchors", "direction": "maximize"}
    assert searched(study, monkeypatch, objective=objective) == "FIERCE λ=4 e=100"
    bound = {"metric": "accuracy/coarse", "at_least": 0.9}
    assert searched(study, monkeypatch, objective=objective, constraint=bound) == "FIERCE λ=1 e=200"


def test_search_without_fine_labels(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    # CE's validation accuracy .98, its standard error .00108: λ=.1 (.9795) and e=50 (.979) are feasible
    assert searched(study, monkeypatch, objective={"label_free": True}) == "FIERCE λ=1 e=50"


def test_search_that_found_nothing_feasible(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = {"metric": "mse/transfer", "direction": "minimize"}
    assert searched(study, monkeypatch, objective=objective, constraint={"at_least": 0.999}) == "none"
