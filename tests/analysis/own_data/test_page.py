"""The default page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis import report
from tests.analysis.known_study import Store
from tests.analysis.test_report import Page, bare_study


@pytest.mark.slow
def test_a_benchmark_of_ones_own_has_its_trajectories(known: Store, tmp_path: Path) -> None:
    bare_study(known.uri, "own", "my.module:benchmark", {"error/mine": 2.0})
    text = Page(report.write(known.uri, "own", tmp_path).read_text(encoding="utf-8")).text
    assert "Trajectories" in text and "Unmixing" not in text
    # the paper has no figure of it
    assert "Trajectories by criterion. n =" in text and "figure 1" not in text
    assert (tmp_path / "trajectories.svg").exists()
    table = pd.read_csv(tmp_path / "metrics.csv")
    # the last epoch: 2 / 2 + seed
    assert table["mean"].tolist() == pytest.approx([1.5])
