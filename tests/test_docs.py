"""What the docs show is true: printed references, study files and snippets of Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.file.plan import planned
from study.file.reference import PAGES
from study.file.spec import StudySpec
from study.home import Home
from study.launch.placement import Capacity
from study.launch.search import StudySearcher
from study.record import tracking, trials
from trainables.assignment import Assignment, Result
from trainables.training import Training

ROOT = Path(__file__).parents[1]
PRINTED = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def fenced(path: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


#: whole study files among what the docs show: those that name a benchmark, and what is trained
STUDIES = [
    pytest.param(text, id=f"{path.name}-{number}")
    for path in PRINTED
    for number, text in enumerate(fenced(path, "yaml", "yml"))
    if re.search("^benchmark:", text, re.MULTILINE) and re.search("^(criteria|grid|search):", text, re.MULTILINE)
]
SNIPPETS = fenced(ROOT / "docs" / "mlflow.md", "python")


@pytest.mark.parametrize("name", PAGES)
def test_references_are_what_the_program_prints(name: str) -> None:
    kept = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert kept == PAGES[name](), "python -m study.file.reference prints it anew"


def test_there_are_studies_and_snippets() -> None:
    assert len(STUDIES) >= 7 and len(SNIPPETS) >= 7


@pytest.mark.parametrize("text", STUDIES)
def test_a_study_that_is_shown_is_one(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # criteria of one's own are those of the page that shows the study
    own = [code for code in fenced(ROOT / "docs" / "own-data.md", "python") if "class Focal" in code]
    (tmp_path / "mylosses.py").write_text("\n".join(own), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "shown.yaml"
    file.write_text(text, encoding="utf-8")
    spec = StudySpec.load(file)
    assert planned(spec) >= 2
    assert StudySpec.from_yaml(spec.to_yaml()) == spec


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A study called digits, of two criteria and two seeds, in MLflow and Optuna as a launch would leave them."""
    home = Home(tmp_path_factory.mktemp("docs"))
    values = {"name": "digits", "benchmark": "tests.tiny:Tiny", "criteria": ["ce", "fierce"], "seeds": 2}
    spec = StudySpec.model_validate({**values, "training": {"epochs": 2}})
    study = trials.open_study(spec, home)
    tracked = tracking.open_study(spec, home, trials.study_identity(study))
    searcher = StudySearcher(spec, study, lambda: Capacity(1, 0, 1))
    for place in range(2):
        given = Assignment.from_config(searcher.suggest(f"t{place}"))
        training, tracker = Training(given.trial), tracked.open_trial(given)
        records = list(training.run())
        tracker.describe(training)
        tracker.add(records)
        tracker.complete(training.arrays(), training.weights())
        tracker.finish()
        told = Result(epoch=2, epochs=2, finished=True, values=records[-1].metrics)
        searcher.on_trial_complete(f"t{place}", told.to_tune())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", home.tracking_uri())
        patch.setenv("OPTUNA_STORAGE", home.optuna_uri())
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs_and_prints_what_is_there(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(SNIPPETS[number], "docs/mlflow.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed and not re.search(r"\bEmpty DataFrame\b|\[\]$", printed)
