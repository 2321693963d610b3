"""Points that are given to Tune together: who is in a group and what becomes of it, on a database, without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from pydantic import ValidationError

from study.file.plan import fixed_points
from study.file.spec import StudySpec
from study.home import Home
from study.launch import cost, groups, placement, preflight
from study.launch.placement import Capacity, Share
from study.launch.search import StudySearcher
from study.record import trials
from study.service import tables
from trainables import points
from trainables.assignment import Assignment, from_config
from trainables.trial import Trial

GRID = {"fierce": {"lambda": [0.1, 0.5, 1, 2, 0], "e": [5, 10]}}
SEARCH = {
    "criteria": {"fierce": {"lambda": {"low": 0.01, "high": 10, "log": True}}},
    "trials": 5,
    "objective": {"metric": "mse/odd", "direction": "minimize"},
}


def spec(**changes: Any) -> StudySpec:
    values = {"name": "s", "benchmark": "tiny:Tiny", "criteria": ["ce"], "seeds": 2, "concurrency": 1}
    return StudySpec.model_validate(values | {"points_per_trial": 3} | changes)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def searcher(study: StudySpec, home: Home, settled: Iterator[int] | tuple[int, ...] = (), **of: Any) -> StudySearcher:
    capacity = Capacity(**{"cpus": 8, "gpus": 0, "largest_node": 8} | of)
    return StudySearcher(study, trials.open_study(study, home), lambda: capacity, set(settled))


def numbers(config: dict[str, Any]) -> list[int]:
    return [given.number for given in from_config(config)]


def told(given: Assignment, **changes: Any) -> dict[str, Any]:
    """What a point tells in the end."""
    distance = abs(given.trial.hyperparameters.get("lambda", 3) - 1)
    values = {"mse/odd": [distance] * len(given.trial.seeds), "accuracy/coarse": [0.9] * len(given.trial.seeds)}
    return {"finished": True, "epoch": 6, **{f"values/{name}": each for name, each in values.items()}} | changes


def end(
    one: StudySearcher, name: str, config: dict[str, Any], changed: dict[int, dict[str, Any]] | None = None
) -> None:
    """All points of a Tune trial finish, but for what is ``changed`` of some."""
    each = [told(given, **(changed or {}).get(given.number, {})) for given in from_config(config)]
    one.on_trial_complete(name, each[0] if len(each) == 1 else {"points": each})


def drain(one: StudySearcher, start: int = 0, limit: int = 99) -> list[dict[str, Any]]:
    configs = []
    while len(configs) < limit and (config := one.suggest(f"t{start + len(configs)}")) != one.FINISHED:
        configs.append(config)
        end(one, f"t{start + len(configs) - 1}", config)
    return configs


def states(one: StudySearcher) -> list[TrialState]:
    return [trial.state for trial in one.study.get_trials(deepcopy=False)]


def test_trials_of_one_company_are_those_that_nothing_keeps_apart() -> None:
    def trial(criterion: str, seeds: tuple[int, ...] = (3, 1), **values: float) -> Trial:
        return Trial("tests.tiny:Tiny", criterion, seeds, hyperparameters=values)

    several = [
        *(trial("fierce", **{"lambda": value}) for value in (0.1, 1, 2, 0)),
        *(trial("fierce", e=e, **{"lambda": value}) for value in (0.1, 0.2) for e in (10, 5)),
        *(trial("vcreg", variance=a, covariance=b) for a, b in ((0, 1), (0, 2), (1, 1), (2, 2))),
        *(trial("ls", sigma=value) for value in (0.1, 0.2)),
        *(trial("distillation", weight=value) for value in (0.1, 0.2)),
        trial("fierce", (3, 2)),
    ]
    joined = 0
    for first, second in combinations(several, 2):
        assert (points.company(first) == points.company(second)) == (points.apart([first, second]) is None)
        joined += points.company(first) == points.company(second)
    assert joined > 10


@pytest.mark.slow
def test_a_grid_is_given_in_groups_of_points_that_differ_in_numbers_alone(home: Home) -> None:
    """λ varies slowest, so that each group's points lie apart in the grid; λ = 0 measures something else."""
    one = searcher(spec(grid=GRID), home)
    configs = drain(one)
    # ce; e = 5 and e = 10 with three λ, then what is left of both; λ = 0
    assert [numbers(config) for config in configs] == [[0], [1, 3, 5], [2, 4, 6], [7], [8], [9], [10]]
    assert states(one) == [TrialState.COMPLETE] * 11
    alone = drain(searcher(spec(grid=GRID, name="alone", points_per_trial=1), home))
    own = {given.number: given for config in alone for given in from_config(config)}
    assert {given.number: given for config in configs for given in from_config(config)} == own
    for trial in one.study.trials:
        given = own[trial.number]
        assert trial.user_attrs["means"]["mse/odd"] == abs(given.trial.hyperparameters.get("lambda", 3) - 1)
    # a group of one is given as before there were any
    assert [len(from_config(config)) for config in alone] == [1] * 11 and alone[1]["number"] == 1


def test_groups_are_counted_as_they_are_given(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    study = spec(grid=GRID)
    together = groups.of_trials([point.trial for point in fixed_points(study)], 3)
    assert [len(group) for group in together] == [len(from_config(config)) for config in drain(searcher(study, home))]
    # seven Tune trials in place of eleven leave room for two shards of each
    wide = spec(grid=GRID, concurrency="auto")
    assert placement.shards(wide, Capacity(14, 0, 14)) == 2
    assert placement.shards(spec(grid=GRID, concurrency="auto", points_per_trial=1), Capacity(14, 0, 14)) == 1
    kinds = cost.kinds_of(study, Capacity(1, 0, 1))
    sizes = sorted((kind.trial.criterion, len(kind.trial.seeds), kind.count) for kind in kinds)
    # by e, ten anchors are the benchmark's own
    assert sizes == [("ce", 2, 1), *[("fierce", 2, 2)] * 2, *[("fierce", 6, 1)] * 2]
    tables.print_plan(study, home)
    assert "together: up to 3 trials, so that they are 7 programs" in capsys.readouterr().out
    searched = cost.kinds_of(spec(search=SEARCH), Capacity(1, 0, 1))
    assert sorted((len(kind.trial.seeds), kind.count) for kind in searched) == [(2, 1), (4, 1), (6, 1)]


@pytest.mark.parametrize("killed", ["asked", "told", "drawn"])
def test_a_search_draws_several_proposals_each_a_trial_of_its_own(home: Home, killed: str) -> None:
    undisturbed = drain(searcher(spec(search=SEARCH, name="whole"), home))
    assert [numbers(config) for config in undisturbed] == [[0], [1, 2, 3], [4, 5]]
    strengths = [given.trial.hyperparameters["lambda"] for config in undisturbed[1:] for given in from_config(config)]
    assert len(set(strengths)) == 5
    # killed in the midst of the second group
    study = spec(search=SEARCH)
    first = searcher(study, home)
    done = drain(first, limit=1)
    if killed == "drawn":
        first._draw("fierce", "t1")
        first._draw("fierce", "t1")
    else:
        config = first.suggest("t1")
        if killed == "told":
            end(first, "t1", config)
    second = searcher(study, home, (0,))
    assert done + drain(second, start=50) == undisturbed
    assert states(second) == [TrialState.COMPLETE] * 6
    # proposals that differ in e are drawn one by one
    assert not groups.proposed(spec(search={**SEARCH, "criteria": {"fierce": {"e": {"low": 5, "high": 9}}}}), "fierce")


@pytest.mark.slow
def test_points_of_several_criteria_take_turns(home: Home) -> None:
    criteria = {"fierce": SEARCH["criteria"]["fierce"], "ls": {"sigma": {"low": 0.01, "high": 0.5}}}
    one = searcher(spec(criteria=["ce"], search={**SEARCH, "criteria": criteria, "trials": 4}), home)
    configs = drain(one)
    kinds = [(config_of[0].trial.criterion, len(config_of)) for config_of in map(from_config, configs)]
    assert kinds == [("ce", 1), ("fierce", 3), ("ls", 3), ("fierce", 1), ("ls", 1)]


def test_a_resume_groups_what_was_left_open_in_its_own_way(home: Home) -> None:
    study = spec(grid=GRID, points_per_trial=2)
    first = searcher(study, home)
    drain(first, limit=1)
    assert numbers(first.suggest("killed")) == [1, 3]
    later = drain(searcher(spec(grid=GRID), home, (0,)), start=10)
    assert [numbers(config) for config in later][:2] == [[1, 3, 5], [2, 4, 6]]
    assert sorted(number for config in later for number in numbers(config)) == list(range(1, 11))


def test_a_point_that_cannot_count_fails_alone(home: Home) -> None:
    one = searcher(spec(grid={"fierce": {"lambda": [0.1, 0.5, 1]}}, criteria=[]), home)
    config = one.suggest("a")
    end(one, "a", config, {1: {"finished": False, "failure": "mse/odd is not finite"}})
    assert states(one) == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.COMPLETE]
    refused = one.refuse("a", 1, "mse/odd is not finite")
    assert refused is not None and refused.number == 1
    assert one.study.trials[1].state == TrialState.FAIL
    assert one.study.trials[1].user_attrs["reason"] == "mse/odd is not finite"
    assert one.suggest("b") == one.FINISHED
    assert one.refuse("a", 1, "again") is None and one.fail("a", "again") == []


@pytest.mark.parametrize("cause", ["error", "refusal"])
def test_an_error_is_tried_again_by_each_point_alone_and_counts_for_none(home: Home, cause: Any) -> None:
    one = searcher(spec(grid={"fierce": {"lambda": [0.1, 0.5, 1]}}, criteria=[], max_failures=0), home)
    one.suggest("a")
    noted = one.fail("a", "it broke", cause)
    assert [(piece.number, following is not None and following.most) for piece, following in noted] == [
        (number, 1) for number in range(3)
    ]
    config = one.suggest("b")
    assert numbers(config) == [0]
    ((_, following),) = one.fail("b", "it broke", cause)
    assert following is None and one.study.trials[0].state == TrialState.FAIL
    assert [numbers(config) for config in drain(one, start=5)] == [[1], [2]]
    assert states(one) == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]


def test_a_group_out_of_memory_is_split_before_a_larger_share_is_asked_for(home: Home) -> None:
    grid = {"fierce": {"lambda": [0.1, 0.5, 1, 2, 3, 4, 5]}}
    study = spec(grid=grid, criteria=[], points_per_trial=5, resources={"gpus": 0.5}, max_failures=0)
    one = searcher(study, home, gpus=1)
    config = one.suggest("a")
    assert numbers(config) == [0, 1, 2, 3, 4]
    # the first was through already
    memory = {number: {"finished": False, "out_of_memory": True} for number in range(1, 5)}
    end(one, "a", config, memory)
    noted = one.fail("a", "out of memory", "memory")
    assert [(piece.number, following and following.most) for piece, following in noted] == [(n, 2) for n in range(1, 5)]
    config = one.suggest("b")
    assert numbers(config) == [1, 2] and from_config(config)[0].share == Share(1, 0.5)
    end(one, "b", config, memory)
    one.fail("b", "out of memory", "memory")
    config = one.suggest("c")
    assert numbers(config) == [1]
    end(one, "c", config, memory)
    ((_, following),) = one.fail("c", "out of memory", "memory")
    assert following is not None and following.share == Share(1, 1.0)
    # what comes later is not tried in groups that were too large
    assert [numbers(config) for config in drain(one, start=5)] == [[1], [2], [3], [4], [5], [6]]
    assert states(one) == [TrialState.COMPLETE] * 7


def test_a_lost_node_is_the_fault_of_none_and_the_group_stays(home: Home) -> None:
    one = searcher(spec(grid={"fierce": {"lambda": [0.1, 0.5, 1, 2]}}, criteria=[]), home)
    config = one.suggest("a")
    one.fail("a", "its node was lost", "node")
    assert one.suggest("b") == config


def test_shards_of_the_same_seeds_are_a_group(home: Home) -> None:
    study = spec(grid={"fierce": {"lambda": [0.1, 0.5, 1]}}, criteria=[], seeds=[3, 1, 4], seeds_per_shard=2)
    one = searcher(study, home)
    configs = drain(one)
    given = [[(each.number, each.shard.position, each.trial.seeds) for each in from_config(c)] for c in configs]
    assert given == [[(number, place, seeds) for number in range(3)] for place, seeds in ((0, (3, 1)), (1, (4,)))]
    assert states(one) == [TrialState.COMPLETE] * 3


def test_memory_is_that_of_a_point(home: Home) -> None:
    grid = {"fierce": {"lambda": [0.1, 0.5, 1, 2, 3]}}
    study = spec(grid=grid, criteria=[], points_per_trial=2, resources={"gpus": "auto"}, concurrency="auto")
    one = searcher(study, home, gpus=1)
    config = one.suggest("a")
    assert from_config(config)[0].share == Share(1, 1.0)
    one.on_trial_result("a", {"points": [{"memory": 0.3, "epoch": 1}] * 2})
    # three tenths and their margin fit three times
    assert [given.share for given in from_config(one.suggest("b"))] == [Share(1, pytest.approx(1 / 3))] * 2
    assert one.suggest("c")["gpus"] == pytest.approx(1 / 6)


def test_the_first_trial_of_a_criterion_finds_out_how_many_go_together(home: Home) -> None:
    grid = {"fierce": {"lambda": [0.1, 0.5, 1, 2, 3, 4, 5, 6]}, "ls": {"sigma": [0.1, 0.2]}}
    study = spec(grid=grid, points_per_trial="auto", concurrency="auto")
    one = searcher(study, home, cpus=2)
    first = {name: one.suggest(name) for name in "abc"}
    # cross-entropy takes nothing by replica; the others of fierce wait, and ls behind them
    assert [numbers(first[name]) for name in "ab"] == [[0], [1]] and first["c"] is None
    one.on_trial_result("b", {"number": 1, "points_worth": 8})
    # eight go together, but two cores are not to idle
    assert [numbers(one.suggest(name)) for name in "de"] == [[2, 3, 4, 5], [6, 7]]
    # what is known by now holds for later launches
    end(one, "a", first["a"])
    later = searcher(study, home, (0,), cpus=1)
    assert numbers(later.suggest("a")) == list(range(1, 9))
    assert numbers(later.suggest("b")) == [9]
    assert later.suggest("c") is None


def test_auto_lets_a_sampler_that_learns_draw_one_by_one(home: Home) -> None:
    for sampler, sizes in (("tpe", [1, 1, 1, 1, 1, 1]), ("random", [1, 1, 4])):
        study = spec(search={**SEARCH, "sampler": sampler}, points_per_trial="auto", name=sampler)
        one = searcher(study, home)
        configs = [one.suggest("a")]
        end(one, "a", configs[0])
        configs.append(one.suggest("b"))
        one.on_trial_result("b", {"points_worth": 4})
        end(one, "b", configs[1])
        configs += drain(one, start=10)
        assert [len(from_config(config)) for config in configs] == sizes
    with_pruner = {**SEARCH, "pruner": {"name": "asha", "grace_period": 2}}
    assert groups.is_found(spec(points_per_trial="auto", search=SEARCH))
    assert not groups.is_found(spec(points_per_trial="auto", search=with_pruner))


def test_networks_that_go_seed_by_seed_gain_nothing_together() -> None:
    mine = {"name": "own_rings:Rings"}
    assert "points_per_trial: the network of own_rings:Rings takes one seed after another" in preflight.check_data(
        spec(benchmark=mine)
    )
    assert "points_per_trial" not in preflight.check_data(spec(benchmark=mine, points_per_trial="auto"))
    assert "points_per_trial" not in preflight.check_data(spec())


def test_a_pruner_stops_trials_one_by_one() -> None:
    with pytest.raises(ValidationError, match=r"stands beside search\.pruner, which stops trials one by one"):
        spec(search={**SEARCH, "pruner": {"name": "asha", "grace_period": 2}})
