"""The table of rivals: shares against the t-test that they invert, Holm's family, floors and ceiling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis import declarations, measures, rivals, shares, statistics
from analysis.declarations import Criterion, Metric
from analysis.runs import Study
from benchmarks.verdicts import Trial, made

PROBE, OTHER = "accuracy/fine-linear", "accuracy/fine-neighbours"
TRIALS: list[Trial] = [
    ("ce", {}, "baseline"),
    ("ls", {"sigma": 0.4}, "baseline"),
    ("mine:loss", {}, "baseline"),
    ("taught", {}, "baseline"),
]
#: the seeds' deviations, other ones for each trial
NOISE = np.random.default_rng(0).normal(size=(4, 10)) / 100
#: by metric: CE, LS, one's own, the ceiling
LEVELS = {PROBE: (0.6, 0.7, 0.55, 0.9), OTHER: (0.5, 0.5, 0.5, 0.8), "r2/fine-linear": (0.1, 0.2, 0.3, 0.4)}
FLOORS = {f"{PROBE}-untrained": 0.4, f"{PROBE}-inputs": 0.8, f"{OTHER}-untrained": 0.3, f"{OTHER}-inputs": 0.85}
WORDS = {"untrained": "untrained network", "inputs": "raw inputs"}


def study(lacking: str = "") -> Study:
    values = {name: np.array(levels)[:, None] + NOISE for name, levels in LEVELS.items()}
    for name, level in FLOORS.items():
        values[name] = np.full((4, 10), np.nan)
        # measured in CE's trial alone
        values[name][0] = level + NOISE[3, ::-1]
    kept = {name: value[..., None] for name, value in values.items() if not lacking or lacking not in name}
    found = made("own", TRIALS, kept)
    notes = {PROBE: "linear probe: how", OTHER: "nearest neighbours: how", "r2/fine-linear": "linear probe: how; R²"}
    metrics = [Metric(name, name, notes[name], better="higher", fine=True, group="fine-probes") for name in LEVELS]
    for name in FLOORS:
        of, _, kind = name.rpartition("-")
        metrics.append(Metric(name, name, better="higher", fine=True, group=WORDS[kind], floor_of=of))
    criteria = [
        Criterion("ce", "CE", reference=True),
        Criterion("ls", "LS"),
        Criterion("mine:loss", "one's own loss"),
        Criterion("taught", "taught", fine=True),
    ]
    found.__dict__["metrics"] = {metric.name: metric for metric in metrics}
    found.__dict__["criteria"] = {criterion.name: criterion for criterion in criteria}
    return found


def test_a_ratio_holds_what_the_paired_t_test_does_not_reject() -> None:
    random = np.random.default_rng(1)
    below = pd.Series(2 + random.normal(size=9))
    above = 0.5 * below + pd.Series(1 + random.normal(size=9))
    found = statistics.ratio(above, below, 9)
    assert found is not None and found.complete
    assert found.value == pytest.approx(above.mean() / below.mean())
    for end in (found.low, found.high):
        assert scipy.stats.ttest_1samp(above - end * below, 0).pvalue == pytest.approx(0.05)
    inside = np.linspace(found.low, found.high, 7)[1:-1]
    assert all(scipy.stats.ttest_1samp(above - each * below, 0).pvalue > 0.05 for each in inside)


def test_a_ratio_of_a_denominator_that_may_be_0_has_no_interval() -> None:
    above, below = pd.Series([1.0, 2.0, 3.0, 2.0]), pd.Series([-1.0, 1.2, 0.9, -0.8])
    assert scipy.stats.ttest_1samp(below, 0).pvalue > 0.05
    assert statistics.ratio(above, below, 4) is None
    assert statistics.ratio(above[:1], below[:1] + 5, 4) is None
    short = statistics.ratio(above, below + 5, 6)
    assert short is not None and not short.complete and "n = 4 of 6" in str(short)


def test_a_share_is_of_the_way_from_the_floor_of_the_same_seeds() -> None:
    found = shares.share(study(), PROBE, 1, "untrained network")
    bottom = FLOORS[f"{PROBE}-untrained"] + NOISE[3, ::-1]
    above, way = 0.7 + NOISE[1] - bottom, 0.9 + NOISE[3] - bottom
    assert found is not None and found.value == pytest.approx(above.mean() / way.mean())
    assert 0.5 < found.low < found.value < found.high < 0.7
    of_ceiling = shares.share(study(), PROBE, 3, "untrained network")
    assert of_ceiling is not None and (of_ceiling.low, of_ceiling.high) == pytest.approx((1, 1))


def test_there_is_no_share_where_the_ceiling_is_not_above_the_floor() -> None:
    assert shares.share(study(), OTHER, 1, "raw inputs") is None
    assert shares.share(study(), PROBE, 1, "raw inputs") is not None
    assert shares.share(study("untrained"), PROBE, 1, "untrained network") is None


def test_the_table_is_after_holm_without_the_ceiling() -> None:
    seen = study()
    metrics = rivals.compared(seen)
    assert metrics == [PROBE, OTHER]
    shown = {"CE": 0, "LS": 1, "one's own loss": 2, "taught": 3}
    cells = rivals.compare(seen, shown, metrics, "untrained network")
    family = [
        scipy.stats.ttest_rel(LEVELS[metric][trial] + NOISE[trial], LEVELS[metric][0] + NOISE[0]).pvalue
        for metric in metrics
        for trial in (1, 2)
    ]
    # Holm by hand: the smallest times 4, the next times 3, …, never falling
    order = np.argsort(family)
    adjusted = np.minimum(np.maximum.accumulate(np.array(family)[order] * [4, 3, 2, 1]), 1)
    expected = dict(zip(order.tolist(), adjusted.tolist(), strict=True))
    found = [cells[label][metric].p for metric in metrics for label in ("LS", "one's own loss")]
    assert found == pytest.approx([expected[place] for place in range(4)])
    assert np.isnan(cells["taught"][PROBE].p) and cells["taught"][PROBE].share is None
    assert cells["CE"][PROBE].difference is None


def test_the_section_has_floors_below_and_the_ceiling_above(tmp_path: Path) -> None:
    section = rivals.section(study(), tmp_path)
    assert section is not None
    table = (tmp_path / "rivals.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:8]]
    floors = ["floor: untrained network", "floor: raw inputs"]
    assert rows == [*floors, "CE", "LS σ=0.4", "mine:loss", "ceiling: taught"]
    numbers = pd.read_csv(tmp_path / "rivals.csv").set_index(["label", "metric"])
    assert numbers.loc[("LS σ=0.4", PROBE), "share"] == pytest.approx(0.6, abs=0.02)
    said = [item for item in section.items if isinstance(item, str)]
    assert said == [
        f"Decided at p < 0.05 after Holm, {PROBE}: better than CE: LS σ=0.4; worse: mine:loss.",
        f"Decided at p < 0.05 after Holm, {OTHER}: better than CE: none; worse: none.",
    ]
    differences = (tmp_path / "rivals-differences.md").read_text(encoding="utf-8")
    assert [line.split(" | ")[0] for line in differences.splitlines()[2:5]] == [
        "| LS σ=0.4 − CE",
        "| mine:loss − CE",
        "| taught − CE",
    ]
    assert "all 4 differences" in differences
    kept = (tmp_path / "rivals-shares.md").read_text(encoding="utf-8").splitlines()
    # of CE (.6 − .4) / (.9 − .4), and of LS .3 / .5, but for noise; none of the ceiling itself
    told = [int(line.split(" | ")[1].split("%")[0]) for line in kept[2:5]]
    assert told == pytest.approx([40, 60, 30], abs=2)
    assert len(kept) == 7
    assert {"rivals.svg", "rivals.png", "rivals.tex"} <= {path.name for path in tmp_path.iterdir()}


def test_the_section_does_without_floors_and_ceiling_and_needs_rivals(tmp_path: Path) -> None:
    seen = study("-untrained")
    del seen.__dict__["criteria"]["taught"]
    seen.__dict__["criteria"]["taught"] = Criterion("taught", "taught")
    assert rivals.section(seen, tmp_path) is not None
    assert not (tmp_path / "rivals-shares.md").exists()
    few = made("own", TRIALS[:2], {PROBE: np.full((2, 10, 1), 0.5)})
    assert rivals.section(few, tmp_path) is None


def test_floors_stand_as_rows_among_what_is_measured_of_every_benchmark(tmp_path: Path) -> None:
    assert measures.section(study(), tmp_path) is not None
    table = (tmp_path / "fine-probes.md").read_text(encoding="utf-8")
    assert "floor: raw inputs" in table and "floor: untrained network" in table


def test_declarations_keep_floors_and_ceilings() -> None:
    metrics = declarations.read_metrics(b'[{"name": "a-inputs", "label": "a", "floor_of": "a", "group": "raw inputs"}]')
    assert metrics["a-inputs"].floor_of == "a"
    criteria = declarations.read_criteria(b'[{"name": "taught", "label": "taught", "fine": true}]')
    assert criteria["taught"].fine
