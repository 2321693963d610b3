"""The simulated scene against the model that it states."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.benchmarks.scenes import MATERIALS, SHAPE, WAVELENGTHS, Scene, endmembers, simulate


@pytest.fixture(scope="module")
def scene() -> Scene:
    return simulate()


def test_has_the_sizes_of_the_papers_crop(scene: Scene) -> None:
    assert scene.spectra.shape == (13_440, 144)
    assert scene.abundances.shape == (13_440, 4)
    assert scene.shape == (105, 128)
    assert scene.names == MATERIALS
    assert WAVELENGTHS[0] == 380 and WAVELENGTHS[-1] == 1050


def test_is_the_same_at_every_call(scene: Scene) -> None:
    again = simulate()
    np.testing.assert_array_equal(again.spectra, scene.spectra)
    np.testing.assert_array_equal(again.abundances, scene.abundances)


def test_abundances_are_shares_with_pure_and_mixed_pixels_of_every_material(scene: Scene) -> None:
    a = scene.abundances.astype(np.float64)
    assert a.min() >= 0
    np.testing.assert_allclose(a.sum(1), 1, atol=1e-6)
    dominant = np.bincount(a.argmax(1), minlength=4) / len(a)
    assert dominant.min() >= 0.1
    for material in range(4):
        assert (a[:, material] > 0.95).mean() > 0.02
    assert 0.2 < (a.max(1) < 0.8).mean() < 0.8


def test_abundances_are_smooth_over_the_image_in_column_major_order(scene: Scene) -> None:
    maps = scene.abundances.reshape(*SHAPE, 4, order="F")[..., 0]
    down = np.corrcoef(maps[1:].ravel(), maps[:-1].ravel())[0, 1]
    across = np.corrcoef(maps[:, 1:].ravel(), maps[:, :-1].ravel())[0, 1]
    assert down > 0.9 and across > 0.9
    misread = scene.abundances.reshape(*SHAPE, 4, order="C")[..., 0]
    assert np.corrcoef(misread[1:].ravel(), misread[:-1].ravel())[0, 1] < 0.5


def test_spectra_are_mixtures_of_scaled_endmembers(scene: Scene) -> None:
    mixed = scene.spectra.astype(np.float64)
    coefficients, *_ = np.linalg.lstsq(endmembers(), mixed.T, rcond=None)
    np.testing.assert_allclose(endmembers() @ coefficients, mixed.T, atol=1e-6)
    # the scale of an endmember, where it is present: log-normal around 1
    present = scene.abundances > 0.2
    scales = (coefficients.T / np.where(present, scene.abundances, 1))[present]
    assert scales.min() > 0
    assert abs(np.log(scales).mean()) < 0.05
    assert 0.1 < np.log(scales).std() < 0.2


def test_reflectances_are_physical_and_materials_are_recognisable(scene: Scene) -> None:
    assert scene.spectra.min() > 0 and scene.spectra.max() < 1

    def at(nanometres: float) -> np.ndarray:
        return endmembers(np.array([nanometres]))[0]

    vegetation, roof, concrete, asphalt = range(4)
    assert at(550)[vegetation] > at(660)[vegetation]
    assert at(800)[vegetation] > 5 * at(660)[vegetation]
    assert at(680)[roof] > 3 * at(500)[roof]
    assert (at(900)[concrete] > at(900)[asphalt]) and (at(450)[concrete] > at(450)[asphalt])
