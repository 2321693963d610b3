"""Reading MLflow: both ways of reading agree, what is deleted is left out, what is there twice is refused."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from analysis import runs, schema, store
from tests.analysis.known_study import EPOCHS, LEVELS, SEEDS, Store, value


def write_tiny(uri: str, name: str) -> tuple[MlflowClient, list[str]]:
    """A study of one CE trial with two seeds and three epochs; the client and the seeds' run ids."""
    client = MlflowClient(uri)
    experiment = client.create_experiment(name)
    common = {schema.STUDY: name, schema.TRIAL: "0", schema.CRITERION: "ce", schema.PROTOCOL: "paper"}
    client.create_run(experiment, tags={schema.STUDY: name, schema.LEVEL: "study", schema.SEEDS: "0,1"})
    client.create_run(experiment, tags={**common, schema.LEVEL: "trial", schema.SEEDS: "0,1"})
    ids = []
    for seed in (0, 1):
        run = client.create_run(experiment, tags={**common, schema.LEVEL: "seed", schema.SEED: str(seed)})
        ids.append(run.info.run_id)
        client.log_batch(ids[-1], [Metric("mse/raw", 0.1 * epoch + seed, 1, epoch) for epoch in (1, 2, 3)])
    return client, ids


def test_frame_holds_every_value_of_every_replica(known: Store) -> None:
    frame = runs.load(known.uri, "known")
    hyperparameters = ("lambda", "e", "sigma", "beta")
    assert tuple(frame.columns) == (
        *("study", "trial", "criterion", "protocol", *hyperparameters, "seed", "metric", "epoch", "value"),
    )
    assert len(frame) == len(LEVELS) * (7 * len(SEEDS) * EPOCHS + len(SEEDS) * 2 + (len(SEEDS) - 1) * EPOCHS)
    row = frame[(frame.trial == 3) & (frame.seed == 2) & (frame.metric == "entropy/anchors") & (frame.epoch == 4)]
    assert row["value"].tolist() == [value("entropy/anchors", 3, 2, 4)]
    assert row[["criterion", "protocol", "lambda", "e"]].iloc[0].tolist() == ["fierce", "released", 0.1, 100.0]
    assert row[["sigma", "beta"]].isna().all(axis=None)


def test_means_on_the_trials_runs_are_left_out(known: Store) -> None:
    assert runs.load(known.uri, "known")["value"].max() < 99


def test_trials_say_what_is_done_failed_and_missing(known: Store) -> None:
    table = runs.trials(known.uri, "known").set_index("trial")
    assert list(table.index) == list(range(9))
    assert table.loc[0, ["label", "state", "found"]].tolist() == ["CE", "done", SEEDS]
    assert table.loc[7, ["state", "found", "reason"]].tolist() == ["failed", (), "the loss is not finite"]
    assert table.loc[8, ["label", "planned", "found"]].tolist() == ["confidence penalty β=0.1", SEEDS, SEEDS[:-1]]
    assert set(table["data_name"]) == {"test scene"} and set(table["provenance"]) == {"simulated"}
    assert runs.Study.open(known.uri, "known").planned_trials == 10


def test_final_values_are_those_of_the_last_epoch_of_replicas_that_are_done(known: Store) -> None:
    final = runs.Study.open(known.uri, "known").final
    assert set(final["epoch"]) == {EPOCHS}
    assert set(final["trial"]) == {0, 1, 2, 3, 4, 5, 6, 8}


def test_server_and_database_give_the_same(known: Store, mlflow_server: str) -> None:
    pd.testing.assert_frame_equal(
        runs.load(mlflow_server, "known"), runs.load(known.uri, "known"), check_categorical=False
    )
    pd.testing.assert_frame_equal(runs.trials(mlflow_server, "known"), runs.trials(known.uri, "known"))


@pytest.mark.parametrize("limit", [4, 3])
def test_server_gives_the_same_in_small_answers(
    known: Store, mlflow_server: str, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    # two runs of three values: an answer of four is asked for again by run, one of three value by value
    write_tiny(known.uri, f"small-{limit}")
    monkeypatch.setattr(store, "BULK_VALUES", limit)
    whole = runs.load(known.uri, f"small-{limit}")
    assert len(whole) == 6
    pd.testing.assert_frame_equal(runs.load(mlflow_server, f"small-{limit}"), whole, check_categorical=False)


def test_values_that_are_not_finite_come_back_either_way(known: Store, mlflow_server: str) -> None:
    client, ids = write_tiny(known.uri, "not-finite")
    for step, bad in enumerate((np.nan, np.inf, -np.inf), start=4):
        client.log_metric(ids[0], "mse/raw", bad, step=step)
    for uri in (known.uri, mlflow_server):
        frame = runs.load(uri, "not-finite")
        values = frame[frame["epoch"] > 3].sort_values("epoch")["value"].tolist()
        np.testing.assert_array_equal(values, [np.nan, np.inf, -np.inf])


def test_server_without_the_bulk_endpoint(known: Store, mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny(known.uri, "no-endpoint")
    monkeypatch.setattr(store, "BULK_ENDPOINT", "/ajax-api/2.0/mlflow/metrics/there-is-none")
    pd.testing.assert_frame_equal(
        runs.load(mlflow_server, "no-endpoint"), runs.load(known.uri, "no-endpoint"), check_categorical=False
    )


def test_deleted_runs_are_ignored(known: Store, mlflow_server: str) -> None:
    client, ids = write_tiny(known.uri, "deleted")
    client.delete_run(ids[1])
    for uri in (known.uri, mlflow_server):
        assert set(runs.load(uri, "deleted")["seed"]) == {0}
        assert runs.trials(uri, "deleted")["found"].tolist() == [()]


def test_a_value_that_is_there_twice_is_refused(known: Store) -> None:
    client, ids = write_tiny(known.uri, "twice")
    client.log_metric(ids[1], "mse/raw", 0.5, timestamp=2, step=3)
    with pytest.raises(runs.DuplicateRows, match=r"1 values twice, the first mse/raw of trial 0, seed 1, epoch 3"):
        runs.load(known.uri, "twice")


def test_a_replica_that_is_there_twice_is_refused(known: Store) -> None:
    client, ids = write_tiny(known.uri, "two-runs")
    run = client.get_run(ids[0])
    tags = {name: tag for name, tag in run.data.tags.items() if name.startswith("fierce.")}
    client.create_run(run.info.experiment_id, tags=tags)
    with pytest.raises(runs.DuplicateRows, match="two runs of trial 0, seed 0"):
        runs.trials(known.uri, "two-runs")


def test_unknown_study_names_those_that_are_there(known: Store, mlflow_server: str) -> None:
    for uri in (known.uri, mlflow_server):
        with pytest.raises(runs.StudyNotFound, match=r"no study 'knwon' in .*; studies there: .*known"):
            runs.load(uri, "knwon")


def test_reading_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(runs.StudyNotFound, match="there is no tracking store at"):
        runs.load(f"sqlite:///{tmp_path / 'mlflow.db'}", "any")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["http", "postgresql", "nonsense"])
def test_store_that_cannot_be_read_is_one_sentence(scheme: str) -> None:
    with socket.socket() as taken:
        # bound and not listening: refused at once
        taken.bind(("127.0.0.1", 0))
        uri = f"{scheme}://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(runs.StoreError) as caught:
            runs.load(uri, "any")
    message = str(caught.value)
    assert f"{scheme}://127.0.0.1" in message and "cannot be read" in message
    assert "secret" not in message and "\n" not in message


def test_study_file_comes_without_passwords(known: Store) -> None:
    study = runs.Study.open(known.uri, "known")
    assert "postgresql://database/mlflow" in study.file and "secret" not in study.file
    assert study.settings["seeds"] == list(SEEDS)


def test_arrays_are_those_of_the_replica(known: Store) -> None:
    study = runs.Study.open(known.uri, "known")
    kept = study.arrays(2, 1)
    assert kept["features"].shape == (120, 10) and kept["reliability"].shape == (10, 3)
    assert study.arrays(4, 1) == {}
