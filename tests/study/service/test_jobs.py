"""What is sent to a cluster and what is refused before, and a log that is read several times."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from study.errors import UserError
from study.service import jobs
from trainables.benchmarks import DataError

TINY = Path(__file__).resolve().parents[2] / "tiny.py"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a benchmark and a study of one's own."""
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(TINY, work)
    (work / "mine.yaml").write_text("benchmark: tiny:Tiny\ncriteria: [ce]\n", encoding="utf-8")
    monkeypatch.chdir(work)
    monkeypatch.delenv("FIERCE_HOME", raising=False)
    return work


def packed(submission: jobs.Submission) -> set[str]:
    files = jobs._packed(submission.folder, submission.excludes)
    return {str(path.relative_to(submission.folder)) for path in files if path.is_file()}


def test_the_job_runs_the_same_study_from_the_same_folder(folder: Path) -> None:
    submission = jobs.prepare("mine.yaml", ["seeds=2"], "other", Path())
    assert submission.command[:5] == ("fierce", "run", "mine.yaml", "--set", "seeds=2")
    assert submission.command[5:] == (
        *("--name", "other", "--address", "auto", "--events", "--import-data", "--retry-failed"),
    )
    assert submission.folder == folder
    assert submission.spec.name == "other"


def test_a_study_file_is_found_from_another_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "studies").mkdir()
    (folder / "mine.yaml").rename(folder / "studies" / "mine.yaml")
    monkeypatch.chdir(folder / "studies")
    assert jobs.prepare("mine.yaml", [], None, folder).command[2] == "studies/mine.yaml"
    # a ready-made one is in the package
    assert jobs.prepare("quickstart", [], None, folder).command[2] == "quickstart"


def test_what_is_ignored_stays(folder: Path) -> None:
    (folder / ".gitignore").write_text("*.secret\n/kept/*\n!/kept/this\n", encoding="utf-8")
    (folder / ".rayignore").write_text("big\n", encoding="utf-8")
    for name in ("a.secret", "big", "kept/this", "kept/that", "fierce-home/mlflow.db", ".git/config", ".venv/python"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    sent = packed(jobs.prepare("mine.yaml", [], None, folder))
    assert sent == {".gitignore", ".rayignore", "mine.yaml", "tiny.py", "kept/this"}


def scene(path: Path) -> None:
    import numpy as np

    generator = np.random.default_rng(0)
    path.parent.mkdir(exist_ok=True)
    np.savez(path, Y=generator.random((5, 30)), A=generator.dirichlet((1, 1), 30).T, nRow=5, nCol=6)


def with_scene(value: str) -> jobs.Submission:
    return jobs.prepare("hyperspectral-table", [f"benchmark.data={value}"], None, Path())


def test_data_in_the_folder_goes_along(folder: Path) -> None:
    scene(folder / "data" / "scene.npz")
    submission = with_scene("data/scene.npz")
    assert "data/scene.npz" in packed(submission)
    # as it was written, so that the job finds it in its own folder
    assert "benchmark.data=data/scene.npz" in submission.command


def test_data_that_only_the_cluster_has_is_the_clusters_to_find(folder: Path) -> None:
    assert with_scene("/mnt/shared/scene.npz").spec.benchmark.options["data"] == "/mnt/shared/scene.npz"
    assert with_scene("s3://bucket/scene.npz").spec.benchmark.options["data"] == "s3://bucket/scene.npz"


def _outside(folder: Path) -> jobs.Submission:
    scene(folder.parent / "scene.npz")
    return with_scene("../scene.npz")


def _ignored(folder: Path) -> jobs.Submission:
    scene(folder / "scene.npz")
    (folder / ".gitignore").write_text("*.npz\n", encoding="utf-8")
    return with_scene("scene.npz")


def _images(folder: Path) -> jobs.Submission:
    (folder / "faces").mkdir()
    return jobs.prepare("age-quickstart", ["benchmark.data=faces"], None, folder)


def _large(folder: Path) -> jobs.Submission:
    with (folder / "large.bin").open("wb") as file:
        file.truncate(jobs.MAX_BYTES + 1)
    return jobs.prepare("mine.yaml", [], None, folder)


def _foreign_study(folder: Path) -> jobs.Submission:
    (folder.parent / "other.yaml").write_text("benchmark: tiny:Tiny\ncriteria: [ce]\n", encoding="utf-8")
    return jobs.prepare("../other.yaml", [], None, folder)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        pytest.param(_outside, ("benchmark.data", "../scene.npz", "outside the working directory"), id="data outside"),
        pytest.param(_ignored, ("benchmark.data", "scene.npz", ".gitignore"), id="data ignored"),
        pytest.param(lambda folder: with_scene("no.npz"), ("no.npz",), id="no data"),
        pytest.param(_images, ("benchmark.data", "faces", "shared storage"), id="a folder"),
        pytest.param(_large, ("--working-dir", "large.bin", ".gitignore", "fierce data prepare"), id="too large"),
        pytest.param(_foreign_study, ("../other.yaml", "--working-dir"), id="study outside"),
        pytest.param(
            lambda folder: jobs.prepare("mine.yaml", [], None, folder / "none"), ("--working-dir", "none"), id="folder"
        ),
        pytest.param(lambda folder: jobs.prepare("no.yaml", [], None, folder), ("no such study file",), id="no study"),
        pytest.param(
            lambda folder: jobs.prepare("mine.yaml", ["seedz=2"], None, folder), ("'seeds'",), id="bad override"
        ),
    ],
)
def test_what_could_not_run_is_not_sent(
    folder: Path, prepare: Callable[[Path], jobs.Submission], words: tuple[str, ...]
) -> None:
    with pytest.raises((UserError, DataError)) as raised:
        prepare(folder)
    for word in words:
        assert word in str(raised.value)


def test_a_gpu_is_the_clusters_affair(folder: Path) -> None:
    assert (
        jobs.prepare("mine.yaml", ["resources.gpus=1", "resources.cpus=500"], None, folder).spec.resources.cpus == 500
    )


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_each_line_of_a_log_that_is_read_again_is_told_once(size: int) -> None:
    text = "first\n\nsecond λ\nthird is not complete"
    told: list[str] = []
    reader = jobs._Reader(told.append)
    for end in range(len(text) + 1):
        reader.rewind()
        for start in range(0, end, size):
            reader.add(text[start : min(start + size, end)])
    assert told == ["first", "", "second λ"]
