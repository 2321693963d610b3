"""Which page a benchmark's report is made by: its own, anyone's, the one that is named, else the default."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis import pages, report, selection
from analysis.pages import PageError
from analysis.runs import Study
from study.cli import app
from tests.analysis.known_study import Store, write_store
from tests.analysis.test_report import bare_study
from trainables.benchmarks import BENCHMARKS

PAGE = """
from analysis.output import Section
from analysis.pages import Page

def birds(study, out):
    return Section("Birds of {0}", (f"as told by {{study.name}}",))

PAGES = [Page(sections=[birds], settings={{"ce": {{}}}}, metrics=["error/mine"])]
"""


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where Python looks for modules and installed packages."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    return folder


#: the benchmarks of one's own data, which the default page is for
OWN_DATA = {"table", "images"}


@pytest.mark.parametrize("benchmark", sorted(BENCHMARKS.keys() - OWN_DATA))
def test_every_benchmark_of_the_project_has_a_page(benchmark: str) -> None:
    assert benchmark in pages.find(benchmark).benchmarks, f"no page of analysis.pages.BUILT_IN has {benchmark}"


def test_any_other_benchmark_has_the_default_page() -> None:
    default = importlib.import_module(pages.DEFAULT).PAGES[0]
    assert all(pages.find(benchmark) is default for benchmark in ("mylab.data:Birds", "", *OWN_DATA))


def test_the_benchmark_tag_of_a_store_is_never_imported(known: Store, importable: Path, tmp_path: Path) -> None:
    (importable / "planted.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nPAGES = []\n", encoding="utf-8"
    )
    bare_study(known.uri, "planted", "planted:Birds", {"error/mine": 2.0})
    report.write(known.uri, "planted", tmp_path / "report")
    assert not (tmp_path / "ran").exists()


def test_an_entry_point_gives_a_benchmark_its_page(known: Store, importable: Path, tmp_path: Path) -> None:
    (importable / "birds_page.py").write_text(PAGE.format("the lab"), encoding="utf-8")
    installed = importable / "birds-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: birds\nVersion: 1.0\n", encoding="utf-8")
    (installed / "entry_points.txt").write_text("[fierce.pages]\nmylab.data:Birds = birds_page\n", encoding="utf-8")
    bare_study(known.uri, "birds", "mylab.data:Birds", {"error/mine": 2.0})
    text = report.write(known.uri, "birds", tmp_path / "report").read_text(encoding="utf-8")
    assert "Birds of the lab" in text and "as told by birds" in text and "<h2>Trajectories" not in text


def test_a_page_that_is_named_comes_first(known: Store, importable: Path, tmp_path: Path) -> None:
    (importable / "named_page.py").write_text(PAGE.format("somewhere"), encoding="utf-8")
    text = report.write(known.uri, known.name, tmp_path, "named_page").read_text(encoding="utf-8")
    assert "Birds of somewhere" in text and "Unmixing" not in text


def test_of_several_pages_in_a_module_the_benchmarks_is_taken() -> None:
    module = "analysis.natural_images.page"
    assert pages.find("cub", module).settings["fierce"]["lambda"] == 2.0
    assert pages.find("mylab.data:Birds", module) is importlib.import_module(module).PAGES[0]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("import no_such_module\n", "cannot be imported .*no_such_module"),
        ("SECTIONS = []\n", "cannot be imported .*PAGES"),
        ("PAGES = [1]\n", "PAGES must be a list of analysis.pages.Page"),
        ("PAGES = []\n", "with at least one"),
    ],
)
def test_a_module_that_is_no_page_is_one_sentence(
    importable: Path, monkeypatch: pytest.MonkeyPatch, content: str, sentence: str
) -> None:
    name = f"wrong_page_{abs(hash(content))}"
    (importable / f"{name}.py").write_text(content, encoding="utf-8")
    with pytest.raises(PageError, match=sentence) as caught:
        pages.find("hyperspectral", name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("{}['margin']", r"section failing_page_0.mine fails in line 3 of .*failing_page_0.py: KeyError: 'margin'"),
        ("study.criterion", "section failing_page_1.mine must return an analysis.output.Section, not method"),
    ],
)
def test_a_section_that_fails_is_one_sentence(
    known: Store, importable: Path, tmp_path: Path, body: str, sentence: str
) -> None:
    name = f"failing_page_{int('study' in body)}"
    code = (
        f"from analysis.pages import Page\ndef mine(study, out):\n    return {body}\nPAGES = [Page(sections=[mine])]\n"
    )
    (importable / f"{name}.py").write_text(code, encoding="utf-8")
    with pytest.raises(PageError, match=sentence) as caught:
        report.write(known.uri, known.name, tmp_path, name)
    assert "\n" not in str(caught.value)


def test_a_section_without_anything_to_show_is_left_out(known: Store, importable: Path, tmp_path: Path) -> None:
    (importable / "empty_page.py").write_text(
        "from analysis.pages import Page\nPAGES = [Page(sections=[lambda study, out: None])]\n", encoding="utf-8"
    )
    text = report.write(known.uri, known.name, tmp_path, "empty_page").read_text(encoding="utf-8")
    assert "What was run" in text
    assert "Unmixing" not in text


def test_the_papers_setting_is_the_pages(known: Store, importable: Path) -> None:
    (importable / "other_setting.py").write_text(
        "from analysis.pages import Page\n"
        "PAGES = [Page(sections=[], settings={'fierce': {'lambda': 4.0, 'e': 100.0}})]\n",
        encoding="utf-8",
    )
    study = Study.open(known.uri, known.name, "other_setting")
    assert selection.headline(study)["fierce"].label == "FIERCE λ=4 e=100"


@pytest.mark.slow
def test_the_command_takes_a_page(tmp_path: Path, importable: Path) -> None:
    (importable / "command_page.py").write_text(PAGE.format("the command"), encoding="utf-8")
    write_store(tmp_path)
    runner = CliRunner()
    command = ["report", "known", "--home", str(tmp_path), "--out", str(tmp_path / "out")]
    wrong = runner.invoke(app, [*command, "--page", "no_such_page"])
    assert wrong.exit_code == 2 and "no_such_page" in wrong.stderr and len(wrong.stderr.splitlines()) == 1
    assert not (tmp_path / "out" / "report.html").exists()
    done = runner.invoke(app, [*command, "--page", "command_page"])
    assert done.exit_code == 0, done.output
    assert "Birds of the command" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
