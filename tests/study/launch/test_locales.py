"""A terminal that cannot write λ, and a display that fails: neither ends a study, nor does a locale change a file."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from analysis.terminal import plain
from study.cli import app
from study.file.spec import StudySpec
from study.launch.events import EventLines
from study.launch.observer import Guarded
from study.launch.progress import StudyProgress

TESTS = Path(__file__).resolve().parents[2]
FIERCE = Path(sys.executable).with_name("fierce")
STUDY = """
name: q
description: Bäume, λ
benchmark: {name: hyperspectral, pixels: 400, probe_epochs: 5}
criteria: [ce, fierce]
seeds: 2
training: {epochs: 2}
concurrency: 1
"""
#: an 8-bit locale need not be installed; what Python takes from one are the encodings of terminal and files
LOCALES = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "8 bits": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "iso-8859-1"},
    "C": {"LC_ALL": "C"},
    "UTF-8": {"LC_ALL": "C.UTF-8"},
}


def fierce(
    folder: Path, locale: Mapping[str, str], *arguments: str, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    left_out = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONIOENCODING", "PYTHONUTF8")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = {**kept, "FIERCE_HOME": str(folder / "home"), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **locale}
    return subprocess.run(
        [FIERCE, *arguments], env=environment, cwd=folder, timeout=300, **{"capture_output": True, **options}
    )


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.ray
def test_a_study_from_its_file_to_its_report(tmp_path: Path) -> None:
    """In an 8-bit locale; those that can spell it all are what every other study of these tests has."""
    locale = LOCALES["8 bits"]
    (tmp_path / "q.yaml").write_text(STUDY, encoding="utf-8")
    run = fierce(tmp_path, locale, "run", "q.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert b"fierce lambda=1" in run.stdout and b"2 done, 0 failed, 0 missing" in run.stdout
    kept = (tmp_path / "home" / "studies" / "q" / "study.yaml").read_text(encoding="utf-8")
    assert StudySpec.from_yaml(kept).description == "Bäume, λ"
    # from a terminal of another kind, as the next morning
    for other, symbol in (("8 bits", b"lambda"), ("UTF-8", "λ".encode())):
        status = fierce(tmp_path, LOCALES[other], "status", "q")
        assert status.returncode == 0 and b"trials: 2 done" in status.stdout, status.stderr
        assert b"fierce " + symbol + b"=1" in status.stdout
    report = fierce(tmp_path, locale, "report", "q")
    assert report.returncode == 0, report.stderr
    page = (tmp_path / "home" / "studies" / "q" / "report" / "report.html").read_text(encoding="utf-8")
    assert "λ" in page


@pytest.mark.slow
@pytest.mark.parametrize("options", [["home"], ["data"], ["home", "data"]], ids=" and ".join)
def test_a_path_that_the_locale_cannot_spell_is_one_sentence(tmp_path: Path, options: Sequence[str]) -> None:
    """Tables, study file and databases are in UTF-8, where such a path would be another or none."""
    (tmp_path / "q.yaml").write_text(STUDY, encoding="utf-8")
    folder = tmp_path / ("Bäume" if "data" in options else "here")
    folder.mkdir()
    home = ["--home", "Bäume" if "home" in options else "/tmp"]
    data = ["--set", "benchmark.data=data/../x.mat"] if "data" in options else []
    # where a locale can spell them, both are taken at once
    locale = "UTF-8" if len(options) == 2 else "ascii"
    done = fierce(folder, LOCALES[locale], "run", "../q.yaml", "--dry-run", *home, *data)
    told = b"spelled otherwise in this locale's encoding" in done.stderr
    assert told == (locale == "ascii") and b"Traceback" not in done.stderr, done.stderr
    assert not told or (done.returncode == 2 and b"PYTHONUTF8=1" in done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCALES)
def test_a_plan_is_printed(tmp_path: Path, name: str) -> None:
    # so short that it is over before it could be timed
    short = ("--set", "training.epochs=1", "--set", "training.milestones=[]")
    plan = fierce(tmp_path, LOCALES[name], "run", "quickstart", "--dry-run", *short)
    assert plan.returncode == 0, plan.stderr
    # click takes a terminal of ASCII for one that is set up wrongly, and writes UTF-8 to it
    symbol = b"lambda" if name == "8 bits" else "λ".encode()
    assert b"Traceback" not in plan.stderr and b"fierce " + symbol + b"=" in plan.stdout


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"lambda=1 sigma 3 x 2 - ? B?ume ..."),
        ("iso-8859-1", "lambda=1 sigma 3 × 2 - ? Bäume ...".encode("latin-1")),
    ],
)
def test_letters_that_a_terminal_lacks_are_told_in_words(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shown: bytes
) -> None:
    stream = io.TextIOWrapper(content := io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    plain()
    print("λ=1 σ 3 × 2 − 字 Bäume …", end="", flush=True)
    assert content.getvalue() == shown


class Broken:
    """An observer, and a stream, that fails as a terminal that was closed."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        def fail(*arguments: Any, **named: Any) -> None:
            self.calls += 1
            raise BrokenPipeError(32, "Broken pipe")

        return fail


def test_an_observer_that_fails_is_told_of_once_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    guarded = Guarded(broken := Broken())
    guarded.started(2)
    guarded.trial_started(0, "ce", "baseline")
    guarded.trial_ended(0, "done", None, {})
    assert broken.calls == 1
    assert [record.getMessage() for record in caplog.records] == [
        "the display failed (BrokenPipeError: [Errno 32] Broken pipe); the study goes on without it"
    ]


@pytest.mark.parametrize("kind", ["lines", "bars", "events"])
def test_displays_on_a_stream_that_was_closed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", encoding="utf-8", buffering=1)
    monkeypatch.setattr(sys, "stdout", stream)
    spec = StudySpec.model_validate({"name": "s", "benchmark": "tiny:Tiny", "criteria": ["ce"], "seeds": 1})
    display: Any = EventLines()
    if kind != "events":
        display = StudyProgress(spec, Console(file=stream, force_terminal=kind == "bars", width=80))
        display.__enter__()
    guarded = Guarded(display)
    guarded.started(1)
    guarded.trial_started(0, "fierce λ=1", "baseline")
    guarded.epoch(0, 1, 2, {"accuracy/coarse": 0.5})
    guarded.trial_ended(0, "done", None, {})
    if kind != "events":
        display.__exit__(None, None, None)
    # what the stream still holds cannot be written to the pipe
    os.dup2(null := os.open(os.devnull, os.O_WRONLY), writing)
    os.close(null)
    stream.close()


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.ray
def test_a_study_whose_reader_went_away_trains_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "q.yaml").write_text("benchmark: tiny:Tiny\ncriteria: [ce]\nseeds: 1\nname: q\n", encoding="utf-8")
    reading, writing = os.pipe()
    os.close(reading)
    fierce(tmp_path, {}, "run", "q.yaml", capture_output=False, stdout=writing, stderr=subprocess.DEVNULL)
    os.close(writing)
    status = CliRunner().invoke(app, ["status", "q", "--home", str(tmp_path / "home")])
    assert "trials: 1 done" in status.stdout, status.output
