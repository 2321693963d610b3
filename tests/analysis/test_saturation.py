"""Settings that see what chance alone gives: a store made by hand, of someone's own metric and criterion."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from analysis import report, saturation, schema
from analysis.runs import Study
from trainables.anchors import chance_entropy
from trainables.criteria.fierce import BATCH, CHANCE

CRITERION = {"name": "mine:Spread", "label": "Spread", "hyperparameters": [{"name": "weight", "symbol": "w"}]}
DECLARED = (BATCH.to_dict(), CHANCE.to_dict())
#: what 200 samples that take any of 100 anchors have: 6.24 bits
BY_CHANCE = chance_entropy(200, 100)
#: weight -> the seeds' entropy of a batch at the last epoch
TRIALS: Mapping[float, Sequence[float]] = {
    # the interval's half-width is 4.303 · .01 / √3 = .025, within 1%
    1: (BY_CHANCE - 0.01, BY_CHANCE, BY_CHANCE + 0.01),
    # the mean is chance's, and the half-width .25
    2: (BY_CHANCE - 0.1, BY_CHANCE, BY_CHANCE + 0.1),
    # features are seen
    3: (3.5, 3.6, 3.4),
    # 2% off, for sure
    4: (1.02 * BY_CHANCE,) * 3,
    # a seed is missing
    5: (BY_CHANCE, BY_CHANCE),
}


def write(folder: Path, trials: Mapping[float, Sequence[float]], planned: int, declared: object = DECLARED) -> Study:
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("own", artifact_location=(folder / "artifacts").as_uri())
    seeds = ",".join(map(str, range(planned)))
    common: dict[str, Any] = {schema.STUDY: "own", schema.BENCHMARK: "mylab.data:Birds", schema.SEEDS: seeds}
    run = client.create_run(experiment, tags={**common, schema.LEVEL: "study"}).info.run_id
    for name, content in (("metrics.json", declared), ("criteria.json", [CRITERION])):
        client.log_text(run, json.dumps(content), name)
    for number, (weight, values) in enumerate(trials.items()):
        tags = {**common, schema.TRIAL: str(number), schema.CRITERION: CRITERION["name"]}
        params = [Param("weight", str(weight))]
        trial = client.create_run(experiment, tags={**tags, schema.LEVEL: "trial"}).info.run_id
        client.log_batch(trial, params=params)
        for seed, value in enumerate(values):
            replica = client.create_run(experiment, tags={**tags, schema.LEVEL: "seed", schema.SEED: str(seed)})
            # far from chance before the last epoch
            measured = [("entropy/batch", 1.0, 1), ("entropy/batch", value, 2), ("entropy/batch-chance", BY_CHANCE, 2)]
            client.log_batch(
                replica.info.run_id, [Metric(name, value, 1, epoch) for name, value, epoch in measured], params
            )
            client.set_terminated(replica.info.run_id)
        client.set_terminated(trial)
    client.set_terminated(run)
    return Study.open(uri, "own")


def test_what_cannot_be_told_from_chance_is_said(tmp_path: Path) -> None:
    study = write(tmp_path, TRIALS, planned=3)
    (sentence,) = saturation.sentences(study)
    assert sentence.startswith(
        "Spread w=1 is saturated by sampling: its anchor entropy of a batch (bits) is 6.236 ± 0.025"
    )
    assert "and 6.236 by chance alone, the same to within ±1%" in sentence
    page = report.write(study.tracking_uri, study.name, tmp_path / "report").read_text(encoding="utf-8")
    assert page.count("saturated by sampling") == 1 and sentence in page.replace("&#39;", "'")


def test_settings_that_are_saturated_share_a_sentence(tmp_path: Path) -> None:
    near = (BY_CHANCE - 0.02, BY_CHANCE - 0.01, BY_CHANCE)
    (sentence,) = saturation.sentences(write(tmp_path, {1: TRIALS[1], 3: TRIALS[3], 6: near}, planned=3))
    assert sentence.startswith("2 settings are saturated by sampling: their anchor entropy of a batch (bits) is what")
    # 6.226 is the second one's mean: 6.2364 less .01
    for words in ("(Spread w=1 has 6.236 ± 0.025", "; Spread w=6 has 6.226 ± 0.025", ", and 6.236 by chance"):
        assert words in sentence
    assert "w=3" not in sentence and sentence.count("saturated") == 1


def test_a_metric_that_declares_no_chance_is_never_saturated(tmp_path: Path) -> None:
    declared = [{key: value for key, value in metric.items() if key != "chance"} for metric in DECLARED]
    assert not saturation.sentences(write(tmp_path, TRIALS, 3, declared))


@pytest.mark.parametrize(("share", "count"), [(1.009, 1), (1.011, 0)])
def test_a_single_seed_has_no_interval(tmp_path: Path, share: float, count: int) -> None:
    sentences = saturation.sentences(write(tmp_path, {1: (share * BY_CHANCE,)}, planned=1))
    assert len(sentences) == count and all("(n = 1 of 1)" in sentence for sentence in sentences)
