"""The paper's plan within a budget, its run, resumed as a whole, and its crate: the same bits again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from analysis.runs import load
from study.errors import UserError
from study.file.spec import StudySpec
from study.home import Home
from study.launch import cost, sweep
from study.launch.cost import Cost, Kind
from study.service.paper import crate, file, planning, running
from study.service.paper.planning import Plan, Planned
from tests.in_process import without_ray
from trainables.trial import Trial

TRIAL = Trial("tests.tiny:Tiny", "ce", (0,))


@pytest.fixture(autouse=True)
def by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "FIERCE_STORAGE"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, text: str) -> Path:
    path = folder / "paper.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def taking(fixed: float, pace: float) -> Cost:
    """What a study of two trials in one slot takes."""
    return Cost(0, 0, 1, 1, 1, 0.0, (Kind(TRIAL, 2, fixed=fixed, pace=pace, epochs=200),))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {}", "budget is needed, such as 2h"),
        ("budget: soon", "budget must be a time such as 30m, 2h or 1.5d"),
        ("budget: 2h\ndata: {mnist: x}", "data.mnist is no data set of the paper; known: age, cifar-fs, cifar10"),
        ("budget: 2h\ndata: {age: nowhere.zip}", "nowhere.zip does not exist"),
        ("budget: 2h\nbudgets: 2", "budgets is no key of it; known: name, data, budget"),
        ("budget: 2h\nonly: [table]", "only names 'table', and known are"),
        ("2h", "must hold keys"),
        ("budget: [", "is no YAML"),
        ("budget: 2h\nname: A b", "name must be of small letters"),
    ],
)
def test_a_file_that_is_wrong_is_said_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=r"paper\.yaml: ") as error:
        file.read(written(tmp_path, text))
    assert words in str(error.value)


def test_elements_and_studies_name_what_there_is() -> None:
    assert [each.name for each in file.elements()] == [
        *("Table 1", "Table 2", "Figure 1"), *(f"Figure A{n}" for n in range(1, 7)), "Table A1",
    ]  # fmt: skip
    assert {entry for each in file.elements() for entry in each.shows} == {each.entry for each in file.entries()}


def test_epochs_and_seeds_are_cut_to_the_budget_and_what_is_left_goes_on(tmp_path: Path) -> None:
    paper = file.read(written(tmp_path, "budget: 1000s\nonly: [scene, scene-lambda]\nprotocols: [released]"))
    # of shares of 600 and then the rest, two trials take 2 · (10 + 2 a epoch)
    plan = planning.make(paper, lambda spec: taking(10, 2))
    first, second = plan.studies
    assert (first.epochs, first.full, first.seeds, first.seconds) == (145, 200, 10, 600)
    assert second.seconds <= 400 and first.seconds + second.seconds <= 1000
    spec = StudySpec.from_yaml(first.spec)
    assert spec.training["epochs"] == 145 and spec.training["milestones"] == [72] and first.cut.startswith("145 of 200")
    # too slow for ten seeds at the fewest epochs, and for six as well
    few = planning.make(paper, lambda spec: taking(10, 40)).studies[0]
    assert few.seeds == 10 and few.epochs == 7
    fewer = planning.make(paper, lambda spec: taking(50, 60)).studies[0]
    assert (fewer.seeds, fewer.epochs) == (6, 7)
    none = planning.make(paper, lambda spec: taking(100, 1000)).studies[0]
    assert none.missing == "not run: 5 epochs of 6 seeds need 1.7 h, and its share of the budget is 10 min"


def test_a_resnet_is_timed_with_two_seeds_and_ten_take_five_times_longer(tmp_path: Path) -> None:
    paper = file.read(written(tmp_path, "budget: 6000s\nonly: [faces]\nprotocols: [released]"))
    asked: list[int] = []

    def timed(spec: StudySpec) -> Cost:
        asked.append(len(spec.seeds))
        return taking(10, 2)

    study = planning.make(paper, timed).studies[0]
    # two trials of ten seeds take 5 · 2 · (10 + 2 an epoch)
    assert asked == [2] and (study.epochs, study.seeds, study.seconds) == (295, 10, 6000)


def test_without_a_budget_nothing_is_cut(tmp_path: Path) -> None:
    paper = file.read(written(tmp_path, "budget: none\nonly: [scene]"))
    for study in planning.make(paper, lambda spec: taking(10, 1e6)).studies:
        assert (study.epochs, study.seeds, study.cut) == (200, 10, "")
        assert study.data == "simulated, a substitute"


def tiny(name: str, data: str = "") -> Planned:
    spec = StudySpec.model_validate(
        {
            "name": name,
            "benchmark": {"name": "tests.tiny:Tiny", **({"trouble": data} if data else {})},
            "criteria": ["ce"],
            "seeds": 2,
            "training": {"epochs": 2},
        }
    )
    return Planned(name, name, "released", "blobs", "tiny", 1000, spec.to_yaml(), 5.0, 2, 6, 2, "2 of 6 epochs")


@pytest.mark.slow
def test_it_goes_on_where_it_stopped_and_a_crate_gives_the_same_bits(tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("99 raise", encoding="utf-8")
    plan = Plan("again", 60.0, "", [tiny("first", str(data)), tiny("second")])
    home, other = Home(tmp_path / "home"), Home(tmp_path / "other")
    trained: list[str] = []

    def runner(spec: StudySpec, at: Home = home) -> sweep.Outcome:
        trained.append(spec.name)
        return sweep.run(spec, at)

    def struck(spec: StudySpec) -> sweep.Outcome:
        return sweep.Outcome(0, 0, 2, True)

    with without_ray():
        home.prepare()
        plan.keep(running.folder_of(home, "again"))
        page, is_whole = running.run(plan, home, struck, trained.append, "fierce paper paper.yaml")
        assert not is_whole and page.is_file()
        trained.clear()
        page, is_whole = running.run(plan, home, runner, lambda text: None, "fierce paper paper.yaml")
        assert is_whole and trained == ["first", "second"]
        folder = page.parent
        other.prepare()
        again = running.from_crate(folder, other)
        running.run(again, other, lambda spec: runner(spec, other), lambda text: None, "fierce paper --from it")
    for name in ("first", "second"):
        assert_frame_equal(*(load(at.tracking_uri(), name) for at in (home, other)), check_exact=True)

    graph = json.loads((folder / crate.CRATE).read_text(encoding="utf-8"))["@graph"]
    by_id = {each["@id"]: each for each in graph}
    assert by_id[crate.CRATE]["about"] == {"@id": "./"} and by_id["#run"]["name"] == "fierce paper paper.yaml"
    assert {part["@id"] for part in by_id["./"]["hasPart"]} <= by_id.keys()
    assert {"plan.json", "paper.html", "numbers.json", "studies/first.yaml", data.as_uri()} <= by_id.keys()
    for name in ("paper.html", "numbers.json", "studies/first.yaml"):
        assert by_id[name]["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    data.write_text("98 raise", encoding="utf-8")
    with pytest.raises(UserError, match="other data than the crate was made of"):
        running.from_crate(folder, Home(tmp_path / "third"))


def test_a_file_that_was_changed_since_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "predict", lambda spec, **options: taking(1, 1))
    home, at = Home(tmp_path / "home"), written(tmp_path, "budget: 1000s\nonly: [scene]")
    made: list[str] = []
    kept: list[str] = []
    plan = running.plan_of(at, home, made.append)
    assert running.plan_of(at, home, kept.append) == plan
    # each study as it is planned, and all again when the plan is taken up
    assert made[0].startswith("planning: ") and made[1:] == kept and len(kept) == len(plan.studies) + 1
    at.write_text("budget: 2000s\nonly: [scene]", encoding="utf-8")
    with pytest.raises(UserError, match="planned from another content"):
        running.plan_of(at, home, made.append)
