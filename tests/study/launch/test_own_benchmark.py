"""A benchmark of a user's own with its own metrics, killed and resumed; then looked at where its file is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from analysis import schema
from study.file.spec import StudySpec
from study.home import Home
from tests.launches import declared, elsewhere, killed_and_resumed, require_all_undisturbed, runs_of

pytestmark = [pytest.mark.thorough, pytest.mark.ray]

SPEC = StudySpec.model_validate(
    {
        "name": "rings",
        "benchmark": {"name": "own_rings:Rings", "pause": 0.1},
        "criteria": ["ce", "ls"],
        "seeds": [1, 4],
        "training": {"epochs": 5},
        "concurrency": 1,
    }
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The home of the study, whose driver was killed in the midst of a trial, and which was resumed."""
    home = Home(tmp_path_factory.mktemp("home"))
    with killed_and_resumed(home, SPEC, epochs=2) as said:
        assert "Outcome(done=2, failed=0, missing=0, interrupted=False)" in said
        yield home


def test_its_metrics_are_those_of_an_undisturbed_training(home: Home) -> None:
    seed = runs_of(home, SPEC)["0", "4"]
    assert {"margin/heldout", "strays/rings", "loss/train"} <= set(seed.data.metrics)
    require_all_undisturbed(home, SPEC)


def test_mlflow_holds_what_it_declares(home: Home) -> None:
    metrics = declared(home, SPEC, schema.METRICS_FILE)
    assert (
        metrics["margin/heldout"].items()
        >= {
            "name": "margin/heldout",
            "label": "margin of the right class (nats)",
            "note": "its logit less the other's",
            "unit": "nats",
            "better": "higher",
            "fine": False,
            "heldout": True,
        }.items()
    )
    strays = metrics["strays/rings"]
    assert (strays["label"], strays["better"], strays["fine"]) == ("strays among rings", "lower", True)


def test_report_and_export_need_none_of_its_code(home: Home, tmp_path: Path) -> None:
    fierce = elsewhere(home, tmp_path, "own_rings")
    fierce("report", "rings", "--out", "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    for words in ("margin of the right class (nats)", "strays among rings"):
        assert words in page
    assert "margin of the right class (nats): its logit less the other&#39;s; higher is better" in page
    assert "strays among rings: share nearer to another ring&#39;s mean feature; lower is better" in page
    table = pd.read_csv(tmp_path / "report" / "metrics.csv").set_index(["label", "metric"])
    runs = runs_of(home, SPEC)
    for number, label in (("0", "CE"), ("1", "LS σ=0.1")):
        for metric in ("margin/heldout", "strays/rings"):
            mean = sum(runs[number, seed].data.metrics[metric] for seed in ("1", "4")) / 2
            assert table.loc[(label, metric), "mean"] == pytest.approx(mean, rel=1e-6)
    fierce("export", "rings", "--out", "rings.csv")
    frame = pd.read_csv(tmp_path / "rings.csv")
    assert {"margin/heldout", "strays/rings"} <= set(frame["metric"])
