"""The best trial in the list of studies: of a grid, by what its benchmark is asked for, without what trained it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.runs import Study
from study.file.spec import StudySpec
from study.home import Home
from study.launch import sweep
from study.record.listing import summary
from tests.golden.homes import unpacked
from tests.in_process import without_ray

LISTED = """
import sys
from pathlib import Path
from study.home import Home
from study.record.listing import summary
found = summary(Home(Path(sys.argv[1])), sys.argv[2])
print(found.state, found.planned, found.best, sep="|")
assert "torch" not in sys.modules and "mlflow" not in sys.modules
"""


def final(home: Home, name: str, metric: str) -> pd.Series:
    """Label -> mean over the seeds at the last epoch, from MLflow."""
    study = Study.open(home.tracking_uri(), name)
    rows = study.final[study.final["metric"] == metric].merge(study.trials[["trial", "label"]], on="trial")
    return rows.groupby("label")["value"].mean()


@pytest.mark.slow
def test_the_best_of_a_grid_is_by_what_is_kept_of_the_fine_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"x": [0.37 * row % 1 for row in range(120)], "z": [0.71 * row % 1 for row in range(120)]})
    table["price"] = table["x"] + 0.1 * table["z"]
    table.to_csv("prices.csv", index=False)
    Path("prices.yaml").write_text(
        """
name: prices
benchmark: {name: table, data: prices.csv, coarse: {column: price, above: median}, fine: price}
criteria: [ce, ls, fine-labels]
grid: {fierce: {lambda: [0.1, 1.0], e: [10]}}
seeds: 2
training: {epochs: 2}
""",
        encoding="utf-8",
    )
    home = Home(tmp_path / "home")
    with without_ray():
        assert sweep.run(StudySpec.load(Path("prices.yaml")), home).failed == 0
    means = final(home, "prices", "r2/fine-linear")
    # the ceiling was trained on what is looked for
    best = means.drop("fine labels").idxmax()
    listed = subprocess.run(
        [sys.executable, "-c", LISTED, str(home.root), "prices"], capture_output=True, encoding="utf-8", check=True
    )
    state, planned, words = listed.stdout.strip().split("|")
    assert (state, planned) == ("done", "5")
    metric, value, label = words.split(maxsplit=2)
    assert (metric, value) == ("r2/fine-linear", f"{means[best]:.4g}:")
    # as Optuna and the terminal have it
    assert label.upper().split() == best.upper().split()


def test_a_study_of_an_earlier_release_shows_its_best_coarse_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = unpacked(tmp_path, monkeypatch)
    means = final(home, "grid", "accuracy/coarse")
    found = summary(home, "grid").best
    assert found.startswith(f"accuracy/coarse {means.max():.4g}: ")
    assert found.partition(": ")[2].upper() in {label.upper() for label in means.index[means == means.max()]}
