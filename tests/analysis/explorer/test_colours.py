"""Colours on a dark page can be seen and stay apart."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from analysis import output, rendering
from analysis.explorer import colours


def test_contrast_is_that_of_the_guidelines() -> None:
    # the guidelines' own bounds, and the grey that is known to have 4.54 on white
    assert colours.contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert colours.contrast("#767676", "#FFFFFF") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("colour", output.COLOURS)
def test_every_colour_is_seen_on_a_dark_page(colour: str) -> None:
    lighter = colours.on_dark(colour)
    assert colours.contrast(lighter, colours.DARK) >= 3
    if colours.contrast(colour, colours.DARK) >= 3:
        assert lighter == colour


def test_they_stay_apart() -> None:
    places = np.array([to_rgb(colours.on_dark(colour)) for colour in output.COLOURS])
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(len(places))
    assert distance.min() > 0.15


def test_the_dark_ground_is_the_page_s() -> None:
    style = (rendering.TEMPLATES / "base.html.j2").read_text(encoding="utf-8")
    assert colours.DARK in re.findall(r"--paper: (#\w+)", style)
