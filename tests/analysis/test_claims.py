"""Tests of a metric between criteria on the known study, where every difference was put in by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from analysis import claims
from analysis.claims import UNDECIDED, UNTESTED, Claim
from analysis.runs import Study
from tests.analysis.known_study import Store


def test_an_interval_with_zero_decides_nothing(known: Store) -> None:
    # LS − CE in least-squares MSE: −.0001, half-width .00017
    verdict = claims.lower(Study.open(known.uri, known.name), "mse/transfer-least-squares", "ls", "ce")
    assert verdict.outcome == UNDECIDED and "p = 0.161" in verdict.numbers


def test_a_metric_that_was_not_measured(known: Store) -> None:
    verdict = claims.lower(Study.open(known.uri, known.name), "loss/train", "ls", "ce")
    assert verdict.outcome == UNTESTED and "not measured" in verdict.numbers


def test_claims_of_one_s_own_stand_under_their_own_title(known: Store, tmp_path: Path) -> None:
    mine = Claim("LS loses", "a notebook", (partial(claims.lower, metric="loss/train", first="ls", second="ce"),))
    made = claims.section(Study.open(known.uri, known.name), tmp_path, (mine,), title="Claims of the lab")
    assert made.title == "Claims of the lab"
    assert "| LS loses | a notebook |" in (tmp_path / "claims.md").read_text(encoding="utf-8")
