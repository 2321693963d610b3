"""The report and its parts: figures and tables as files, numbers that were put in, one page that needs nothing else."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from mlflow import MlflowClient
from scipy import stats

from analysis import (
    command,
    feature_space,
    output,
    reliability,
    report,
    runs,
    schema,
    sensitivity,
    trajectories,
)
from analysis.hyperspectral import entropy_estimate, table
from analysis.output import Figure
from analysis.runs import Study
from tests.analysis.known_study import DEVIATIONS, LEVELS, Store

FIGURES = (
    "answer",
    "entropy-estimate",
    "feature-space",
    "reliability",
    "sensitivity-anchors",
    "sensitivity-lambda",
    "trajectories",
)
TABLES = (
    "cka",
    "claims",
    "entropy-correlation",
    "output-metrics",
    "search-fierce",
    "sensitivity",
    "separation",
    "trials",
    "turn",
    "unmixing",
    "unmixing-differences",
    "verdicts",
)


class Page(HTMLParser):
    """Tags that open and close, addresses that are loaded, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.images = 0
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.images += tag == "img"
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def study(known: Store) -> Study:
    return Study.open(known.uri, known.name)


@pytest.fixture(scope="module")
def page(known: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(known.uri, known.name, tmp_path_factory.mktemp("report"))


@pytest.mark.slow
def test_page_needs_nothing_else(page: Path) -> None:
    html = Page(page.read_text(encoding="utf-8"))
    assert html.open == [] and html.images == len(FIGURES)
    assert all(address.startswith(("#", "data:image/svg+xml;base64,")) for address in html.addresses)
    text = page.read_text(encoding="utf-8")
    assert "<script src" not in text and "@import" not in text and "default-src 'none'" in text


@pytest.mark.slow
def test_page_says_what_was_run_and_what_is_missing(page: Path) -> None:
    text = " ".join(Page(page.read_text(encoding="utf-8")).text.split())
    for sentence in (
        "7 of 10 planned trials are done with all their seeds.",
        "Failed: trial 7, FIERCE λ=9 e=100 (the loss is not finite).",
        "trial 8 lacks 3.",
        "Not started: 1 trials.",
        "Simulated data.",
        "the best of 5 points is FIERCE λ=0.1 e=100 (trial 3)",
        "fierce run known.yaml && fierce report known",
    ):
        assert sentence in text
    assert "secret" not in text


def test_every_figure_and_table_stands_beside_the_page(page: Path) -> None:
    made = {path.name for path in page.parent.iterdir()} - {"report.html"}
    figures = {f"{stem}.{suffix}" for stem in FIGURES for suffix in ("svg", "png")}
    assert made == figures | {f"{stem}.{suffix}" for stem in TABLES for suffix in ("csv", "md", "tex")}
    for stem in FIGURES:
        assert ElementTree.parse(page.parent / f"{stem}.svg").getroot().tag.endswith("svg")
        assert imread(page.parent / f"{stem}.png").std() > 0


def test_the_answer_comes_first_and_no_table_is_wide(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert html.index('class="lead"') < html.index("<img") < html.index("<nav") < html.index("What was run")
    assert "s 19 claims: " in html[: html.index("<nav")]
    widths = [head.count("<th ") for head in re.findall("<thead>(.*?)</thead>", html, re.S)]
    assert max(widths) <= 7
    # what does not fit is folded, and the files have it all
    folded = re.findall("<details>(.*?)</details>", html, re.S)
    assert folded and all("<summary>" in each for each in folded)
    assert "exact p" in folded[-1] and "exact p" in (page.parent / "claims.md").read_text(encoding="utf-8")


def test_provenance_stands_wherever_numbers_do(page: Path) -> None:
    captions = re.findall(
        r'<(?:figcaption|p class="caption")>(.*?)</(?:figcaption|p)>', page.read_text(encoding="utf-8"), re.S
    )
    assert len(captions) == len(FIGURES) + len(TABLES)
    assert all("test scene (simulated)" in caption for caption in captions)
    for stem in TABLES:
        for suffix in ("md", "tex"):
            assert "simulated" in (page.parent / f"{stem}.{suffix}").read_text(encoding="utf-8")


def test_the_tables_numbers_are_those_put_in(page: Path) -> None:
    table = pd.read_csv(page.parent / "unmixing.csv").set_index(["trial", "metric"])
    for metric in ("mse/raw", "mse/transfer-least-squares", "accuracy/coarse"):
        for trial in (0, 1, 2):
            assert table.loc[(trial, metric), "mean"] == pytest.approx(LEVELS[metric][trial])
    deviations = list(DEVIATIONS.values())
    low, high = stats.t.interval(0.95, 3, LEVELS["mse/raw"][0], stats.sem(deviations))
    assert table.loc[(0, "mse/raw"), ["low", "high"]].tolist() == pytest.approx([low, high])
    # a seed is missing: no interval, and the number of seeds in words
    assert table.loc[(8, "mse/raw"), ["low", "high"]].isna().all()
    assert "0.0817 (n = 3 of 4)" in (page.parent / "unmixing.md").read_text(encoding="utf-8")
    # the paper's numbers say nothing of simulated data
    assert "paper:" not in (page.parent / "unmixing.md").read_text(encoding="utf-8")


def test_real_data_stands_beside_the_papers_numbers(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "provenance", lambda _: "real")
    # as its page has it
    study.page.sections[0](study, tmp_path)
    assert "0.066 ± 0.1" in (tmp_path / "unmixing.md").read_text(encoding="utf-8")


def test_latex_has_no_character_that_pdflatex_lacks(page: Path) -> None:
    for stem in TABLES:
        text = (page.parent / f"{stem}.tex").read_text(encoding="utf-8")
        assert set(text) - {chr(code) for code in range(128)} <= {"§"}
        assert text.count("{") == text.count("}") and text.count("$") % 2 == 0


@pytest.mark.slow
def test_same_values_same_bytes(study: Study, tmp_path: Path) -> None:
    first, second = (reliability.section(study, tmp_path / name).items[0] for name in ("a", "b"))
    assert isinstance(first, Figure) and isinstance(second, Figure)
    assert first.svg.read_bytes() == second.svg.read_bytes()


def test_rank_correlation_is_scipys() -> None:
    random = np.random.default_rng(0)
    first, second = (pd.DataFrame(random.normal(size=(12, 3))) for _ in range(2))
    coefficients = trajectories.rank_correlations(first, second.iloc[::2])
    expected = [stats.spearmanr(first.iloc[::2, seed], second.iloc[::2, seed]).statistic for seed in range(3)]
    assert coefficients.tolist() == pytest.approx(expected)


def test_entropies_that_rise_together_correlate_fully(study: Study) -> None:
    coefficients = entropy_estimate.correlations(study)
    assert coefficients["ce"].tolist() == pytest.approx([1.0] * 4)


def test_sensitivity_axes(study: Study) -> None:
    weights, anchors = (sensitivity.along(study, "fierce", name) for name in ("lambda", "e"))
    assert weights is not None and weights.trials["lambda"].tolist() == [0.1, 1.0, 4.0]
    assert anchors is not None and anchors.trials["trial"].tolist() == [5, 2, 6]
    assert (weights.fixed, anchors.fixed, anchors.is_line) == ("e = 100", "λ = 1", True)


def test_reliability_curves_are_the_replicas(study: Study) -> None:
    curves = reliability.curves(study)
    assert set(curves) == {"ce", "ls", "fierce"}
    assert curves["ce"].shape == (4, 10, 3) and np.isnan(curves["ce"][:, 4, 1]).all()


def test_embedding_keeps_neighbours_and_repeats(study: Study) -> None:
    kept = study.arrays(0, 0)
    places = feature_space.embed(kept["features"])
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + 1e9 * np.eye(len(places))
    assert (kept["coarse"][distance.argmin(1)] == kept["coarse"]).mean() > 0.95
    np.testing.assert_array_equal(places, feature_space.embed(kept["features"]))


def test_one_feature_is_drawn_where_it_lies(study: Study, tmp_path: Path) -> None:
    replicas = study.final[["trial", "seed"]].drop_duplicates().itertuples(index=False)
    kept = {(trial, seed): dict(study.arrays(trial, seed)) for trial, seed in replicas}
    for arrays in kept.values():
        if "features" in arrays:
            arrays["features"] = arrays["features"][:, :1]
    one = replace(study)
    one.__dict__["_arrays"] = kept
    figure = feature_space.section(one, tmp_path).items[0]
    assert isinstance(figure, Figure) and figure.caption.startswith("The one held-out feature, across")
    feature = kept[0, 0]["features"]
    places = feature_space.embed(feature)
    np.testing.assert_array_equal(places, np.stack([feature[:, 0], np.zeros(len(feature))], 1)[: len(places)])


def test_spread_features_are_less_separated(study: Study) -> None:
    separations = feature_space.separation(study)
    assert (separations["fierce"] < separations["ce"] - 0.2).all()


def bare_study(uri: str, name: str, benchmark: str, values: dict[str, float]) -> None:
    """A study of one trial with two seeds and two epochs, of metrics that only its benchmark has."""
    client = MlflowClient(uri)
    experiment = client.create_experiment(name)
    common = {schema.STUDY: name, schema.BENCHMARK: benchmark, schema.SEEDS: "0,1"}
    client.create_run(experiment, tags={**common, schema.LEVEL: "study", schema.PLANNED_TRIALS: "1"})
    trial = {**common, schema.TRIAL: "0", schema.CRITERION: "ce"}
    client.set_terminated(client.create_run(experiment, tags={**trial, schema.LEVEL: "trial"}).info.run_id)
    for seed in ("0", "1"):
        run = client.create_run(experiment, tags={**trial, schema.LEVEL: "seed", schema.SEED: seed}).info.run_id
        for metric, value in values.items():
            client.log_metric(run, metric, value, step=1)
            client.log_metric(run, metric, value / 2 + int(seed), step=2)
        if values:
            client.set_terminated(run)


def test_a_study_with_nothing_done_yet_has_a_page(known: Store, tmp_path: Path) -> None:
    bare_study(known.uri, "young", "hyperspectral", {})
    text = " ".join(Page(report.write(known.uri, "young", tmp_path).read_text(encoding="utf-8")).text.split())
    assert "0 of 1 planned trials are done" in text and "trial 0 lacks 0, 1" in text


def test_sections_hold_on_data_without_arrays_or_printed_metrics(known: Store, tmp_path: Path) -> None:
    bare_study(known.uri, "sparse", "hyperspectral", {"mse/raw": 0.1})
    text = " ".join(Page(report.write(known.uri, "sparse", tmp_path).read_text(encoding="utf-8")).text.split())
    for sentence in (
        "No features were kept with the replicas.",
        "No reliability curve was kept with the replicas.",
        "The two entropies were not measured along training.",
        "fewer than three values were run.",
        "The study file was not kept with the study.",
    ):
        assert sentence in text


@pytest.mark.slow
def test_as_a_script(known: Store, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "analysis.hyperspectral.table", "--tracking-uri", known.uri, "--study", known.name]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, encoding="utf-8", check=True)
    named = [line for line in done.stdout.splitlines() if line.startswith(str(tmp_path))]
    assert len(named) == 6 and all(Path(line).is_file() for line in named)


@pytest.mark.filterwarnings("ignore:'analysis.report' found in sys.modules")
def test_as_a_script_on_an_unknown_study(
    known: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--tracking-uri", known.uri, "--study", "unheard-of", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["report.py", *options])
    # as python -m does, without its imports
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("analysis.report", run_name="__main__")
    assert ended.value.code == 2
    assert re.fullmatch(r"error: there is no study 'unheard-of' in .*\n", capsys.readouterr().err)


def test_a_script_reads_the_store_of_the_home_that_it_is_given(
    known: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIERCE_HOME", str(tmp_path / "another"))
    home = Path(known.uri.removeprefix("sqlite:///")).parent
    arguments = ["table.py", "--home", str(home), "--study", known.name, "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    command.run(table.section, "a table")
    assert str(tmp_path / "unmixing.csv") in capsys.readouterr().out


def test_an_unknown_study_makes_no_page(known: Store, tmp_path: Path) -> None:
    with pytest.raises(runs.StudyNotFound):
        report.write(known.uri, "unheard-of", tmp_path / "report")
    assert not (tmp_path / "report").exists()
