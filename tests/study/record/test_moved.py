"""A home that was moved or copied gives what its original gives, and leaves the original alone."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import forked
import numpy as np
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from analysis import artifacts, feature_space, report, schema
from analysis.runs import StoreError, Study
from study.cli import app
from study.file.spec import StudySpec
from study.home import SPEC, Home
from study.launch import sweep
from study.record import files, lookup, moved, tracking, trials
from tests import launches

SEARCH = """
name: q
benchmark: {name: hyperspectral, pixels: 400, probe_epochs: 2}
criteria: [ce, fierce]
seeds: 2
training: {epochs: 2}
concurrency: 1
search:
  criteria: {fierce: {lambda: {low: 0.1, high: 10, log: true}}}
  trials: 2
  objective: {metric: mse/transfer, direction: minimize}
"""


pytestmark = [pytest.mark.usefixtures("trained_here"), pytest.mark.slow]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of a search that was run to its end; the tests do not change it."""
    home = Home(tmp_path_factory.mktemp("old place, ä") / "h")
    file = home.root.parent / "q.yaml"
    file.write_text(SEARCH, encoding="utf-8")
    # by another process, as one that has its database open may write to it later
    arguments = ("run", str(file), "--home", str(home.root))
    done = forked.run(arguments, launches.environment(launches.TESTS.parent), file.parent, forked.FIERCE_WITHOUT_RAY)
    assert "3 done" in done.stdout, done.stderr
    return home


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "FIERCE_STORAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def copied(original: Home, tmp_path: Path) -> Home:
    return copy(original, tmp_path / "elsewhere")


def copy(home: Home, place: Path) -> Home:
    shutil.copytree(home.root, place, symlinks=True)
    return Home(place)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, save those that SQLite and locks touch when they are only read."""
    left_out = ("-shm", "-wal", ".lock")
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(left_out))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def fierce(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output
    return result.output


def told(home: Home, out: Path) -> dict[str, bytes]:
    """All that report, export and status give of the study."""
    fierce("report", "q", "--home", str(home.root), "--out", str(out))
    fierce("export", "q", "--home", str(home.root), "--out", str(out / "all.csv"))
    (out / "status").write_text(fierce("status", "q", "--home", str(home.root)), encoding="utf-8")
    return content(out)


def test_a_copied_and_a_moved_home_give_what_the_original_gives(original: Home, copied: Home, tmp_path: Path) -> None:
    wanted = told(original, tmp_path / "a")
    assert b"Searched for: lowest mse/transfer" in wanted["report.html"] and "feature-space.svg" in wanted
    before = content(original.root)
    assert told(copied, tmp_path / "b") == wanted
    assert content(original.root) == before

    copied.root.rename(tmp_path / "moved")
    now = Home(tmp_path / "moved")
    assert told(now, tmp_path / "c") == wanted
    fierce("report", "q", "--home", str(now.root))
    assert (now.study("q") / "report" / "report.html").read_bytes() == wanted["report.html"]
    assert not copied.root.exists()
    assert content(original.root) == before


def test_a_copy_reads_its_own_artifacts(original: Home, copied: Home) -> None:
    (changed,) = [run for run in Study.open(copied.tracking_uri(), "q").runs if run.data.tags[schema.LEVEL] == "study"]
    (copied.root / "artifacts" / "q" / changed.info.run_id / "artifacts" / schema.STUDY_FILE).write_text(
        "name: other", encoding="utf-8"
    )
    assert Study.open(copied.tracking_uri(), "q").settings == {"name": "other"}
    assert Study.open(original.tracking_uri(), "q").settings["name"] == "q"


def test_mlflow_itself_finds_the_artifacts_once_they_are_settled(original: Home, copied: Home) -> None:
    uri = copied.tracking_uri()
    moved.settle(copied, uri, {"q"}, lambda name: True)
    assert locations(copied) == locations(original)
    moved.settle(copied, uri, {"other"})
    assert locations(copied) == locations(original)
    moved.settle(copied, uri, {"q"})
    assert all(location.startswith(f"{(copied.root / 'artifacts' / 'q').as_uri()}") for location in locations(copied))
    client = MlflowClient(uri)
    for run in Study.open(uri, "q").runs:
        if run.data.tags[schema.LEVEL] == "seed":
            assert [file.path for file in client.list_artifacts(run.info.run_id)] == [schema.ARRAYS]


def locations(home: Home) -> list[str]:
    with closing(sqlite3.connect(home.root / "mlflow.db")) as database:
        rows = database.execute(
            "SELECT artifact_location FROM experiments WHERE name = 'q' UNION SELECT artifact_uri FROM runs ORDER BY 1"
        )
        return [row[0] for row in rows]


def test_artifacts_that_stay_with_a_database_elsewhere_are_left_there(tmp_path: Path) -> None:
    spec = StudySpec.from_yaml(SEARCH).model_copy(update={"tracking_uri": f"sqlite:///{tmp_path / 'shared.db'}"})
    first, second = Home(tmp_path / "first"), Home(tmp_path / "second")
    uri = first.tracking_uri(spec)
    tracking.open_study(spec, first)
    moved.settle(second, uri, {"q"})
    assert Study.open(uri, "q").settings["name"] == "q"
    # but a home that took them along has them
    first.root.rename(second.root)
    with pytest.raises(StoreError, match=r"the artifacts of study 'q' are not at .*/first/artifacts/q: move or copy"):
        _ = Study.open(uri, "q").settings
    moved.settle(second, uri, {"q"})
    assert Study.open(uri, "q").settings["name"] == "q"


def test_a_home_without_its_artifacts_is_refused(copied: Home) -> None:
    shutil.rmtree(copied.root / "artifacts")
    result = CliRunner().invoke(app, ["report", "q", "--home", str(copied.root)])
    assert result.exit_code == 2
    assert f"the artifacts of study 'q' are not at {copied.root / 'artifacts' / 'q'}: move or copy" in result.output


def study_file(home: Home) -> Path:
    study = next(run for run in Study.open(home.tracking_uri(), "q").runs if run.data.tags[schema.LEVEL] == "study")
    place = artifacts.folder(home.tracking_uri(), study)
    assert place is not None
    return place / schema.STUDY_FILE


def test_a_study_file_that_is_gone_or_damaged_is_no_study_without_a_search(copied: Home) -> None:
    path = study_file(copied)
    path.write_text("{name: q", encoding="utf-8")
    result = CliRunner().invoke(app, ["report", "q", "--home", str(copied.root)])
    assert (result.exit_code, "is damaged: resume the study" in result.output) == (2, True)
    path.unlink()
    result = CliRunner().invoke(app, ["report", "q", "--home", str(copied.root)])
    assert (result.exit_code, "is no longer among the artifacts" in result.output) == (2, True)
    with pytest.raises(StoreError, match="is no longer among the artifacts"):
        lookup.tracked_spec(copied.tracking_uri(), "q")


@pytest.mark.parametrize("damage", ["gone", "cut off", "unsaid"])
def test_arrays_that_were_kept_and_cannot_be_read_are_said(copied: Home, tmp_path: Path, damage: str) -> None:
    uri = copied.tracking_uri()
    # cross-entropy's, which the page shows
    wanted = {schema.TRIAL: "0", schema.SEED: "1"}
    (run,) = [run for run in Study.open(uri, "q").runs if wanted.items() <= run.data.tags.items()]
    if damage == "unsaid":
        # as a home of before runs said what they keep
        MlflowClient(uri).delete_tag(run.info.run_id, schema.KEPT)
    place = artifacts.folder(uri, run)
    assert place is not None
    path = place / schema.ARRAYS
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        path.unlink()
    study = Study.open(uri, "q")
    assert set(study.arrays(0, 0)) >= {"features", "coarse"}
    assert study.arrays(0, 1) == {}
    assert study.lost == [(0, 1)]
    text = report.write(uri, "q", tmp_path / "report").read_text(encoding="utf-8")
    assert "leaves these out: trial 0 seed 1." in text


def test_features_that_are_all_gone_were_not_never_kept(copied: Home, tmp_path: Path) -> None:
    for path in (copied.root / "artifacts").rglob(schema.ARRAYS):
        path.unlink()
    study = Study.open(copied.tracking_uri(), "q")
    (said,) = feature_space.section(study, tmp_path).items
    assert "missing or damaged" in str(said)


def test_a_resume_where_the_home_is_now_goes_on_and_stays_there(original: Home, copied: Home) -> None:
    uri = copied.tracking_uri()
    before, wanted = content(original.root), Study.open(original.tracking_uri(), "q")
    now = MlflowClient(uri)
    for run in Study.open(uri, "q").runs:
        if run.data.tags.get(schema.SEED) == "1":
            now.delete_run(run.info.run_id)
    outcome = sweep.run(files.load_spec(copied, "q"), copied)
    assert outcome == sweep.Outcome(done=3, failed=0, missing=0, interrupted=False)
    assert content(original.root) == before
    study = Study.open(uri, "q")
    assert study.frame.equals(wanted.frame)
    for trial in range(3):
        np.testing.assert_equal(study.arrays(trial, 1), wanted.arrays(trial, 1))
    assert study.lost == []


def spec(**changes: object) -> StudySpec:
    return StudySpec.model_validate({"name": "s", "benchmark": "tiny:Tiny", "criteria": ["ce"]} | changes)


def test_paths_move_with_the_home(tmp_path: Path) -> None:
    """Those below it, those that stood beside it, and no others."""
    old, new = tmp_path / "old" / "h", tmp_path / "new" / "h"
    for place in ("old/beside.csv", "new/beside.csv", "new/gone.csv", "old/here.csv", "new/here.csv"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
    (tmp_path / "old" / "beside.csv").unlink()
    options = {
        "name": "tiny:Tiny",
        "data": f"{old}/studies/data/0123/x.csv",
        "beside": f"{old.parent}/beside.csv",
        "here": f"{old.parent}/here.csv",
        "nowhere": f"{old.parent}/nowhere.csv",
        "like": f"{old}-2/x.csv",
        "number": 3,
    }
    before = spec(benchmark=options, storage=f"{old}/more", optuna_uri=f"sqlite:///{old}/mine.db")
    home = Home(new)
    assert moved.rebase(before, home) == before
    moved.keep(before.to_yaml(), home, "s", old)
    now = moved.rebase(before, home)
    assert (now.storage, now.optuna_uri) == (f"{new}/more", f"sqlite:///{new}/mine.db")
    assert now.benchmark.options == {
        "data": f"{new}/studies/data/0123/x.csv",
        "beside": f"{new.parent}/beside.csv",
        "here": f"{old.parent}/here.csv",
        "nowhere": f"{old.parent}/nowhere.csv",
        "like": f"{old}-2/x.csv",
        "number": 3,
    }


def test_a_home_that_never_wrote_down_its_place_is_known_by_its_artifacts(copied: Home, original: Home) -> None:
    path = copied.study("q") / SPEC
    text = path.read_text(encoding="utf-8").removeprefix(f"{moved.RECORD}{original.root}\n")
    path.write_text(f"{text}storage: {original.root}/more\n", encoding="utf-8")
    assert files.load_spec(copied, "q").storage == f"{copied.root}/more"
    moved.settle(copied, copied.tracking_uri(), {"q"})
    assert files.load_spec(copied, "q").storage == f"{copied.root}/more"


def test_a_trial_goes_on_where_its_data_lies_now(tmp_path: Path, trained_here: None) -> None:
    """A study with data in its home, moved half-way: nothing is trained again, and the results are the undisturbed."""
    trouble = Home(tmp_path / "old").root / "trouble"
    trouble.parent.mkdir()
    trouble.write_text("4 raise", encoding="utf-8")
    study = spec(benchmark={"name": "tiny:Tiny", "trouble": str(trouble)}, seeds=[1, 4], max_failures=0)
    # a checkpoint at each epoch
    assert sweep.run(study, Home(tmp_path / "old"), cadence=sweep.Cadence(checkpoint=0.0)).failed == 1
    (tmp_path / "old").rename(tmp_path / "new")
    home = Home(tmp_path / "new")
    (home.root / "trouble").write_text("2 raise", encoding="utf-8")
    outcome = sweep.run(files.load_spec(home, "s"), home, retry_failed=True)
    # had it begun again, it would have failed after its second epoch
    assert (outcome.done, outcome.failed) == (1, 0)
    assert not (tmp_path / "old").exists()
    assert trials.open_study(files.load_spec(home, "s"), home).user_attrs[trials.IDENTITY]
    frame = Study.open(home.tracking_uri(), "s").frame
    undisturbed = Home(tmp_path / "other")
    sweep.run(spec(seeds=[1, 4]), undisturbed)
    assert frame.equals(Study.open(undisturbed.tracking_uri(), "s").frame)
