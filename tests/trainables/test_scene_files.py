"""Scene files against scenes made by the linear mixing model: pixel order, values that are no spectra, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from trainables.benchmarks import DataError
from trainables.benchmarks.hyperspectral import Hyperspectral, HyperspectralOptions
from trainables.benchmarks.scene_files import read_scene
from trainables.benchmarks.scene_names import NAMES
from trainables.benchmarks.scenes import Scene

ROWS, COLUMNS, BANDS, MATERIALS = 8, 11, 12, 3
PIXELS = ROWS * COLUMNS
ORDERS = {"column-major": "F", "row-major": "C"}
OTHER = {"column-major": "row-major", "row-major": "column-major"}


class Mixed:
    """A scene as cubes (rows, columns, k), spectra = abundances × endmembers + noise of 1 %."""

    def __init__(self, rows: int = ROWS, columns: int = COLUMNS) -> None:
        rng = np.random.default_rng(21)
        self.endmembers = rng.uniform(0.05, 0.9, (BANDS, MATERIALS))
        self.abundances = rng.dirichlet(np.ones(MATERIALS) / 2, (rows, columns))
        self.spectra = self.abundances @ self.endmembers.T
        self.spectra += rng.normal(0, 0.01 * self.spectra.mean(), self.spectra.shape)
        self.spectra = self.spectra.clip(1e-4)


def matrix(cube: np.ndarray, order: str) -> np.ndarray:
    """(rows, columns, k) -> (pixels, k)."""
    return cube.reshape(-1, cube.shape[-1], order=ORDERS[order])  # type: ignore[call-overload]


def saved(path: Path, **fields: Any) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **fields)
    else:
        savemat(path, fields)
    return path


def placed(folder: Path, y: np.ndarray, a: np.ndarray, apart: bool, **more: Any) -> dict[str, Path]:
    """One file or two, as keyword arguments of `read_scene`."""
    if not apart:
        return {"path": saved(folder / "s.npz", Y=y, A=a, **more)}
    return {"path": saved(folder / "s.mat", Y=y), "abundances": saved(folder / "end.npz", A=a, **more)}


def mixtures(order: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Matrix and cube in both ways, matrices in both orientations."""
    made = Mixed()
    y, a = matrix(made.spectra, order), matrix(made.abundances, order)
    return {
        "matrix of spectra": (y, made.abundances),
        "matrix of spectra, pixels last": (y.T, made.abundances),
        "matrix of abundances": (made.spectra, a),
        "matrix of abundances, pixels last": (made.spectra, a.T),
    }


def assert_is(scene: Scene, made: Mixed, order: str) -> None:
    np.testing.assert_allclose(scene.spectra, matrix(made.spectra, order), atol=1e-6)
    np.testing.assert_allclose(scene.abundances, matrix(made.abundances, order), atol=1e-6)
    assert scene.pixel_order == order


EVERY_MIXTURE = pytest.mark.parametrize("mixture", mixtures("row-major"))
BOTH_ORDERS = pytest.mark.parametrize("order", ORDERS)
TOGETHER_AND_APART = pytest.mark.parametrize("apart", [False, True], ids=["one file", "two files"])


@EVERY_MIXTURE
@BOTH_ORDERS
@TOGETHER_AND_APART
class TestMatrixBesideCube:
    def test_asks_for_the_order_and_tells_which_one_fits(
        self, tmp_path: Path, mixture: str, order: str, apart: bool
    ) -> None:
        y, a = mixtures(order)[mixture]
        with pytest.raises(DataError, match=rf"option 'pixel_order'.* fits {order}") as caught:
            read_scene(**placed(tmp_path, y, a, apart))
        assert "s.npz" in str(caught.value) or "s.mat" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_follows_the_stated_order(self, tmp_path: Path, mixture: str, order: str, apart: bool) -> None:
        y, a = mixtures(order)[mixture]
        assert_is(read_scene(**placed(tmp_path, y, a, apart), pixel_order=order), Mixed(), order)

    def test_is_settled_by_endmembers(self, tmp_path: Path, mixture: str, order: str, apart: bool) -> None:
        y, a = mixtures(order)[mixture]
        # endmembers are known up to a factor: of Jasper Ridge they are reflectances beside counts
        scene = read_scene(**placed(tmp_path, y, a, apart, M=Mixed().endmembers / 7))
        assert_is(scene, Mixed(), order)
        assert f"{order} by the linear mixing model" in scene.note

    @pytest.mark.parametrize("known", [True, False], ids=["endmembers", "none"])
    def test_refuses_the_order_that_contradicts_the_model(
        self, tmp_path: Path, mixture: str, order: str, apart: bool, known: bool
    ) -> None:
        y, a = mixtures(order)[mixture]
        more = {"M": Mixed().endmembers} if known else {}
        with pytest.raises(DataError, match=rf"'pixel_order' is {OTHER[order]}.* fits {order}"):
            read_scene(**placed(tmp_path, y, a, apart, **more), pixel_order=OTHER[order])


def test_endmembers_that_fit_neither_order_settle_nothing(tmp_path: Path) -> None:
    made = Mixed()
    wrong = np.random.default_rng(1).uniform(0.05, 0.9, made.spectra.shape)
    path = saved(tmp_path / "s.npz", Y=matrix(wrong, "row-major"), A=made.abundances, M=made.endmembers)
    with pytest.raises(DataError, match="option 'pixel_order'") as caught:
        read_scene(path)
    assert "fits" not in str(caught.value)
    assert read_scene(path, pixel_order="row-major").pixel_order == "row-major"


def test_the_order_does_not_matter_and_is_not_asked_for(tmp_path: Path) -> None:
    made = Mixed()
    assert_is(read_scene(saved(tmp_path / "a.npz", Y=made.spectra, A=made.abundances)), made, "column-major")
    y, a = matrix(made.spectra, "row-major"), matrix(made.abundances, "row-major")
    scene = read_scene(saved(tmp_path / "b.npz", Y=y.T, A=a.T, nRow=ROWS, nCol=COLUMNS))
    np.testing.assert_allclose(scene.spectra, y, atol=1e-6)
    np.testing.assert_allclose(scene.abundances, a, atol=1e-6)
    # a list of pixels stored as an image of one row
    scene = read_scene(saved(tmp_path / "c.npz", Y=y[None], A=a))
    np.testing.assert_allclose(scene.abundances, a, atol=1e-6)


def test_two_cubes_of_a_square_image_one_of_them_turned_over(tmp_path: Path) -> None:
    made = Mixed(9, 9)
    turned = saved(tmp_path / "s.npz", Y=made.spectra, A=made.abundances.transpose(1, 0, 2))
    with pytest.raises(DataError, match=r"s\.npz: .*different orders"):
        read_scene(turned)


@BOTH_ORDERS
def test_two_matrices_numbered_differently(tmp_path: Path, order: str) -> None:
    made = Mixed()
    y, a = matrix(made.spectra, order), matrix(made.abundances, OTHER[order])
    first = saved(tmp_path / "s.mat", Y=y, nRow=ROWS, nCol=COLUMNS)
    with pytest.raises(DataError, match=r"s\.mat: .*different orders"):
        read_scene(first, saved(tmp_path / "end.mat", A=a))


def test_a_row_major_scene_trains_on_its_own_labels(tmp_path: Path) -> None:
    made = Mixed(9, 9)
    y = matrix(made.spectra, "row-major")
    path = saved(tmp_path / "s.npz", Y=y, A=made.abundances)
    with pytest.raises(DataError, match="pixel_order"):
        Hyperspectral().load(HyperspectralOptions(data=str(path)))
    data = Hyperspectral().load(HyperspectralOptions(data=str(path), pixel_order="row-major"))
    assert data.coarse.tolist() == made.abundances.argmax(-1).ravel().tolist()
    np.testing.assert_allclose(data.inputs.numpy(), y, atol=1e-6)


def counts() -> np.ndarray:
    """Spectra (pixels, bands) up to about 9,800."""
    return (matrix(Mixed().spectra, "column-major") * 9800 / Mixed().spectra.max()).round()


def shares() -> np.ndarray:
    return matrix(Mixed().abundances, "column-major")


def read(folder: Path, y: np.ndarray, **more: Any) -> Scene:
    return read_scene(saved(folder / "s.npz", Y=y, A=shares(), **more))


@pytest.mark.parametrize("fill", [-9999, -999, -32768, -3.4e38])
@pytest.mark.parametrize("unit", [1, 1e-4], ids=["counts", "reflectances"])
@pytest.mark.parametrize("scale", [{}, {"scale": 1.0}, {"maxValue": 9800.0}], ids=["unscaled", "scale", "maxValue"])
def test_a_fill_below_zero_is_refused_with_its_place(
    tmp_path: Path, fill: float, unit: float, scale: dict[str, float]
) -> None:
    y = counts() * unit
    y[[3, 7], 5] = fill
    with pytest.raises(DataError, match=r"Y of .*s\.npz holds -.* in row 4, column 6 \(index \[3, 5\]\)"):
        read(tmp_path, y, **scale)


def test_a_fill_of_minus_one_among_reflectances(tmp_path: Path) -> None:
    y = counts() * 1e-4
    y[2] = -1
    with pytest.raises(DataError, match=r"holds -1 in row 3, column 1 \(index \[2, 0\]\), .*12 such values"):
        read(tmp_path, y)


@pytest.mark.parametrize("places", [np.s_[3, 5], np.s_[:, 5], np.s_[3:30]], ids=["cell", "band", "pixels"])
@pytest.mark.parametrize("maximum", [{}, {"maxValue": 65535}], ids=["largest", "maxValue"])
def test_a_spike_is_refused_with_its_place(tmp_path: Path, places: Any, maximum: dict[str, int]) -> None:
    y = counts().astype(np.uint16)
    y[places] = 65535
    row, column = (int(axis[0]) for axis in np.nonzero(y == 65535))
    place = rf"row {row + 1}, column {column + 1} \(index \[{row}, {column}\]\)"
    with pytest.raises(DataError, match=rf"Y of .*s\.npz holds 65535 in {place}, .*the others end at 9800"):
        read(tmp_path, y, **maximum)


def test_a_spike_in_a_cube_is_told_by_row_column_and_band(tmp_path: Path) -> None:
    y = Mixed().spectra * 9800
    y[1, 2, 3] = 1e20
    path = saved(tmp_path / "s.npz", Y=y, A=Mixed().abundances)
    with pytest.raises(DataError, match=r"holds 1e\+20 in row 2, column 3, band 4 \(index \[1, 2, 3\]\)"):
        read_scene(path)


def test_bright_pixels_and_noise_around_zero_are_no_fills(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    bright = counts() * rng.lognormal(0, 0.7, counts().shape)
    assert read(tmp_path, bright).spectra.max() == 1
    y = counts() / 9800
    noisy = y + rng.normal(0, np.sqrt(np.square(y).mean() / 10), y.shape)
    assert noisy.min() < -0.1
    divisor = noisy.max() if noisy.max() > 1.5 else 1
    np.testing.assert_allclose(read(tmp_path, noisy).spectra, noisy / divisor, atol=1e-6)


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ({"scale": 10_000.0}, r"spectra × scale 10000 reach 9\.8e\+07"),
        ({"scale": 1e300}, r"spectra × scale 1e\+300 reach"),
        ({"scale": 1e-12}, r"spectra × scale 1e-12 reach only 9\.8e-09"),
        ({"maxValue": 255}, r"spectra / maxValue 255 reach 38\.4"),
        ({"maxValue": 1e9}, r"spectra / maxValue 1e\+09 reach only 9\.8e-06"),
    ],
)
def test_a_stated_scale_that_gives_no_reflectances(tmp_path: Path, stated: dict[str, float], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, counts(), **stated)


@pytest.mark.parametrize("sign", [0, -1])
def test_spectra_without_a_positive_value(tmp_path: Path, sign: int) -> None:
    with pytest.raises(DataError, match=r"Y of .* holds no value above 0"):
        read(tmp_path, sign * counts())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["Y", "A"])
@TOGETHER_AND_APART
def test_cells_that_are_not_finite_are_told_by_row_and_column(
    tmp_path: Path, value: float, key: str, apart: bool
) -> None:
    arrays = {"Y": counts(), "A": shares()}
    arrays[key][5, 2] = arrays[key][9, 1] = value
    with pytest.raises(DataError, match=rf"{key} of .* holds 2 values .*row 6, column 3 \(index \[5, 2\]\)"):
        read_scene(**placed(tmp_path, arrays["Y"], arrays["A"], apart))


def test_cells_of_a_cube_that_are_not_finite(tmp_path: Path) -> None:
    made = Mixed()
    made.abundances[4, 0, 1] = np.nan
    path = saved(tmp_path / "s.mat", Y=made.spectra, A=made.abundances)
    with pytest.raises(DataError, match=r"A of .* row 5, column 1, material 2 \(index \[4, 0, 1\]\)"):
        read_scene(path)


def test_abundances_that_are_no_shares_are_told_by_pixel_and_material(tmp_path: Path) -> None:
    a = shares()
    a[6, 1] = -9999
    with pytest.raises(DataError, match=r"abundances down to -1e\+04 \(pixel 6, material 2\)"):
        read_scene(saved(tmp_path / "s.npz", Y=counts(), A=a))
    with pytest.raises(DataError, match=r"88 of 88 pixels do not sum to 1 .*: 100\).* percent"):
        read_scene(saved(tmp_path / "s.npz", Y=counts(), A=100 * shares()))


def test_a_size_that_is_no_whole_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nRow of .* must be a whole number, not 8\.5"):
        read(tmp_path, counts(), nRow=8.5, nCol=COLUMNS)


def test_pixels_without_a_signal_are_mentioned(tmp_path: Path) -> None:
    y = counts()
    y[[4, 9]] = 0
    assert "2 pixels are 0 in all bands" in read(tmp_path, y).note
    assert "pixels are 0" not in read(tmp_path, counts()).note


def published(layout: str) -> dict[str, Any]:
    """A scene under the names of a public unmixing collection."""
    made = Mixed()
    y, a = matrix(made.spectra, "column-major"), matrix(made.abundances, "column-major")
    size = {"lines": ROWS, "cols": COLUMNS}
    return {
        "autoencoders": {"Y": y.T, "GT": made.endmembers.T, "S_GT": made.abundances, **size},
        "HySUPP": {"Y": y.T, "A": a.T, "E": made.endmembers, "H": ROWS, "W": COLUMNS, "p": MATERIALS, "N": PIXELS},
        "ground truths": {"Y": y, "abundanciesGT": made.abundances, "endmembersGT": made.endmembers.T, **size},
    }[layout]


@pytest.mark.parametrize("layout", ["autoencoders", "HySUPP", "ground truths"])
@pytest.mark.parametrize("suffix", [".mat", ".npz"])
def test_names_of_public_collections(tmp_path: Path, layout: str, suffix: str) -> None:
    scene = read_scene(saved(tmp_path / f"s{suffix}", **published(layout)))
    assert_is(scene, Mixed(), "column-major")
    assert scene.shape == (ROWS, COLUMNS)


@pytest.mark.parametrize("name", ["S_GT", "A_gt", "A_true", "abundance", "abundances"])
def test_an_abundance_file_under_another_name(tmp_path: Path, name: str) -> None:
    first = saved(tmp_path / "s.mat", Y=counts(), nRow=ROWS, nCol=COLUMNS)
    scene = read_scene(first, saved(tmp_path / "end.mat", **{name: shares()}))
    np.testing.assert_allclose(scene.abundances, shares(), atol=1e-6)


def test_sizes_of_both_files_are_compared(tmp_path: Path) -> None:
    first = saved(tmp_path / "s.mat", Y=counts(), nRow=ROWS, nCol=COLUMNS)
    with pytest.raises(DataError, match="cannot be both 8 × 11 and 11 × 8"):
        read_scene(first, saved(tmp_path / "end.mat", A=shares(), lines=COLUMNS, cols=ROWS))


def test_keys_name_what_has_any_other_name(tmp_path: Path) -> None:
    made = Mixed()
    y = matrix(made.spectra, "row-major")
    fields = {"r_cube": y, "XT": made.abundances, "M0": made.endmembers, "h": ROWS, "w": COLUMNS}
    roles = {"spectra": "r_cube", "abundances": "XT", "endmembers": "M0", "rows": "h", "columns": "w"}
    path = saved(tmp_path / "s.mat", **fields, materials=np.array(["a", "bb", "c"], dtype=object))
    scene = read_scene(path, keys={**roles, "names": "materials"})
    assert_is(scene, made, "row-major")
    assert scene.names == ("a", "bb", "c")
    # the usual name says it as well
    usual = {"Y": "r_cube", "A": "XT", "M": "M0"}
    assert_is(read_scene(path, keys=usual), made, "row-major")
    options = HyperspectralOptions(data=str(path), keys=roles)
    assert Hyperspectral().load(options).coarse.tolist() == made.abundances.argmax(-1).ravel().tolist()


def test_keys_decide_between_two_candidates(tmp_path: Path) -> None:
    other = np.full_like(shares(), 1 / MATERIALS)
    path = saved(tmp_path / "s.npz", Y=counts(), A=other, S_GT=shares())
    with pytest.raises(DataError, match=r"holds A and S_GT.* option 'keys'"):
        read_scene(path)
    np.testing.assert_allclose(read_scene(path, keys={"abundances": "S_GT"}).abundances, shares(), atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"abundances": "B"}, r"s\.npz has no B \(abundances, by option 'keys'\); it holds A, Q, Y"),
        ({"spectra": "Z"}, r"s\.npz has no Z \(spectra, by option 'keys'\)"),
        ({"endmembers": "Z"}, r"s\.npz has no Z \(endmembers, by option 'keys'\)"),
        ({"endmembers": "Q"}, r"Q of .*s\.npz \(5×3\) cannot be the endmembers of 12 bands and 3 materials"),
    ],
)
def test_keys_that_the_file_does_not_hold(tmp_path: Path, keys: dict[str, str], sentence: str) -> None:
    path = saved(tmp_path / "s.npz", Y=counts(), A=shares(), Q=np.ones((5, 3)))
    with pytest.raises(DataError, match=sentence):
        read_scene(path, keys=keys)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": "s.mat", "keys": {"abundence": "B"}}, r"keys .*'abundence'.* spectra, abundances"),
        ({"data": "s.mat", "keys": {"abundances": ""}}, "keys"),
        ({"data": "s.mat", "keys": {"abundances": "B", "A": "C"}}, "keys names abundances twice"),
        ({"keys": {"abundances": "B"}}, "keys needs data to be a file"),
    ],
)
def test_bad_keys_are_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        HyperspectralOptions(**options)


def test_hdf5_that_matlab_did_not_write_keeps_its_axes(tmp_path: Path) -> None:
    made = Mixed()
    with h5py.File(tmp_path / "s.mat", "w") as file:
        file["Y"], file["A"] = made.spectra, made.abundances
    assert_is(read_scene(tmp_path / "s.mat"), made, "column-major")


def test_a_name_that_keys_give_means_nothing_else(tmp_path: Path) -> None:
    path = saved(tmp_path / "s.npz", V=counts(), Y=shares())
    scene = read_scene(path, keys={"abundances": "Y"})
    np.testing.assert_allclose(scene.spectra, counts() / 9800, atol=1e-6)


@pytest.mark.parametrize("name", ["jasper_ridge", "houston_semisynthetic"])
@BOTH_ORDERS
def test_real_scenes_as_matrix_and_cube(shared_data: Path, tmp_path: Path, name: str, order: str) -> None:
    stored = loadmat(shared_data / "hyperspectral" / f"{name}.mat")
    shape = stored["nRow"].item(), stored["nCol"].item()
    abundances = stored["A"].T.reshape(*shape, -1, order="F")
    spectra = matrix(stored["Y"].T.reshape(*shape, -1, order="F"), order)
    bare = saved(tmp_path / "bare.npz", Y=spectra, S_GT=abundances)
    with pytest.raises(DataError, match=f"'pixel_order'.* fits {order}"):
        read_scene(bare)
    with pytest.raises(DataError, match=f"fits {order}"):
        read_scene(bare, pixel_order=OTHER[order])
    scene = read_scene(saved(tmp_path / "s.npz", Y=spectra, S_GT=abundances, GT=stored["M"].T))
    assert scene.pixel_order == order
    np.testing.assert_allclose(scene.abundances, matrix(abundances, order), atol=1e-6)
    np.testing.assert_allclose(scene.spectra, spectra / spectra.max(), atol=1e-6)


@pytest.mark.parametrize("value", [65535, -9999])
def test_a_fill_in_a_real_scene(shared_data: Path, tmp_path: Path, value: int) -> None:
    stored = loadmat(shared_data / "hyperspectral" / "jasper_ridge.mat")
    y = stored["Y"].astype(np.int32)
    assert y.max() == 5437
    y[11, 700] = value
    with pytest.raises(DataError, match=rf"holds {value} in row 12, column 701 \(index \[11, 700\]\)"):
        read_scene(saved(tmp_path / "s.mat", Y=y, A=stored["A"]))


def test_the_manual_lists_every_name() -> None:
    manual = (Path(__file__).resolve().parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
    table = {line for line in manual.splitlines() if line.startswith("| `")}
    for role in set(NAMES) - {"provenance"}:
        assert any(f"`{role}`" in line and all(f"`{name}`" in line for name in NAMES[role]) for line in table), role


@pytest.mark.parametrize("apart", [False, True])
def test_cubes_whose_bands_come_first_are_refused(tmp_path: Path, apart: bool) -> None:
    made = Mixed()
    y = made.spectra.transpose(2, 0, 1)
    for a in (made.abundances.transpose(2, 0, 1), made.abundances, matrix(made.abundances, "row-major")):
        with pytest.raises(DataError, match=r"cannot be both|share no axis"):
            read_scene(**placed(tmp_path, y, a, apart))
