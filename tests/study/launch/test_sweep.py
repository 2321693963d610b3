"""Studies from start to end: outcome, what the stores hold, failures, Ctrl-C, refusals."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from ray import cloudpickle
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.tune.trainable.metadata import _TrainingRunMetadata
from rich.console import Console
from scipy import stats

from analysis import schema
from analysis.runs import Study
from study.errors import UserError
from study.file.spec import Resources, StudySpec
from study.home import Home
from study.launch import follower, search, snapshots, sweep
from study.launch.progress import StudyProgress
from study.record import facts, files, status, tracking, trials
from tests.launches import Launch
from tests.watching import Watcher
from trainables.assignment import Result
from trainables.storage import Folder
from trainables.trainable import PredecessorError
from trainables.training import Training

TESTS = Path(__file__).resolve().parents[2]
ROOT = TESTS.parent


@pytest.fixture
def home(ray_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    return Home(tmp_path)


def spec(**changes: Any) -> StudySpec:
    # one trial at a time: a process for each takes seconds to start
    values = {"name": "s", "benchmark": "tiny:Tiny", "criteria": ["ce", "ls"], "seeds": [1, 4], "concurrency": 1}
    return StudySpec.model_validate(values | changes)


def runs(home: Home, name: str = "s") -> dict[tuple[str | None, str | None], Run]:
    """(trial, seed) -> run; each must be there once."""
    client = MlflowClient(home.tracking_uri())
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    listed = client.search_runs([experiment.experiment_id], max_results=1000)
    keyed = {(run.data.tags.get(schema.TRIAL), run.data.tags.get(schema.SEED)): run for run in listed}
    assert len(keyed) == len(listed)
    return keyed


def check_trajectories(home: Home, study: StudySpec) -> None:
    """Every replica's rows are those of a training that nothing disturbs, each once; means on the trial's run."""
    torch.set_num_threads(1)
    client, held = MlflowClient(home.tracking_uri()), runs(home, study.name)
    frame = Study.open(home.tracking_uri(), study.name).whole.frame
    loaded = trials.load_study(study, home)
    assert loaded is not None
    for number, attempt in trials.attempts(loaded).items():
        attributes = attempt.user_attrs
        trial = search.trial_for(study, attributes[trials.CRITERION], attributes[trials.HYPERPARAMETER_VALUES])
        records = list(Training(trial).run())
        for column, seed in enumerate((*trial.seeds, None)):
            run = held[str(number), None if seed is None else str(seed)]
            rows = [
                (name, row.step, row.value)
                for name in run.data.metrics
                for row in client.get_metric_history(run.info.run_id, name)
            ]
            wanted = [
                (name, record.epoch, values[column] if seed is not None else sum(values) / len(values))
                for record in records
                for name, values in record.metrics.items()
            ]
            errors = sorted(row for row in rows if row[0].startswith(schema.STANDARD_ERROR))
            plain = [row for row in rows if not row[0].startswith(schema.STANDARD_ERROR)]
            np.testing.assert_equal(sorted(plain), sorted(wanted))
            several = seed is None and len(trial.seeds) > 1
            expected = sorted(
                (f"{schema.STANDARD_ERROR}{name}", record.epoch, float(stats.sem(values)))
                for record in (records if several else [])
                for name, values in record.metrics.items()
                if np.isfinite(values).all()
            )
            assert [row[:2] for row in errors] == [row[:2] for row in expected]
            np.testing.assert_allclose([row[2] for row in errors], [row[2] for row in expected], rtol=1e-9, atol=1e-15)
            if seed is not None:
                own = frame[(frame["trial"] == number) & (frame["seed"] == seed)]
                read = list(zip(own["metric"], own["epoch"], own["value"], strict=True))
                np.testing.assert_equal(sorted(read), sorted(wanted))


def snapshot(home: Home, name: str = "s") -> list[tuple[int, str]]:
    """(number, status) of every trial in Tune's one snapshot; its shards, where it has several, have one status."""
    (path,) = (home.study(name) / snapshots.TUNE).glob("experiment_state-*.json")
    states = [json.loads(row[0]) for row in json.loads(path.read_text(encoding="utf-8"))["trial_data"]]
    return sorted({(state["config"]["number"], state["status"]) for state in states})


def test_a_study_from_start_to_end_and_once_more(home: Home) -> None:
    searched = {
        "criteria": {"fierce": {"lambda": {"low": 0.01, "high": 10, "log": True}}},
        "trials": 2,
        "objective": {"label_free": True},
    }
    study, watcher = spec(search=searched, concurrency="auto"), Watcher()
    assert sweep.run(study, home, watcher) == sweep.Outcome(done=4, failed=0, missing=0, interrupted=False)
    assert watcher.planned == 4
    assert ("start", 0, "ce", "baseline") in watcher.heard
    for number in range(4):
        assert ("epoch", number, 6, 6) in watcher.heard
        assert ("done", number, None) in watcher.heard

    held = runs(home)
    assert len(held) == 1 + 4 * 3
    assert {run.info.status for run in held.values()} == {"FINISHED"}
    assert [held[str(number), None].data.tags[schema.ROLE] for number in range(4)] == ["baseline"] * 2 + ["search"] * 2
    check_trajectories(home, study)
    assert snapshot(home) == [(number, "TERMINATED") for number in range(4)]
    loaded = trials.load_study(study, home)
    assert loaded is not None and study.search is not None
    for trial in loaded.trials:
        again = search.trial_for(study, trial.user_attrs["criterion"], trial.user_attrs["hyperparameters"])
        last = list(Training(again).run())[-1]
        assert trial.value == pytest.approx(np.mean(last.metrics[study.search.objective.metric]), rel=1e-12)

    read = status.read(home, "s")
    assert (read.running, read.count("done"), read.count_replicas("done")) == (False, 4, 8)
    assert {trial.epoch for trial in read.trials} == {6}

    # a launch of a study that is complete changes nothing
    again = Watcher()
    assert sweep.run(study, home, again).done == 4
    assert sorted(event[1] for event in again.heard if event[0] == "done") == [0, 1, 2, 3]
    assert snapshot(home) == [(number, "TERMINATED") for number in range(4)]
    assert runs(home).keys() == held.keys()


def test_a_failed_trial_is_told_everywhere_and_the_rest_goes_on(home: Home) -> None:
    trouble = home.root / "trouble-once"
    trouble.write_text("3 raise", encoding="utf-8")
    study = spec(benchmark={"name": "tiny:Tiny", "trouble": str(trouble)}, max_failures=0)
    watcher = Watcher()
    assert sweep.run(study, home, watcher) == sweep.Outcome(done=1, failed=1, missing=0, interrupted=False)
    text = (TESTS / "tiny.py").read_text(encoding="utf-8")
    line = 1 + text[: text.index("raise RuntimeError")].count("\n")
    reason = f"RuntimeError: the tiny benchmark was told to fail (tiny.py, line {line})"
    assert ("failed", 0, reason) in watcher.heard
    # where that was in the user's own code, and nothing of the product's
    (frames,) = (event[1] for event in watcher.heard if event[0] == "message")
    assert f'tiny.py", line {line}, in _misbehave' in frames and frames.startswith("  File ")
    assert "trainables" not in frames.replace(str(ROOT), "") and "site-packages" not in frames
    assert frames.endswith("RuntimeError: the tiny benchmark was told to fail")
    assert ("done", 1, None) in watcher.heard
    held = runs(home)
    for seed in (None, "1", "4"):
        assert (held["0", seed].info.status, held["0", seed].data.tags[schema.REASON]) == ("FAILED", reason)
        assert held["1", seed].info.status == "FINISHED"
    assert held["0", None].data.tags[schema.TRACEBACK].rstrip() == frames
    assert held[None, None].info.status == "FAILED"
    assert snapshot(home) == [(0, "ERROR"), (1, "TERMINATED")]
    read = status.read(home, "s")
    assert [(trial.state, trial.reason) for trial in read.trials] == [("failed", reason), ("done", None)]
    assert read.count_replicas("failed") == 2

    # asked to, it goes on from its checkpoint, under its own number
    assert sweep.run(study, home).failed == 1
    assert sweep.run(study, home, retry_failed=True) == sweep.Outcome(2, 0, 0, False)
    assert snapshot(home) == [(0, "TERMINATED"), (1, "TERMINATED")]
    held = runs(home)
    assert {run.info.status for run in held.values()} == {"FINISHED"}
    assert not {schema.REASON, schema.TRACEBACK} & held["0", None].data.tags.keys()
    check_trajectories(home, study)
    assert status.read(home, "s").count("done") == 2


def test_a_trial_whose_process_dies_is_taken_up_again(home: Home) -> None:
    trouble = home.root / "trouble-once"
    trouble.write_text("4 die", encoding="utf-8")
    study = spec(benchmark={"name": "tiny:Tiny", "trouble": str(trouble)}, criteria=["ls"], max_failures=1)
    assert sweep.run(study, home, cadence=sweep.Cadence(checkpoint=0)).done == 1
    assert not trouble.exists()
    check_trajectories(home, study)
    assert snapshot(home) == [(0, "TERMINATED")]


@pytest.mark.thorough
def test_a_trial_whose_process_always_dies_is_given_up(home: Home) -> None:
    trouble = home.root / "trouble"
    trouble.write_text("2 die", encoding="utf-8")
    study = spec(benchmark={"name": "tiny:Tiny", "trouble": str(trouble)}, criteria=["ls"], max_failures=0)
    watcher = Watcher()
    assert sweep.run(study, home, watcher).failed == 1
    assert ("failed", 0, "the trial's process died: killed, or out of memory") in watcher.heard
    assert {run.info.status for run in runs(home).values()} == {"FAILED"}


@pytest.mark.thorough
def test_a_storage_that_takes_nothing_more_stops_the_study_and_no_trial_fails(home: Home) -> None:
    """As a full disk does; a folder in the place of the second trial's checkpoint cannot be replaced by a file."""
    study, watcher = spec(criteria=["ce", "ls", "fierce"]), Watcher()
    (obstacle := home.study("s") / "trials" / "1" / "checkpoint.pt").mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"trials/1/checkpoint\.pt cannot be written .*set that right and resume the study"
    ):
        sweep.run(study, home, watcher)
    assert [event[:2] for event in watcher.heard if event[0] in ("done", "failed", "interrupted")] == [
        ("done", 0),
        ("interrupted", 1),
    ]
    assert "RUNNING" not in {run.info.status for run in runs(home).values()}
    obstacle.rmdir()
    assert sweep.run(study, home) == sweep.Outcome(3, 0, 0, False)
    check_trajectories(home, study)
    assert snapshot(home) == [(number, "TERMINATED") for number in range(3)]


def test_a_lost_node_is_told_from_a_dead_process(tmp_path: Path) -> None:
    """By what Ray 2.60 raised when each was done to it; only the last is held against the trial."""

    def died(text: str) -> RayActorError:
        return RayActorError(error_msg=f"The actor died unexpectedly before finishing this task.\n\tpid: 142\n{text}")

    def because(error: Exception) -> tuple[str, str]:
        (file := tmp_path / "error").write_bytes(cloudpickle.dumps(error))
        return follower.reason_of(SimpleNamespace(pickled_error_file=file))

    away = "The actor is temporarily unavailable: RpcError: RPC error: Socket closed rpc_code: 14"
    assert because(ActorUnavailableError(away, None)) == ("its node does not answer", "node")
    cut = died(
        "The actor died because its node has died. Node Id: 949b15e90849\n"
        "\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats"
    )
    assert because(cut) == ("its node was lost", "node")
    # it lives on, on a node that was cut off
    assert because(PredecessorError("lock is held by another process"))[1] == "node"
    killed = died(
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
        "Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the "
        "process was killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the "
        "worker crashed. If the process was killed by the kernel OOM killer (verifiable by checking for OOM in dmesg "
        "of the OOMing node), consider enabling resource isolation to prevent node deaths by resource contention."
    )
    assert because(killed) == ("the trial's process died: killed, or out of memory", "error")


def test_data_that_cannot_be_used_is_one_sentence(home: Home) -> None:
    study = spec(benchmark={"name": "tiny:Tiny", "samples": 10}, criteria=["ce"], max_failures=0)
    watcher = Watcher()
    assert sweep.run(study, home, watcher).failed == 1
    assert ("failed", 0, "tiny data has 10 samples; 200 are needed") in watcher.heard


def test_asha_stops_trials_and_says_so(home: Home) -> None:
    """With two trials one after another and ranks at epoch 2, the worse of them goes no further."""
    searched = {
        "criteria": {"fierce": {"lambda": {"low": 0.01, "high": 10, "log": True}}},
        "trials": 4,
        "objective": {"metric": "loss/train", "direction": "minimize"},
        "pruner": {"name": "asha", "grace_period": 2, "reduction_factor": 2},
    }
    study, watcher = spec(criteria=[], search=searched), Watcher()
    assert sweep.run(study, home, watcher, cadence=sweep.Cadence(report=0)).done == 4
    stopped = [event for event in watcher.heard if event[0] == "stopped early"]
    assert stopped
    held = runs(home)
    for _, number, reason in stopped:
        assert held[str(number), None].info.status == "KILLED"
        assert held[str(number), None].data.tags[schema.REASON] == reason
        # no epoch before that is missing, though nobody goes on with the trial
        last = int(reason.split()[-1])
        history = MlflowClient(home.tracking_uri()).get_metric_history(held[str(number), "4"].info.run_id, "loss/train")
        assert sorted(entry.step for entry in history) == list(range(1, last + 1))
    loaded = trials.load_study(study, home)
    assert loaded is not None
    states = [trial.state.name for trial in loaded.trials]
    assert (states.count("PRUNED"), states.count("COMPLETE")) == (len(stopped), 4 - len(stopped))


def test_only_one_driver_at_a_time(home: Home) -> None:
    home.study("s").mkdir(parents=True)
    (home.study("s") / files.HOLDER).write_text(json.dumps({"pid": 17, "host": "there"}), encoding="utf-8")
    with FileLock(home.study("s") / files.LOCK), pytest.raises(UserError, match="is being run by process 17 on there"):
        sweep.run(spec(), home)


def test_snapshots_become_one(tmp_path: Path) -> None:
    """Two launches: 0 finished in the first, 1 was running in it, 2 failed, 3 is lost with a half-written file.

    Of 7's two shards one is there, of 8's both. 9 failed first and then finished, though its rows stand the other way.
    """

    def write(name: str, *rows: tuple[int, str], shard: tuple[int, int] = (0, 1)) -> Path:
        states = [[json.dumps({"config": {"number": n, "shard": shard}, "status": state}), "{}"] for n, state in rows]
        path = tmp_path / f"experiment_state-{name}.json"
        path.write_text(json.dumps({"trial_data": states, "runner_data": {"launch": name}}), encoding="utf-8")
        return path

    write("1", (0, "TERMINATED"), (1, "RUNNING"), (4, "ERROR"))
    write("2", (1, "TERMINATED"), (2, "ERROR"), (4, "TERMINATED"), (5, "TERMINATED"), (6, "PENDING"))
    write("3").write_text('{"trial_data": [["{', encoding="utf-8")
    write("4", (7, "TERMINATED"), (8, "TERMINATED"), shard=(0, 2))
    write("5", (8, "TERMINATED"), shard=(1, 2))
    folder, ended = Folder(str(tmp_path)), {0, 1, 2, 3, 4, 7, 8, 9}
    attempts = [(9, "TERMINATED", 20.0), (9, "ERROR", 10.0)]
    rows = [
        [json.dumps({"config": {"number": n}, "status": to}), json.dumps({"start_time": t})] for n, to, t in attempts
    ]
    (tmp_path / "experiment_state-6.json").write_text(
        json.dumps({"trial_data": rows, "runner_data": {}}), encoding="utf-8"
    )
    # nothing else of a trial is kept
    large = json.loads((tmp_path / "experiment_state-6.json").read_text(encoding="utf-8"))
    large["trial_data"][0][1] = json.dumps({"start_time": 20.0, "last_result": {"mean/loss": [0.5] * 1000}})
    (tmp_path / "experiment_state-6.json").write_text(json.dumps(large), encoding="utf-8")
    # 5 was interrupted: Tune ended it, but it is not finished
    assert snapshots.settle(folder, ended) == {0, 1, 2, 4, 8, 9}
    (path,) = tmp_path.glob("experiment_state-*.json")
    left = json.loads(path.read_text(encoding="utf-8"))
    kept = [(json.loads(row[0])["config"]["number"], json.loads(row[0])["status"]) for row in left["trial_data"]]
    settled = [(0, "TERMINATED"), (1, "TERMINATED"), (2, "ERROR"), (4, "TERMINATED")]
    assert kept == [*settled, (7, "TERMINATED"), *[(8, "TERMINATED")] * 2, (9, "TERMINATED")]
    assert all(len(json.dumps(row)) < 200 for row in left["trial_data"])
    assert snapshots.settle(folder, ended) == {0, 1, 2, 4, 8, 9}
    assert snapshots.settle(folder / "none", {0}) == set()


def test_what_tune_keeps_of_a_trial_that_has_ended_is_small() -> None:
    kept, metrics = _TrainingRunMetadata(), [f"metric/{place}" for place in range(50)]
    told = Result(9, 9, finished=True, means=dict.fromkeys(metrics, 0.1), values=dict.fromkeys(metrics, [0.1] * 10))
    for name in metrics:
        kept.update_metric(f"mean/{name}", 0.1)
    kept.last_result = {**told.to_tune(), "training_iteration": 1}
    assert len(kept.get_json_state()) > 30_000
    snapshots.lighten(SimpleNamespace(run_metadata=kept))
    assert len(kept.get_json_state()) < 700
    assert Result.from_tune(kept.last_result) == replace(told, means={}, values={})


@pytest.mark.thorough
def test_a_request_to_end_leaves_a_study_that_resumes(home: Home) -> None:
    """As Ctrl-C does: see the tests of the command."""
    study = spec(benchmark={"name": "tiny:Tiny", "pause": 0.2}, training={"epochs": 15}, criteria=["ls"])
    launch = Launch(home, study)
    try:
        launch.until(lambda: any((home.study("s") / "trials" / "0").rglob("lock")))
        os.kill(launch.program.pid, signal.SIGTERM)
        launch.program.ended(300)
    finally:
        launch.kill()
    assert "interrupted=True" in launch.said()
    assert "Traceback" not in launch.said()
    assert {run.info.status for run in runs(home).values()} <= {"KILLED"}
    assert snapshot(home) == []
    read = status.read(home, "s")
    assert (read.running, read.count("missing"), read.count_replicas("missing")) == (False, 1, 2)

    assert sweep.run(study, home) == sweep.Outcome(1, 0, 0, False)
    assert {run.info.status for run in runs(home).values()} == {"FINISHED"}
    check_trajectories(home, study)
    assert snapshot(home) == [(0, "TERMINATED")]


def test_an_unknown_study_has_no_status(home: Home) -> None:
    with pytest.raises(UserError, match="there is no study 'x'"):
        status.read(home, "x")


def test_a_trial_that_does_not_fit_is_refused_before_anything_starts(home: Home) -> None:
    """Otherwise it would be waited for without end."""
    from study.launch import cluster

    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 1.0}}]
    with pytest.raises(UserError, match=r"resources\.cpus: a trial asks for 64 CPUs, and this machine has 2; lower it"):
        cluster._check_fits(Resources(cpus=64), nodes, None)
    with pytest.raises(
        UserError, match=r"asks for 1 GPUs, and no node of the cluster at h:1 has more than 0; lower it"
    ):
        cluster._check_fits(Resources(cpus=2, gpus="auto"), nodes, "h:1")
    cluster._check_fits(Resources(cpus=2), nodes, None)


def test_a_study_in_shards_has_the_same_numbers(home: Home) -> None:
    """Three seeds in shards of one and two: every row is that of a training of all of them."""
    study = spec(seeds=[1, 4, 7], seeds_per_shard=2, concurrency="auto")
    watcher = Watcher()
    assert sweep.run(study, home, watcher) == sweep.Outcome(2, 0, 0, False)
    assert sorted(event for event in watcher.heard if event[0] in ("start", "done")) == [
        *[("done", number, None) for number in (0, 1)],
        *[("start", number, label, "baseline") for number, label in ((0, "ce"), (1, "ls σ=0.2"))],
    ]
    check_trajectories(home, study)
    held = runs(home)
    assert len(held) == 1 + 2 * 4
    assert {run.info.status for run in held.values()} == {"FINISHED"}
    assert held["0", None].data.tags[schema.SEEDS] == "1,4,7"
    assert held["0", None].data.tags[schema.DATA_NAME] == "tiny"
    client = MlflowClient(home.tracking_uri())
    artifacts = {file.path for file in client.list_artifacts(held["0", None].info.run_id)}
    assert artifacts == {
        *("weights-1-of-2.pt", "weights-2-of-2.pt"),
        *("trajectories-1-of-2.parquet", "trajectories-2-of-2.parquet"),
    }
    assert snapshot(home) == [(0, "TERMINATED"), (1, "TERMINATED")]
    assert sweep.run(study, home).done == 2


@pytest.mark.thorough
def test_a_shard_that_fails_ends_its_trial_once_and_not_the_study(home: Home, tmp_path: Path) -> None:
    """The other shard trains and reports on meanwhile, and the display must not mind."""
    (trouble := tmp_path / "trouble-once").write_text("2 raise", encoding="utf-8")
    benchmark = {"name": "tiny:Tiny", "trouble": str(trouble), "pause": 0.3}
    study = spec(benchmark=benchmark, criteria=["ce", "ls"], seeds_per_shard=1, max_failures=0, concurrency=2)
    console = Console(file=StringIO(), width=200)
    with StudyProgress(study, console) as progress:
        outcome = sweep.run(study, home, progress, cadence=sweep.Cadence(report=0))
    assert outcome == sweep.Outcome(done=1, failed=1, missing=0, interrupted=False)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert text.count(" failed: ") == 1 and text.count(" done: ") == 1


def test_another_study_of_that_name_in_the_same_mlflow_is_refused(home: Home, tmp_path: Path) -> None:
    tracked = {"tracking_uri": home.tracking_uri()}
    assert sweep.run(spec(criteria=["ce"], **tracked), home).done == 1
    elsewhere = Home(tmp_path / "elsewhere")
    other = spec(criteria=["ls"], **tracked)
    with pytest.raises(UserError, match=r"holds another study of that name.*another --name"):
        sweep.run(other, elsewhere)
    assert {run.data.tags.get(schema.CRITERION) for run in runs(home).values()} == {None, "ce"}
    # seen from there, the name is that of the study in MLflow, which is done
    state = status.read(elsewhere, "s")
    assert [(trial.label, trial.state) for trial in state.trials] == [("ce", "done")]
    assert not state.running


@pytest.mark.thorough
def test_a_study_in_an_object_store_is_resumed_from_another_machine(home: Home, tmp_path: Path, bucket: str) -> None:
    """Two homes share nothing but the store and the databases; the second goes on from the first one's checkpoint."""
    first, second = Home(tmp_path / "first"), Home(tmp_path / "second")
    (trouble := tmp_path / "trouble").write_text("4 die", encoding="utf-8")
    study = spec(
        benchmark={"name": "tiny:Tiny", "trouble": str(trouble)},
        criteria=["ls"],
        max_failures=0,
        storage=f"s3://{bucket}/prefix",
        tracking_uri=home.tracking_uri(),
        optuna_uri=home.optuna_uri(),
    )
    assert sweep.run(study, first, cadence=sweep.Cadence(checkpoint=0)).failed == 1
    kept = Folder(f"s3://{bucket}/prefix/s")
    assert {"study.yaml", "trials", "tune"} <= set(kept.names())
    assert [path.name for path in first.study("s").iterdir()] == ["study.yaml"]
    assert 3 in [len(records_in(folder)) for folder in places(kept / "trials" / "0")]
    trouble.unlink()
    assert sweep.run(study, second, retry_failed=True) == sweep.Outcome(1, 0, 0, False)
    check_trajectories(home, study)


def places(trial: Folder) -> list[Folder]:
    """Where the trial keeps its checkpoints: its own folder, or one for each shard."""
    return [trial / name for name in trial.names() if name.startswith("shard-")] or [trial]


def records_in(folder: Folder) -> list[dict[str, Any]]:
    with folder.reading("checkpoint.pt") as file:
        records: list[dict[str, Any]] = torch.load(file, weights_only=True)["records"]
    return records


@pytest.mark.thorough
def test_a_trial_out_of_memory_is_tried_again_with_a_larger_share(home: Home) -> None:
    trouble = home.root / "trouble-once"
    trouble.write_text("3 memory", encoding="utf-8")
    study = spec(benchmark={"name": "tiny:Tiny", "trouble": str(trouble)}, criteria=["ls"], seeds_per_shard=2)
    watcher = Watcher()
    assert sweep.run(study, home, watcher, cadence=sweep.Cadence(checkpoint=0)).done == 1
    text = "out of memory; tried again with 2 CPU in place of 1 CPU"
    assert ("message", f"trial 0: {text}") in watcher.heard
    tags = runs(home)["0", None].data.tags
    assert (tags[tracking.RETRIED], tags[facts.SHARE]) == (text, "2 cpus, 0 gpus")
    check_trajectories(home, study)
