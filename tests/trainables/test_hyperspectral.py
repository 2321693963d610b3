"""The hyperspectral benchmark: real scenes, every file layout, damaged files, options, and what is measured."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat
from sklearn.metrics import mean_squared_error

from trainables.benchmarks import DataError, find
from trainables.benchmarks.hyperspectral import Hyperspectral, HyperspectralOptions
from trainables.benchmarks.scene_files import read_scene
from trainables.benchmarks.scenes import Scene
from trainables.evaluators.unmixing import raw_mse
from trainables.replicas import stream
from trainables.training import Training
from trainables.trial import Trial

ROWS, COLUMNS, BANDS, MATERIALS = 5, 6, 7, 3
PIXELS = ROWS * COLUMNS
NAMES = ("tree", "water", "soil")
BENCHMARK = Hyperspectral()


def scene_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Reflectances (bands, pixels) and abundances (materials, pixels), column-major."""
    rng = np.random.default_rng(8)
    return rng.uniform(0.05, 0.9, (BANDS, PIXELS)), rng.dirichlet(np.ones(MATERIALS), PIXELS).T


def cube(matrix: np.ndarray, order: str) -> np.ndarray:
    """(k, pixels) -> (rows, columns, k)."""
    return matrix.T.reshape(ROWS, COLUMNS, -1, order=order)  # type: ignore[call-overload]


def cells(texts: tuple[str, ...]) -> np.ndarray:
    array = np.empty((1, len(texts)), dtype=object)
    array[0, :] = texts
    return array


def save_hdf5(path: Path, **arrays: Any) -> None:
    """A file as MATLAB 7.3 writes it: a 512-byte header, axes reversed, cells as references, texts as codes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, value in arrays.items():
            if key == "names":
                references = []
                for i, text in enumerate(value):
                    file[f"#refs#/{i}"] = np.array([[ord(c)] for c in text], dtype=np.uint16).T.reshape(-1, 1)
                    references.append(file[f"#refs#/{i}"].ref)
                file.create_dataset(key, data=np.array(references, dtype=h5py.ref_dtype).reshape(-1, 1))
            else:
                file[key] = np.atleast_2d(value).T
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def plain(folder: Path, y: np.ndarray, a: np.ndarray) -> dict[str, Any]:
    savemat(folder / "s.mat", {"Y": y, "A": a, "nRow": ROWS, "nCol": COLUMNS, "names": cells(NAMES)})
    return {}


def other_keys(folder: Path, y: np.ndarray, a: np.ndarray) -> dict[str, Any]:
    savemat(folder / "s.mat", {"V": y, "A": a, "nRow": ROWS, "nCol": COLUMNS, "cood": cells(NAMES), "GT": y[:, :3]})
    return {}


def transposed(folder: Path, y: np.ndarray, a: np.ndarray) -> dict[str, Any]:
    savemat(folder / "s.mat", {"X": y.T, "A": a.T, "nRow": ROWS, "nCol": COLUMNS, "names": cells(NAMES)})
    return {}


def mixed_orientation(folder: Path, y: np.ndarray, a: np.ndarray) -> dict[str, Any]:
    savemat(folder / "s.mat", {"Y": y, "A": a.T, "nRow": ROWS, "nCol": COLUMNS, "names": cells(NAMES)})
    return {}


def counts_with_maximum(folder: Path, y: np.ndarray, a: np.ndarray) -> dict[str, Any]:
    fields = {"A": a, "maxValue": np.uint16(5437), "nRow": ROWS, "nCol": COLUMNS, "names": cells(NAMES)}
    savemat(folder / "s.mat", {"Y": (y * 5437).round().astype(np.uint16), **fields})
    return {}


def counts_with_scale(folder: Path, y: np.ndarray, a: np.ndarray) -> dict[str, Any]:
    fields = {"A": a, "scale": 2e-5, "nRow": ROWS, "nCol": COLUMNS, "names": cells(NAMES)}
    savemat(folder / "s.mat", {"Y": (y / 2e-5).round().astype(np.uint16), **fields})
    return {}


def version_73(folder: Path, y: np.ndarray, a: np.ndarray) -> dict[str, Any]:
    save_hdf5(folder / "s.mat", Y=y, A=a, nRow=ROWS, nCol=COLUMNS, names=NAMES)
    return {}


def numpy_archive(folder: Path, y: np.ndarray, a: np.ndarray) -> dict[str, Any]:
    np.savez(folder / "s.npz", Y=y, A=a, nRow=ROWS, nCol=COLUMNS, names=np.array(NAMES))
    return {}


def second_file(folder: Path, y: np.ndarray, a: np.ndarray) -> dict[str, Any]:
    savemat(folder / "s.mat", {"Y": y, "nRow": ROWS, "nCol": COLUMNS})
    savemat(folder / "end3.mat", {"A": a, "M": y[:, :3], "cood": cells(NAMES)})
    return {"abundances": folder / "end3.mat"}


def cubes(folder: Path, y: np.ndarray, a: np.ndarray) -> dict[str, Any]:
    savemat(folder / "s.mat", {"Y": cube(y, "F"), "A": cube(a, "F"), "names": cells(NAMES)})
    return {}


def row_major(folder: Path, y: np.ndarray, a: np.ndarray) -> dict[str, Any]:
    savemat(folder / "s.mat", {"Y": cube(y, "C"), "A": a, "names": cells(NAMES)})
    return {"pixel_order": "row-major"}


LAYOUTS = [plain, other_keys, transposed, mixed_orientation, counts_with_maximum, counts_with_scale, version_73]
LAYOUTS += [numpy_archive, second_file, cubes, row_major]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_scene(tmp_path: Path, layout: Callable[..., dict[str, Any]]) -> None:
    y, a = scene_arrays()
    options = layout(tmp_path, y, a)
    (path,) = tmp_path.glob("s.*")
    scene = read_scene(path, **options)
    np.testing.assert_allclose(scene.spectra, y.T, atol=2e-4 if "counts" in layout.__name__ else 1e-7)
    np.testing.assert_allclose(scene.abundances, a.T, atol=1e-7)
    assert scene.shape == (ROWS, COLUMNS)
    assert scene.names == NAMES
    assert scene.spectra.dtype == scene.abundances.dtype == np.float32


def test_scaling_rule(tmp_path: Path) -> None:
    y, a = scene_arrays()

    def scaled(**fields: Any) -> Scene:
        np.savez(tmp_path / "s.npz", A=a, **fields)
        return read_scene(tmp_path / "s.npz")

    assert scaled(Y=4000 * y).spectra.max() == 1
    assert scaled(Y=y + 0.5).spectra.max() == pytest.approx(y.max() + 0.5)
    assert scaled(Y=y, maxValue=2.0).spectra.max() == pytest.approx(y.max() / 2)
    both = scaled(Y=y, maxValue=2.0, scale=0.25)
    assert both.spectra.max() == pytest.approx(y.max() / 4)
    assert both.note == "spectra × scale 0.25"


def test_without_names_or_shape(tmp_path: Path) -> None:
    y, a = scene_arrays()
    np.savez(tmp_path / "s.npz", Y=y, A=a)
    scene = read_scene(tmp_path / "s.npz")
    assert scene.names == ("material 1", "material 2", "material 3")
    assert scene.shape is None


class Malicious:
    """Makes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickles_are_refused_and_not_run(tmp_path: Path) -> None:
    y, _ = scene_arrays()
    payload = np.array([Malicious(tmp_path / "ran")], dtype=object)
    np.savez(tmp_path / "s.npz", Y=y, A=payload)
    with pytest.raises(DataError, match=r"A of .*s\.npz is pickled and refused"):
        read_scene(tmp_path / "s.npz")
    (tmp_path / "t.npz").write_bytes(pickle.dumps(Malicious(tmp_path / "ran")))
    with pytest.raises(DataError, match=r"t\.npz is not a \.npz archive"):
        read_scene(tmp_path / "t.npz")
    assert not (tmp_path / "ran").exists()


def changed(**changes: Any) -> dict[str, Any]:
    y, a = scene_arrays()
    fields = {"Y": y, "A": a, "nRow": ROWS, "nCol": COLUMNS, **changes}
    return {key: value for key, value in fields.items() if value is not None}


def abundances_with(value: float) -> np.ndarray:
    a = scene_arrays()[1].copy()
    a[1, 4] = value
    return a


BAD_FIELDS = {
    "no spectra": (changed(Y=None, data=np.eye(3)), r"no spectra \(Y, V or X\); it holds A, data, nCol, nRow"),
    "no abundances": (changed(A=None), r"no abundances \(A\), only Y, nCol, nRow; .* option 'abundances'"),
    "NaN": (changed(Y=np.where(np.eye(BANDS, PIXELS) > 0, np.nan, 0.5)), r"Y of .* holds 7 values that are NaN"),
    "infinite": (changed(A=abundances_with(np.inf)), r"A of .* holds 1 values that are NaN or infinite"),
    "negative": (changed(A=abundances_with(-0.2)), r"abundances down to -0\.2"),
    "sum": (changed(A=abundances_with(1.7)), r"1 of 30 pixels do not sum to 1 \(pixel 4"),
    "no common axis": (changed(A=scene_arrays()[1][:, :-1]), r"Y 7×30 and A 3×29 share no axis"),
    "wrong shape": (changed(nRow=4), r"4 × 6 is 24 pixels, which Y 7×30 and A 3×30 do not share"),
    "zero rows": (changed(nRow=0), r"nRow of .* must be one positive number"),
    "bad maximum": (changed(maxValue=0), r"maxValue of .* must be one positive number"),
    "bad scale": (changed(scale=np.ones(3)), r"scale of .* must be one positive number"),
    "texts": (changed(Y=np.array(["a", "b"])), r"Y of .* holds no real numbers"),
    "complex": (changed(Y=scene_arrays()[0] + 1j), r"Y of .* holds no real numbers but complex128"),
    "vector": (changed(Y=np.ones(PIXELS)), r"Y of .* has 1 dimensions"),
    "empty": (changed(Y=np.ones((BANDS, 0))), r"Y of .* is empty"),
    "one material": (changed(A=np.ones((1, PIXELS))), r"A 30×1 has a single material|A 1×30 has a single material"),
    "ambiguous": (
        {"Y": np.full((PIXELS, PIXELS), 0.3), "A": scene_arrays()[1]},
        r"which axis of Y 30×30 and A 3×30 is the pixels is ambiguous",
    ),
    "two shapes": (
        {"Y": cube(scene_arrays()[0], "F"), "A": cube(scene_arrays()[1], "F").transpose(1, 0, 2)},
        r"cannot be both 5 × 6 and 6 × 5",
    ),
}


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_bad_fields_are_named_in_one_sentence(tmp_path: Path, case: str) -> None:
    fields, sentence = BAD_FIELDS[case]
    path = tmp_path / "bad.npz"
    np.savez(path, **fields)
    with pytest.raises(DataError, match=sentence) as caught:
        read_scene(path)
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_square_of_few_pixels_is_settled_by_rows_and_columns(tmp_path: Path) -> None:
    """As many bands as materials: both axes of Y match one of A, the stated size decides."""
    _, a = scene_arrays()
    fields: dict[str, Any] = {"Y": a * 0.5, "A": a}
    np.savez(tmp_path / "s.npz", **fields)
    with pytest.raises(DataError, match="ambiguous"):
        read_scene(tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", **fields, nRow=ROWS, nCol=COLUMNS)
    assert read_scene(tmp_path / "s.npz").spectra.shape == (PIXELS, MATERIALS)


def test_rounding_of_abundances_is_forgiven(tmp_path: Path) -> None:
    y, a = scene_arrays()
    a = a * 1.0005
    a[0, 0] = -5e-7
    a[:, 0] /= a[:, 0].sum()
    np.savez(tmp_path / "s.npz", Y=y, A=a)
    assert read_scene(tmp_path / "s.npz").abundances.min() >= 0


@pytest.mark.parametrize("suffix", [".mat", ".npz", "73.mat"])
def test_truncated_and_foreign_files(tmp_path: Path, suffix: str) -> None:
    y, a = scene_arrays()
    path = tmp_path / f"cut{suffix}"
    if suffix == ".npz":
        np.savez(path, Y=y, A=a)
    elif suffix == ".mat":
        savemat(path, {"Y": y, "A": a}, do_compression=True)
    else:
        save_hdf5(path, Y=y, A=a)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:200], b"", b"not a scene at all " * 20):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"cut{suffix}") as caught:
            read_scene(path)
        assert "\n" not in str(caught.value)


def test_missing_files_and_unknown_kinds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.mat is not there"):
        BENCHMARK.load(HyperspectralOptions(data=str(tmp_path / "nowhere.mat")))
    (tmp_path / "s.csv").write_text("1,2", encoding="utf-8")
    with pytest.raises(DataError, match=r"s\.csv is neither a \.mat nor a \.npz file"):
        BENCHMARK.load(HyperspectralOptions(data=str(tmp_path / "s.csv")))
    y, a = scene_arrays()
    np.savez(tmp_path / "s.npz", Y=y, A=a)
    np.savez(tmp_path / "t.npz", B=a)
    with pytest.raises(DataError, match=r"t\.npz has no abundances \(A\); it holds B"):
        read_scene(tmp_path / "s.npz", tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": ""}, "data must be"),
        ({"abundances": "a.mat"}, "abundances needs data to be a file"),
        ({"provenance": "real"}, "provenance of the simulated scene"),
        ({"data": "s.mat", "provenance": "fake"}, "real, semi-synthetic, simulated"),
        ({"pixel_order": "diagonal"}, "column-major, row-major"),
        ({"snr_db": "loud"}, "snr_db"),
        ({"snr_db": float("nan")}, "snr_db"),
        ({"validation": 0.6}, "validation"),
        ({"validation": True}, "validation"),
        ({"train_fraction": 1}, "train_fraction"),
        ({"train_fraction": 0}, "train_fraction"),
        ({"probe_epochs": 0}, "probe_epochs"),
        ({"probe_epochs": 1.5}, "probe_epochs"),
        ({"pixels": 3}, "pixels"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        HyperspectralOptions(**options)


@pytest.mark.parametrize(
    ("name", "bands", "shares", "uniform", "one_hot"),
    [
        ("jasper_ridge", 198, (0.349, 0.333, 0.243, 0.075), 0.489, 0.124),
        ("houston_semisynthetic", 144, (0.330, 0.027, 0.403, 0.240), 0.330, 0.201),
    ],
)
def test_real_scenes(
    shared_data: Path, name: str, bands: int, shares: tuple[float, ...], uniform: float, one_hot: float
) -> None:
    data = BENCHMARK.load(HyperspectralOptions(data=str(shared_data / "hyperspectral" / f"{name}.mat")))
    assert data.inputs.shape[1] == bands
    assert data.inputs.min() >= 0 and data.inputs.max() <= 1
    assert (data.coarse.bincount() / len(data.coarse)).numpy() == pytest.approx(shares, abs=6e-4)
    fine = data.fine.double().unsqueeze(0)
    assert raw_mse(torch.full_like(fine, 0.25), fine).item() == pytest.approx(uniform, abs=6e-4)
    assert raw_mse(torch.eye(4)[data.coarse].unsqueeze(0), fine).item() == pytest.approx(one_hot, abs=6e-4)
    # dominant materials form patches in the stated pixel order
    image = data.coarse.numpy().reshape(data.extra["shape"], order="F")
    assert (image[1:] == image[:-1]).mean() > 0.8 and (image[:, 1:] == image[:, :-1]).mean() > 0.8
    assert data.provenance == "real"


def test_jasper_ridge_by_name_and_count(shared_data: Path) -> None:
    path = shared_data / "hyperspectral" / "jasper_ridge.mat"
    data = BENCHMARK.load(HyperspectralOptions(data=str(path)))
    assert data.inputs.shape == (10_000, 198)
    assert data.coarse_names == ("tree", "water", "soil", "road")
    assert data.inputs.max() == 1
    assert data.fine.square().sum(1).mean().item() == pytest.approx(0.739, abs=6e-4)
    assert "maxValue 5437" in data.description


def test_provenance_from_option_and_file(tmp_path: Path) -> None:
    y, a = scene_arrays()
    path = tmp_path / "s.npz"
    np.savez(path, Y=y, A=a, provenance=np.array("semi-synthetic"))
    assert BENCHMARK.load(HyperspectralOptions(data=str(path))).provenance == "semi-synthetic"
    assert BENCHMARK.load(HyperspectralOptions(data=str(path), provenance="simulated")).provenance == "simulated"
    assert BENCHMARK.load(HyperspectralOptions()).provenance == "simulated"
    np.savez(path, Y=y, A=a, provenance=np.array("found on a stick"))
    with pytest.raises(DataError, match="'found on a stick'"):
        BENCHMARK.load(HyperspectralOptions(data=str(path)))


def test_noise_has_the_stated_power_and_is_always_the_same() -> None:
    clean = BENCHMARK.load(HyperspectralOptions()).inputs.double()
    noisy = BENCHMARK.load(HyperspectralOptions(snr_db=30))
    noise = noisy.inputs.double() - clean
    assert 10 * torch.log10(clean.square().mean() / noise.square().mean()).item() == pytest.approx(30, abs=0.05)
    assert torch.equal(noisy.inputs, BENCHMARK.load(HyperspectralOptions(snr_db=30)).inputs)
    assert "30 dB" in noisy.description


def test_fingerprint_tells_data_apart() -> None:
    options = [HyperspectralOptions(), HyperspectralOptions(snr_db=30), HyperspectralOptions(pixels=500)]
    prints = [BENCHMARK.load(o).fingerprint for o in options]
    assert len(set(prints)) == 3
    assert prints[0] == BENCHMARK.load(options[0]).fingerprint
    assert all(len(p) == 64 for p in prints)


def test_a_subset_of_pixels_keeps_their_numbers() -> None:
    whole, part = (BENCHMARK.load(HyperspectralOptions(pixels=n)) for n in (None, 700))
    assert len(part.inputs) == 700
    assert torch.equal(whole.inputs[part.extra["pixels"]], part.inputs)
    assert torch.equal(whole.fine[part.extra["pixels"]], part.fine)
    with pytest.raises(DataError, match="13440 pixels, fewer than the 20000"):
        BENCHMARK.load(HyperspectralOptions(pixels=20_000))


def test_split_is_the_papers_and_disjoint() -> None:
    data = BENCHMARK.load(HyperspectralOptions())
    split = BENCHMARK.split(data, HyperspectralOptions(), stream(0, "split"))
    assert {part: len(rows) for part, rows in split.items()} == {"train": 9408, "validation": 0, "heldout": 4032}
    options = HyperspectralOptions(validation=0.25)
    validated = BENCHMARK.split(data, options, stream(0, "split"))
    assert {part: len(rows) for part, rows in validated.items()} == {"train": 7056, "validation": 2352, "heldout": 4032}
    assert torch.equal(torch.cat(list(validated.values())).sort().values, torch.arange(13_440))
    # a validation part is taken from the training part: what is held out stays the same
    assert torch.equal(validated["heldout"], split["heldout"])
    assert not torch.equal(split["heldout"], BENCHMARK.split(data, options, stream(1, "split"))["heldout"])


def test_recipes_differ_in_similarity_assignment_and_smoothing_alone() -> None:
    paper, released = (BENCHMARK.recipe(protocol, HyperspectralOptions()) for protocol in ("paper", "released"))
    assert (paper.similarity, paper.assignment, paper.smoothing) == ("cosine", "nearest", "others")
    assert (released.similarity, released.assignment, released.smoothing) == ("dot", "sampled", "uniform")
    assert paper.override({"similarity": "dot", "assignment": "sampled", "smoothing": "uniform"}) == released
    assert (paper.epochs, paper.batch_size, paper.learning_rate, paper.milestones) == (200, 200, 1e-4, (100,))
    assert paper.hyperparameters["sigma"] == 0.4
    with pytest.raises(ValueError, match="unknown protocol 'draft'"):
        BENCHMARK.recipe("draft", HyperspectralOptions())


def test_backbone_has_the_papers_layers() -> None:
    data = BENCHMARK.load(HyperspectralOptions(pixels=50))
    network = BENCHMARK.backbone(data, HyperspectralOptions(), [stream(s, "init") for s in range(2)])
    layers = [(144, 200), (200, 400), (400, 100), (100, 4)]
    assert sum(p.numel() for p in network.parameters()) == 2 * sum(i * o + o for i, o in layers)
    features, logits = network(BENCHMARK.batch(data.inputs[:6].expand(2, 6, 144), HyperspectralOptions(), False, []))
    assert features.shape == (2, 6, 100) and logits.shape == (2, 6, 4)
    assert features.min() == 0


@pytest.fixture(scope="module")
def trained() -> tuple[Training, list[dict[str, list[float]]]]:
    options = {"pixels": 1200, "validation": 0.2, "probe_epochs": 8, "snr_db": 30}
    training = Training(Trial("hyperspectral", "ce", (0, 1), options=options, training={"epochs": 11}))
    return training, [record.metrics for record in training.run()]


def test_every_metric_is_measured_at_its_cadence(trained: tuple[Training, list[dict[str, list[float]]]]) -> None:
    _, metrics = trained
    each_epoch = {"loss/train", "accuracy/train", "accuracy/coarse", "accuracy/validation", "mse/raw", "rmse/raw"}
    each_epoch |= {"features/scale", "entropy/features", "entropy/spectral", "entropy/anchors"}
    each_ten = {"mse/transfer-least-squares", "calibration/ece", "calibration/mce"}
    each_ten |= {"information/mutual", "stability", "stability/released"}
    at_end = {"mse/transfer", "mse/transfer-min", "mse/transfer-standardized"}
    # all but the accuracies have a twin on the validation part
    each_epoch |= {
        f"{name}-validation" for name in each_epoch if "/" in name and not name.startswith(("loss", "accuracy"))
    }
    each_ten |= {f"{name}-validation" for name in each_ten}
    at_end |= {f"{name}-validation" for name in at_end}
    assert set(metrics[0]) == each_epoch
    assert set(metrics[9]) == each_epoch | each_ten
    # and what is measured of every benchmark
    everywhere = {
        name for name in metrics[10] if name.startswith(("likelihood/", "spectrum/", "geometry/", "entropy/common"))
    }
    everywhere |= {name for name in metrics[10] if "/fine-" in name}
    floors = {name for name in everywhere if name.endswith(("-untrained", "-inputs"))}
    # a floor of either kind for each probe on held-out samples
    assert floors == {
        f"{name}-{kind}"
        for name in everywhere - floors
        if "/fine-" in name and not name.endswith("-validation")
        for kind in ("untrained", "inputs")
    }
    assert set(metrics[10]) == each_epoch | each_ten | at_end | everywhere and len(everywhere - floors) == 38
    assert all(len(values) == 2 for record in metrics for values in record.values())


def test_metrics_are_those_of_the_networks_held_out_outputs(
    trained: tuple[Training, list[dict[str, list[float]]]],
) -> None:
    training, metrics = trained
    last = metrics[-1]
    for s in range(2):
        rows = training.parts["heldout"][s]
        inputs = training.data.inputs[rows].expand(2, -1, -1)
        with torch.no_grad():
            features, logits = (part[s] for part in training.network(inputs))
        fine, coarse = training.data.fine[rows], training.data.coarse[rows]
        mse = 4 * mean_squared_error(fine, torch.softmax(logits, -1))
        assert last["mse/raw"][s] == pytest.approx(mse, rel=1e-4)
        assert last["rmse/raw"][s] == pytest.approx(mse**0.5, rel=1e-4)
        assert last["accuracy/coarse"][s] == pytest.approx((logits.argmax(1) == coarse).float().mean().item(), abs=1e-6)
        assert last["features/scale"][s] == pytest.approx(features.numpy().std(), rel=1e-4)
    assert all(least <= final for least, final in zip(last["mse/transfer-min"], last["mse/transfer"], strict=True))


def test_arrays_kept_are_small_and_complete(trained: tuple[Training, list[dict[str, list[float]]]]) -> None:
    training, metrics = trained
    arrays = training.arrays()
    heldout, validation = 360, 168
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes == {
        "features": (2, heldout, 100),
        "heldout-features": (2, heldout, 100),
        "fine": (2, heldout, 4),
        "coarse": (2, heldout),
        "probabilities": (2, heldout, 4),
        "reliability": (2, 10, 3),
        "validation-indices": (2, validation),
        "validation-predicted": (2, validation),
    }
    np.testing.assert_allclose(arrays["probabilities"].sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(arrays["fine"].argmax(-1), arrays["coarse"])
    hits = (arrays["probabilities"].argmax(-1) == arrays["coarse"]).mean(1)
    np.testing.assert_allclose(hits, metrics[-1]["accuracy/coarse"], rtol=1e-5)
    assert arrays["reliability"][..., 2].sum(1).tolist() == [heldout * 4] * 2


def test_is_found_by_its_name() -> None:
    assert isinstance(find("hyperspectral"), Hyperspectral)
