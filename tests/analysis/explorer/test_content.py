"""What a page explores is what the store holds, thinned where a page would grow too large."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis import selection
from analysis.explorer import content, embedding
from analysis.explorer.content import Curves
from analysis.runs import Study
from tests.analysis.known_study import EPOCHS, SEEDS, Store, value


@pytest.fixture(scope="module")
def study(known: Store) -> Study:
    return Study.open(known.uri, known.name)


@pytest.mark.slow
def test_curves_are_the_store_s(study: Study) -> None:
    curves = content.curves(study, "mse/raw")
    numbers = content.trials(study)
    # the seventh failed and is left out, the eighth lacks a seed
    assert numbers == [0, 1, 2, 3, 4, 5, 6, 8] and curves.epochs.tolist() == list(range(1, EPOCHS + 1))
    for place, trial in enumerate(numbers[:7]):
        expected = [[value("mse/raw", trial, seed, epoch) for epoch in range(1, EPOCHS + 1)] for seed in SEEDS]
        np.testing.assert_allclose(curves.values[place], expected)
    assert np.isnan(curves.values[7]).all(axis=1).tolist() == [False, False, False, True]


def test_replicas_that_are_not_done_are_left_out(study: Study) -> None:
    # the failed trial's seeds have values of two epochs
    assert 7 in study.courses["mse/raw"]["trial"]
    assert 7 not in content.trials(study)


def test_a_seed_that_is_nowhere_done_is_still_missed(study: Study) -> None:
    short = replace(study)
    short.__dict__["final"] = study.final[study.final["seed"] != SEEDS[-1]]
    assert content.seeds(short) == list(SEEDS)
    assert np.isnan(content.curves(short, "mse/raw").values[:, -1]).all()
    assert content.of(short)["trials"][0]["seeds"] == list(SEEDS)


def test_the_document_is_of_the_study(study: Study) -> None:
    document = content.of(study)
    assert [criterion["label"] for criterion in document["criteria"]] == ["CE", "LS", "FIERCE", "confidence penalty"]
    assert document["trials"][2]["label"] == "FIERCE λ=1 e=100"
    assert document["trials"][2]["at"] == {"lambda": 1.0, "e": 100.0}
    assert document["trials"][document["reference"]]["number"] == 0
    assert [trial["missing"] for trial in document["trials"]] == [0] * 7 + [1]
    assert document["halves"][4] == pytest.approx(stats.t.ppf(0.975, 3) / 2)
    ends = {metric["name"]: metric["ends"] for metric in document["metrics"]}
    assert ends["mse/raw"][:3] == pytest.approx([0.102, 0.082, 0.056])
    weights = next(sweep for sweep in document["sweeps"] if sweep["label"] == "FIERCE λ (e = 100)")
    assert weights["at"] == [0.1, 1.0, 4.0] and weights["trials"] == [3, 2, 4]


def test_the_search_s_constraint_and_choice_are_the_report_s(study: Study) -> None:
    searched = content.of(study)["search"]
    assert searched["rule"] == selection.rule(study) and searched["objective"] == "mse/transfer"
    # .01 below cross-entropy's .989, which the others of FIERCE break
    assert (searched["limited"], searched["bound"]) == ("accuracy/coarse", pytest.approx(0.979))
    assert searched["best"] == [3] and searched["outside"] == [2, 4, 5, 6]
    assert searched["importance"] == []


def test_thinned_curves_keep_the_first_and_the_last_epoch() -> None:
    curves = Curves("loss", np.arange(1, 11), np.arange(10.0).reshape(1, 1, 10))
    assert curves.every(1).epochs.tolist() == list(range(1, 11))
    assert curves.every(4).epochs.tolist() == [1, 2, 6, 10]
    assert curves.every(4).values[0, 0].tolist() == [0, 1, 5, 9]
    assert curves.every(10).epochs.tolist() == [10]


def test_curves_are_thinned_to_the_room_that_there_is(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = embedding.of(study, 3_000_000)
    assert whole is not None and whole.stride == 1
    taken = sum(len(block.text) for block in whole.blocks[2:])
    monkeypatch.setattr(embedding, "LEAST", taken * 2 // 3)
    thinned = embedding.of(study, 0)
    assert thinned is not None and thinned.stride > 1
    assert sum(len(block.text) for block in thinned.blocks[2:]) <= taken * 2 // 3


def test_panels_are_those_that_have_something_to_show(study: Study) -> None:
    whole = embedding.of(study, 3_000_000)
    assert whole is not None
    assert [panel.name for panel in whole.panels] == ["trajectories", "sensitivity", "coordinates"]


def test_nothing_is_explored_before_a_seed_is_done(study: Study) -> None:
    young = replace(study)
    young.__dict__["final"] = study.final.iloc[:0]
    assert embedding.of(young, 3_000_000) is None


def test_plotly_is_the_bundle_that_was_published() -> None:
    code = gzip.decompress(embedding.PLOTLY.read_bytes())
    assert hashlib.sha256(code).hexdigest() == "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
    assert b"Licensed under the MIT license" in code[:300]
    assert "MIT" in (embedding.PLOTLY.parent / "LICENSE").read_text(encoding="utf-8")


def test_no_script_ends_early() -> None:
    assert "</script" not in embedding.script().lower() and "<!--" not in embedding.script()
