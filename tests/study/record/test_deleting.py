"""Studies of a home listed and deleted: its real MLflow and Optuna databases, and its files."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from analysis import schema
from analysis.runs import Study
from study.cli import app
from study.home import Home
from study.record import deleting, files, listing, tracking, trials
from tests.golden.homes import unpacked
from trainables.storage import Folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with a finished ``grid`` and an interrupted ``search``."""
    return unpacked(tmp_path, monkeypatch)


def experiments(home: Home) -> set[str]:
    listed = MlflowClient(home.tracking_uri()).search_experiments()
    return {experiment.name for experiment in listed} - {"Default"}


def optunas(home: Home) -> set[str]:
    return set(optuna.get_all_study_names(home.optuna_uri()))


def deleted(home: Home, *arguments: str, answer: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(app, ["delete", "grid", "--home", str(home.root), *arguments], input=answer)
    return result.exit_code, result.output


def check_gone(home: Home) -> None:
    assert experiments(home) == {"search"} and optunas(home) == {"search"}
    assert files.studies_here(home) == ["search"]
    assert not home.study("grid").exists() and not (home.root / "artifacts" / "grid").exists()


def test_studies_are_listed_with_their_state(home: Home) -> None:
    grid, search = listing.summary(home, "grid"), listing.summary(home, "search")
    assert (grid.state, grid.done, grid.planned, grid.best) == ("done", 3, 3, "accuracy/coarse 0.875: ce")
    assert (search.state, search.done, search.planned, search.best) == ("interrupted", 1, 3, "")
    ended = max(
        trial.datetime_complete for trial in optuna.load_study(study_name="grid", storage=home.optuna_uri()).trials
    )
    assert grid.date == ended


def test_everything_of_a_study_goes_and_nothing_of_others(home: Home) -> None:
    spec = files.load_spec(home, "grid")
    kept = {path: path.stat().st_size for path in home.study("search").rglob("*") if path.is_file()}
    code, printed = deleted(home, answer="y\n")
    assert code == 0, printed
    check_gone(home)
    assert {path: path.stat().st_size for path in home.study("search").rglob("*") if path.is_file()} == kept
    # the name is free
    study = trials.open_study(spec, home)
    tracking.open_study(spec, home, trials.study_identity(study))
    assert experiments(home) == {"grid", "search"}
    unknown = CliRunner().invoke(app, ["delete", "nosuch", "--yes", "--home", str(home.root)])
    assert unknown.exit_code == 2 and "there is no study 'nosuch'" in unknown.output


@pytest.mark.parametrize(("answer", "code", "words"), [("n\n", 0, "nothing was deleted"), ("", 2, "give --yes")])
def test_it_asks_before(home: Home, answer: str, code: int, words: str) -> None:
    given, printed = deleted(home, answer=answer)
    assert given == code and words in printed
    assert experiments(home) == optunas(home) == {"grid", "search"}


def test_a_study_that_runs_is_left_alone(home: Home) -> None:
    with files.held(home.files("grid"), "grid"):
        code, printed = deleted(home, "--yes")
    assert code == 2 and "is being run by process" in printed
    assert experiments(home) == optunas(home) == {"grid", "search"}


@pytest.mark.slow
def test_another_study_of_that_name_in_mlflow_is_left_alone(home: Home) -> None:
    (own,) = (run for run in Study.open(home.tracking_uri(), "grid").runs if run.data.tags[schema.LEVEL] == "study")
    MlflowClient(home.tracking_uri()).set_tag(own.info.run_id, schema.IDENTITY, "of another")
    code, printed = deleted(home, "--yes")
    assert code == 2 and "holds another study of that name" in printed
    assert experiments(home) == optunas(home) == {"grid", "search"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name"),
    [(MlflowClient, "delete_experiment"), (optuna, "delete_study"), (Folder, "clear"), (deleting, "_remove")],
)
def test_an_interrupted_deletion_is_finished_by_the_same_command(
    home: Home, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        assert deleted(home, "--yes")[0] == 130
    assert "grid" in files.studies_here(home)
    code, printed = deleted(home, "--yes")
    assert code == 0, printed
    check_gone(home)
