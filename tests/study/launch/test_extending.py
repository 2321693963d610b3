"""A study that is given more: further seeds, criteria, grid values and trials, beside what it has trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial

from analysis import schema
from analysis.runs import Study
from study.errors import UserError
from study.file.plan import trial_for
from study.file.spec import StudySpec
from study.home import Home
from study.launch import continuing, sweep
from study.launch.moments import moments_of, pooled
from study.launch.observer import Silent
from study.record import changes, files, status, trials
from tests.in_process import without_ray
from trainables.training import Training

SEARCH = {
    "criteria": {"fierce": {"lambda": {"low": 0.01, "high": 10, "log": True}}},
    "trials": 2,
    "objective": {"label_free": True},
}


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "FIERCE_STORAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with without_ray():
        yield Home(tmp_path)


def spec(**changed: Any) -> StudySpec:
    values: dict[str, Any] = {"name": "s", "benchmark": "tiny:Tiny", "criteria": ["ce", "ls"], "seeds": [1, 4]}
    return StudySpec.model_validate(values | changed)


def runs(home: Home) -> dict[tuple[str | None, str | None], Run]:
    """(trial, seed) -> run; each must be there once."""
    client = MlflowClient(home.tracking_uri())
    found = client.search_runs([client.get_experiment_by_name("s").experiment_id], max_results=1000)
    keyed = {(run.data.tags.get(schema.TRIAL), run.data.tags.get(schema.SEED)): run for run in found}
    assert len(keyed) == len(found)
    return keyed


def rows(home: Home, run: Run) -> list[tuple[str, int, float, int]]:
    client = MlflowClient(home.tracking_uri())
    return sorted(
        (name, row.step, row.value, row.timestamp)
        for name in run.data.metrics
        for row in client.get_metric_history(run.info.run_id, name)
    )


def optunas(home: Home, study: StudySpec) -> list[FrozenTrial]:
    return optuna.load_study(study_name=study.name, storage=home.optuna_uri()).trials


def check_whole(home: Home, study: StudySpec) -> None:
    """Each replica's rows are those of an undisturbed training of all seeds; the trial's last ones are the means."""
    torch.set_num_threads(1)
    held = runs(home)
    numbers = {number for number, _ in held if number}
    assert len(held) == 1 + len(numbers) * (1 + len(study.seeds))
    for number in numbers:
        own = held[number, None]
        assert own.info.status == "FINISHED"
        values = {"lambda": float(own.data.params["lambda"])} if "lambda" in own.data.params else {}
        records = list(Training(trial_for(study, own.data.tags[schema.CRITERION], values)).run())
        for column, seed in enumerate(study.seeds):
            assert held[number, str(seed)].info.status == "FINISHED"
            found = [row[:3] for row in rows(home, held[number, str(seed)])]
            wanted = sorted((name, r.epoch, each[column]) for r in records for name, each in r.metrics.items())
            # other neighbours reassociate sums
            assert [row[:2] for row in found] == [row[:2] for row in wanted]
            np.testing.assert_allclose([row[2] for row in found], [row[2] for row in wanted], rtol=1e-3, atol=1e-4)
        for name, each in records[-1].metrics.items():
            np.testing.assert_allclose(own.data.metrics[name], np.mean(each), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_seeds_criteria_and_trials_are_added_to_what_is_there(home: Home) -> None:
    first = spec(search=SEARCH)
    assert sweep.run(first, home) == sweep.Outcome(done=4, failed=0, missing=0, interrupted=False)
    before, past = runs(home), optunas(home, first)
    trajectories = {key: rows(home, run) for key, run in before.items() if key[1]}

    more = spec(criteria=["ce", "ls", "confidence-penalty"], seeds=[1, 4, 6, 2], search={**SEARCH, "trials": 3})
    # killed before anything of it is trained, and looked at in between
    continuing.take_up(more, home.files("s"), home, Silent())
    files.keep_spec(more, home.files("s"))
    files.keep_at_home(more, home)
    waiting = status.read(home, "s")
    assert (waiting.count("done"), waiting.count("missing"), waiting.count_replicas("done")) == (0, 6, 8)

    assert sweep.run(more, home) == sweep.Outcome(done=6, failed=0, missing=0, interrupted=False)
    check_whole(home, more)
    after = runs(home)
    for key, run in before.items():
        assert after[key].info.run_id == run.info.run_id
    assert {key: rows(home, after[key]) for key in trajectories} == trajectories
    # seeds stand in the order in which they came
    numbers = sorted(int(number) for number, seed in after if number and not seed)
    # further seeds are four Optuna trials of their own, whose numbers no trial has
    assert numbers == [0, 1, 2, 3, 8, 9]
    assert {after[str(number), None].data.tags[schema.SEEDS] for number in numbers} == {"1,4,6,2"}
    kept = {file.path for file in MlflowClient(home.tracking_uri()).list_artifacts(after["0", None].info.run_id)}
    assert kept == {"weights.pt", "weights-added-1.pt", "trajectories.parquet", "trajectories-added-1.parquet"}
    assert [after[str(number), None].data.tags[schema.ROLE] for number in (8, 9)] == ["baseline", "search"]

    # Optuna's past is as it was; what was added is told beside it, over all seeds
    now = optunas(home, more)
    assert now[: len(past)] == past
    loaded = trials.load_study(more, home)
    assert loaded is not None
    frame = Study.open(home.tracking_uri(), "s").final
    for number, trial in trials.attempts(loaded).items():
        assert trial.state.name == "COMPLETE"
        for name, mean in trial.user_attrs[trials.MEANS].items():
            values = frame.loc[(frame["trial"] == number) & (frame["metric"] == name), "value"]
            assert mean == pytest.approx(values.mean(), rel=1e-9)
            error = trial.user_attrs[trials.STANDARD_ERRORS][name]
            assert error == pytest.approx(values.std() / 2, rel=1e-6, abs=1e-12)
    read = status.read(home, "s")
    assert (read.count("done"), read.count_replicas("done"), len(read.trials)) == (6, 24, 6)

    # and once more nothing is trained
    assert sweep.run(more, home).done == 6
    assert len(optunas(home, more)) == len(now)


@pytest.mark.slow
def test_seeds_without_runs_in_mlflow_are_added_and_read_as_those_with(home: Home, tmp_path: Path) -> None:
    """All that is read of a study is the same; a search chooses, confirms and is given more by it."""
    first = {"search": SEARCH, "seeds": [1]}
    other = Home(tmp_path / "with")
    for changed in ({}, {"seeds": [1, 4]}):
        without = spec(**first | changed, tracking={"seed_points": 0})
        for each, place in ((spec(**first | changed), other), (without, home)):
            assert sweep.run(each, place) == sweep.Outcome(done=4, failed=0, missing=0, interrupted=False)
    assert {key for key in runs(home) if key[1]} == set()
    read, wanted = (Study.open(each.tracking_uri(), "s") for each in (home, other))
    pd.testing.assert_frame_equal(read.frame, wanted.frame)
    pd.testing.assert_frame_equal(read.trials, wanted.trials)
    pd.testing.assert_frame_equal(read.final, wanted.final)
    for trial in wanted.trials["trial"]:
        for seed in (1, 4):
            np.testing.assert_equal(read.arrays(trial, seed), wanted.arrays(trial, seed))
    assert status.read(home, "s").trials == status.read(other, "s").trials


@pytest.mark.thorough
def test_seeds_twice_in_shards_under_ray(ray_here: None, tmp_path: Path) -> None:
    """Each addition in shards of its own; then a seed's run of the first ones is deleted, and sent again."""
    home = Home(tmp_path)
    for seeds in ([1], [1, 4], [1, 4, 6, 2, 3]):
        assert sweep.run(spec(criteria=["ce"], seeds=seeds, seeds_per_shard=2), home).done == 1
    check_whole(home, spec(criteria=["ce"], seeds=[1, 4, 6, 2, 3]))
    last = spec(criteria=["ce"], seeds=[1, 4, 6, 2, 3], seeds_per_shard=2)
    MlflowClient(home.tracking_uri()).delete_run(runs(home)["0", "4"].info.run_id)
    assert sweep.run(last, home).done == 1
    check_whole(home, last)


@pytest.mark.slow
def test_a_trial_that_waited_is_given_all_seeds_and_one_that_ran_goes_on_with_its_own(home: Home) -> None:
    few, many = spec(seeds=[1], concurrency=1), spec(seeds=[1, 4], concurrency=1)
    study = trials.open_study(few, home)
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    study.ask()
    trials.note_seeds(few, study)
    assert sweep.run(many, home).done == 2
    check_whole(home, many)
    held = [(trial.number, trial.user_attrs[trials.SEEDS]) for trial in optunas(home, many)]
    assert held == [(0, [1]), (1, [1, 4]), (2, [4])]


@pytest.mark.slow
def test_a_failure_among_added_seeds_keeps_the_others(home: Home) -> None:
    trouble = home.root / "trouble"
    troubled = {"name": "tiny:Tiny", "trouble": str(trouble)}
    few, many = (spec(benchmark=troubled, criteria=["ce"], seeds=seeds, max_failures=0) for seeds in ([1], [1, 4]))
    assert sweep.run(few, home).done == 1
    trouble.write_text("3 raise", encoding="utf-8")
    assert sweep.run(many, home) == sweep.Outcome(0, 1, 0, False)
    assert runs(home)["0", "1"].info.status == "FINISHED"
    trouble.unlink()
    assert sweep.run(many, home, retry_failed=True) == sweep.Outcome(1, 0, 0, False)
    check_whole(home, many.model_copy(update={"benchmark": spec().benchmark}))


def test_moments_are_pooled_as_if_all_seeds_were_one_trial() -> None:
    values = np.random.default_rng(0).normal(3, 2, 10)
    first, second = moments_of({"m": list(values[:3])}), moments_of({"m": list(values[3:])})
    means, errors = pooled(first, 3, second, 7)
    assert means["m"] == pytest.approx(values.mean())
    assert errors["m"] == pytest.approx(values.std(ddof=1) / np.sqrt(10))
    one = moments_of({"m": [float(values[0])]})
    means, errors = pooled(one, 1, moments_of({"m": list(values[1:])}), 9)
    assert errors["m"] == pytest.approx(values.std(ddof=1) / np.sqrt(10))
    assert np.isnan(pooled(({"m": None}, {"m": None}), 3, second, 7)[0]["m"])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"protocol": "paper"}, "protocol: released → paper"),
        ({"training": {"epochs": 8}}, "training.epochs: not given → 8"),
        ({"benchmark": {"name": "tiny:Tiny", "samples": 300}}, "benchmark.samples: not given → 300"),
        ({"seeds": [1]}, "seeds: 1, 4 → 1"),
        ({"criteria": ["ce"]}, "criteria: ls σ=0.2 → not planned"),
        ({"grid": {"fierce": {"lambda": [1, 3]}}}, "grid: fierce λ=2 e=10 → not planned"),
        ({"grid": None}, "grid: fierce λ=1 e=10 → not planned"),
        ({"evaluation": {"cadence": {"spread": 1}}}, "evaluation.cadence.spread: not given → 1"),
        ({"grid": None, "search": SEARCH}, "search: not given → {"),
    ],
)
def test_the_difference_is_what_is_refused(changed: dict[str, Any], told: str) -> None:
    grid = {"fierce": {"lambda": [1, 2]}}
    with pytest.raises(UserError) as refusal:
        changes.require_growth(spec(grid=grid), spec(**{"grid": grid, **changed}), None)
    sentence = str(refusal.value)
    assert told in sentence and "--name" in sentence and "--replace" in sentence
    assert sentence.count("→") == 1 + (changed.get("grid", 0) is None and "search" not in changed)


def test_what_may_be_given_is_not_refused() -> None:
    was = spec(grid={"fierce": {"lambda": [1, 2]}})
    now = spec(
        grid={"fierce": {"lambda": [3, 2, 1], "e": [10, 20]}, "confidence-penalty": {"beta": [0.1]}},
        seeds=[4, 9, 1],
        description="more",
        resources={"cpus": 2},
        max_failures=3,
        concurrency=1,
    )
    assert changes.refused(was, now) == []
    assert changes.refused(spec(search=SEARCH), spec(search={**SEARCH, "trials": 5, "confirm": 3})) == []
    wider = {**SEARCH, "criteria": {**SEARCH["criteria"], "confidence-penalty": {"beta": {"low": 0.1, "high": 0.4}}}}
    assert changes.refused(spec(search=SEARCH), spec(search=wider)) == []
    (narrowed,) = changes.refused(spec(search=wider), spec(search=SEARCH))
    assert narrowed.field == "search.criteria.confidence-penalty"
    (fewer,) = changes.refused(spec(search=SEARCH), spec(search={**SEARCH, "trials": 1}))
    assert str(fewer) == "search.trials: 2 → 1"


def test_a_choice_that_was_confirmed_is_not_made_again(tmp_path: Path) -> None:
    before = spec(search={**SEARCH, "confirm": 2})
    study = trials.open_study(before, Home(tmp_path))
    changes.require_growth(before, spec(search={**SEARCH, "trials": 9, "confirm": 3}), study)
    study.set_user_attr(trials.CHOSEN, {"fierce": 2})
    changes.require_growth(before, before, study)
    for changed in ({"seeds": [1, 4, 5]}, {"search": {**SEARCH, "confirm": 2, "trials": 9}}):
        with pytest.raises(UserError, match="its choice is being confirmed"):
            changes.require_growth(before, spec(**{"search": {**SEARCH, "confirm": 2}, **changed}), study)
