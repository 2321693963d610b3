"""Figures against hyperparameters: which there are, and ticks that can be read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from analysis import sensitivity
from analysis.declarations import Hyperparameter
from analysis.output import Figure
from analysis.own_data import settings
from analysis.runs import Study
from benchmarks.recommendation import ACCURACY, CE, METRIC, TWIN, study
from benchmarks.verdicts import Trial, made


def values(trials: int) -> dict[str, np.ndarray]:
    return {name: np.random.default_rng(0).normal(0.5, 0.1, (trials, 4)) for name in (METRIC, TWIN, ACCURACY)}


def test_a_grid_has_a_figure_of_what_was_varied(tmp_path: Path) -> None:
    points = [CE, *(("fierce", {"lambda": weight, "e": 100.0}, "grid") for weight in (0.03, 0.1, 0.3, 1.0))]
    section = settings.section(study(points, values(5)), tmp_path)
    assert section is not None
    (figure,) = section.items
    assert isinstance(figure, Figure) and figure.svg.name == "settings-fierce-lambda.svg"
    text = figure.svg.read_text(encoding="utf-8")
    assert "<!-- FIERCE λ (e = 100) -->" in text and "<!-- coarse accuracy -->" in text


@pytest.mark.slow
def test_a_search_shows_its_objective_over_both(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    searched = [("fierce", {"lambda": lam, "e": e}, "search") for lam, e in random.uniform(1, 50, (6, 2))]
    own = study([CE, *searched], values(7))
    search = {"criteria": {"fierce": {}}, "objective": {"metric": TWIN, "direction": "maximize"}}
    own.__dict__["settings"] = {"search": search}
    section = settings.section(own, tmp_path)
    assert section is not None
    figure = section.items[0]
    assert isinstance(figure, Figure) and figure.svg.name == "objective-fierce.svg"
    text = figure.svg.read_text(encoding="utf-8")
    assert "<!-- FIERCE λ -->" in text and "<!-- FIERCE e -->" in text and "<!-- chosen: FIERCE λ=" in text


RATE = Hyperparameter("training.learning_rate", "learning_rate", log=True)
HIDDEN = Hyperparameter("benchmark.hidden", "hidden")


def over(setting: Hyperparameter, points: Sequence[Trial]) -> Study:
    """A study of ``points`` in which ``setting`` varies."""
    own = made("own", points, {name: each[..., None] for name, each in values(len(points)).items()}, varied=[setting])
    own.__dict__["metrics"] = study([CE], values(1)).metrics
    return own


def drawn(figure: Figure) -> str:
    return figure.svg.read_text(encoding="utf-8")


def test_a_setting_that_varies_has_a_line_of_each_criterion(tmp_path: Path) -> None:
    rates, weight = (0.001, 0.01), {"lambda": 1.0, "e": 100.0}
    points = [("ce", {RATE.name: rate}, "grid") for rate in rates]
    points += [("fierce", {RATE.name: rate, **weight}, "grid") for rate in rates]
    # one that was run at one rate alone is no line
    points += [("ls", {RATE.name: 0.01, "sigma": 0.1}, "baseline")]
    section = settings.section(over(RATE, points), tmp_path)
    assert section is not None
    (figure,) = section.items
    assert isinstance(figure, Figure) and figure.svg.name == "settings-training.learning_rate.svg"
    for shown in ("learning_rate", "0.001", "0.01", "CE", "FIERCE (λ = 1, e = 100)", "coarse accuracy"):
        assert f"<!-- {shown} -->" in drawn(figure)
    assert "<!-- LS" not in drawn(figure)


def test_words_keep_the_order_in_which_they_were_run(tmp_path: Path) -> None:
    words = ("[64, 32]", "[8]", "[256, 64]")
    own = over(HIDDEN, [("ce", {HIDDEN.name: word}, "grid") for word in words])
    section = settings.section(own, tmp_path)
    assert section is not None
    (figure,) = section.items
    assert isinstance(figure, Figure)
    places = [drawn(figure).index(f"<!-- {word} -->") for word in words]
    assert places == sorted(places)


def test_the_line_is_at_the_trials_own_means() -> None:
    own = over(RATE, [("ce", {RATE.name: rate}, "grid") for rate in (0.01, 0.1, 0.001)])
    axis = sensitivity.along(own, "ce", RATE.name, least=2)
    assert axis is not None
    canvas, axes = plt.subplots()
    try:
        sensitivity.compared(axes, own, METRIC, {"ce": axis}, log=True)
        line = axes.lines[0]
        means = own.final[own.final["metric"] == METRIC].groupby("trial")["value"].mean()
        assert list(line.get_xdata()) == [0.001, 0.01, 0.1] and axes.get_xscale() == "log"
        assert list(line.get_ydata()) == pytest.approx(list(means[[2, 0, 1]]))
    finally:
        plt.close(canvas)


def test_one_setting_has_nothing_to_show(tmp_path: Path) -> None:
    assert settings.section(study([CE, ("ls", {"sigma": 0.1}, "baseline")], values(2)), tmp_path) is None


@pytest.mark.parametrize(
    "run", [np.geomspace(0.01, 8, 14).round(4), np.array([0.03, 0.1, 0.3, 1]), np.array([75, 90, 100, 110, 125.0])]
)
def test_ticks_do_not_overlap(run: np.ndarray) -> None:
    canvas, axes = plt.subplots(figsize=(3.7, 3.3), layout="constrained")
    try:
        axes.plot(run, run)
        axes.set_xscale("log")
        ticks = sensitivity.apart(run, axes)
        assert ticks[0] == run[0] and set(ticks) <= set(run) and len(ticks) >= min(3, len(run))
        axes.set_xticks(ticks, [f"{value:.4g}" for value in ticks])
        axes.minorticks_off()
        canvas.draw_without_rendering()
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
    finally:
        plt.close(canvas)
