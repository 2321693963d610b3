"""Studies whose points are trained together, against the same studies trained one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import schema
from analysis.runs import Study
from study.file.plan import trial_for
from study.file.spec import StudySpec
from study.home import Home
from study.launch import sweep
from study.launch.search import StudySearcher
from study.record import status, tracking, trials
from tests.in_process import without_ray
from tests.launches import killed_and_resumed, runs_of
from tests.watching import Watcher
from trainables import kernel_choice, points_choice, trainable
from trainables.assignment import from_config
from trainables.trainable import CHECKPOINT
from trainables.training import Training

pytestmark = pytest.mark.slow

GRID = {"fierce": {"lambda": [0.1, 0.5, 2]}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "FIERCE_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FIERCE_CACHE", str(tmp_path / "cache"))
    with without_ray():
        yield Home(tmp_path)


def spec(**changes: Any) -> StudySpec:
    values = {"name": "s", "benchmark": "tiny:Tiny", "criteria": ["ce"], "grid": GRID, "seeds": [1, 4]}
    values |= {"points_per_trial": 3, "training": {"dtype": "float64"}}
    return StudySpec.model_validate(values | changes)


def rows(home: Home, name: str = "s") -> pd.DataFrame:
    """Every value of the study, by trial, seed, metric and epoch."""
    keys = ["trial", "seed", "metric", "epoch"]
    frame = Study.open(home.tracking_uri(), name).whole.frame
    return frame.set_index(keys)[["criterion", "value"]].sort_index()


def require_same(home: Home, first: str, second: str, rtol: float = 1e-9) -> None:
    ours, theirs = rows(home, first), rows(home, second)
    assert list(ours.index) == list(theirs.index) and list(ours["criterion"]) == list(theirs["criterion"])
    np.testing.assert_allclose(ours["value"].to_numpy(), theirs["value"].to_numpy(), rtol, atol=1e-12)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 1e-5)])
def test_a_grid_trained_together_is_the_grid_trained_one_by_one(home: Home, dtype: str, rtol: float) -> None:
    watcher, training = Watcher(), {"dtype": dtype}
    assert sweep.run(spec(training=training), home, watcher) == sweep.Outcome(4, 0, 0, False)
    alone = spec(name="alone", points_per_trial=1, training=training)
    assert sweep.run(alone, home) == sweep.Outcome(4, 0, 0, False)
    require_same(home, "s", "alone", rtol)

    # each is a trial of its own to everyone else
    assert watcher.heard[0] == ("planned", 4)
    assert [event[1] for event in watcher.heard if event[0] == "start"] == [0, 1, 2, 3]
    for number in range(4):
        assert ("epoch", number, 6, 6) in watcher.heard and ("done", number, None) in watcher.heard
    held, others = runs_of(home, spec()), runs_of(home, alone)
    assert held.keys() == others.keys() and {run.info.status for run in held.values()} == {"FINISHED"}
    same = ("fierce.trial", schema.SEEDS, schema.SPLIT, schema.ROLE, schema.CRITERION, "mlflow.runName")
    for key, run in held.items():
        assert run.data.params == others[key].data.params
        if key != (None, None):
            assert [run.data.tags.get(tag) for tag in same] == [others[key].data.tags.get(tag) for tag in same]
    assert schema.SPLIT in held["2", "4"].data.tags
    ours, theirs = (trials.load_study(study, home) for study in (spec(), alone))
    assert ours is not None and theirs is not None
    for trial, other in zip(ours.trials, theirs.trials, strict=True):
        assert (trial.number, trial.state, trial.params) == (other.number, other.state, other.params)
        assert trial.value == pytest.approx(other.value, rel=rtol)
    read = status.read(home, "s")
    assert (read.count("done"), read.count_replicas("done"), {trial.epoch for trial in read.trials}) == (4, 8, {6})
    # a launch of a study that is complete changes nothing, in whatever groups
    assert sweep.run(spec(training=training, points_per_trial=2), home).done == 4


def interrupted_after(epochs: int, patch: pytest.MonkeyPatch) -> None:
    """Every launch ends as by Ctrl-C once so many epochs are trained, of all trials together."""
    trained = 0
    train_epoch = Training._train_epoch

    def counted(training: Training, epoch: int) -> dict[str, torch.Tensor]:
        nonlocal trained
        trained += 1
        return train_epoch(training, epoch)

    patch.setattr(Training, "_train_epoch", counted)
    patch.setattr(trainable._Stop, "__call__", lambda stop: trained >= epochs)


@pytest.mark.parametrize("points", [1, 2, 3])
def test_what_was_interrupted_goes_on_in_other_groups(home: Home, points: int) -> None:
    study, watcher = spec(criteria=[]), Watcher()
    with pytest.MonkeyPatch.context() as patch:
        interrupted_after(2, patch)
        assert sweep.run(study, home, watcher).missing == 3
    assert [event for event in watcher.heard if event[0] == "interrupted"] == [
        ("interrupted", number, None) for number in range(3)
    ]
    for number in range(3):
        saved = torch.load(home.study("s") / "trials" / str(number) / CHECKPOINT, weights_only=True)
        assert (saved["state"]["epoch"], len(saved["records"])) == (2, 2)
    if points == 3:
        # one is ahead of the others, as a kill between two checkpoints leaves it
        with pytest.MonkeyPatch.context() as patch:
            interrupted_after(1, patch)
            sweep.run(spec(criteria=[], points_per_trial=1), home)
    assert sweep.run(spec(criteria=[], points_per_trial=points), home) == sweep.Outcome(3, 0, 0, False)
    assert sweep.run(spec(criteria=[], name="alone", points_per_trial=1), home).done == 3
    require_same(home, "s", "alone")


def test_a_point_without_a_finite_metric_fails_alone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second λ's loss is not finite in the end, where the study requires it."""
    run = Training.run

    def spoiled(training: Training) -> Iterator[Any]:
        for record in run(training):
            strengths = torch.as_tensor(training.hyperparameters["lambda"]).expand(len(training.trial.seeds)).tolist()
            losses = record.metrics["loss/train"]
            record.metrics["loss/train"] = [
                float("nan") if strength == 0.5 else loss for strength, loss in zip(strengths, losses, strict=True)
            ]
            yield record

    monkeypatch.setattr(Training, "run", spoiled)
    monkeypatch.setattr("tests.in_process.required_metrics", lambda spec: ("loss/train",))
    watcher, study = Watcher(), spec(criteria=[])
    assert sweep.run(study, home, watcher) == sweep.Outcome(done=2, failed=1, missing=0, interrupted=False)
    reason = "loss/train is not finite at the last epoch for seeds 1, 4"
    ends = [event for event in watcher.heard if event[0] in ("done", "failed")]
    assert sorted(ends, key=lambda event: event[1]) == [("done", 0, None), ("failed", 1, reason), ("done", 2, None)]
    held = runs_of(home, study)
    assert [held[str(number), None].info.status for number in range(3)] == ["FINISHED", "FAILED", "FINISHED"]
    assert held["1", None].data.tags[schema.REASON] == reason
    # once the metric is there, it goes on from where it stood
    monkeypatch.setattr(Training, "run", run)
    assert sweep.run(study, home).failed == 1


def test_an_error_is_found_by_training_each_point_by_itself(home: Home, tmp_path: Path) -> None:
    """One error at epoch 4, of whichever point: each goes on from the group's last epoch, by itself."""
    (trouble := tmp_path / "trouble-once").write_text("4 raise", encoding="utf-8")
    study = spec(criteria=[], benchmark={"name": "tiny:Tiny", "trouble": str(trouble)}, max_failures=0)
    watcher = Watcher()
    assert sweep.run(study, home, watcher, cadence=sweep.Cadence(checkpoint=0)) == sweep.Outcome(3, 0, 0, False)
    told = [event[1] for event in watcher.heard if event[0] == "message" and "tried again" in event[1]]
    assert len(told) == 3 and all(text.endswith("tried again by itself") for text in told)
    held = runs_of(home, study)
    assert held["1", None].data.tags[tracking.RETRIED] == told[1].partition(": ")[2]
    assert sweep.run(spec(criteria=[], name="alone", points_per_trial=1), home).done == 3
    require_same(home, "s", "alone")


def test_out_of_memory_splits_the_group(home: Home, tmp_path: Path) -> None:
    (trouble := tmp_path / "trouble-once").write_text("3 memory", encoding="utf-8")
    study = spec(criteria=[], benchmark={"name": "tiny:Tiny", "trouble": str(trouble)})
    watcher = Watcher()
    assert sweep.run(study, home, watcher, cadence=sweep.Cadence(checkpoint=0)).done == 3
    told = [event[1] for event in watcher.heard if event[0] == "message"]
    assert told == [f"trial {number}: out of memory; tried again in a group of 2 at most" for number in range(3)]
    assert sweep.run(spec(criteria=[], name="alone", points_per_trial=1), home).done == 3
    require_same(home, "s", "alone")


@pytest.mark.thorough
@pytest.mark.ray
def test_a_group_survives_the_kill_of_its_driver(tmp_path: Path) -> None:
    """By ``kill -9`` while three λ are under way; every value is there once, and that of a training alone."""
    study = spec(
        benchmark={"name": "tiny:Tiny", "pause": 0.1},
        criteria=[],
        seeds_per_shard=2,
        training={"dtype": "float64", "epochs": 10},
    )
    home = Home(tmp_path)
    with killed_and_resumed(home, study, epochs=9) as said:
        assert "done=3" in said and "failed=0" in said
    frame = Study.open(home.tracking_uri(), "s").whole.frame
    torch.set_num_threads(1)
    for number, strength in enumerate(GRID["fierce"]["lambda"]):
        alone = list(Training(trial_for(study, "fierce", {"lambda": strength})).run())
        wanted = {
            (seed, name, record.epoch): values[column]
            for record in alone
            for name, values in record.metrics.items()
            for column, seed in enumerate(study.seeds)
        }
        own = frame[frame["trial"] == number]
        keys = list(zip(own["seed"], own["metric"], own["epoch"], strict=True))
        assert sorted(keys) == sorted(wanted)
        np.testing.assert_allclose(own["value"], [wanted[key] for key in keys], 1e-9, atol=1e-12)


def test_how_many_go_together_is_found_by_the_first_trial(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(points_choice, "measured", lambda training: {1: 1.0, 2: 1.0, 4: 1.9})
    monkeypatch.setattr(kernel_choice, "FEW_STEPS", 1)
    suggest = StudySearcher.suggest

    def noted(searcher: StudySearcher, trial_id: str) -> Any:
        config = suggest(searcher, trial_id)
        if isinstance(config, dict):
            given.append(len(from_config(config)))
        return config

    monkeypatch.setattr(StudySearcher, "suggest", noted)
    study = spec(grid={"fierce": {"lambda": [0.1, 0.5, 2, 3, 4]}}, points_per_trial="auto")
    assert sweep.run(study, home) == sweep.Outcome(6, 0, 0, False)
    # cross-entropy, and the first λ, which finds out that two are worth it
    assert given == [1, 1, 2, 2]
    assert sweep.run(spec(grid=study.grid, name="alone", points_per_trial=1), home).done == 6
    require_same(home, "s", "alone")


def test_networks_that_go_seed_by_seed_are_trained_one_after_another(home: Home) -> None:
    study, watcher = spec(criteria=[], benchmark="own_rings:Rings"), Watcher()
    assert sweep.run(study, home, watcher) == sweep.Outcome(3, 0, 0, False)
    assert [event for event in watcher.heard if event[0] in ("message", "failed")] == []
    assert sweep.run(spec(criteria=[], benchmark="own_rings:Rings", name="alone", points_per_trial=1), home).done == 3
    require_same(home, "s", "alone", rtol=0)


def test_a_search_whose_proposals_are_trained_together(home: Home) -> None:
    searched = {
        "criteria": {"fierce": {"lambda": {"low": 0.01, "high": 10, "log": True}}},
        "trials": 5,
        "objective": {"metric": "accuracy/validation", "direction": "maximize"},
        "confirm": 2,
    }
    study = spec(grid=None, search=searched)
    # cross-entropy, five proposals, and both once more on fresh seeds
    assert sweep.run(study, home) == sweep.Outcome(8, 0, 0, False)
    loaded = trials.load_study(study, home)
    assert loaded is not None
    torch.set_num_threads(1)
    for trial in loaded.trials:
        if trial.user_attrs["role"] != "search":
            continue
        again = trials.trial_for(study, "fierce", trial.user_attrs["hyperparameters"])
        last = list(Training(again).run())[-1]
        assert study.search is not None
        assert trial.value == pytest.approx(np.mean(last.metrics[study.search.objective.metric]), rel=1e-9)
        assert trial.user_attrs["hyperparameters"]["lambda"] == trial.params["lambda"]
    assert len({trial.params["lambda"] for trial in loaded.trials if trial.user_attrs["role"] == "search"}) == 5
