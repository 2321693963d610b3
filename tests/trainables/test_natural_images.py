"""Loaders on miniature trees in the published layouts, the CIFAR files also against torchvision's own reader."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from trainables.benchmarks import DataError
from trainables.benchmarks.duplicates import CONFLICTING, REPEATED
from trainables.benchmarks.faces import read_faces
from trainables.benchmarks.natural_images import LabelledImages, download, read_images


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 with numpy 1 wrote: byte strings, and arrays by numpy.core."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_text(self, text: str | bytes) -> None:
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)  # type: ignore[attr-defined]
        self.memoize(text)  # type: ignore[attr-defined]

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__qualname__}\n".encode())  # type: ignore[attr-defined]
        self.memoize(obj)  # type: ignore[attr-defined]

    dispatch[str] = dispatch[bytes] = save_text
    dispatch[type] = dispatch[type(len)] = dispatch[type(save_text)] = save_global


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Python2Pickler(file, protocol=2).dump(value)


def batch(labels: list[int], key: str, seed: int) -> dict[str, Any]:
    data = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return {"batch_label": "a batch", key: labels, "data": data, "filenames": [f"{i}.png" for i in range(len(labels))]}


def cifar10_tree(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    write(folder / "batches.meta", {"label_names": list("abcdefghij"), "num_vis": 3072})
    for i, (file, _) in enumerate([*CIFAR10.train_list, *CIFAR10.test_list]):
        write(folder / file, batch([(i + j) % 10 for j in range(4)], "labels", seed=i))
    return folder


def cifar100_tree(root: Path) -> Path:
    folder = root / "cifar-100-python"
    names = [f"class {i}" for i in range(100)]
    write(folder / "meta", {"fine_label_names": names, "coarse_label_names": ["x"] * 20})
    for seed, file in enumerate(("train", "test")):
        write(folder / file, batch([99, 0, 7], "fine_labels", seed) | {"coarse_labels": [0, 0, 0]})
    return folder


@pytest.mark.parametrize(("tree", "published"), [(cifar10_tree, CIFAR10), (cifar100_tree, CIFAR100)])
def test_cifar_equals_torchvisions_reader(
    tree: Callable[[Path], Path], published: type[CIFAR10], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree(tmp_path)

    def with_checksum(files: list[list[str]]) -> list[list[str]]:
        return [[file, hashlib.md5((folder / file).read_bytes()).hexdigest()] for file, *_ in files]

    for part in ("train_list", "test_list"):
        monkeypatch.setattr(published, part, with_checksum(getattr(published, part)))
    meta = dict(published.meta)
    meta["md5"] = with_checksum([[meta["filename"]]])[0][1]
    monkeypatch.setattr(published, "meta", meta)

    for path in (folder, tmp_path):
        ours = read_images(path, 32)
        for is_test in (False, True):
            theirs = published(str(tmp_path), train=not is_test)
            mine = ours.test == is_test
            np.testing.assert_array_equal(ours.pixels[mine].permute(0, 2, 3, 1), theirs.data)
            assert ours.labels[mine].tolist() == theirs.targets
            assert list(ours.names) == theirs.classes
    assert "checksums verified" in ours.note


def test_cifar_of_another_size(tmp_path: Path) -> None:
    cifar10_tree(tmp_path)
    full, small = read_images(tmp_path, 32, verify=False), read_images(tmp_path, 16, verify=False)
    assert small.pixels.shape == (24, 3, 16, 16)
    assert small.pixels.dtype == torch.uint8
    # noise, averaged over about four pixels
    assert small.pixels.float().std() < 0.75 * full.pixels.float().std()


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def spoil_checksum(folder: Path) -> None:
    """Leave the tree as it is: a miniature has not the published checksums."""


def spoil_with_code(folder: Path) -> None:
    (folder / "data_batch_2").write_bytes(pickle.dumps({"data": Harm(folder / "harmed"), "labels": []}))


def spoil_by_truncation(folder: Path) -> None:
    path = folder / "test_batch"
    path.write_bytes(path.read_bytes()[:5000])


def spoil_by_removal(folder: Path) -> None:
    (folder / "data_batch_5").unlink()


def spoil_labels(folder: Path) -> None:
    write(folder / "data_batch_1", batch([0, 1, 10], "labels", 0))


def spoil_label_count(folder: Path) -> None:
    write(folder / "data_batch_1", batch([0, 1, 2], "labels", 0) | {"labels": [0]})


def spoil_pixels(folder: Path) -> None:
    write(folder / "data_batch_1", {"data": np.zeros((2, 100), np.uint8), "labels": [0, 1]})


def spoil_names(folder: Path) -> None:
    write(folder / "batches.meta", {"names": []})


def spoil_kind(folder: Path) -> None:
    write(folder / "data_batch_3", [1, 2, 3])


@pytest.mark.parametrize(
    ("spoil", "verify", "said"),
    [
        (spoil_checksum, True, r"batches\.meta does not have the published checksum.*set verify to false"),
        (spoil_with_code, False, r"data_batch_2 is not a CIFAR file: it asks for \w+\.open"),
        (spoil_by_truncation, False, r"test_batch is (truncated or damaged|not a CIFAR file)"),
        (spoil_by_removal, False, r"data_batch_5 cannot be read: No such file"),
        (spoil_labels, False, r"data_batch_1 has labels in 'labels' that are not whole numbers from 0 to 9"),
        (spoil_label_count, False, r"data_batch_1 has no list 'labels' with a label for each of its 3 images"),
        (spoil_pixels, False, r"data_batch_1 has no array 'data' of n × 3072 bytes"),
        (spoil_names, False, r"batches\.meta has no list 'label_names' of class names"),
        (spoil_kind, False, r"data_batch_3 is not a CIFAR file: it holds no dictionary"),
    ],
)
def test_a_spoilt_cifar_file_is_named(spoil: Callable[[Path], None], verify: bool, said: str, tmp_path: Path) -> None:
    folder = cifar10_tree(tmp_path)
    spoil(folder)
    with pytest.raises(DataError, match=said):
        read_images(tmp_path, 32, verify=verify)
    assert not (folder / "harmed").exists()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server of the folder ``served``; gives its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_download_that_fails_is_one_sentence(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "url", f"{server}/missing.tar.gz")
    with pytest.raises(DataError, match=r"missing\.tar\.gz could not be downloaded .*404.*unpack it into"):
        download(tmp_path / "data", "cifar-10-batches-py")


def test_a_download_is_verified_and_unpacked(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cifar10_tree(tmp_path / "source")
    archive = tmp_path / "served" / "c.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)
    monkeypatch.setattr(CIFAR10, "url", f"{server}/c.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(b"another").hexdigest())
    with pytest.raises(DataError, match="could not be downloaded"):
        download(tmp_path / "bad", folder.name)
    assert not (tmp_path / "bad" / folder.name).exists()
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    download(tmp_path / "good", folder.name)
    assert len(read_images(tmp_path / "good", 32, verify=False).labels) == 24
    # what is there is not fetched again
    archive.unlink()
    download(tmp_path / "good", folder.name)


COLOURS = {"001.Red_Bird": (255, 0, 0), "002.Green_Bird": (0, 255, 0), "010.Blue_Bird": (0, 0, 255)}


def save(path: Path, colour: tuple[int, int, int], mark: int) -> None:
    """An image of one colour but for a corner, which tells it from the others of that colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (30, 20), colour)
    image.paste((mark, mark, mark), (0, 0, 4, 3))
    image.save(path)


def cub_tree(root: Path) -> Path:
    """Three classes of three images, in the files of CUB-200-2011."""
    folder = root / "CUB_200_2011"
    images: list[str] = []
    labels: list[str] = []
    parts: list[str] = []
    for c, (name, colour) in enumerate(COLOURS.items(), 1):
        for i in range(3):
            number, file = len(images) + 1, f"{name}/{name[4:]}_000{i}_{90 + i}.png"
            save(folder / "images" / file, colour, 50 * i)
            images.append(f"{number} {file}")
            labels.append(f"{number} {c}")
            parts.append(f"{number} {int(i > 0)}")
    for name, lines in (
        ("images", images),
        ("image_class_labels", labels),
        ("train_test_split", parts),
        ("classes", [f"{c} {name}" for c, name in enumerate(COLOURS, 1)]),
    ):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_cub(tmp_path: Path) -> None:
    folder = cub_tree(tmp_path)
    for path in (tmp_path, folder):
        images = read_images(path, 8, tmp_path / "cache")
        assert images.names == tuple(COLOURS)
        assert images.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert images.test.tolist() == [True, False, False] * 3
        assert images.pixels.shape == (9, 3, 8, 8)
        for colour, pixels in zip(COLOURS.values(), images.pixels[::3], strict=True):
            assert pixels[:, 4, 4].tolist() == list(colour)


def test_cub_with_a_damaged_image(tmp_path: Path) -> None:
    folder = cub_tree(tmp_path)
    (folder / "images" / "002.Green_Bird" / "Green_Bird_0001_91.png").write_bytes(b"no image")
    images = read_images(tmp_path, 8, tmp_path / "cache")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert images.note.endswith("1 files left out (1 not an image)")


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("images.txt", "10 ../../secret.png", r"images\.txt names '\.\./\.\./secret\.png', which leads outside"),
        ("images.txt", "10 002.Green_Bird/none.png", r"image_class_labels\.txt gives image 10 no class"),
        ("images.txt", "10", r"images\.txt, line 10: a number and a value are needed, not '10'"),
    ],
)
def test_a_spoilt_cub_list_is_named(file: str, line: str, said: str, tmp_path: Path) -> None:
    folder = cub_tree(tmp_path)
    with (folder / file).open("a", encoding="utf-8") as text:
        text.write(line + "\n")
    with pytest.raises(DataError, match=said):
        read_images(tmp_path, 8, tmp_path / "cache")


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("classes.txt", r"classes\.txt cannot be read as text"),
        (
            "images/010.Blue_Bird/Blue_Bird_0002_92.png",
            r"Blue_Bird_0002_92\.png is missing, but .*images\.txt lists it",
        ),
    ],
)
def test_a_missing_cub_file_is_named(gone: str, said: str, tmp_path: Path) -> None:
    (cub_tree(tmp_path) / gone).unlink()
    with pytest.raises(DataError, match=said):
        read_images(tmp_path, 8, tmp_path / "cache")


def class_folders(root: Path) -> Path:
    for part, count in (("train", 3), ("test", 1)):
        for name, colour in COLOURS.items():
            for i in range(count):
                save(root / part / name / f"{i}.png", colour, 50 * i + (20 if part == "test" else 0))
    (root / "train" / "README.txt").write_text("not in a class folder", encoding="utf-8")
    (root / "train" / "001.Red_Bird" / "notes.txt").write_text("not an image", encoding="utf-8")
    return root


@pytest.mark.parametrize("zipped", [False, True])
def test_class_folders(zipped: bool, tmp_path: Path) -> None:
    path = class_folders(tmp_path / "birds")
    if zipped:
        with zipfile.ZipFile(tmp_path / "birds.zip", "w") as archive:
            for file in sorted(path.rglob("*.*g")) + sorted(path.rglob("*.txt")):
                if file.is_file():
                    archive.write(file, file.relative_to(tmp_path))
        path = tmp_path / "birds.zip"
    images = read_images(path, 8, tmp_path / "cache")
    assert images.names == tuple(COLOURS)
    assert images.labels.bincount().tolist() == [4, 4, 4]
    assert images.labels[images.test].bincount().tolist() == [1, 1, 1]
    for label, pixels in zip(images.labels, images.pixels, strict=True):
        assert pixels[:, 4, 4].tolist() == list(COLOURS[images.names[label]])
    assert "2 files left out" in images.note


def test_class_folders_without_parts(tmp_path: Path) -> None:
    class_folders(tmp_path / "birds")
    images = read_images(tmp_path / "birds" / "train", 8, tmp_path / "cache")
    assert images.names == tuple(COLOURS)
    assert len(images.labels) == 9
    assert not images.test.any()


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_bytes(b"PK no zip")])
def test_no_images(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "nothing")
    with pytest.raises(DataError, match="nothing"):
        read_images(tmp_path / "nothing", 8, tmp_path / "cache")


@pytest.mark.slow
def test_the_shared_cifar10_zip(shared_data: Path, tmp_path: Path) -> None:
    images = read_images(shared_data / "cifar10" / "cifar10_jpeg.zip", 32, tmp_path)
    assert images.pixels.shape == (15_000, 3, 32, 32)
    assert images.names == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert images.labels.bincount().tolist() == [1500] * 10
    assert images.labels[images.test].bincount().tolist() == [300] * 10
    with zipfile.ZipFile(shared_data / "cifar10" / "cifar10_jpeg.zip") as archive:
        name = next(n for n in archive.namelist() if "/test/ship/" in n)
        expected = np.array(Image.open(archive.open(name)).convert("RGB")).transpose(2, 0, 1)
    ships = images.pixels[(images.labels == 8) & images.test]
    assert (ships == torch.from_numpy(expected)).flatten(1).all(1).sum() == 1


def packed(folder: Path, archive: Path, *, root: str | None = None) -> Path:
    """``folder`` as a tar.gz, tgz or zip, below its own name or ``root``."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    root = folder.name if root is None else root
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                zipped.write(file, Path(root) / file.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, root or ".")
    return archive


def assert_equal(images: LabelledImages, expected: LabelledImages) -> None:
    assert (images.pixels == expected.pixels).all()
    assert images.labels.tolist() == expected.labels.tolist()
    assert images.test.tolist() == expected.test.tolist()
    assert images.names == expected.names


@pytest.mark.parametrize(
    ("tree", "name", "root"),
    [
        (cifar100_tree, "cifar-100-python.tar.gz", None),
        (cifar10_tree, "cifar-10-python.tar.gz", None),
        # as they are passed around
        (cifar100_tree, "archive.zip", ""),
        (cifar10_tree, "renamed.tgz", ""),
    ],
)
def test_cifar_in_its_archive_equals_the_unpacked_folder(
    tree: Callable[[Path], Path], name: str, root: str | None, tmp_path: Path
) -> None:
    folder = tree(tmp_path / "unpacked")
    archive = packed(folder, tmp_path / "data" / name, root=root)
    expected = read_images(folder, 32, verify=False)
    for path in (archive, archive.parent):
        assert_equal(read_images(path, 32, verify=False), expected)
        with pytest.raises(DataError, match="does not have the published checksum"):
            read_images(path, 32)


def test_a_cifar_archive_without_one_of_its_files_is_named(tmp_path: Path) -> None:
    folder = cifar10_tree(tmp_path / "unpacked")
    spoil_by_removal(folder)
    archive = packed(folder, tmp_path / "cifar-10-python.tar.gz")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz has no file cifar-10-batches-py/data_batch_5"):
        read_images(archive, 32, verify=False)
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz.*truncated"):
        read_images(archive, 32, tmp_path / "cache", verify=False)


def test_a_file_of_cifar_100_above_the_limit_of_images_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainables.benchmarks import sources

    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1000)
    archive = packed(cifar100_tree(tmp_path / "unpacked"), tmp_path / "cifar-100-python.tar.gz")
    assert len(read_images(archive, 32, verify=False).labels) == 6


@pytest.mark.parametrize("unpacked", [False, True])
def test_the_published_set_that_is_meant_is_taken(unpacked: bool, tmp_path: Path) -> None:
    """One folder for all data sets, as torchvision's ``root`` often is."""
    for tree, archive in ((cifar10_tree, "cifar-10-python.tar.gz"), (cifar100_tree, "cifar-100-python.tar.gz")):
        folder = tree(tmp_path / "data" if unpacked else tmp_path / "elsewhere")
        if not unpacked:
            packed(folder, tmp_path / "data" / archive)
    cub_tree(tmp_path / "data")
    for name, classes in (("cifar-10-batches-py", 10), ("cifar-100-python", 100), ("CUB_200_2011", 3)):
        images = read_images(tmp_path / "data", 32, tmp_path / "cache", verify=False, published=name)
        assert len(images.names) == classes


def test_cifar_images_that_stand_twice_are_taken_once(tmp_path: Path) -> None:
    folder = cifar10_tree(tmp_path)
    pixels = np.random.default_rng(9).integers(0, 256, (3, 3072), dtype=np.uint8)
    # 0 stands in both parts, 1 twice in one, 2 with two labels
    write(folder / "data_batch_1", {"labels": [3, 4, 4, 5], "data": pixels[[0, 1, 1, 2]]})
    write(folder / "test_batch", {"labels": [3, 6], "data": pixels[[0, 2]]})
    images = read_images(tmp_path, 32, verify=False)
    assert {problem.name: problem.reason for problem in images.problems} == {
        "data_batch_1, image 0": REPEATED,
        "data_batch_1, image 2": REPEATED,
        "data_batch_1, image 3": CONFLICTING,
        "test_batch, image 1": CONFLICTING,
    }
    assert images.labels[images.test].tolist() == [3]
    assert len(images.pixels) == len(images.labels) == len(images.test) == 16 + 1 + 1
    assert (images.pixels[images.test][0].flatten() == torch.from_numpy(pixels[0])).all()
    assert "4 files left out" in images.note


@pytest.mark.parametrize("name", ["CUB_200_2011.tgz", "birds.zip"])
def test_cub_in_its_archive_equals_the_unpacked_folder(name: str, tmp_path: Path) -> None:
    folder = cub_tree(tmp_path / "unpacked")
    expected = read_images(folder, 8, tmp_path / "cache")
    archive = packed(folder, tmp_path / "data" / name)
    # as the published one has, beside the folder
    (tmp_path / "data" / "attributes.txt").write_text("1 has_bill_shape::curved", encoding="utf-8")
    for path in (archive, archive.parent):
        images = read_images(path, 8, tmp_path / "cache")
        assert_equal(images, expected)
        assert images.note.startswith("CUB-200-2011")
        # and from the cache
        assert_equal(read_images(path, 8, tmp_path / "cache"), expected)


def test_cub_images_that_stand_twice_are_taken_once(tmp_path: Path) -> None:
    folder = cub_tree(tmp_path)
    images = folder / "images"
    red, green, blue = (sorted((images / name).iterdir()) for name in COLOURS)
    # the first of each class is for testing
    red[1].write_bytes(red[0].read_bytes())
    green[0].write_bytes(blue[0].read_bytes())
    loaded = read_images(tmp_path, 8, tmp_path / "cache")
    assert {problem.name: problem.reason for problem in loaded.problems} == {
        str(red[1].relative_to(images)): REPEATED,
        str(green[0].relative_to(images)): CONFLICTING,
        str(blue[0].relative_to(images)): CONFLICTING,
    }
    assert loaded.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert loaded.test.tolist() == [True, False, False, False, False, False]


def test_class_folders_held_several_times_keep_the_test_part(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "birds")
    expected = read_images(root, 8, tmp_path / "cache")
    shutil.copytree(root, root / "again" / "birds")
    for name in COLOURS:
        shutil.copy(root / "test" / name / "0.png", root / "train" / name / "leaked.png")
    images = read_images(root, 8, tmp_path / "cache")
    assert sorted(images.labels.tolist()) == sorted(expected.labels.tolist())
    assert images.test.sum() == expected.test.sum() == 3
    rows = {bytes(pixels.numpy().tobytes()) for pixels in images.pixels}
    assert len(rows) == len(images.labels) == 12
    assert sum(problem.reason == REPEATED for problem in images.problems) == 15


@pytest.mark.parametrize(
    "name",
    [
        "train/.ipynb_checkpoints/0-checkpoint.png",
        "train/001.Red_Bird/.ipynb_checkpoints/0-checkpoint.png",
        "__MACOSX/train/001.Red_Bird/0.png",
        "train/@eaDir/0.png",
        "train/0.png",
        "Training/0.png",
        "val/0.png",
        "Validation/0.png",
        "TESTING/0.png",
        "val/images/0.png",
        "cover.png",
    ],
)
def test_a_folder_that_is_no_class_is_left_out(name: str, tmp_path: Path) -> None:
    root = class_folders(tmp_path / "birds")
    save(root / name, (9, 9, 9), 99)
    images = read_images(root, 8, tmp_path / "cache")
    assert images.names == tuple(COLOURS)
    assert len(images.labels) == 12
    assert name in [problem.name for problem in images.problems]


@pytest.mark.parametrize(("part", "test"), [("Test", True), ("TESTING", True), ("val", False), ("Training", False)])
def test_parts_in_any_case(part: str, test: bool, tmp_path: Path) -> None:
    save(tmp_path / "data" / part / "red" / "0.png", (255, 0, 0), 1)
    save(tmp_path / "data" / part / "red" / "images" / "1.png", (255, 0, 0), 200)
    images = read_images(tmp_path / "data", 8, tmp_path / "cache")
    assert images.names == ("red",)
    assert images.test.tolist() == [test, test]


def test_an_image_beside_the_class_folders_is_left_out(tmp_path: Path) -> None:
    root = tmp_path / "data" / "birds"
    for name, colour in COLOURS.items():
        save(root / name / "0.png", colour, 0)
    save(root / "cover.png", (9, 9, 9), 1)
    images = read_images(tmp_path / "data", 8, tmp_path / "cache")
    assert images.names == tuple(COLOURS)
    assert images.labels.tolist() == [0, 1, 2]
    assert [(p.name, p.reason) for p in images.problems] == [("birds/cover.png", "beside the class folders")]
    # among the images of one class a folder may be another class or a part of this one
    save(root / "001.Red_Bird" / "chicks" / "0.png", (200, 0, 0), 1)
    with pytest.raises(DataError, match=r"Red_Bird.* holds images too, so that it cannot be told which is a class"):
        read_images(tmp_path / "data", 8, tmp_path / "cache")


def test_an_archive_for_each_class_or_part(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "birds")
    expected = read_images(root, 8, tmp_path / "cache")
    for part in ("train", "test"):
        packed(root / part, tmp_path / "parts" / f"{part}.zip", root="")
    images = read_images(tmp_path / "parts", 8, tmp_path / "cache")
    assert images.names == expected.names
    assert images.test.sum() == 3 and len(images.labels) == 12
    for name in COLOURS:
        packed(root / "train" / name, tmp_path / "classes" / f"{name}.tar.gz", root="")
    images = read_images(tmp_path / "classes", 8, tmp_path / "cache")
    assert images.names == expected.names
    assert images.labels.bincount().tolist() == [3, 3, 3]


def test_a_cache_of_faces_has_no_classes(tmp_path: Path) -> None:
    save(tmp_path / "faces" / "1_0_0_1.jpg", (9, 9, 9), 1)
    faces = read_faces(tmp_path / "faces", 8, tmp_path / "cache")
    with pytest.raises(DataError, match="is an image cache without classes"):
        read_images(faces.images.folder, 8, tmp_path / "cache")
