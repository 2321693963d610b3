"""What a study is said to take, against what its own trainings and its plan are."""

from __future__ import annotations

from typing import Any

import pytest

from study.errors import UserError
from study.file.spec import StudySpec
from study.launch import cost
from study.launch.footprint import Footprint
from study.launch.placement import Capacity
from trainables import timing
from trainables.training import Training
from trainables.trial import Trial

PAUSE = 0.05


def spec(**changes: Any) -> StudySpec:
    values = {"name": "s", "benchmark": "tests.tiny:Tiny", "seeds": 4, "criteria": ["ce", "ls"]}
    return StudySpec.model_validate(values | changes)


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(timing, "EVALUATION_SECONDS", 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["ce", "fierce"])
def test_as_many_values_are_counted_as_a_training_gives(criterion: str) -> None:
    trial = Trial("tests.tiny:Tiny", criterion, (0, 1), options={"pause": PAUSE})
    told = timing.measure(trial)
    records = list(Training(trial).run())
    assert told.evaluations.values == sum(len(values) for record in records for values in record.metrics.values())
    # each of six epochs waits in one of its evaluators
    assert told.evaluations.seconds >= 6 * PAUSE and told.evaluations.last >= PAUSE
    assert told.epochs > 0 and told.memory > 50e6


def test_known_evaluations_are_not_timed_again() -> None:
    known = timing.Evaluations(1000.0, 10.0, 7)
    assert timing.measure(Trial("tests.tiny:Tiny", "ls", (0, 1)), known=known).seconds > 1000


def test_kinds_are_all_trials_of_the_plan() -> None:
    grid = spec(grid={"fierce": {"lambda": [0.1, 1], "e": [10, 20]}}, seeds_per_shard=2)
    kinds = cost.kinds_of(grid, Capacity(2, 0, 2))
    # six trials in two shards each; those of one criterion and e are of a kind
    assert sorted(kind.count for kind in kinds) == [2, 2, 4, 4] and {len(kind.trial.seeds) for kind in kinds} == {2}
    search = spec(
        search={
            "criteria": {"fierce": {"lambda": {"low": 0.1, "high": 1}}},
            "trials": 5,
            "confirm": 3,
            "objective": {"metric": "accuracy/validation", "direction": "maximize"},
        }
    )
    counted = {
        (kind.trial.criterion, len(kind.trial.seeds)): kind.count for kind in cost.kinds_of(search, Capacity(2, 0, 2))
    }
    assert counted == {("ce", 4): 1, ("ls", 4): 1, ("fierce", 4): 5, ("ce", 3): 1, ("ls", 3): 1, ("fierce", 3): 1}
    assert cost.replicas(search) == 7 * 4 + 3 * 3


def test_trials_take_the_slot_that_is_free_first() -> None:
    assert cost.makespan([3, 1, 1, 2], 1) == 7
    assert cost.makespan([3, 1, 1, 2], 2) == 4


def test_money_is_of_the_gpus_at_work() -> None:
    told = cost.Cost(7200, 10000, 4, 30 * 10**9, 2 * 10**9, 2.0, (), price=2.5)
    assert told.gpu_hours == pytest.approx(4) and told.money == pytest.approx(10)
    assert "about 2.0 h, 4 trials at once, 30.0 GB of GPU memory" in str(told) and "= 10.00 at 2.5 a GPU hour" in str(
        told
    )
    assert cost.Cost(7200, 10000, 4, 10, 10, 0.0, (), price=2.5).money is None


def kind(criterion: str, count: int, seconds: float, seeds: tuple[int, ...] = (0,), points: int = 1) -> cost.Kind:
    return cost.Kind(Trial("hyperspectral", criterion, seeds), count, points, fixed=seconds + 5, setup=5)


def test_a_criterions_weight_is_its_time_against_the_mean() -> None:
    kinds = [kind("ce", 2, 2.0), kind("mylab.losses:Focal", 1, 4.0), kind("mylab.losses:Focal", 1, 8.0)]
    # a mean of (2 + 2 + 4 + 8) / 4 = 4 s, what is before the first epoch apart
    assert cost.Cost(10, 16, 1, 0, 0, 0.0, kinds).weights == {"ce": 0.5, "Focal": 1.5}


@pytest.mark.parametrize("other", [kind("fierce", 1, 8.0, (0, 1, 2)), kind("fierce", 2, 8.0, points=4)])
def test_no_weights_where_the_criterion_does_not_tell_a_trials_time(other: cost.Kind) -> None:
    assert cost.Cost(10, 16, 1, 0, 0, 0.0, [kind("ce", 2, 2.0), other]).weights == {}


def test_points_that_go_together_are_said() -> None:
    grid = spec(grid={"fierce": {"lambda": [0.1, 0.3, 1, 3], "e": [10]}}, points_per_trial=4)
    counted = {(each.trial.criterion, each.points): each.count for each in cost.kinds_of(grid, Capacity(2, 0, 2))}
    assert counted == {("ce", 1): 1, ("ls", 1): 1, ("fierce", 4): 1}


@pytest.mark.parametrize(("operations", "is_timed"), [(250_000, False), (500_000, True)])
def test_a_costly_network_is_timed_however_few_its_samples(operations: int, is_timed: bool) -> None:
    study = spec(training={"epochs": 100})
    # 2,000 samples in 100 epochs of two criteria's four seeds, just over half of what is timed
    foot = Footprint(1, 1, 2, samples=2000, operations=operations)
    if not is_timed:
        assert cost.predict(study, foot=foot) is None
        return
    with pytest.raises(UserError, match="not known within a minute"):
        cost.predict(study, foot=foot, limit=0.0)


@pytest.mark.slow
def test_a_study_is_timed_in_a_process_of_its_own() -> None:
    told = cost.predict(spec(benchmark={"name": "tests.tiny:Tiny", "pause": PAUSE}, resources={"cpus": 1}), small=0)
    assert told is not None and len(told.kinds) == 2
    assert told.busy >= 2 * 6 * PAUSE and told.seconds > told.busy / told.slots
    assert told.memory > told.slots * 50e6 and told.gpus == 0


def test_a_study_of_moments_is_not_timed_and_a_cluster_not_guessed() -> None:
    assert cost.predict(spec()) is None
    assert cost.predict(spec(), "ray://elsewhere:10001", small=0) is None


@pytest.mark.slow
def test_a_trial_that_fails_is_said_in_a_sentence() -> None:
    own = spec(benchmark={"name": "tests.tiny:Tiny", "samples": 200, "trouble": __file__})
    with pytest.raises(UserError, match="cannot be timed"):
        cost.predict(own, small=0)


@pytest.mark.slow
def test_a_studys_start_does_not_wait_for_its_cost_for_ever() -> None:
    own = spec(benchmark={"name": "tests.tiny:Tiny", "pause": 30.0})
    with pytest.raises(UserError, match="not known within a minute"):
        cost.predict(own, small=0, limit=0.1)
