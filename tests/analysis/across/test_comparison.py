"""Studies side by side, of real stores: paired differences against scipy, refusals, and one page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from scipy import stats
from typer.testing import CliRunner

from analysis import schema
from analysis.across import comparison, pairing
from analysis.across.together import Together, differences
from analysis.runs import Study
from study.cli import app
from study.file.spec import StudySpec
from study.home import Home
from study.launch import sweep
from tests.golden.homes import unpacked
from tests.in_process import without_ray
from tests.tiny import Tiny, TinyOptions
from trainables.replicas import stream

pytestmark = pytest.mark.slow

METRIC = "accuracy/coarse"
#: what each study has of its own: the same but for the learning rate, other seeds, other data
STUDIES: dict[str, dict[str, Any]] = {
    "slow": {"training": {"epochs": 3, "learning_rate": 0.002}},
    "fast": {"training": {"epochs": 3, "learning_rate": 0.02}},
    "fewer": {"training": {"epochs": 3, "learning_rate": 0.02}, "seeds": [2, 3, 4, 5, 6, 7, 20]},
    "elsewhere": {"training": {"epochs": 3}, "seeds": [10, 11, 12]},
    "other": {"training": {"epochs": 3}, "benchmark": {"name": "tests.tiny:Tiny", "samples": 210}},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with all of `STUDIES`."""
    with pytest.MonkeyPatch.context() as patch, without_ray():
        for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "FIERCE_STORAGE"):
            patch.delenv(name, raising=False)
        home = Home(tmp_path_factory.mktemp("across") / "home")
        for name, own in STUDIES.items():
            values = {"name": name, "benchmark": "tests.tiny:Tiny", "seeds": 8, "criteria": ["ce", "ls"]} | own
            assert sweep.run(StudySpec.model_validate(values), home).failed == 0
        yield home


def opened(home: Home, name: str) -> Study:
    return Study.open(home.tracking_uri(), name)


def test_differences_are_those_of_a_paired_t_test_on_the_seeds_of_both(home: Home) -> None:
    first, second = opened(home, "slow"), opened(home, "fewer")
    assert pairing.refusal(first, second) == ""
    (match,) = (each for each in pairing.matches(first, second) if each.first == 0)
    last = [study.frame.query("metric == @METRIC and epoch == 3 and trial == 0") for study in (first, second)]
    values = [each.set_index("seed")["value"].loc[[2, 3, 4, 5, 6, 7]] for each in last]
    found = pairing.difference(first, second, METRIC, match)
    assert found is not None and found.n == found.planned == 6
    assert found.mean == pytest.approx((values[1] - values[0]).mean())
    assert found.p == pytest.approx(stats.ttest_rel(values[1], values[0]).pvalue)
    assert "Seeds without a partner are left out: seeds 0, 1 of slow; seed 20 of fewer." in pairing.note(first, second)


def test_holm_is_over_all_differences(home: Home) -> None:
    first, second = opened(home, "slow"), opened(home, "fast")
    table = comparison.tested(first, second, [METRIC, "loss/train", "entropy/features"])
    assert len(table) == 6
    assert min(each.adjusted for each in table) == pytest.approx(6 * min(each.p for each in table))


def test_a_store_holds_a_digest_of_each_seeds_split(home: Home) -> None:
    options = TinyOptions()
    splits = [Tiny().split(Tiny().load(options), options, stream(seed, "split")) for seed in (2, 3)]
    assert not np.array_equal(splits[0]["heldout"], splits[1]["heldout"])
    one, other = (opened(home, name).splits for name in ("slow", "fewer"))
    assert one[0][2] == one[1][2] == other[0][2] != one[0][3]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("elsewhere", "no seed in common (seeds 0 to 7 and seeds 10 to 12)"),
        ("other", "trained on different data (fingerprints"),
    ],
)
def test_what_does_not_match_is_refused_in_words(home: Home, second: str, words: str) -> None:
    assert words in pairing.refusal(opened(home, "slow"), opened(home, second))


def test_a_store_without_digests_is_paired_by_equal_settings_alone(home: Home) -> None:
    client = MlflowClient(home.tracking_uri())
    first, second = opened(home, "slow"), opened(home, "fast")
    for run in second.runs:
        if schema.SPLIT in run.data.tags:
            client.delete_tag(run.info.run_id, schema.SPLIT)
    bare = opened(home, "fast")
    assert not bare.splits and pairing.refusal(first, bare) == ""
    assert "since their benchmark settings are the same" in pairing.note(first, bare)
    bare.__dict__["settings"] = bare.settings | {"benchmark": {"name": "tests.tiny:Tiny", "pause": 0.001}}
    assert "the store of fast holds no digest of its splits" in pairing.refusal(first, bare)


def test_a_split_that_differs_is_refused(home: Home) -> None:
    first, second = opened(home, "slow"), opened(home, "fewer")
    second.__dict__["splits"] = {0: {**second.splits[0], 4: "0" * 16}, 1: {**second.splits[1], 4: "0" * 16}}
    assert "seed 4 holds out other samples" in pairing.refusal(first, second)


def test_the_table_of_files_has_what_differs_and_nothing_else(home: Home) -> None:
    table = differences(Together([opened(home, name) for name in ("slow", "fewer")])).set_index("")
    # the code may have been committed to in between
    assert set(table.index) - {"commit"} == {"seeds", "training.learning_rate"}
    assert table.loc["training.learning_rate"].tolist() == ["0.002", "0.02"]


def test_one_page_holds_all_that_stands_beside_it(home: Home, tmp_path: Path) -> None:
    arguments = ["compare", "slow", "fewer", "elsewhere", "--home", str(home.root), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page
    for words in ("fewer less slow", "elsewhere and slow are not paired", "Along training", "At the last epoch"):
        assert words in page
    assert {"studies.csv", "files.csv", "paired-1.csv", "last-epoch.svg", "trajectories.svg"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_one_study_alone_is_no_comparison(home: Home) -> None:
    result = CliRunner().invoke(app, ["compare", "slow", "slow", "--home", str(home.root)])
    assert result.exit_code == 2 and "two studies or more" in result.output


def test_studies_of_a_released_version_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = unpacked(tmp_path, monkeypatch)
    page = comparison.write([(old.tracking_uri(), "grid"), (old.tracking_uri(), "search")], tmp_path / "out")
    assert "grid" in page.read_text(encoding="utf-8")
