"""What stands at a study's run in MLflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from in_process import without_ray
from scipy import stats

from analysis.runs import Study
from study.errors import UserError
from study.file.spec import StudySpec
from study.home import Home
from study.launch import sweep
from study.record import lookup, publish

SEARCH = """
name: searched
description: Which λ is best on the *blobs*?
benchmark: tiny:Tiny
criteria: [ce]
seeds: [3, 5, 8]
training: {epochs: 2}
concurrency: 1
search:
  criteria: {fierce: {lambda: {low: 0.1, high: 10}}}
  trials: 2
  objective: {metric: accuracy/coarse, direction: maximize}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of a small search that was run to its end."""
    made = Home(tmp_path_factory.mktemp("publish"))
    with without_ray():
        outcome = sweep.run(StudySpec.from_yaml(SEARCH), made)
    assert outcome.done == 3
    return made


def description(home: Home) -> str:
    return Study.open(home.tracking_uri(), "searched").tags["mlflow.note.content"]


@pytest.mark.slow
def test_the_description_says_what_why_how_and_the_best_point(home: Home) -> None:
    publish.describe(home.tracking_uri(), "searched")
    text = description(home)
    assert text.startswith("Which λ is best on the *blobs*?\n")
    assert "benchmark tiny:Tiny, protocol released, 3 trials, 3 seeds each. Data: tiny (simulated)." in text
    assert "3 of 3 trials done" in text
    assert "`fierce run study.yaml --name searched && fierce report searched`" in text
    assert "report/report.html" in text

    study = Study.open(home.tracking_uri(), "searched")
    last = study.frame.query("metric == 'accuracy/coarse' and epoch == 2").groupby("trial")["value"]
    best = last.mean().drop(0).idxmax()
    values = last.get_group(best).to_numpy()
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
    [paragraph] = [paragraph for paragraph in text.split("\n\n") if paragraph.startswith("**Best point**")]
    assert f"(trial {best}, of 2) at " in paragraph
    shown = paragraph.rstrip(".").rpartition(" at ")[2]
    mean, _, interval = shown.partition(" ± ")
    # as many digits are shown as the interval is worth
    rounding = 0.5 * 10.0 ** -len(mean.partition(".")[2])
    assert float(mean) == pytest.approx(values.mean(), abs=rounding)
    assert float(interval) == pytest.approx(half, abs=rounding)

    # a table with the trial that speaks for each criterion
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert table[0].startswith("| criterion | coarse accuracy |")
    assert table[2].startswith("| CE (trial 0) |")
    assert len(table) == 4


def test_a_study_that_has_no_result_is_described_too(home: Home, tmp_path: Path) -> None:
    from study.record import tracking

    new = Home(tmp_path)
    tracking.open_study(StudySpec.from_yaml(SEARCH), new)
    publish.describe(new.tracking_uri(), "searched")
    assert "0 of 3 trials done" in description(new)
    assert "Best point" not in description(new)


def test_a_study_without_its_files_is_found_in_mlflow(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", home.tracking_uri())
    spec, is_here = lookup.find_spec(Home(tmp_path), "searched")
    assert not is_here
    assert spec.seeds == (3, 5, 8)
    assert spec.tracking_uri == home.tracking_uri()
    with pytest.raises(UserError, match="'serched'"):
        lookup.find_spec(Home(tmp_path), "serched")
