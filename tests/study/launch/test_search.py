"""The searcher against a database, without Ray: order, idempotence, what a kill at any moment leaves behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from pydantic import ValidationError
from scipy import stats

from study.file.spec import StudySpec
from study.home import Home
from study.launch import pieces, placement, search
from study.launch.placement import Capacity, Share
from study.record import trials
from study.servers.database import open_storage

LABEL_FREE = {"label_free": True, "rule": "anchor-entropy"}
RANGES = {"lambda": {"low": 0.01, "high": 10, "log": True}, "e": {"low": 5, "high": 50}}


def spec(**changes: Any) -> StudySpec:
    values = {
        "name": "s",
        "benchmark": "tiny:Tiny",
        "criteria": ["ce", "ls"],
        "search": {
            "criteria": {"fierce": RANGES},
            "trials": 4,
            "objective": {"metric": "mse/odd", "direction": "minimize"},
        },
        "seeds": 2,
        "concurrency": 1,
    }
    return StudySpec.model_validate(values | changes)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without studies: Optuna takes a second to make its tables."""
    root = tmp_path_factory.mktemp("empty")
    open_storage(Home(root).optuna_uri())
    return root / "optuna.db"


def copy(database: Path, root: Path) -> Home:
    """A home with a copy of the database, its write-ahead log included."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(root / "optuna.db")) as target:
        source.backup(target)
    return Home(root)


@pytest.fixture
def home(tmp_path: Path, empty: Path) -> Home:
    return copy(empty, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, empty: Path) -> list[dict[str, Any]]:
    """The configs of a study that one launch carries through."""
    return drain(searcher(spec(), copy(empty, tmp_path_factory.mktemp("undisturbed"))))


def searcher(spec: StudySpec, home: Home, settled: set[int] | None = None) -> search.StudySearcher:
    """A searcher as a launch makes it, on a database that it opens anew."""
    return search.StudySearcher(spec, trials.open_study(spec, home), capacity(1), settled or set())


def capacity(cores: int) -> Callable[[], Capacity]:
    """A cluster of one node without a GPU."""
    return lambda: Capacity(cores, 0, cores)


def result(config: dict[str, Any], **means: float) -> dict[str, Any]:
    """What a trial reports in the end: two seeds that differ by 0.02; the objective depends on λ alone."""
    values = {"mse/odd": abs(config["trial"]["hyperparameters"].get("lambda", 3) - 1), "accuracy/coarse": 0.9} | means
    return {"finished": True, "epoch": 6} | {
        f"values/{name}": [value - 0.01, value + 0.01] for name, value in values.items()
    }


def share_after(
    searcher: search.StudySearcher, name: str, reason: str, cause: pieces.Cause = "refusal"
) -> Share | None:
    """With what a trial that failed is tried again, None where it is not."""
    ((_, following),) = searcher.fail(name, reason, cause)
    return following and following.share


def drain(searcher: search.StudySearcher, start: int = 0, limit: int = 99) -> list[dict[str, Any]]:
    """Runs up to ``limit`` trials one after another; their configs."""
    configs = []
    while len(configs) < limit:
        name = f"t{start + len(configs)}"
        config = searcher.suggest(name)
        if config == searcher.FINISHED:
            break
        configs.append(config)
        searcher.on_trial_complete(name, result(config))
    return configs


def interrupted(study: StudySpec, home: Home, finished: int, killed: str) -> list[dict[str, Any]]:
    """The configs of two launches; the first is killed after ``finished`` trials and one more, asked for or told."""
    first = searcher(study, home)
    done = drain(first, limit=finished)
    config = first.suggest("killed")
    if killed == "told":
        first.on_trial_complete("killed", result(config))
    # Tune's snapshot lacks the last trial in both cases
    second = searcher(study, home, settled={config["number"] for config in done})
    return done + drain(second, start=50)


def test_fixed_points_first_then_as_many_proposals_as_asked(home: Home) -> None:
    configs = drain(searcher(spec(), home))
    assert [config["number"] for config in configs] == list(range(6))
    assert [config["role"] for config in configs] == ["baseline"] * 2 + ["search"] * 4
    assert [config["trial"]["criterion"] for config in configs] == ["ce", "ls"] + ["fierce"] * 4
    proposed = [config["trial"]["hyperparameters"] for config in configs[2:]]
    assert all(0.01 <= point["lambda"] <= 10 and 5 <= point["e"] <= 50 for point in proposed)
    assert len({point["lambda"] for point in proposed}) == 4
    held = trials.open_study(spec(), home).trials
    assert [trial.state for trial in held] == [TrialState.COMPLETE] * 6
    assert held[3].params == proposed[1]
    assert held[3].value == pytest.approx(abs(proposed[1]["lambda"] - 1))
    assert held[3].user_attrs["standard_errors"]["mse/odd"] == pytest.approx(0.01)


@pytest.mark.slow
def test_a_large_grid_waits_a_part_at_a_time(home: Home) -> None:
    """In its order, whichever launch goes on, and each point once."""
    strengths = [round(0.1 * position, 1) for position in range(trials.WAITING + 8)]
    grid = spec(criteria=[], search=None, grid={"fierce": {"lambda": strengths}})
    first = drain(searcher(grid, home), limit=5)
    study = trials.load_study(grid, home)
    assert study is not None and len(study.trials) == trials.WAITING
    rest = drain(searcher(grid, home, settled=set(range(5))), start=5)
    told = [config["trial"]["hyperparameters"]["lambda"] for config in first + rest]
    assert told == strengths
    assert [config["number"] for config in first + rest] == list(range(len(strengths)))


@pytest.mark.parametrize("finished", range(6))
@pytest.mark.parametrize("killed", ["asked", "told"])
def test_a_launch_after_a_kill_goes_on_as_if_nothing_had_happened(
    home: Home, undisturbed: list[dict[str, Any]], finished: int, killed: str
) -> None:
    assert interrupted(spec(), home, finished, killed) == undisturbed
    held = trials.open_study(spec(), home).trials
    assert [trial.state for trial in held] == [TrialState.COMPLETE] * 6


@pytest.mark.parametrize("parameters", [(), ("lambda",), ("lambda", "e")])
def test_a_kill_while_a_proposal_is_drawn_loses_no_trial(
    home: Home, undisturbed: list[dict[str, Any]], parameters: tuple[str, ...]
) -> None:
    first = searcher(spec(), home)
    drain(first, limit=2)
    # what the database holds after each of the writes that make a proposal
    study = first.study
    study.enqueue_trial({}, user_attrs={"role": "search", "criterion": "fierce"})
    if parameters:
        (waiting,) = study.get_trials(states=(TrialState.WAITING,))
        study.sampler = first._sampler(waiting)
        trial = study.ask()
        trial.suggest_float("lambda", 0.01, 10, log=True)
        if "e" in parameters:
            trial.suggest_int("e", 5, 50)
    rest = drain(searcher(spec(), home, settled={0, 1}))
    assert [config["number"] for config in rest] == [2, 3, 4, 5]
    assert rest[0]["trial"]["hyperparameters"].keys() == {"lambda", "e"}
    assert rest[0]["trial"]["hyperparameters"]["lambda"] == undisturbed[2]["trial"]["hyperparameters"]["lambda"]
    held = trials.open_study(spec(), home).trials
    assert [trial.state for trial in held] == [TrialState.COMPLETE] * 6


@pytest.mark.slow
def test_settled_trials_are_not_given_again(home: Home) -> None:
    drain(searcher(spec(), home))
    assert drain(searcher(spec(), home, settled=set(range(6)))) == []
    again = drain(searcher(spec(), home, settled={0, 1, 2, 4, 5}))
    assert [config["number"] for config in again] == [3]


def test_telling_twice_changes_nothing(home: Home) -> None:
    first = searcher(spec(), home)
    config = first.suggest("a")
    second = searcher(spec(), home)
    assert second.suggest("b") == config
    second.on_trial_complete("b", result(config))
    first.on_trial_complete("a", result(config, **{"mse/odd": 99.0}))
    assert first.study.trials[0].values == [2.0]


def test_an_interrupted_trial_stays_open(home: Home) -> None:
    first = searcher(spec(), home)
    config = first.suggest("a")
    first.on_trial_complete("a", {"finished": False, "interrupted": True, "epoch": 3, "mean/mse/odd": 1.0})
    assert first.study.trials[0].state == TrialState.RUNNING
    assert searcher(spec(), home).suggest("b") == config


def test_a_failed_trial_keeps_its_reason_and_is_tried_again_only_when_asked(home: Home) -> None:
    first = searcher(spec(), home)
    config = first.suggest("a")
    first.on_trial_complete("a", error=True)
    ((failed, following),) = first.fail("a", "the disk is full")
    assert (failed.number, following) == (0, None)
    drain(first, start=1)
    assert first.study.trials[0].state == TrialState.FAIL
    assert first.study.trials[0].user_attrs["reason"] == "the disk is full"
    settled = set(range(6))
    assert drain(searcher(spec(), home, settled)) == []

    study = trials.open_study(spec(), home)
    assert trials.retry_failed(study) == [0]
    assert trials.retry_failed(study) == []
    assert drain(searcher(spec(), home, settled), start=20) == [config]
    last = trials.attempts(study)
    assert {number: trial.state for number, trial in last.items()} == dict.fromkeys(range(6), TrialState.COMPLETE)
    assert last[0].number == 6


def test_only_as_many_proposals_at_a_time_as_there_are_slots(home: Home) -> None:
    wide = search.StudySearcher(spec(concurrency="auto"), trials.open_study(spec(), home), capacity(2))
    given = {name: wide.suggest(name) for name in ("a", "b")}
    # fixed points may wait in Tune's queue, proposals are not drawn before their turn
    assert [config["role"] for config in given.values()] == ["baseline"] * 2
    assert wide.suggest("c") is None
    wide.on_trial_complete("a", result(given["a"]))
    assert wide.suggest("d")["role"] == "search"
    assert wide.suggest("e") is None


def test_concurrency_limits_everything(home: Home) -> None:
    one = searcher(spec(), home)
    assert one.suggest("a")["number"] == 0
    assert one.suggest("b") is None


def test_constraint_at_least(home: Home) -> None:
    asked = spec().model_dump()["search"] | {"constraint": {"metric": "accuracy/coarse", "at_least": 0.95}}
    one = searcher(spec(search=asked), home)
    for name, accuracy in (("a", 0.9), ("b", 0.97), ("c", 0.9), ("d", 0.96)):
        one.on_trial_complete(name, result(one.suggest(name), **{"accuracy/coarse": accuracy}))
    baseline = {search.NOT_SEARCHED: 1.0}
    assert one.study.trials[0].constraints == {"accuracy/coarse": pytest.approx(0.05), **baseline}
    assert one.study.trials[1].constraints == {"accuracy/coarse": pytest.approx(-0.02), **baseline}
    assert one.study.trials[2].constraints == {"accuracy/coarse": pytest.approx(0.05)}
    assert one.study.best_trial.number == 3


def test_label_free_objective_compares_with_cross_entropy(home: Home) -> None:
    """The largest entropy whose validation accuracy is at least CE's .90 less its standard error .01."""
    asked = spec(search={"criteria": {"fierce": RANGES}, "trials": 3, "objective": LABEL_FREE})
    one = searcher(asked, home)
    outcomes = {"ce": (2.0, 0.90), "ls": (2.5, 0.895), 2: (9.0, 0.889), 3: (3.0, 0.891), 4: (2.2, 0.99)}
    for name in "abcde":
        config = one.suggest(name)
        key = config["trial"]["criterion"] if config["role"] == "baseline" else config["number"]
        entropy, accuracy = outcomes[key]
        told = result(config, **{"entropy/common-anchors-validation": entropy, "accuracy/validation": accuracy})
        one.on_trial_complete(name, told)
    bounds = [trial.constraints["accuracy/validation"] for trial in one.study.trials]
    assert bounds == pytest.approx([-0.01, -0.005, 0.001, -0.001, -0.1])
    assert one.study.best_trial.number == 3


def test_one_seed_has_no_standard_error_to_stay_within(home: Home) -> None:
    """Nothing is feasible, however good: a slack of 0 would have taken what the report refuses."""
    asked = spec(
        criteria=["ce"], seeds=[1], search={"criteria": {"fierce": RANGES}, "trials": 2, "objective": LABEL_FREE}
    )
    one = searcher(asked, home)
    for name, accuracy in (("a", 0.90), ("b", 0.95), ("c", 0.99)):
        told = result(one.suggest(name), **{"entropy/common-anchors-validation": 2.0, "accuracy/validation": accuracy})
        one.on_trial_complete(
            name, {key: value[:1] if isinstance(value, list) else value for key, value in told.items()}
        )
    assert len(one.study.trials) == 3
    assert all(trial.constraints["accuracy/validation"] > 0 for trial in one.study.trials)


def test_no_proposal_before_cross_entropy_is_known(home: Home) -> None:
    asked = spec(
        criteria=["ce"],
        search={
            "criteria": {"fierce": RANGES},
            "trials": 1,
            "objective": {"metric": "mse/odd", "direction": "minimize"},
            "constraint": {"within_of_ce": 0.02},
        },
        concurrency="auto",
    )
    wide = search.StudySearcher(asked, trials.open_study(asked, home), capacity(4))
    config = wide.suggest("a")
    assert wide.suggest("b") is None
    wide.on_trial_complete("a", result(config))
    config = wide.suggest("c")
    assert config["role"] == "search"
    wide.on_trial_complete("c", result(config, **{"accuracy/coarse": 0.87}))
    assert wide.study.trials[1].constraints == {"accuracy/coarse": pytest.approx(0.01)}


def test_the_search_ends_with_a_sentence_where_cross_entropy_failed(home: Home) -> None:
    asked = spec(criteria=["ce"], search={"criteria": {"fierce": RANGES}, "trials": 1, "objective": LABEL_FREE})
    one = searcher(asked, home)
    one.suggest("a")
    one.fail("a", "no")
    assert one.suggest("b") == one.FINISHED
    assert one.problem is not None
    assert "cross-entropy" in one.problem


def confirming(trials: int = 4, **changes: Any) -> StudySpec:
    """The same study, whose choice and baselines are trained on three fresh seeds."""
    return spec(search={**spec().model_dump()["search"], "trials": trials, "confirm": 3, **changes})


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory, empty: Path) -> list[dict[str, Any]]:
    """The configs of such a study that one launch carries through."""
    return drain(searcher(confirming(), copy(empty, tmp_path_factory.mktemp("confirmed"))))


def test_the_choice_and_its_rivals_are_trained_on_fresh_seeds(
    confirmed: list[dict[str, Any]], undisturbed: list[dict[str, Any]]
) -> None:
    # the search itself goes as without
    assert confirmed[:6] == undisturbed
    last = confirmed[6:]
    best = min(undisturbed[2:], key=lambda config: abs(config["trial"]["hyperparameters"]["lambda"] - 1))
    assert [config["role"] for config in last] == ["confirm"] * 3
    assert [config["repeats"] for config in last] == [0, 1, best["number"]]
    repeated = [undisturbed[0], undisturbed[1], best]
    for config, earlier in zip(last, repeated, strict=True):
        assert config["trial"] == {**earlier["trial"], "seeds": [2, 3, 4]}


@pytest.mark.parametrize("finished", range(5, 9))
@pytest.mark.parametrize("killed", ["asked", "told"])
def test_a_kill_changes_nothing_in_what_is_confirmed(
    home: Home, confirmed: list[dict[str, Any]], finished: int, killed: str
) -> None:
    assert interrupted(confirming(), home, finished, killed) == confirmed
    study = trials.open_study(confirming(), home)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 9
    # what is confirmed is no point of the search
    assert study.best_trial.number == confirmed[-1]["repeats"]


@pytest.mark.slow
@pytest.mark.parametrize("enqueued", range(3))
def test_a_kill_once_the_choice_is_written_down(home: Home, confirmed: list[dict[str, Any]], enqueued: int) -> None:
    first = searcher(confirming(), home)
    drain(first, limit=6)
    study = first.study
    study.set_user_attr(trials.CHOSEN, trials.choose(confirming(), study))
    for point in trials.absent_points(confirming(), study)[:enqueued]:
        trials.enqueue(confirming(), study, point)
    assert drain(searcher(confirming(), home, settled=set(range(6)))) == confirmed[6:]
    assert drain(searcher(confirming(), home, settled=set(range(9)))) == []


def test_confirmation_waits_for_the_search_to_end(home: Home) -> None:
    asked = confirming(trials=2).model_copy(update={"concurrency": "auto"})
    wide = search.StudySearcher(asked, trials.open_study(asked, home), capacity(4))
    given = {name: wide.suggest(name) for name in "abcd"}
    assert [config["role"] for config in given.values()] == ["baseline", "baseline", "search", "search"]
    for name in "abc":
        wide.on_trial_complete(name, result(given[name]))
        assert wide.suggest("e") is None
    wide.on_trial_complete("d", result(given["d"]))
    assert wide.suggest("e")["role"] == "confirm"


def test_without_a_feasible_point_nothing_is_confirmed(home: Home) -> None:
    asked = confirming(constraint={"metric": "accuracy/coarse", "at_least": 0.95})
    one = searcher(asked, home)
    assert trials.planned_trials(asked, one.study) == 9
    assert [config["role"] for config in drain(one)] == ["baseline"] * 2 + ["search"] * 4
    assert trials.unconfirmed(asked, one.study) == ["fierce"]
    assert trials.planned_trials(asked, one.study) == 6
    assert drain(searcher(asked, home, settled=set(range(6)))) == []


def test_a_search_that_has_ended_can_be_confirmed_later(home: Home, confirmed: list[dict[str, Any]]) -> None:
    drain(searcher(spec(), home))
    assert drain(searcher(confirming(), home, settled=set(range(6)))) == confirmed[6:]


def test_a_choice_that_is_a_baseline_is_confirmed_once(home: Home) -> None:
    """Its only point, λ = 1 and e = 7, is what the file names as a baseline too."""
    space = {"fierce": {"e": {"low": 7, "high": 8, "step": 5}}}
    asked = confirming(trials=1, criteria=space).model_copy(
        update={"criteria": (*spec(criteria=["ce", {"name": "fierce", "lambda": 1, "e": 7}]).criteria,)}
    )
    configs = drain(searcher(asked, home))
    assert [config["role"] for config in configs] == ["baseline", "baseline", "search", "confirm", "confirm"]
    assert [config.get("repeats") for config in configs[3:]] == [0, 2]


@pytest.mark.parametrize("sampler", ["random", "qmc", "gp", "nsga-ii"])
def test_other_samplers(home: Home, sampler: str) -> None:
    asked = spec().model_dump()["search"] | {"sampler": sampler, "criteria": {"fierce": {"e": {"low": 5, "high": 9}}}}
    configs = drain(searcher(spec(search=asked), home))
    assert [config["role"] for config in configs].count("search") == 4
    assert all(trial.state == TrialState.COMPLETE for trial in trials.open_study(spec(search=asked), home).trials)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "gp", "qmc", "nsga-ii"])
def test_every_sampler_samples_beside_baselines(home: Home, empty: Path, tmp_path: Path, sampler: str) -> None:
    """Cross-entropy has no hyperparameter: trials without any must not turn the others' search into random draws."""
    searched = {**spec().model_dump()["search"], "trials": 14, "sampler": sampler}
    study = spec(search=searched)
    beside = [
        config["trial"]["hyperparameters"] for config in drain(searcher(study, home)) if config["role"] == "search"
    ]
    (tmp_path / "random").mkdir()
    at_random = copy(empty, tmp_path / "random")
    drawn = drain(searcher(spec(search={**searched, "sampler": "random"}), at_random))
    random = [config["trial"]["hyperparameters"] for config in drawn if config["role"] == "search"]
    # a child of nsga-ii may have its parent's λ
    assert sampler == "nsga-ii" or len({point["lambda"] for point in beside}) == 14
    # the first points of most samplers are random on purpose
    assert beside[-2:] != random[-2:] and (sampler != "qmc" or beside[1:] != random[1:])
    if sampler == "qmc":
        # a Sobol sequence leaves no quarter of either axis without a point
        axes = np.array([[np.log(point["lambda"] / 0.01) / np.log(1000), (point["e"] - 4.5) / 46] for point in beside])
        assert all(set(np.floor(axis * 4).astype(int)) == {0, 1, 2, 3} for axis in axes.T)


def test_a_baseline_is_not_the_best_trial_of_a_search(home: Home) -> None:
    """Label smoothing, a baseline, has the lowest objective here; Optuna names the best searched point."""
    running = searcher(spec(), home)
    for position in range(6):
        config = running.suggest(f"t{position}")
        better = {"mse/odd": 0.001} if config["role"] == "baseline" else {}
        running.on_trial_complete(f"t{position}", result(config, **better))
    best = trials.load_study(spec(), home).best_trial
    assert best.user_attrs["role"] == "search"


def test_a_pruned_trial_keeps_its_last_value(home: Home) -> None:
    asked = spec().model_dump()["search"] | {"pruner": {"name": "asha", "grace_period": 2}}
    one = searcher(spec(search=asked), home)
    one.suggest("a")
    one.on_trial_complete("a", {"finished": False, "interrupted": False, "epoch": 3, "mean/mse/odd": 0.5})
    trial = one.study.trials[0]
    assert (trial.state, trial.intermediate_values, trial.value) == (TrialState.PRUNED, {3: 0.5}, 0.5)


def test_a_database_that_cannot_be_opened_is_named_without_its_password(home: Home) -> None:
    from study.errors import UserError

    with pytest.raises(UserError, match=r"^Optuna's database .* cannot be used: ") as caught:
        trials.open_study(spec(optuna_uri="mysql://user:geheim@127.0.0.1:1/x"), home)
    assert "geheim" not in str(caught.value)


def test_optuna_dashboard_values_are_plain_optuna(home: Home) -> None:
    """Another process reads the study with nothing but Optuna."""
    drain(searcher(spec(), home))
    loaded = optuna.load_study(study_name="s", storage=f"sqlite:///{home.root / 'optuna.db'}")
    assert loaded.best_trial.number in range(6)
    assert loaded.metric_names == ["mse/odd"]


SHARDED = {"search": None, "criteria": ["ce", "ls"], "seeds": [3, 1, 4, 1_000, 5], "concurrency": "auto"}


def finished(config: dict[str, Any]) -> dict[str, Any]:
    """What a shard reports in the end: its seeds as values."""
    seeds = config["trial"]["seeds"]
    return {"finished": True, "epoch": 6, "values/accuracy/coarse": [seed / 1000 for seed in seeds]}


@pytest.mark.slow
def test_a_trial_in_shards_is_one_trial_told_once_with_all_its_seeds(home: Home) -> None:
    study = spec(**SHARDED, seeds_per_shard=2)
    heard: list[tuple[Any, ...]] = []
    one = search.StudySearcher(
        study,
        trials.open_study(study, home),
        capacity(8),
        begin=lambda whole: heard.append(("begin", whole.number, whole.trial.seeds)),
        end=lambda whole, parts: heard.append(
            ("end", whole.number, whole.trial.seeds, [shard.trial.seeds for shard in parts])
        ),
    )
    given = {name: one.suggest(name) for name in "abcdef"}
    assert one.suggest("g") is None
    assert [(config["number"], config["shard"]) for config in given.values()] == [
        (number, (part, 3)) for number in (0, 1) for part in range(3)
    ]
    assert [config["trial"]["seeds"] for config in given.values()][:3] == [[3, 1], [4], [1_000, 5]]
    seeds = (3, 1, 4, 1_000, 5)
    assert heard == [("begin", 0, seeds), ("begin", 1, seeds)]
    # in whatever order they end
    for name in "cbd":
        one.on_trial_complete(name, finished(given[name]))
    assert [one.study.trials[number].state for number in (0, 1)] == [TrialState.RUNNING] * 2
    assert not one.is_complete(0)
    one.on_trial_complete("a", finished(given["a"]))
    assert one.is_complete(0)
    assert heard[2:] == [("end", 0, seeds, [(3, 1), (4,), (1_000, 5)])]
    trial = one.study.trials[0]
    assert (trial.state, trial.value) == (TrialState.COMPLETE, pytest.approx(sum(seeds) / 5000))
    values = np.array(seeds) / 1000
    assert trial.user_attrs["standard_errors"]["accuracy/coarse"] == pytest.approx(stats.sem(values))

    # a shard that fails for good takes its trial along, and what was not given yet of it
    assert share_after(one, "e", "no") is None
    assert one.study.trials[1].state == TrialState.FAIL
    one.on_trial_complete("f", finished(given["f"]))
    assert one.study.trials[1].state == TrialState.FAIL
    assert one.suggest("h") == one.FINISHED


def test_shards_are_settled_at_the_first_launch(home: Home) -> None:
    study = spec(**SHARDED)
    first = search.StudySearcher(study, trials.open_study(study, home), capacity(4))
    assert [first.suggest(name)["shard"] for name in "ab"] == [(0, 2), (1, 2)]
    # a resume on a larger cluster finds the checkpoints of the first
    second = search.StudySearcher(study, trials.open_study(study, home), capacity(40))
    assert [second.suggest(name)["shard"] for name in "abcd"] == [(0, 2), (1, 2)] * 2


@pytest.mark.parametrize(
    ("changes", "cores", "shards"),
    [
        ({}, 1, 1),
        ({}, 3, 1),
        ({}, 4, 2),
        ({}, 100, 5),
        ({"concurrency": 1}, 100, 1),
        ({"concurrency": 4}, 100, 2),
        ({"seeds_per_shard": 1}, 1, 5),
        ({"seeds_per_shard": 4}, 1, 2),
        ({"resources": {"cpus": 2}}, 8, 2),
        ({"resources": {"gpus": 0.5}}, 100, 1),
    ],
)
def test_seeds_are_split_where_something_would_idle(changes: dict[str, Any], cores: int, shards: int) -> None:
    # one GPU: two halves, and two trials to fill them
    assert placement.shards(spec(**(SHARDED | changes)), Capacity(cores, 1, cores)) == shards


def test_a_search_keeps_whole_trials() -> None:
    assert placement.shards(spec(), Capacity(100, 0, 100)) == 1
    with pytest.raises(ValidationError, match="stands beside search"):
        spec(seeds_per_shard=2)


def test_what_fails_is_given_again_as_often_as_allowed(home: Home) -> None:
    one = searcher(spec(max_failures=1), home)
    first = one.suggest("a")
    assert share_after(one, "a", "killed", "error") == Share(1.0, 0.0)
    # a lost node is no fault of the trial
    for turn in range(pieces.NODE_LOSSES):
        assert one.suggest(f"n{turn}") == first
        assert share_after(one, f"n{turn}", "its node was lost", "node") is not None
    assert one.suggest("b") == first
    assert share_after(one, "b", "killed", "error") is None
    assert one.study.trials[0].state == TrialState.FAIL


def test_what_the_trial_refuses_is_not_tried_again(home: Home) -> None:
    one = searcher(spec(max_failures=5), home)
    one.suggest("a")
    assert share_after(one, "a", "the data is damaged", "refusal") is None


def test_an_attempt_out_of_memory_gets_a_larger_share(home: Home) -> None:
    study = spec(resources={"cpus": 1, "gpus": 0.3}, max_failures=0)
    one = search.StudySearcher(study, trials.open_study(study, home), lambda: Capacity(8, 1, 8))
    assert one.suggest("a")["gpus"] == 0.3
    one.on_trial_complete("a", {"out_of_memory": True, "finished": False})
    assert share_after(one, "a", "out of memory", "memory") == Share(1, 0.6)
    assert one.suggest("b")["gpus"] == 0.6
    assert share_after(one, "b", "out of memory", "memory") == Share(1, 1.0)
    assert one.suggest("c")["gpus"] == 1.0
    assert share_after(one, "c", "out of memory", "memory") is None
    # without a GPU a trial gets fewer neighbours
    assert placement.larger(Share(1, 0), Capacity(16, 0, 3)) == Share(2, 0)
    assert placement.larger(Share(2, 0), Capacity(16, 0, 3)) == Share(3, 0)
    assert placement.larger(Share(3, 0), Capacity(16, 0, 3)) is None


def test_gpus_are_packed_by_the_memory_that_the_first_trials_took(home: Home) -> None:
    study = spec(resources={"cpus": 1, "gpus": "auto"}, concurrency="auto")
    one = search.StudySearcher(study, trials.open_study(study, home), lambda: Capacity(16, 2, 16))
    assert one.suggest("a")["gpus"] == 1.0
    one.on_trial_result("a", {"memory": 0.2})
    one.on_trial_result("a", {"memory": 0.25})
    # a quarter with its margin does not fit four times
    assert one.suggest("b")["gpus"] == pytest.approx(1 / 3)
    later = search.StudySearcher(study, trials.open_study(study, home), lambda: Capacity(16, 2, 16))
    assert later.suggest("a")["gpus"] == pytest.approx(1 / 3)
    assert Capacity(16, 2, 16).slots(Share(1, 1 / 3)) == 6
