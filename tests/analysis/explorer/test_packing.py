"""Curves as text within a page: what comes back, how far it was rounded, how short it is."""

from __future__ import annotations

import base64
import gzip
import json

import numpy as np
import pytest

from analysis.explorer import packing
from analysis.explorer.packing import Scale


@pytest.mark.parametrize(
    ("low", "high", "is_log"), [(0.001, 0.9, True), (0.9, 0.99, False), (-3.0, 5.0, False), (0.0, 1.0, False)]
)
def test_values_come_back_within_half_a_step(low: float, high: float, is_log: bool) -> None:
    values = np.random.default_rng(0).uniform(low, high, (4, 3, 20))
    values[0, 0, :2] = low, high
    scale = Scale.of(values)
    assert scale.log is is_log
    back = scale.values(packing.unpacked_curves(packing.curves(scale.codes(values)), values.shape))
    if is_log:
        assert np.abs(np.log(back / values)).max() <= np.log(high / low) / packing.STEPS / 2 * (1 + 1e-9)
    else:
        assert np.abs(back - values).max() <= (high - low) / packing.STEPS / 2 * (1 + 1e-9)


def test_what_is_not_there_or_not_finite_stays_so() -> None:
    values = np.array([[[0.5, np.nan, 0.7, np.inf, -np.inf, 0.6]]])
    scale = Scale.of(values)
    back = scale.values(packing.unpacked_curves(packing.curves(scale.codes(values)), values.shape))
    assert np.isnan(back[0, 0]).tolist() == [False, True, False, True, True, False]
    np.testing.assert_allclose(back[0, 0, [0, 2, 5]], [0.5, 0.7, 0.6], atol=1e-4)


def test_one_value_alone_is_exact() -> None:
    scale = Scale.of(np.full((2, 1, 3), 0.25))
    assert (scale.values(scale.codes(np.full((2, 1, 3), 0.25))) == 0.25).all()


def test_text_has_nothing_that_html_reads() -> None:
    text = packing.document({"label": "</script><img src=x onerror=alert(1)> & λ"})
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
    assert json.loads(gzip.decompress(base64.b64decode(text))) == {"label": "</script><img src=x onerror=alert(1)> & λ"}


def test_smooth_curves_take_less_than_a_byte_a_value() -> None:
    curves = np.exp(-np.arange(200) / 50) * np.random.default_rng(0).uniform(0.9, 1.1, (60, 10, 1))
    text = packing.curves(Scale.of(curves).codes(curves))
    assert len(text) < curves.size
