"""The searcher against a database, without Ray: order, idempotence, what a kill at any moment leaves behind."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from study import search
from study.home import Home
from study.spec import StudySpec

LABEL_FREE = {"label_free": True}
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
    search.open_storage(Home(root))
    return root / "optuna.db"


def copy(database: Path, root: Path) -> Home:
    """A home with a copy of the database, its write-ahead log included."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(root / "optuna.db")) as target:
        source.backup(target)
    return Home(root)


@pytest.fixture
def home(tmp_path: Path, empty: Path) -> Home:
    return copy(empty, tmp_path)


@pytest.fixture
def undisturbed(tmp_path_factory: pytest.TempPathFactory, empty: Path) -> list[dict[str, Any]]:
    """The configs of a study that one launch carries through."""
    return drain(searcher(spec(), copy(empty, tmp_path_factory.mktemp("undisturbed"))))


def searcher(spec: StudySpec, home: Home, settled: set[int] | None = None) -> search.StudySearcher:
    """A searcher as a launch makes it, on a database that it opens anew."""
    return search.StudySearcher(spec, search.open_study(spec, home), lambda: 1, settled or set())


def result(config: dict[str, Any], **means: float) -> dict[str, Any]:
    """What a trial reports in the end; the objective depends on λ alone."""
    found = {"mse/odd": abs(config["trial"]["hyperparameters"].get("lambda", 3) - 1), "accuracy/coarse": 0.9} | means
    told = {f"mean/{name}": value for name, value in found.items()}
    return {"finished": True, "epoch": 6, **told, **{f"se/{name}": 0.01 for name in found}}


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


def test_fixed_points_first_then_as_many_proposals_as_asked(home: Home) -> None:
    configs = drain(searcher(spec(), home))
    assert [config["number"] for config in configs] == list(range(6))
    assert [config["role"] for config in configs] == ["baseline"] * 2 + ["search"] * 4
    assert [config["trial"]["criterion"] for config in configs] == ["ce", "ls"] + ["fierce"] * 4
    proposed = [config["trial"]["hyperparameters"] for config in configs[2:]]
    assert all(0.01 <= each["lambda"] <= 10 and 5 <= each["e"] <= 50 for each in proposed)
    assert len({each["lambda"] for each in proposed}) == 4
    trials = search.open_study(spec(), home).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6
    assert trials[3].params == proposed[1]
    assert trials[3].value == abs(proposed[1]["lambda"] - 1)
    assert trials[3].user_attrs["standard_errors"]["mse/odd"] == 0.01


@pytest.mark.parametrize("finished", range(6))
@pytest.mark.parametrize("killed", ["asked", "told"])
def test_a_launch_after_a_kill_goes_on_as_if_nothing_had_happened(
    home: Home, undisturbed: list[dict[str, Any]], finished: int, killed: str
) -> None:
    first = searcher(spec(), home)
    done = drain(first, limit=finished)
    config = first.suggest("killed")
    if killed == "told":
        first.on_trial_complete("killed", result(config))

    # Tune's snapshot lacks the last trial in both cases
    second = searcher(spec(), home, settled={each["number"] for each in done})
    rest = drain(second, start=50)
    assert done + rest == undisturbed
    trials = search.open_study(spec(), home).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6


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
        study.sampler = search._sampler(spec(), 2)
        trial = study.ask()
        trial.suggest_float("lambda", 0.01, 10, log=True)
        if "e" in parameters:
            trial.suggest_int("e", 5, 50)
    rest = drain(searcher(spec(), home, settled={0, 1}))
    assert [config["number"] for config in rest] == [2, 3, 4, 5]
    assert rest[0]["trial"]["hyperparameters"].keys() == {"lambda", "e"}
    assert rest[0]["trial"]["hyperparameters"]["lambda"] == undisturbed[2]["trial"]["hyperparameters"]["lambda"]
    trials = search.open_study(spec(), home).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6


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
    assert first.fail("a", "the disk is full") == 0
    drain(first, start=1)
    assert first.study.trials[0].state == TrialState.FAIL
    assert first.study.trials[0].user_attrs["reason"] == "the disk is full"
    settled = set(range(6))
    assert drain(searcher(spec(), home, settled)) == []

    study = search.open_study(spec(), home)
    assert search.retry_failed(study) == [0]
    assert search.retry_failed(study) == []
    assert drain(searcher(spec(), home, settled), start=20) == [config]
    last = search.attempts(study)
    assert {number: trial.state for number, trial in last.items()} == dict.fromkeys(range(6), TrialState.COMPLETE)
    assert last[0].number == 6


def test_only_as_many_proposals_at_a_time_as_there_are_slots(home: Home) -> None:
    wide = search.StudySearcher(spec(concurrency="auto"), search.open_study(spec(), home), lambda: 2)
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
    for name, accuracy in (("a", 0.9), ("b", 0.97)):
        one.on_trial_complete(name, result(one.suggest(name), **{"accuracy/coarse": accuracy}))
    assert one.study.trials[0].constraints == {"accuracy/coarse": pytest.approx(0.05)}
    assert one.study.trials[1].constraints == {"accuracy/coarse": pytest.approx(-0.02)}
    assert one.study.best_trial.number == 1


def test_label_free_objective_compares_with_cross_entropy(home: Home) -> None:
    """The largest entropy whose validation accuracy is at least CE's .90 less its standard error .01."""
    asked = spec(search={"criteria": {"fierce": RANGES}, "trials": 3, "objective": LABEL_FREE})
    one = searcher(asked, home)
    outcomes = {"ce": (2.0, 0.90), "ls": (2.5, 0.895), 2: (9.0, 0.889), 3: (3.0, 0.891), 4: (2.2, 0.99)}
    for name in "abcde":
        config = one.suggest(name)
        key = config["trial"]["criterion"] if config["role"] == "baseline" else config["number"]
        entropy, accuracy = outcomes[key]
        told = result(config, **{"entropy/features": entropy, "accuracy/validation": accuracy})
        one.on_trial_complete(name, told)
    bounds = [trial.constraints["accuracy/validation"] for trial in one.study.trials]
    assert bounds == pytest.approx([-0.01, -0.005, 0.001, -0.001, -0.1])
    assert one.study.best_trial.number == 3


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
    wide = search.StudySearcher(asked, search.open_study(asked, home), lambda: 4)
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


@pytest.mark.parametrize("sampler", ["random", "qmc", "gp", "nsga-ii"])
def test_other_samplers(home: Home, sampler: str) -> None:
    asked = spec().model_dump()["search"] | {"sampler": sampler, "criteria": {"fierce": {"e": {"low": 5, "high": 9}}}}
    configs = drain(searcher(spec(search=asked), home))
    assert [config["role"] for config in configs].count("search") == 4
    assert all(trial.state == TrialState.COMPLETE for trial in search.open_study(spec(search=asked), home).trials)


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
        search.open_study(spec(storage_uri="mysql://user:geheim@127.0.0.1:1/x"), home)
    assert "geheim" not in str(caught.value)


def test_optuna_dashboard_values_are_plain_optuna(home: Home) -> None:
    """Another process reads the study with nothing but Optuna."""
    drain(searcher(spec(), home))
    loaded = optuna.load_study(study_name="s", storage=f"sqlite:///{home.root / 'optuna.db'}")
    assert loaded.best_trial.number in range(6)
    assert loaded.metric_names == ["mse/odd"]
