"""A store that describes itself: labels, symbols, order, columns and colours are those that it declares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from analysis import declarations, legacy, output, report, runs, schema, selection, tables
from analysis.runs import Study
from study.record import publish
from tests.analysis.known_study import Store

FOCAL = "mylab.losses:Focal"
CRITERIA: Sequence[Mapping[str, Any]] = (
    {"name": "ce", "label": "CE", "hyperparameters": []},
    {
        "name": FOCAL,
        "label": "Focal",
        "hyperparameters": [
            {"name": "gamma", "symbol": "γ", "whole": False, "log": True},
            {"name": "steps", "symbol": "n", "whole": True, "log": False},
        ],
    },
    {
        "name": "fierce",
        "label": "FIERCE",
        "hyperparameters": [
            {"name": "lambda", "symbol": "λ", "whole": False, "log": True},
            {"name": "e", "symbol": "e", "whole": True, "log": True},
        ],
    },
)
METRICS: Sequence[Mapping[str, Any]] = (
    {"name": "error/mine", "label": "my error (m)", "note": "", "unit": "m", "better": "lower", "fine": True},
    {"name": "accuracy/coarse", "label": "hits", "note": "", "unit": "", "better": "higher", "fine": False},
)
STUDY_FILE = """
name: own
benchmark: mylab.data:Birds
search:
  criteria: {"mylab.losses:Focal": {gamma: {low: 1, high: 3}}}
  trials: 2
  objective: {metric: error/mine, direction: minimize}
"""
#: criterion, hyperparameters, role, error at the last epoch
TRIALS: Sequence[tuple[str, Mapping[str, float], str, float]] = (
    ("fierce", {"lambda": 0.5, "e": 20}, "baseline", 3.0),
    (FOCAL, {"gamma": 2.5, "steps": 4}, "search", 1.0),
    (FOCAL, {"gamma": 1.5, "steps": 4}, "search", 2.0),
    ("ce", {}, "baseline", 4.0),
)


def write(folder: Path, name: str = "own", file: str = STUDY_FILE, **files: object) -> Study:
    """A study of someone's own benchmark and criterion, whose run holds ``files`` (metrics, criteria) as JSON."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
    common = {schema.STUDY: name, schema.BENCHMARK: "mylab.data:Birds", schema.SEEDS: "0,1"}
    run = client.create_run(experiment, tags={**common, schema.LEVEL: "study"}).info.run_id
    client.log_text(run, file, schema.STUDY_FILE)
    for kind, content in files.items():
        client.log_text(run, content if isinstance(content, str) else json.dumps(content), f"{kind}.json")
    for number, (criterion, hyperparameters, role, error) in enumerate(TRIALS):
        tags = {**common, schema.TRIAL: str(number), schema.CRITERION: criterion}
        params = [Param(key, str(setting)) for key, setting in hyperparameters.items()]
        trial = client.create_run(experiment, tags={**tags, schema.LEVEL: "trial", schema.ROLE: role}).info.run_id
        client.log_batch(trial, params=params)
        for seed in (0, 1):
            replica = client.create_run(experiment, tags={**tags, schema.LEVEL: "seed", schema.SEED: str(seed)})
            values = {"error/mine": error, "accuracy/coarse": 0.5, "extra": 1.0}
            metrics = [
                Metric(metric, value / epoch + seed / 10, 1, epoch)
                for metric, value in values.items()
                for epoch in (1, 2)
            ]
            client.log_batch(replica.info.run_id, metrics, params)
            client.set_terminated(replica.info.run_id)
        client.set_terminated(trial)
    return Study.open(uri, name)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write(tmp_path_factory.mktemp("own"), metrics=METRICS, criteria=CRITERIA)


def test_trials_are_called_as_declared(study: Study) -> None:
    assert study.trials["label"].tolist() == ["FIERCE λ=0.5 e=20", "Focal γ=2.5 n=4", "Focal γ=1.5 n=4", "CE"]


def test_columns_are_the_declared_hyperparameters(study: Study) -> None:
    # what stood in every table before stands first
    assert study.hyperparameters == ("lambda", "e", "gamma", "steps")
    frame = runs.load(study.tracking_uri, study.name)
    assert frame.columns[4:10].tolist() == ["lambda", "e", "sigma", "beta", "gamma", "steps"]
    assert frame[["sigma", "beta"]].isna().all(axis=None)
    assert frame.loc[frame["trial"] == 1, ["gamma", "steps"]].drop_duplicates().values.tolist() == [[2.5, 4.0]]
    assert frame.loc[frame["trial"] == 3, list(study.hyperparameters)].isna().all(axis=None)
    assert study.trials.loc[2, ["gamma", "steps"]].tolist() == [1.5, 4.0]


def test_differences_are_to_the_declared_reference(study: Study, tmp_path: Path) -> None:
    assert study.reference == "ce"
    own = write(tmp_path, criteria=[CRITERIA[0], {**CRITERIA[1], "reference": True}])
    shown = tables.rows(own, every=True)
    table = tables.against_reference(own, shown, {"error/mine": "my error"})
    assert table[""].tolist() == ["CE − Focal", "Focal γ=1.5 n=4 − Focal", "FIERCE λ=0.5 e=20 − Focal"]


def test_order_is_the_declared_one(study: Study) -> None:
    assert list(selection.headline(study)) == ["ce", FOCAL, "fierce"]


def test_colours_are_told_apart_and_known_criteria_keep_theirs(study: Study, known: Store) -> None:
    before = Study.open(known.uri, known.name)
    for name in ("ce", "fierce"):
        assert output.look(study, name) == output.look(before, name)
    red, blue, teal, orange = "#CC3311", "#0077BB", "#009988", "#EE7733"
    assert [output.colour(before, name) for name in legacy.CRITERIA] == [red, blue, teal, orange]
    assert [output.marker(before, name) for name in legacy.CRITERIA] == ["s", "^", "o", "D"]
    assert output.colour(study, FOCAL) not in {red, blue, teal, orange}


def test_the_report_needs_nothing_but_the_store(study: Study, tmp_path: Path) -> None:
    page = report.write(study.tracking_uri, study.name, tmp_path).read_text(encoding="utf-8")
    assert "Focal: the best of 2 points is Focal γ=2.5 n=4 (trial 1)" in page
    table = (tmp_path / "metrics.md").read_text(encoding="utf-8").splitlines()
    # undeclared: under its name
    assert table[0] == "|  | my error (m) | hits | extra |"
    assert [row.split(" | ")[0] for row in table[2:6]] == [
        "| CE",
        "| Focal γ=1.5 n=4",
        "| Focal γ=2.5 n=4",
        "| FIERCE λ=0.5 e=20",
    ]
    assert (tmp_path / "search-mylab.losses-Focal.csv").is_file()
    assert r"Focal $\gamma$=2.5" in (tmp_path / "metrics.tex").read_text(encoding="utf-8")


def test_the_description_names_what_reads_fine_labels(study: Study) -> None:
    publish.describe(study.tracking_uri, study.name)
    text = Study.open(study.tracking_uri, study.name).tags["mlflow.note.content"]
    # the objective, the default page's, and no other
    assert "| criterion | my error (m) | hits |" in text
    assert "**Best point** by lowest error/mine: Focal γ=2.5 n=4 (trial 1, of 2)" in text


def test_without_an_objective_too(tmp_path: Path) -> None:
    study = write(tmp_path, metrics=METRICS, file="name: own\nbenchmark: mylab.data:Birds\n")
    publish.describe(study.tracking_uri, study.name)
    text = Study.open(study.tracking_uri, study.name).tags["mlflow.note.content"]
    assert "| criterion | hits | my error (m) |" in text


def test_a_store_without_declarations_is_read_as_before(known: Store) -> None:
    study = Study.open(known.uri, known.name)
    assert study.metrics == legacy.METRICS and dict(study.criteria) == legacy.CRITERIA
    assert study.metric("mse/raw").label == "raw MSE" and study.metric("loss/mine").label == "loss/mine"


def test_a_criterion_that_is_not_declared_stands_last_under_its_name(tmp_path: Path) -> None:
    study = write(tmp_path, criteria=[CRITERIA[0], CRITERIA[2]])
    assert list(selection.headline(study)) == ["ce", "fierce", FOCAL]
    # what tells its trials apart is not declared either, so that their numbers do
    assert study.trials["label"].tolist()[1] == f"{FOCAL} (trial 1)"


@pytest.mark.parametrize("content", ["[{", '{"name": "a"}', '[{"label": "a"}]', '[{"name": "a"}]'])
def test_declarations_that_cannot_be_read_are_one_sentence(tmp_path: Path, content: str) -> None:
    study = write(tmp_path, metrics=content)
    with pytest.raises(runs.StoreError, match=r"metrics\.json of study 'own' in .* cannot be read") as caught:
        _ = study.metrics
    assert "\n" not in str(caught.value)


def test_a_later_release_may_declare_more() -> None:
    content = json.dumps([{**METRICS[0], "group": "errors"}]).encode()
    metric = declarations.read_metrics(content)["error/mine"]
    assert (metric.label, metric.unit, metric.better, metric.fine) == ("my error (m)", "m", "lower", True)


def test_export_of_the_declared_columns_is_tidy(study: Study, tmp_path: Path) -> None:
    frame = runs.load(study.tracking_uri, study.name)
    frame.to_csv(tmp_path / "table.csv", index=False)
    again = pd.read_csv(tmp_path / "table.csv")
    assert len(again) == len(TRIALS) * 2 * 2 * 3
    assert again.groupby("criterion")["gamma"].nunique().to_dict() == {"ce": 0, "fierce": 0, FOCAL: 2}
