"""Tracking against real stores: SQLite with parallel writers, and a server that goes away and comes back."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
import torch
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from scipy import stats

from analysis import artifacts, schema
from analysis.runs import Study
from analysis.store import StoreError
from study.file.plan import trial_for
from study.file.spec import StudySpec
from study.home import Home
from study.launch.follower import Follower
from study.launch.observer import Silent
from study.record import facts, tracking
from study.record.runs import Holdings
from study.servers.mlflow import TrackingError, open_client
from tests.writing import write
from trainables.assignment import Assignment, Facts, Result, Shard
from trainables.training import Record, Training

SPEC = StudySpec.model_validate(
    {
        "name": "s",
        "description": "why",
        "benchmark": "tiny:Tiny",
        "criteria": ["ce", "ls", "fierce"],
        "seeds": [3, 5],
        "training": {"epochs": 4},
    }
)
TRIAL = trial_for(SPEC, "fierce", {"lambda": 0.5})
GIVEN = Assignment(7, "grid", TRIAL)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking database, which takes seconds to make."""
    home = Home(tmp_path_factory.mktemp("store"))
    open_client(home.tracking_uri()).search_experiments()
    return home.root / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(tmp_path / "mlflow.db")) as copy:
        source.backup(copy)
    return Home(tmp_path)


@pytest.fixture(scope="module")
def training() -> Training:
    """A trained trial; the tests do not change it."""
    training = Training(TRIAL)
    training.entries = [  # type: ignore[attr-defined]
        replace(record, time=1_700_000_000_000 + record.epoch) for record in training.run()
    ]
    return training


def entries(training: Training) -> list[Record]:
    return list(training.entries)  # type: ignore[attr-defined]


def runs(client: MlflowClient) -> dict[tuple[str, str | None], Run]:
    """(level, seed) -> run; each must be there once."""
    experiment = client.get_experiment_by_name("s")
    assert experiment is not None
    listed = client.search_runs([experiment.experiment_id], max_results=1000)
    keyed = {(run.data.tags[schema.LEVEL], run.data.tags.get(schema.SEED)): run for run in listed}
    assert len(keyed) == len(listed)
    return keyed


def rows(client: MlflowClient, run: Run) -> list[tuple[str, int, float]]:
    """Every row of a run's trajectories."""
    names = run.data.metrics
    return [(name, row.step, row.value) for name in names for row in client.get_metric_history(run.info.run_id, name)]


def expected(training: Training, column: int | None) -> list[tuple[str, int, float]]:
    """A replica's values, or means and standard errors over all of them."""
    found = []
    for entry in entries(training):
        for name, values in entry.metrics.items():
            found.append((name, entry.epoch, float(np.mean(values)) if column is None else values[column]))
            if column is None and np.isfinite(values).all():
                found.append((f"standard-error/{name}", entry.epoch, float(stats.sem(values))))
    return found


def check_frame(uri: str, training: Training) -> None:
    """What the analysis reads is every value of both seeds, to the last bit."""
    frame = Study.open(uri, "s").frame
    read = [tuple(row) for row in frame[["seed", "metric", "epoch", "value"]].itertuples(index=False)]
    wanted = [(seed, *row) for column, seed in enumerate(TRIAL.seeds) for row in expected(training, column)]
    np.testing.assert_equal(sorted(read), sorted(wanted))


def check_trajectories(client: MlflowClient, training: Training) -> None:
    """Each run holds each (metric, epoch) once, with the replica's value or the mean; the artifact has all of them."""
    check_frame(client.tracking_uri, training)
    by_key = runs(client)
    for key, column in {("seed", "3"): 0, ("seed", "5"): 1, ("trial", None): None}.items():
        held = rows(client, by_key[key])
        assert set(Counter((name, step) for name, step, _ in held).values()) == {1}
        wanted = {(name, step): value for name, step, value in expected(training, column)}
        assert {(name, step): value for name, step, value in held} == pytest.approx(wanted, rel=1e-12, nan_ok=True)


def test_held_out_metrics_are_declared_once_they_are_known(home: Home, training: Training) -> None:
    """A trial tells so at its end, and another that begins later takes nothing back."""
    tracked = tracking.open_study(SPEC, home)
    early = [metric.to_dict() for metric in Training(TRIAL).metrics]
    late = [metric.to_dict() for metric in training.metrics]
    config = GIVEN.to_config()
    follower = Follower(None, Silent(), tracked, None)  # type: ignore[arg-type]
    for told in (early, late, early):
        follower.on_trial_result(0, [], SimpleNamespace(config=config), Result(declared=told).to_tune())
        # and the launch after
        tracking.declare_metrics(tracked, told)
    study = Study.open(home.tracking_uri(), "s")
    heldout = {name for name, metric in study.metrics.items() if metric.heldout and not metric.group}
    assert heldout == {"accuracy/coarse", "entropy/features"}
    assert study.metric("entropy/features-validation").twin_of == "entropy/features"


def test_the_tree_of_runs(home: Home, training: Training) -> None:
    tracked = tracking.open_study(SPEC, home)
    tracker = tracked.open_trial(GIVEN)
    tracker.describe(training)
    tracker.add(entries(training))
    tracker.complete(training.arrays(), training.weights())
    tracker.finish()
    tracking.close_study(tracked, "FINISHED")

    client = MlflowClient(home.tracking_uri())
    by_key = runs(client)
    assert by_key.keys() == {("study", None), ("trial", None), ("seed", "3"), ("seed", "5")}
    assert {run.info.status for run in by_key.values()} == {"FINISHED"}
    study, trial, seed = by_key["study", None], by_key["trial", None], by_key["seed", "5"]
    assert trial.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert seed.data.tags["mlflow.parentRunId"] == trial.info.run_id
    assert (trial.info.run_name, seed.info.run_name) == ("fierce λ=0.5 e=10", "seed 5")
    assert study.data.tags[schema.PLANNED_TRIALS] == "3"
    assert "why" in study.data.tags["mlflow.note.content"]
    for run in (trial, seed):
        assert [run.data.params[name] for name in ("criterion", "lambda", "e")] == ["fierce", "0.5", "10"]
        assert run.data.tags[schema.DATA_FINGERPRINT] == training.data.fingerprint
        assert run.data.tags[schema.DATA_PROVENANCE] == "simulated"
        assert run.data.tags[schema.TRIAL] == "7"
        assert run.data.tags[schema.PROTOCOL] == "released"
        assert "torch" in run.data.tags[schema.VERSIONS]
    assert (trial.data.tags[schema.ROLE], trial.data.tags[schema.SEEDS]) == ("grid", "3,5")
    assert trial.data.params["training.epochs"] == "4"
    assert [dataset_input.dataset.name for dataset_input in trial.inputs.dataset_inputs] == ["tiny"]
    check_trajectories(client, training)

    path = client.download_artifacts(seed.info.run_id, schema.ARRAYS)
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["features"], training.arrays()["features"][1])
    weights = torch.load(client.download_artifacts(trial.info.run_id, schema.WEIGHTS), weights_only=True)
    torch.testing.assert_close(weights, training.weights())
    text = Path(client.download_artifacts(study.info.run_id, schema.STUDY_FILE)).read_text(encoding="utf-8")
    assert StudySpec.from_yaml(text) == SPEC


def test_a_data_set_that_another_trial_writes_at_the_same_moment(
    home: Home, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PostgreSQL tells it: MLflow looks for the data set, and the other trial's is there when it writes its own."""
    asked, log_inputs = [], MlflowClient.log_inputs

    def beaten(client: MlflowClient, run: str, datasets: list[DatasetInput]) -> None:
        asked.append(run)
        if len(asked) == 1:
            raise MlflowException("duplicate key value violates unique constraint", BAD_REQUEST)
        log_inputs(client, run, datasets=datasets)

    monkeypatch.setattr(MlflowClient, "log_inputs", beaten)
    tracker = tracking.open_study(SPEC, home).open_trial(GIVEN)
    tracker.describe(training)
    tracker.flush()
    assert len(asked) == 2
    trial = MlflowClient(home.tracking_uri()).get_run(asked[0])
    assert [each.dataset.name for each in trial.inputs.dataset_inputs] == ["tiny"]


def test_another_recipe_is_not_mixed_in(home: Home) -> None:
    """As where a release changes what a protocol trains by."""
    begun = SPEC
    tracking.open_study(begun, home)
    tracking.open_study(begun, home)
    with pytest.raises(
        TrackingError, match=r"begun with training\.assignment 'sampled', and would go on with 'nearest'"
    ):
        tracking.open_study(begun.model_copy(update={"training": {**begun.training, "assignment": "nearest"}}), home)


def test_a_study_of_before_recipes_were_kept_sampled_its_assignments(home: Home) -> None:
    begun = SPEC
    tracked = tracking.open_study(begun, home)
    open_client(tracked.uri).delete_tag(tracked.run, schema.RECIPE)
    tracking.open_study(begun, home)
    open_client(tracked.uri).delete_tag(tracked.run, schema.RECIPE)
    with pytest.raises(TrackingError, match="would go on with 'nearest'"):
        tracking.open_study(begun.model_copy(update={"training": {**begun.training, "assignment": "nearest"}}), home)


@pytest.mark.parametrize("before", range(5))
def test_a_reopened_trial_adds_what_is_missing(home: Home, training: Training, before: int) -> None:
    """Also where the killed one had sent epochs that its successor computes again, at another time."""
    tracked = tracking.open_study(SPEC, home)
    first = tracked.open_trial(GIVEN)
    first.describe(training)
    first.add(entries(training)[:before])
    first.flush()
    tracking.close_open_trials(tracked, "killed")
    client = MlflowClient(home.tracking_uri())
    assert {run.info.status for key, run in runs(client).items() if key[0] != "study"} == {"KILLED"}

    assert tracking.open_study(SPEC, home).run == tracked.run
    second = tracked.open_trial(GIVEN)
    second.describe(training)
    second.add([replace(entry, time=entry.time + 999) for entry in entries(training)])
    second.complete({}, training.weights())
    statuses = {run.info.status for key, run in runs(client).items() if key[0] != "study"}
    assert statuses == {"RUNNING"}
    second.finish()
    check_trajectories(client, training)
    assert not any(schema.REASON in run.data.tags for run in runs(client).values())


def test_a_finished_trial_opened_again_stays_as_it_is(home: Home, training: Training) -> None:
    tracked = tracking.open_study(SPEC, home)
    for _ in range(2):
        tracker = tracked.open_trial(GIVEN)
        tracker.add(entries(training))
        tracker.complete({}, {})
        tracker.finish()
    client = MlflowClient(home.tracking_uri())
    check_trajectories(client, training)
    assert {run.info.status for key, run in runs(client).items() if key[0] != "study"} == {"FINISHED"}


@pytest.mark.slow
def test_a_run_made_twice_is_kept_once(home: Home, training: Training) -> None:
    """A request that is repeated because its answer was lost makes a second run."""
    tracked = tracking.open_study(SPEC, home)
    tracked.open_trial(GIVEN).complete({}, {})
    client = MlflowClient(home.tracking_uri())
    first = runs(client)["seed", "3"]
    client.create_run(tracked.experiment, tags=first.data.tags, start_time=first.info.start_time + 1)
    tracker = tracked.open_trial(GIVEN)
    tracker.add(entries(training))
    tracker.complete({}, {})
    assert runs(client)["seed", "3"].info.run_id == first.info.run_id
    check_trajectories(client, training)


def test_more_metrics_than_a_request_holds(home: Home) -> None:
    metrics = {f"m/{index}": [float(index), -float(index)] for index in range(60)}
    records = [Record(epoch, metrics, epoch) for epoch in range(1, 41)]
    tracker = tracking.open_study(SPEC, home).open_trial(GIVEN)
    tracker.add(records)
    tracker.complete({}, {})
    client = MlflowClient(home.tracking_uri())
    held = rows(client, runs(client)["seed", "5"])
    assert sorted(held) == sorted((f"m/{index}", epoch, -float(index)) for index in range(60) for epoch in range(1, 41))


def long_records(epochs: int, slow: int, later: int = 0) -> list[Record]:
    """A metric at each epoch and one at every ``slow`` one, of two seeds."""
    records = []
    for epoch in range(1, epochs + 1):
        metrics = {"loss/train": [epoch + 0.25, -epoch / 3]}
        if epoch % slow == 0 or epoch == epochs:
            metrics["slow"] = [epoch / 7, epoch * 2.0]
        records.append(Record(epoch, metrics, later + epoch))
    return records


def told(training: Training, epochs: int) -> Facts:
    """The facts of a trial of so many epochs."""
    known = facts.describe(training, None)
    return replace(known, recipe={**known.recipe, "training.epochs": str(epochs)})


def test_seeds_runs_hold_few_points_and_the_artifact_all(home: Home, training: Training) -> None:
    """A trial that is killed and begins anew, at other times, holds the same points; the last one is among them."""
    loss, slow = range(3, 251, 3), range(40, 251, 40)
    for last, later in ((130, 0), (250, 5_000)):
        tracker = tracking.open_study(SPEC, home).open_trial(GIVEN)
        tracker.recall(told(training, 250))
        tracker.add(long_records(250, 40, later)[:last])
        tracker.flush(now=True)
    by_key = runs(MlflowClient(home.tracking_uri()))
    held = rows(MlflowClient(home.tracking_uri()), by_key["seed", "5"])
    wanted = [("loss/train", epoch, -epoch / 3) for epoch in (*loss, 250)]
    assert sorted(held) == wanted + [("slow", epoch, epoch * 2.0) for epoch in (*slow, 250)]
    means = [row for row in rows(MlflowClient(home.tracking_uri()), by_key["trial", None]) if row[0] == "loss/train"]
    assert [epoch for _, epoch, _ in sorted(means)] == list(range(1, 251))
    frame = Study.open(home.tracking_uri(), "s").frame
    read = frame[(frame["seed"] == 5) & (frame["metric"] == "loss/train")]
    assert [(row.epoch, row.value) for row in read.itertuples()] == [(epoch, -epoch / 3) for epoch in range(1, 251)]
    assert len(frame) == 2 * (250 + 7)


def test_seeds_without_runs_of_their_own(home: Home, training: Training) -> None:
    """Killed and begun anew, then finished; what is deleted is sent again, and another setting changes nothing."""
    without = StudySpec.model_validate({**SPEC.model_dump(), "tracking": {"seed_points": 0}})
    arrays = {"features": np.arange(6.0).reshape(2, 3), "rank": np.array([2, 5])}
    tracker = tracking.open_study(without, home).open_trial(GIVEN)
    tracker.recall(told(training, 4))
    tracker.add(entries(training)[:2])
    tracker.flush()
    assert tracking.read_runs(home.tracking_uri(), "s") == {(7, 3): ("RUNNING", 2), (7, 5): ("RUNNING", 2)}
    for spec in (without, SPEC, SPEC):
        tracked = tracking.open_study(spec, home)
        tracker = tracked.open_trial(GIVEN)
        tracker.recall(told(training, 4))
        tracker.add(entries(training))
        tracker.complete(arrays, training.weights())
        tracker.finish()
        client = MlflowClient(tracked.uri)
        assert set(runs(client)) == {("study", None), ("trial", None)}
        own = runs(client)["trial", None]
        held, wanted = sorted(rows(client, own)), sorted(expected(training, None))
        assert [row[:2] for row in held] == [row[:2] for row in wanted]
        np.testing.assert_allclose([row[2] for row in held], [row[2] for row in wanted], rtol=1e-9, atol=1e-15)
        check_frame(tracked.uri, training)
        study = Study.open(tracked.uri, "s")
        for column, seed in enumerate(TRIAL.seeds):
            np.testing.assert_equal(study.arrays(7, seed), {name: each[column] for name, each in arrays.items()})
        assert study.trials.loc[0, ["state", "found"]].tolist() == ["done", (3, 5)]
        assert tracking.holdings(tracked) == Holdings(frozenset({7}), frozenset({7}))
        place = artifacts.folder(tracked.uri, own)
        assert place is not None
        assert {file.name for file in place.iterdir()} == {schema.ARRAYS, schema.TRAJECTORIES, schema.WEIGHTS}
        (place / schema.ARRAYS).unlink()
        study = Study.open(tracked.uri, "s")
        assert (study.arrays(7, 3), study.lost) == ({}, [(7, 3)])
        assert tracking.holdings(tracked) == Holdings(frozenset(), frozenset())


def test_shards_of_seeds_without_runs(home: Home, training: Training) -> None:
    without = StudySpec.model_validate({**SPEC.model_dump(), "tracking": {"seed_points": 0}})
    tracked = tracking.open_study(without, home)
    tracked.open_shards(GIVEN)
    states = {3: "RUNNING", 5: "RUNNING"}
    for position, seed in enumerate(TRIAL.seeds):
        tracker = tracked.open_trial(replace(GIVEN, trial=replace(TRIAL, seeds=(seed,)), shard=Shard(position, 2)))
        tracker.describe(training)
        own = [{name: [values[position]] for name, values in entry.metrics.items()} for entry in entries(training)]
        tracker.add([replace(entry, metrics=each) for entry, each in zip(entries(training), own, strict=True)])
        tracker.complete({"features": np.full((1, 2), seed)}, {})
        tracker.finish()
        states[seed] = "FINISHED"
        read = tracking.read_runs(tracked.uri, "s")
        assert {key[1]: status for key, (status, _) in read.items()} == states
    whole = tracked.open_trial(GIVEN, merged=True)
    whole.add(entries(training))
    whole.complete({}, {})
    whole.finish()
    check_frame(tracked.uri, training)
    study = Study.open(tracked.uri, "s")
    for seed in TRIAL.seeds:
        np.testing.assert_array_equal(study.arrays(7, seed)["features"], [seed, seed])
    assert set(runs(MlflowClient(tracked.uri))) == {("study", None), ("trial", None)}
    assert tracking.holdings(tracked).whole == {7}


def test_what_has_arrived_of_a_trial_at_work_is_read(home: Home, training: Training) -> None:
    tracker = tracking.open_study(SPEC, home).open_trial(GIVEN)
    tracker.recall(told(training, 250))
    for last in (1, 2, 200):
        tracker.add(long_records(250, 40)[len(tracker._records) : last])
        tracker._next_flush = 0.0
        tracker.flush()
        assert Study.open(home.tracking_uri(), "s").frame.query("seed == 3")["epoch"].max() == last
    assert tracking.read_runs(home.tracking_uri(), "s") == {(7, 3): ("RUNNING", 200), (7, 5): ("RUNNING", 200)}


def test_trajectories_that_were_deleted_are_sent_again(home: Home, training: Training) -> None:
    tracked = tracking.open_study(SPEC, home)
    for is_deleted in (False, True):
        if is_deleted:
            place = artifacts.folder(tracked.uri, runs(MlflowClient(tracked.uri))["trial", None])
            assert place is not None
            (place / schema.TRAJECTORIES).unlink()
            with pytest.raises(StoreError, match=r"trajectories of trial 7 of study 's'.* resume the study"):
                check_frame(tracked.uri, training)
            assert tracking.holdings(tracked) == Holdings(frozenset(), frozenset())
        tracker = tracked.open_trial(GIVEN)
        tracker.add(entries(training))
        tracker.complete({}, {})
        tracker.finish()
        check_trajectories(MlflowClient(tracked.uri), training)
        assert tracking.holdings(tracked) == Holdings(frozenset({7}), frozenset({7}))


def test_a_trial_of_before_the_artifact_is_whole_once_it_has_one(home: Home, training: Training) -> None:
    """One that has finished, and of which a seed's run was deleted since: the new one's rows are thinned."""
    spec = SPEC.model_copy(update={"tracking": SPEC.tracking.model_copy(update={"seed_points": 1})})
    tracked = tracking.open_study(SPEC, home)
    tracker = tracked.open_trial(GIVEN)
    tracker.add(entries(training))
    tracker.complete({}, {})
    tracker.finish()
    client = MlflowClient(tracked.uri)
    by_key = runs(client)
    client.delete_tag(by_key["trial", None].info.run_id, schema.kept_tag(schema.TRAJECTORIES))
    for seed in ("3", "5"):
        client.delete_tag(by_key["seed", seed].info.run_id, schema.SEED_POINTS)
    place = artifacts.folder(tracked.uri, by_key["trial", None])
    assert place is not None
    (place / schema.TRAJECTORIES).unlink()
    check_frame(tracked.uri, training)

    client.delete_run(by_key["seed", "3"].info.run_id)
    tracker = tracking.open_study(spec, home).open_trial(GIVEN)
    tracker.recall(told(training, 4))
    tracker.add(entries(training))
    tracker.complete({}, {})
    tracker.finish()
    check_frame(tracked.uri, training)
    assert {step for _, step, _ in rows(client, runs(client)["seed", "3"])} == {4}


def test_each_shard_writes_a_file_of_its_own(home: Home, training: Training) -> None:
    tracked = tracking.open_study(SPEC, home)
    tracked.open_shards(GIVEN)
    for position, seed in enumerate(TRIAL.seeds):
        part = replace(GIVEN, trial=replace(TRIAL, seeds=(seed,)), shard=Shard(position, 2))
        tracker = tracked.open_trial(part)
        tracker.describe(training)
        own = [{name: [values[position]] for name, values in entry.metrics.items()} for entry in entries(training)]
        tracker.add([replace(entry, metrics=each) for entry, each in zip(entries(training), own, strict=True)])
        tracker.complete({}, {})
        tracker.finish()
    whole = tracked.open_trial(GIVEN, merged=True)
    whole.add(entries(training))
    whole.complete({}, {})
    whole.finish()
    check_trajectories(MlflowClient(tracked.uri), training)
    place = artifacts.folder(tracked.uri, runs(MlflowClient(tracked.uri))["trial", None])
    assert place is not None
    assert sorted(path.name for path in place.iterdir()) == [schema.trajectories_file(shard, 2) for shard in (0, 1)]
    assert tracking.holdings(tracked).whole == {7}


@pytest.mark.slow
def test_values_that_are_not_finite_are_neither_lost_nor_averaged_away(home: Home) -> None:
    record = Record(1, {"loss/train": [float("nan"), 1.0]}, 1)
    for _ in range(2):
        tracker = tracking.open_study(SPEC, home).open_trial(GIVEN)
        tracker.add([record])
        tracker.complete({}, {})
    client = MlflowClient(home.tracking_uri())
    by_key = runs(client)
    assert np.isnan([value for _, _, value in rows(client, by_key["seed", "3"])]).tolist() == [True]
    assert np.isnan([value for _, _, value in rows(client, by_key["trial", None])]).tolist() == [True]


@pytest.mark.slow
def test_parallel_writers_on_sqlite(home: Home) -> None:
    tracked = tracking.open_study(SPEC, home)
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(2, timeout=120)
    given, other = (replace(GIVEN, number=number) for number in range(2))
    process = context.Process(target=write, args=(tracked, other, 8, together))
    process.start()
    write(tracked, given, 8, together)
    process.join(120)
    assert process.exitcode == 0
    client = MlflowClient(home.tracking_uri())
    seed_runs = client.search_runs([tracked.experiment], "tags.`fierce.level` = 'seed'")
    assert len(seed_runs) == 4
    assert all(sorted(step for _, step, _ in rows(client, run)) == list(range(1, 9)) for run in seed_runs)


def test_closing_a_failed_trial_gives_its_reason(home: Home) -> None:
    tracked = tracking.open_study(SPEC, home)
    tracked.open_trial(GIVEN).complete({}, {})
    tracking.close_trial(tracked, 7, "FAILED", "the disk is full")
    client = MlflowClient(home.tracking_uri())
    for key, run in runs(client).items():
        if key[0] != "study":
            assert (run.info.status, run.data.tags[schema.REASON]) == ("FAILED", "the disk is full")


def test_a_deleted_experiment_is_said(home: Home) -> None:
    tracked = tracking.open_study(SPEC, home)
    MlflowClient(home.tracking_uri()).delete_experiment(tracked.experiment)
    with pytest.raises(TrackingError, match="'s' was deleted"):
        tracking.open_study(SPEC, home)


def test_a_server_that_does_not_answer_is_one_sentence(home: Home) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://me:geheim@127.0.0.1:{closed.getsockname()[1]}"
        spec = SPEC.model_copy(update={"tracking_uri": uri})
        with pytest.raises(TrackingError, match=r"the tracking server http://me@127\.0\.0\.1:\d+ ") as caught:
            tracking.open_study(spec, home)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


@contextmanager
def server(port: int, folder: Path) -> Iterator[None]:
    """An MLflow server on a database in ``folder``, ready when the context is entered."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
    quiet = subprocess.DEVNULL
    # its job runner would start a dozen processes more
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=folder, env=environment, start_new_session=True)
    try:
        _until(lambda: _answers(port) or process.poll() is not None)
        assert process.poll() is None
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _until(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.mark.thorough
@pytest.mark.server
def test_a_server_that_goes_away_loses_nothing(home: Home, training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    records = entries(training)
    with server(port, home.root):
        tracked = tracking.open_study(SPEC.model_copy(update={"tracking_uri": uri}), home, patience=0.0)
        tracker = tracked.open_trial(GIVEN)
        tracker.describe(training)
        tracker.add(records[:2])
        tracker.flush()
    # away: nothing raises while training, and the end says so once its patience is over
    tracker.add(records[2:])
    tracker._next_flush = 0.0
    tracker.flush()
    with pytest.raises(TrackingError, match="the trajectories are kept"):
        tracker.complete(training.arrays(), training.weights())
    with server(port, home.root):
        tracker.complete(training.arrays(), training.weights())
        tracker.finish()
        client = MlflowClient(uri)
        check_trajectories(client, training)
        by_key = runs(client)
        assert {run.info.status for key, run in by_key.items() if key[0] != "study"} == {"FINISHED"}
        assert [artifact.path for artifact in client.list_artifacts(by_key["seed", "5"].info.run_id)] == [schema.ARRAYS]


@pytest.mark.server
@pytest.mark.parametrize(("points", "most"), [(100, 4 * 10 + 10), (0, 12)])
def test_requests_of_a_trial_with_ten_seeds(
    home: Home,
    training: Training,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    points: int,
    most: int,
) -> None:
    """For each seed with a run: that, its arrays, its metrics with all else, its end; what the trial takes is few."""
    asked: list[str] = []
    send = requests.Session.send

    def counted(session: requests.Session, request: requests.PreparedRequest, **options: object) -> requests.Response:
        asked.append(f"{request.method} {urlsplit(str(request.url)).path}")
        return send(session, request, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(requests.Session, "send", counted)
    seeds, arrays = tuple(range(10)), {"features": np.zeros((10, 3))}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with server(port, home.root):
        own = {"tracking_uri": f"http://127.0.0.1:{port}", "seeds": seeds, "tracking": {"seed_points": points}}
        spec = StudySpec.model_validate({**SPEC.model_dump(), **own})
        tracked = tracking.open_study(spec, home)
        tracker = tracked.open_trial(replace(GIVEN, trial=replace(TRIAL, seeds=seeds)))
        asked.clear()
        tracker.recall(told(training, 20))
        records = [
            Record(epoch, {f"m/{index}": [epoch / 7] * 10 for index in range(8)}, epoch) for epoch in range(1, 21)
        ]
        tracker.add(records[:1])
        tracker.flush()
        tracker.add(records[1:])
        tracker.complete(arrays, training.weights())
        tracker.finish()
        kinds = Counter(re.sub(r"[0-9a-f]{32}", "…", each) for each in asked)
        with capsys.disabled():
            print(f"\n{len(asked)} requests: {dict(kinds)}")
        count, frame = len(asked), Study.open(tracked.uri, "s").frame
    assert len(frame) == 10 * 20 * 8
    assert count <= most


def test_no_password_is_in_the_study_file_that_everyone_sees(home: Home) -> None:
    storage = "s3://key:hidden@bucket/prefix"
    spec = SPEC.model_copy(update={"storage": storage, "optuna_uri": "postgresql://me:hidden@database/optuna"})
    tracked = tracking.open_study(spec, home)
    path = Path(MlflowClient(tracked.uri).download_artifacts(tracked.run, schema.STUDY_FILE))
    shown = StudySpec.from_yaml(path.read_text(encoding="utf-8"))
    assert (shown.storage, shown.optuna_uri) == ("s3://key@bucket/prefix", "postgresql://me@database/optuna")
