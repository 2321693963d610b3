"""The page of the paper, of a real store: its order, and every printed number against the runs that it names."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from analysis import claims, statistics
from analysis.across import paper
from analysis.across.paper import Element, Piece
from analysis.hyperspectral.table import COLUMNS
from tests.analysis.age.known_age import write_age_store
from tests.analysis.known_study import MORE, SEEDS, Store, write_store

pytestmark = pytest.mark.slow

ELEMENTS = (
    Element("Table 1", "raw and transfer MSE", {"scene": ("unmixing", "unmixing-differences")}),
    Element("Table 2", "few-shot accuracy", {"cub": ("few-shot",)}),
    Element("Figure A3", "reliability", {"scene": ("reliability",)}),
    Element("Table A1", "outputs", {"scene": ("output-metrics",)}),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The study with known answers, with seeds enough for a verdict."""
    return write_store(tmp_path_factory.mktemp("paper"), seeds=(*SEEDS, *MORE))


def pieces(store: Store) -> list[Piece]:
    there = Piece("scene", "released", store.name, store.uri, "Houston", 9600, cut="6 of 200 epochs", predicted=120)
    return [there, Piece("cub", "released", "birds", "", "CUB-200-2011", 32000, missing="not run: needs 3.0 h")]


@pytest.fixture(scope="module")
def page(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper.write(pieces(store), ELEMENTS, tmp_path_factory.mktemp("out"), "again", "30 min")


class Tables(HTMLParser):
    """The cells of a page's tables: (item, row, column) -> text."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: dict[tuple[str, int, str], str] = {}
        self._item, self._columns, self._row, self._place, self._cell = "", [], -1, 0, ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._item = given.get("data-item") or self._item
        if tag == "table":
            self._columns, self._row = [], -1
        if tag == "tr" and self._columns:
            self._row, self._place = self._row + 1, 0
        if tag in ("th", "td"):
            self._cell, self._inside = "", tag

    def handle_data(self, data: str) -> None:
        self._cell += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "th":
            self._columns.append(self._cell.strip())
        if tag == "td":
            self.cells[self._item, self._row, self._columns[self._place]] = self._cell.strip()
            self._place += 1


def test_every_printed_number_names_runs_of_its_study(store: Store, page: Path) -> None:
    tables = Tables()
    tables.feed(page.read_text(encoding="utf-8"))
    numbers = json.loads((page.parent / "numbers.json").read_text(encoding="utf-8"))
    known = {(each["item"], each.get("row"), each.get("column")): each for each in numbers["numbers"]}
    printed = {key for key, text in tables.cells.items() if re.search(r"\d", text)}
    # names of claims and probes are no numbers, and stand for themselves
    words = {key for key in printed if "/grid-" in key[0] and key[2] in ("claim", "where", "measured by")}
    assert len(printed - words) > 40 and printed - words <= known.keys()
    client = MlflowClient(store.uri)
    (experiment,) = client.search_experiments(filter_string=f"name = '{store.name}'")
    there = {run.info.run_id for run in client.search_runs([experiment.experiment_id], max_results=1000)}
    for key in printed - words:
        entry = known[key]
        assert entry.get("planned") or entry.get("printed") or (entry["runs"] and set(entry["runs"]) <= there), key
    figures = [each for each in numbers["numbers"] if each["item"].endswith(".svg")]
    assert figures and all(set(each["runs"]) <= there for each in figures)


def test_a_tables_means_are_those_of_the_runs_that_are_named(store: Store, page: Path) -> None:
    client = MlflowClient(store.uri)
    numbers = json.loads((page.parent / "numbers.json").read_text(encoding="utf-8"))["numbers"]
    by_label = {label: metric for metric, label in COLUMNS.items()}
    checked = 0
    for each in numbers:
        if each["item"].endswith("/unmixing") and each["column"] in by_label:
            runs = [client.get_run(run).data.metrics for run in each["runs"]]
            mean = np.mean([metrics[by_label[each["column"]]] for metrics in runs])
            assert float(each["text"].split()[0]) == pytest.approx(mean, rel=0.01), each
            checked += 1
    assert checked >= 3 * len(COLUMNS)


def test_elements_stand_in_the_papers_order_with_what_is_missing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert [title for title in titles if title in {each.name for each in ELEMENTS}] == [each.name for each in ELEMENTS]
    assert "not run: needs 3.0 h" in text and "6 of 200 epochs" in text
    assert "The paper: Houston, about 9,600 steps." in text and "<script" not in text


def test_holm_is_over_the_whole_page(store: Store) -> None:
    def adjusted(made: list[Piece]) -> list[Any]:
        return [each.adjusted for each in paper.judge(made) if not np.isnan(each.adjusted)]

    (one, _) = pieces(store)
    study = one.study
    assert study is not None
    p = [verdict.p for _, verdict in claims.tested(study, study.page.claims)]
    twice = adjusted([one, Piece("scene", "paper", store.name, store.uri, "Houston", 9600)])
    assert twice == pytest.approx([each for each in statistics.holm([*p, *p]) if not np.isnan(each)])
    assert max(np.subtract(twice[: len(twice) // 2], adjusted([one]))) > 0


def test_the_grid_says_no_more_than_the_adjusted_p_bears(store: Store, page: Path) -> None:
    tables = Tables()
    tables.feed(page.read_text(encoding="utf-8"))
    cells = [text for (item, _, column), text in tables.cells.items() if "/grid-" in item and "released" in column]
    sure = [text for text in cells if text.startswith(("holds", "does not hold"))]
    assert sure and all(re.search(r"p\s(<\s0\.001|0\.0[0-4]\d|0\.050)\)", text) for text in sure)


def test_studies_that_judge_no_claim_together_stand_apart(store: Store, tmp_path: Path) -> None:
    faces = write_age_store(tmp_path / "store")
    made = [*pieces(store)[:1], Piece("faces", "released", faces.name, faces.uri, "IMDB faces", 336000)]
    tables = Tables()
    tables.feed(paper.write(made, ELEMENTS, tmp_path / "out", "again", "30 min").read_text(encoding="utf-8"))
    found: dict[str, set[str]] = {}
    for item, _, column in tables.cells:
        if "/grid-" in item and column not in ("claim", "where", "measured by"):
            found.setdefault(item, set()).add(column.rpartition(" ")[2])
    assert found == {"items/grid-1": {"scene"}, "items/grid-2": {"faces"}}
