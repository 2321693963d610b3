"""Studies of a home under another name: real MLflow and Optuna databases, and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from analysis import runs, schema
from analysis.runs import Study
from study.cli import app
from study.home import Home
from study.launch import sweep
from study.record import files, renaming, status, trials
from tests.golden.homes import unpacked
from trainables.storage import Folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with a finished ``grid`` and an interrupted ``search``."""
    return unpacked(tmp_path, monkeypatch)


def fierce(home: Home, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments, "--home", str(home.root)])
    return result.exit_code, result.output


def content(home: Home, name: str) -> dict[str, Any]:
    """What a study holds, without its name."""
    stored = optuna.load_study(study_name=name, storage=home.optuna_uri())
    found = Study.open(home.tracking_uri(), name)
    read = status.read(home, name)
    return {
        "values": runs.load(home.tracking_uri(), name).drop(columns="study").to_csv(),
        "runs": {run.info.run_id for run in found.runs},
        "optuna": [(trial.number, trial.state, trial.value, trial.user_attrs, trial.params) for trial in stored.trials],
        "attributes": stored.user_attrs,
        "arrays": {place: sorted(found.arrays(*place)) for place in _replicas(found)},
        "status": read.trials,
    }


def _replicas(study: Study) -> list[tuple[int, int]]:
    done = study.replicas[study.replicas["state"] == "done"]
    return list(zip(done["trial"], done["seed"], strict=True))


def check_renamed(home: Home, before: dict[str, Any]) -> None:
    assert files.studies_here(home) == ["line", "search"]
    assert set(optuna.get_all_study_names(home.optuna_uri())) == {"line", "search"}
    client = MlflowClient(home.tracking_uri())
    assert {each.name for each in client.search_experiments()} == {"Default", "line", "search"}
    assert content(home, "line") == before
    found = Study.open(home.tracking_uri(), "line")
    assert {run.data.tags[schema.STUDY] for run in found.runs} == {"line"}
    (own,) = (run for run in found.runs if run.data.tags[schema.LEVEL] == "study")
    assert own.info.run_name == "line" and found.settings["name"] == "line"
    # MLflow itself finds the artifacts, and nothing is left where another `grid` would be
    assert "study.yaml" in {file.path for file in client.list_artifacts(own.info.run_id)}
    assert not (home.root / "artifacts" / "grid").exists() and not home.study("grid").exists()
    assert files.load_spec(home, "line").name == "line" and not (home.study("line") / files.RENAMING).exists()


@pytest.mark.parametrize(("answer", "code", "words"), [("n\n", 0, "nothing was renamed"), ("", 2, "give --yes")])
def test_it_asks_first(home: Home, answer: str, code: int, words: str) -> None:
    result = CliRunner().invoke(app, ["rename", "grid", "line", "--home", str(home.root)], input=answer)
    assert result.exit_code == code and words in result.output and "rename study 'grid' to 'line'" in result.output
    assert files.studies_here(home) == ["grid", "search"] and not (home.study("grid") / files.RENAMING).exists()


@pytest.mark.slow
def test_a_renamed_study_is_the_same_study(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(home, "grid")
    code, printed = fierce(home, "rename", "grid", "line", "--yes")
    assert code == 0, printed
    check_renamed(home, before)
    # finished it is, without a Ray to start
    monkeypatch.setattr(sweep.cluster, "connect", lambda *arguments: pytest.fail("Ray was asked for"))
    assert sweep.run(files.load_spec(home, "line"), home).done == 3
    check_renamed(home, content(home, "line"))
    # the old name is free, and to be deleted without the other
    assert fierce(home, "delete", "line", "--yes")[0] == 0
    assert files.studies_here(home) == ["search"] and not (home.root / "artifacts" / "line").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (MlflowClient, "rename_experiment", 0),
        (MlflowClient, "set_tag", 0),
        (MlflowClient, "set_tag", 4),
        (renaming.moved, "relocate", 0),
        (renaming, "rename_study", 0),
        (Path, "rename", 1),
        (renaming.files, "keep_spec", 0),
        (renaming.files, "keep_at_home", 0),
    ],
)
def test_an_interrupted_renaming_is_finished_by_the_same_command(
    home: Home, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: int
) -> None:
    before, whole, calls = content(home, "grid"), getattr(owner, name), []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) > after:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        assert fierce(home, "rename", "grid", "line", "--yes")[0] == 130
    # it is run under neither name meanwhile, and takes no third
    for other in ("grid", "line"):
        if (home.study(other) / files.SPEC).is_file():
            code, printed = fierce(home, "resume", other)
            assert code == 2 and "finish it with: fierce rename grid line" in printed
    assert "finish it with: fierce rename grid line" in fierce(home, "rename", "grid", "other", "--yes")[
        1
    ] or calls == [name]
    code, printed = fierce(home, "rename", "grid", "line", "--yes")
    assert code == 0, printed
    check_renamed(home, before)


def test_a_storage_elsewhere_moves_too(home: Home, tmp_path: Path) -> None:
    """Interrupted between the storage's folder and the home's."""
    storage = tmp_path / "elsewhere"
    spec = files.load_spec(home, "grid").model_copy(update={"storage": str(storage)})
    files.keep_at_home(spec, home)
    (storage / "grid").mkdir(parents=True)
    (home.study("grid") / "trials").rename(storage / "grid" / "trials")
    files.keep_spec(spec, Folder(str(storage / "grid")))
    with pytest.MonkeyPatch.context() as patch:

        def interrupted(*arguments: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(renaming.files, "keep_spec", interrupted)
        assert fierce(home, "rename", "grid", "line", "--yes")[0] == 130
    code, printed = fierce(home, "rename", "grid", "line", "--yes")
    assert code == 0, printed
    assert (storage / "line" / "trials" / "0" / "checkpoint.pt").is_file() and not (storage / "grid").exists()
    assert files.load_spec(home, "line").storage == str(storage)


def test_names_that_are_taken_or_none_and_studies_that_run(home: Home) -> None:
    before = content(home, "grid")
    for new, told in (("search", "there is a study 'search' in"), ("a b", "a name is letters"), ("../x", "a name is")):
        code, printed = fierce(home, "rename", "grid", new, "--yes")
        assert code == 2 and told in printed and "Traceback" not in printed
    MlflowClient(home.tracking_uri()).create_experiment("kept")
    code, printed = fierce(home, "rename", "grid", "kept", "--yes")
    assert code == 2 and "there is a study 'kept' in sqlite" in printed
    optuna.create_study(study_name="other", storage=home.optuna_uri())
    assert "optuna.db already" in fierce(home, "rename", "grid", "other", "--yes")[1]
    with files.held(home.files("grid"), "grid"):
        code, printed = fierce(home, "rename", "grid", "line", "--yes")
    assert code == 2 and "is being run by process" in printed
    assert fierce(home, "rename", "nosuch", "line", "--yes")[0] == 2
    assert content(home, "grid") == before
    assert trials.load_study(files.load_spec(home, "grid"), home) is not None
    assert files.studies_here(home) == ["grid", "search"]
