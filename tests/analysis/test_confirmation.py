"""A search that chose on validation samples and was confirmed on fresh seeds, whose values contradict the choice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from scipy import stats

from analysis import claims, confirmation, output, report, runs, schema, selection, tables
from analysis.claims import FAILS, NO_VERDICT, Claim, Verdict
from analysis.runs import Study
from tests.analysis.known_study import Store

SEEDS, FRESH = tuple(range(10)), tuple(range(10, 20))
#: criterion, hyperparameters, role, what it repeats, and the means of mse/raw and of its twin
TRIALS = (
    ("ce", {}, "baseline", None, 0.50, 0.50),
    ("fierce", {"lambda": 0.3, "e": 50}, "search", None, 0.40, 0.30),
    ("fierce", {"lambda": 3.0, "e": 50}, "search", None, 0.20, 0.35),
    ("ce", {}, "confirm", 0, 0.45, 0.45),
    ("fierce", {"lambda": 0.3, "e": 50}, "confirm", 1, 0.55, 0.55),
)
STUDY_FILE = """\
name: {name}
benchmark: {{name: hyperspectral, data: simulated, validation: 0.2}}
criteria: [ce]
search:
  criteria: {{fierce: {{lambda: {{low: 0.1, high: 4, log: true}}, e: {{low: 10, high: 200}}}}}}
  trials: 2
  objective: {{metric: {metric}, direction: minimize}}
  confirm: 10
"""


def value(number: int, position: int, seed: int) -> float:
    noise = np.random.default_rng([number, seed]).normal(0, 0.02)
    return float(TRIALS[number][position]) + noise


def write(folder: Path, confirmed: bool = True, metric: str = "mse/raw-validation") -> Store:
    name, uri = "chosen", f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
    common = {schema.STUDY: name, schema.BENCHMARK: "hyperspectral", schema.DATA_PROVENANCE: "simulated"}
    study = client.create_run(experiment, tags={**common, schema.LEVEL: "study", schema.PLANNED_TRIALS: "5"})
    client.log_text(study.info.run_id, STUDY_FILE.format(name=name, metric=metric), schema.STUDY_FILE)
    raw = {"name": "mse/raw", "label": "raw MSE", "better": "lower", "fine": True, "heldout": True}
    twin = {
        **raw,
        "name": "mse/raw-validation",
        "label": "raw MSE (validation)",
        "twin_of": "mse/raw",
        "heldout": False,
    }
    client.log_text(study.info.run_id, json.dumps([raw, twin]), schema.METRICS_FILE)
    for number, (criterion, hyperparameters, role, repeats, *_) in enumerate(TRIALS):
        if role == "confirm" and not confirmed:
            continue
        seeds = FRESH if role == "confirm" else SEEDS
        tags = {**common, schema.TRIAL: str(number), schema.CRITERION: criterion}
        parts = {"sizes": {"train": 60, "heldout": 40}, "redrawn": True}
        above = {
            schema.LEVEL: "trial",
            schema.PARTS: json.dumps(parts),
            schema.SEEDS: ",".join(map(str, seeds)),
            schema.ROLE: role,
        }
        if repeats is not None:
            above[schema.REPEATS] = str(repeats)
        params = [Param(key, str(setting)) for key, setting in hyperparameters.items()]
        trial = client.create_run(experiment, tags={**tags, **above})
        client.log_batch(trial.info.run_id, params=[*params, Param("training.epochs", "1")])
        for seed in seeds:
            run = client.create_run(experiment, tags={**tags, schema.LEVEL: "seed", schema.SEED: str(seed)})
            names = {"mse/raw": 4, "mse/raw-validation": 5}
            metrics = [Metric(metric, value(number, position, seed), 1, 1) for metric, position in names.items()]
            client.log_batch(run.info.run_id, metrics, params)
            client.set_terminated(run.info.run_id)
        client.set_terminated(trial.info.run_id)
    return Store(uri, name, folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write(tmp_path_factory.mktemp("confirmed"))


@pytest.fixture
def study(store: Store) -> Study:
    return Study.open(store.uri, store.name)


def lower(study: Study) -> Verdict:
    return claims.lower(study, "mse/raw", "fierce", "ce")


def test_trials_that_confirm_stand_apart(study: Study, store: Store) -> None:
    assert list(study.trials["trial"]) == [0, 1, 2] and set(study.frame["seed"]) == set(SEEDS)
    assert list(study.confirmation.trials["trial"]) == [3, 4] and set(study.confirmation.frame["seed"]) == set(FRESH)
    # whoever exports the study gets all of it
    assert set(runs.load(store.uri, store.name)["trial"]) == set(range(5))


def test_the_choice_is_by_validation_and_its_score_is_held_out(study: Study) -> None:
    # by held-out values trial 2 would be the best
    best, _ = selection.search(study)["fierce"]
    assert best is not None and best.trial == 1
    assert selection.scored_by(study) == "mse/raw"
    assert selection.chosen_where_scored(study) == ""


def test_a_claim_on_the_choice_is_tested_on_fresh_seeds_alone(study: Study) -> None:
    """There FIERCE's error is the higher one, by the paired t-test of those seeds; on the others it was the lower."""
    assert lower(study).outcome == NO_VERDICT
    (row,) = claims.judge(study, [Claim("lower", "here", (lower,))]).to_dict("records")
    first, second = ([value(number, 4, seed) for seed in FRESH] for number in (4, 3))
    assert row["verdict"] == FAILS
    assert row["p"] == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert row["numbers"].startswith("on fresh seeds: ")


def test_without_fresh_seeds_there_is_no_verdict(tmp_path: Path) -> None:
    store = write(tmp_path, confirmed=False)
    study = Study.open(store.uri, store.name)
    (row,) = claims.judge(study, [Claim("lower", "here", (lower,))]).to_dict("records")
    assert row["verdict"] == NO_VERDICT
    (text,) = confirmation.items(study, tmp_path)
    assert text == "To be confirmed on 10 fresh seeds; no trial of these is done yet."


def test_the_report_says_both(store: Store, tmp_path: Path) -> None:
    page = " ".join(report.write(store.uri, store.name, tmp_path).read_text(encoding="utf-8").split())
    heldout = np.mean([value(1, 4, seed) for seed in SEEDS])
    assert f"mse/raw, on held-out samples, is {heldout:.3f}" in page
    assert "Confirmed on seeds 10 to 19" in page
    table = (tmp_path / "confirmation.csv").read_text(encoding="utf-8").splitlines()
    assert len(table) == 3 and table[1].startswith("3,CE,mse/raw,")
    assert "5 of 5 planned trials are done with all their seeds." in page
    assert "CE (trial" not in page


def test_intervals_of_held_out_metrics_are_corrected_for_overlapping_splits(study: Study, tmp_path: Path) -> None:
    pairs = [value(1, 4, seed) - value(0, 4, seed) for seed in SEEDS]
    half = stats.t.ppf(0.975, 9) * np.std(pairs, ddof=1) * np.sqrt(1 / 10 + 40 / 60)
    difference = selection.difference(study, "mse/raw", 1, 0)
    assert difference is not None and difference.corrected == pytest.approx(half)
    of_validation = selection.difference(study, "mse/raw-validation", 1, 0)
    assert of_validation is not None and np.isnan(of_validation.corrected)
    numbers = tables.difference_numbers(study, {"chosen": 1}, ["mse/raw"]).iloc[0]
    assert numbers["corrected high"] - numbers["corrected low"] == pytest.approx(2 * half)
    note = output.split_note(study)
    assert "sample by sample at random, anew for every seed (train 60, heldout 40)" in note and "overlap" in note


def test_a_choice_on_what_is_scored_is_said(tmp_path: Path) -> None:
    store = write(tmp_path, metric="mse/raw")
    study = Study.open(store.uri, store.name)
    sentence = selection.chosen_where_scored(study)
    assert "mse/raw, which reads fine labels" in sentence and "by mse/raw-validation" in sentence
