"""Figures of as many criteria as come with the service: colours told apart, panels in rows, a legend that fits."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from analysis import output
from tests.analysis.test_declarations import write
from trainables import criteria


def test_the_criteria_of_the_service_have_colours_of_their_own(tmp_path: Path) -> None:
    names = criteria.names()
    study = write(tmp_path, criteria=[{"name": name, "label": criteria.find(name).label} for name in names])
    colours = np.array([to_rgb(output.colour(study, name)) for name in names])
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + np.eye(len(names))
    assert apart.min() > 0.2


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (3, (1, 3)), (5, (1, 5)), (6, (2, 5)), (10, (2, 5))])
def test_panels_go_on_below_and_keep_their_order(count: int, shape: tuple[int, int]) -> None:
    canvas, grid = output.row_of_panels(count, 2.0, [3.0, 1.0])
    try:
        assert grid.shape == (2, count)
        assert len(canvas.axes) == 2 * count
        assert canvas.get_size_inches().tolist() == [2.0 * shape[1], 4.0 * shape[0]]
        canvas.draw_without_rendering()
        for number, (above, below) in enumerate(grid.T):
            box, under = above.get_position(), below.get_position()
            assert box.height == pytest.approx(3 * under.height, rel=0.4) and box.y0 > under.y0
            row, column = divmod(number, output.PANELS)
            assert box.x0 == pytest.approx(grid[0, column].get_position().x0, abs=0.05)
            assert (box.y0 < grid[1, 0].get_position().y0) == (row > 0)
    finally:
        plt.close(canvas)


@pytest.mark.parametrize("labels", [["CE"], [f"FIERCE, learned λ={n} e=100 γ=0.99" for n in range(10)]])
def test_a_legend_is_as_wide_as_the_figure_at_most(labels: list[str]) -> None:
    canvas, axes = plt.subplots(figsize=(9.2, 3.0), layout="constrained")
    try:
        for label in labels:
            axes.plot([0, 1], label=label)
        output.legend_below(canvas, axes)
        canvas.draw_without_rendering()
        (legend,) = canvas.legends
        assert [text.get_text() for text in legend.get_texts()] == labels
        assert legend.get_window_extent().width <= canvas.bbox.width
    finally:
        plt.close(canvas)
