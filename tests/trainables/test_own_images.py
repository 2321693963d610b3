"""Images of one's own, against PIL and hand-made trees: read, grouped, split, augmented, and what is refused."""

from __future__ import annotations

import csv
import io
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from trainables.benchmarks import Data, DataError, make_options
from trainables.benchmarks.own_images import OwnImages, OwnImagesOptions
from trainables.replicas import stream, streams
from trainables.training import Training
from trainables.trial import Trial

BENCHMARK = OwnImages()
EXAMPLE = Path(__file__).parents[2] / "examples" / "images.yaml"
GROUPS = {"furred": ["cat", "dog"], "winged": ["owl", "wren"]}
CLASSES = ("cat", "dog", "owl", "wren")
EACH = 10


def painted(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8))


def tree(root: Path, counts: dict[str, int] | None = None) -> Path:
    """A folder of images for each of ``counts``' names, which may have parts' folders above; each image is unlike."""
    for name, count in (counts or dict.fromkeys(CLASSES, EACH)).items():
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(count):
            painted(sum(map(ord, name)) * 100 + number).save(folder / f"{number}.png")
    return root


def loaded(data: Path, cache: Path, **options: Any) -> tuple[Data, OwnImagesOptions]:
    values = {"data": str(data), "groups": GROUPS, "size": 8, "cache": str(cache), **options}
    made = make_options(OwnImagesOptions, values)
    return BENCHMARK.load(made), made


def parts(data: Data, options: OwnImagesOptions, seed: int = 0) -> dict[str, torch.Tensor]:
    return BENCHMARK.split(data, options, stream(seed, "split"))


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))


def as_list(folder: Path, rows: list[dict[str, str]], name: str = "list.csv") -> Path:
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


def rows_of(folder: Path) -> list[dict[str, str]]:
    files = sorted(folder.rglob("*.png"))
    names = [file.relative_to(folder).as_posix() for file in files]
    group = {fine: coarse for coarse, classes in GROUPS.items() for fine in classes}
    return [
        {"file": name, "class": name.split("/")[0], "kind": group[name.split("/")[0]], "visit": str(int(name[-5]) // 2)}
        for name in names
    ]


def test_a_tree_a_zip_and_lists_give_the_same_images(tmp_path: Path) -> None:
    folder = tree(tmp_path / "pets")
    packed = zipped(folder)
    listed = as_list(folder, rows_of(folder))
    inside = [{**row, "file": f"pets/{row['file']}"} for row in rows_of(folder)]
    of_zip = as_list(tmp_path, inside, "packed.csv")
    cache = tmp_path / "cache"
    found = [
        loaded(folder, cache),
        loaded(packed, cache),
        loaded(listed, cache),
        loaded(listed, cache, groups="kind"),
        loaded(of_zip, cache, folder=str(packed)),
    ]
    for data, _ in found:
        seen = {
            data.inputs[i].numpy().tobytes(): (data.extra["classes"][data.fine[i]], data.coarse_names[data.coarse[i]])
            for i in range(len(data.inputs))
        }
        expected = {
            np.asarray(Image.open(folder / row["file"])).transpose(2, 0, 1).tobytes(): (row["class"], row["kind"])
            for row in rows_of(folder)
        }
        assert seen == expected and data.left_out == ()
        assert data.coarse_names == ("furred", "winged")


def test_an_image_is_cut_or_squeezed_to_the_size(tmp_path: Path) -> None:
    folder = tree(tmp_path / "pets")
    wide = Image.new("RGB", (24, 8), "red")
    wide.paste("blue", (8, 0, 16, 8))
    wide.save(folder / "cat" / "wide.png")
    for fit, pure in (("crop", True), ("stretch", False)):
        data, _ = loaded(folder, tmp_path / "cache", fit=fit)
        blue = [(image[2] == 255).all() and not image[0].any() for image in data.inputs]
        assert any(blue) == pure


def test_parts_are_the_shares_of_each_class(tmp_path: Path) -> None:
    data, options = loaded(tree(tmp_path / "pets"), tmp_path / "cache", validation=0.2, heldout=0.3)
    for seed in range(3):
        split = parts(data, options, seed)
        assert {part: data.fine[indices].bincount().tolist() for part, indices in split.items()} == {
            "train": [5] * 4,
            "validation": [2] * 4,
            "heldout": [3] * 4,
        }
        assert sorted(torch.cat([*split.values()]).tolist()) == list(range(40))
    assert not torch.equal(parts(data, options, 0)["heldout"].sort()[0], parts(data, options, 1)["heldout"].sort()[0])


@pytest.mark.parametrize("validation", [True, False])
def test_folders_of_parts_are_the_parts(validation: bool, tmp_path: Path) -> None:
    counts = {f"{part}/{name}": count for part, count in (("train", 8), ("test", 3)) for name in CLASSES}
    counts |= {f"val/{name}": 2 for name in CLASSES if validation}
    folder = tree(tmp_path / "pets", counts)
    data, options = loaded(folder, tmp_path / "cache", validation=0.25)
    split = parts(data, options)
    sizes = {part: len(indices) for part, indices in split.items()}
    assert sizes == {"train": 32 if validation else 24, "validation": 8, "heldout": 12}
    of_test = {np.asarray(Image.open(file)).transpose(2, 0, 1).tobytes() for file in folder.glob("test/*/*.png")}
    assert {data.inputs[i].numpy().tobytes() for i in split["heldout"]} == of_test
    data, options = loaded(folder, tmp_path / "cache", own_parts=False, heldout=0.5)
    # half of 11 or 13 of each class
    assert len(parts(data, options)["heldout"]) == 24
    assert not of_test <= {data.inputs[i].numpy().tobytes() for i in parts(data, options)["heldout"]}


def test_images_that_belong_together_stay_together(tmp_path: Path) -> None:
    folder = tree(tmp_path / "pets")
    listed = as_list(folder, rows_of(folder))
    data, options = loaded(listed, tmp_path / "cache", group="visit")
    for seed in range(4):
        split = parts(data, options, seed)
        visits = [set(data.extra["groups"][indices].tolist()) for indices in split.values()]
        assert all(visits) and not (visits[0] & visits[1] or visits[0] & visits[2] or visits[1] & visits[2])


def test_equal_images_of_a_class_are_one_and_that_for_testing_is_kept(tmp_path: Path) -> None:
    counts = {f"{part}/{name}": EACH for part in ("train", "test") for name in CLASSES}
    folder = tree(tmp_path / "pets", counts)
    shutil.copy(folder / "test" / "cat" / "0.png", folder / "train" / "cat" / "again.png")
    data, options = loaded(folder, tmp_path / "cache")
    assert data.left_out == (("train/cat/again.png", "the same image as one that is kept"),)
    assert len(parts(data, options)["heldout"]) == 40


def test_classes_are_left_out_and_samples_are_the_first(tmp_path: Path) -> None:
    folder = tree(tmp_path / "pets", {**dict.fromkeys(CLASSES, EACH), "newt": EACH})
    # what is left out does not count against what stays
    shutil.copy(folder / "cat" / "0.png", folder / "newt" / "0.png")
    (folder / "notes").mkdir()
    (folder / "notes" / "readme.txt").write_text("not a class", encoding="utf-8")
    (folder / "cat" / "notes.txt").write_text("not an image", encoding="utf-8")
    data, _ = loaded(folder, tmp_path / "cache", leave_out=["newt"], samples=7)
    assert data.extra["classes"] == CLASSES and data.fine.bincount().tolist() == [7] * 4
    whole, _ = loaded(folder, tmp_path / "cache", leave_out=["newt"])
    assert whole.fine.bincount().tolist() == [EACH] * 4
    assert whole.left_out == (("cat/notes.txt", "not an image"),)


def test_augmentation_is_of_training_images_alone_and_normalised(tmp_path: Path) -> None:
    data, _ = loaded(tree(tmp_path / "pets"), tmp_path / "cache")
    inputs = data.inputs[:20].view(2, 10, 3, 8, 8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    plain = (inputs.double() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    mirrored = plain.flip(-1)
    for augmentation in ("none", "flips", "crops"):
        options = make_options(OwnImagesOptions, {"data": "x", "groups": GROUPS, "augmentation": augmentation})
        tested = BENCHMARK.batch(inputs, options, False, [])
        torch.testing.assert_close(tested.double(), plain, atol=1e-5, rtol=0)
        trained = BENCHMARK.batch(inputs, options, True, streams((0, 1), "augmentation")).double()
        same = (trained - plain).abs().flatten(2).amax(2) < 1e-5
        flipped = (trained - mirrored).abs().flatten(2).amax(2) < 1e-5
        if augmentation == "none":
            assert same.all()
        elif augmentation == "flips":
            assert (same ^ flipped).all() and same.any() and flipped.any()
        else:
            assert not (same | flipped).all()


def test_the_cache_is_what_is_trained_on(tmp_path: Path) -> None:
    folder = tree(tmp_path / "pets")
    data, _ = loaded(folder, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    again, _ = loaded(folder, tmp_path / "cache")
    assert again.fingerprint == data.fingerprint
    other, _ = loaded(folder, tmp_path / "cache", groups={"a": ["cat", "owl"], "b": ["dog", "wren"]})
    assert other.fingerprint != data.fingerprint
    # decoded once, whatever the groups
    assert len([each for each in (tmp_path / "cache").iterdir() if each.is_dir()]) == 1


def broken(folder: Path) -> None:
    whole = (folder / "dog" / "3.png").read_bytes()
    (folder / "dog" / "3.png").write_bytes(whole[:60])


def twice(folder: Path) -> None:
    shutil.copy(folder / "cat" / "2.png", folder / "owl" / "copy.png")


def few(folder: Path) -> None:
    for number in range(2, EACH):
        (folder / "owl" / f"{number}.png").unlink()


def nested(folder: Path) -> None:
    (folder / "cat" / "newt").mkdir()
    painted(1).save(folder / "cat" / "newt" / "0.png")


def same_name(folder: Path) -> None:
    (folder / "more" / "cat").mkdir(parents=True)
    painted(1).save(folder / "more" / "cat" / "0.png")


def phone(folder: Path) -> None:
    (folder / "cat" / "0.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")


SLIPS: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "broken": (broken, {}, r"dog/3.png cannot be read \(truncated or damaged image\).*unusable: drop"),
    "phone": (phone, {}, "cat/0.heic cannot be read .HEIC"),
    "twice": (twice, {}, r"cat/2.png \(cat\) and owl/copy.png \(owl\) are the same image of two classes"),
    "few": (few, {}, "class 'owl' has 2 images, fewer than the 3 parts"),
    "nested": (nested, {"leave_out": ["newt"]}, "cat holds files and the folder cat/newt holds files too"),
    "same name": (same_name, {}, "two folders are called 'cat', cat and more/cat"),
    "unknown": (
        lambda folder: None,
        {"groups": {**GROUPS, "furred": ["cat", "dgo"]}},
        "has no class 'dgo', which groups names; it has 'dog' among 4",
    ),
    "missing": (
        lambda folder: None,
        {"groups": {"furred": ["cat", "dog"], "winged": ["owl"]}},
        "class 'wren' is in none of the groups: add it to one, or list it under leave_out",
    ),
    "left out": (lambda folder: None, {"leave_out": ["owlet"]}, "no class 'owlet', which leave_out names"),
    "empty": (lambda folder: shutil.rmtree(folder) or folder.mkdir(), {}, "holds no folder of images"),
    "gone": (lambda folder: shutil.rmtree(folder), {}, "is not there"),
    "weights": (lambda folder: None, {"weights": "absent.pt"}, "absent.pt is not there"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_one_sentence(slip: str, tmp_path: Path) -> None:
    spoil, options, expected = SLIPS[slip]
    folder = tree(tmp_path / "pets")
    spoil(folder)
    with pytest.raises(DataError, match=expected) as error:
        loaded(folder, tmp_path / "cache", **options)
    assert "\n" not in str(error.value) and ("pets" in str(error.value) or slip == "weights")


@pytest.mark.parametrize(("spoil", "left"), [(broken, 39), (twice, 39)])
def test_files_that_cannot_be_used_are_left_out_where_asked(
    spoil: Callable[[Path], None], left: int, tmp_path: Path
) -> None:
    folder = tree(tmp_path / "pets")
    spoil(folder)
    data, _ = loaded(folder, tmp_path / "cache", unusable="drop")
    assert len(data.inputs) == left and data.left_out


LIST_SLIPS: dict[str, tuple[Callable[[list[dict[str, str]]], object], dict[str, Any], str]] = {
    "absent": (lambda rows: rows[4].update(file="cat/44.png"), {}, r"row 5 .*'cat/44.png' is not in .*pets"),
    "repeated": (lambda rows: rows[4].update(file=rows[0]["file"]), {}, "row 5 .*stands in a row above as well"),
    "no class": (lambda rows: rows[4].update({"class": ""}), {}, "no value in row 5 .*column 'class'"),
    "column": (lambda rows: None, {"fine": "klass"}, "has no column 'klass', which fine names; it has 'class'"),
    "coarse": (lambda rows: rows[4].update(kind="winged"), {"groups": "kind"}, "class 'cat' is of 'furred' and"),
    "one": (
        lambda rows: [row.update(kind="one") for row in rows],
        {"groups": "kind"},
        "column 'kind' holds one coarse class alone, 'one'",
    ),
    "visits": (lambda rows: [row.update(visit="1") for row in rows], {"group": "visit"}, "has 1 groups, fewer"),
    "folder": (lambda rows: None, {"folder": "nowhere"}, "nowhere is not there: set folder to one"),
    "numbers": (lambda rows: None, {"file": "visit"}, "column 'visit' holds numbers, and should name files"),
}


@pytest.mark.parametrize("slip", LIST_SLIPS)
def test_a_slip_in_a_list_is_one_sentence(slip: str, tmp_path: Path) -> None:
    spoil, options, expected = LIST_SLIPS[slip]
    folder = tree(tmp_path / "pets")
    rows = rows_of(folder)
    spoil(rows)
    with pytest.raises(DataError, match=expected) as error:
        loaded(as_list(folder, rows), tmp_path / "cache", **options)
    assert "\n" not in str(error.value)


def test_a_group_that_stands_in_two_folders_parts_is_refused(tmp_path: Path) -> None:
    counts = {f"{part}/{name}": EACH for part in ("train", "test") for name in CLASSES}
    folder = tree(tmp_path / "pets", counts)
    rows = [
        {"file": file.relative_to(folder).as_posix(), "class": file.parts[-2], "pet": file.stem}
        for file in sorted(folder.rglob("*.png"))
    ]
    with pytest.raises(DataError, match="pet '0' has images in test and in another part's folder"):
        loaded(as_list(folder, rows), tmp_path / "cache", group="pet")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"groups": {"all": ["cat", "dog"]}}, "groups has one coarse class alone, 'all'"),
        ({"groups": {"a": ["cat"], "b": ["dog"]}}, "one class in each group, so that nothing finer is left"),
        ({"groups": {"a": ["cat", "dog"], "b": ["owl", "cat"]}}, "class 'cat' of groups stands in 'a' and in 'b'"),
        ({"groups": {"a": "cat", "b": ["owl", "dog"]}}, "groups must name the coarse classes"),
        ({"groups": {}}, "groups must name the coarse classes"),
        ({"groups": "kind"}, "groups names a column, 'kind', which 'x' has not: list the groups"),
        ({"leave_out": ["cat"]}, "class 'cat' stands in groups and in leave_out"),
        ({"group": "visit"}, "group is for a list of files, and data is 'x'"),
        ({"backbone": "resnet51"}, "network of torchvision, such as resnet50, resnet"),
        ({"backbone": "resnet18", "weights": "IMAGENET1K_V1"}, "fetch https://download.pytorch.org/models/resnet18-"),
        ({"backbone": "resnet18", "mode": "bmm"}, "mode is how the ResNet-18 is computed, and backbone names another"),
        ({"augmentation": "crop"}, "augmentation must be one of crops, flips, none"),
        ({"size": 4}, "size"),
        ({"heldout": 0.5, "validation": 0.5}, "must leave a tenth"),
    ],
)
def test_options_are_checked(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        make_options(OwnImagesOptions, {"data": "x", "groups": GROUPS, **options})


def test_numbers_are_names_of_classes(tmp_path: Path) -> None:
    folder = tree(tmp_path / "digits", {"0": EACH, "1": EACH, "2": EACH})
    data, _ = loaded(folder, tmp_path / "cache", groups={"even": [0, 2], "odd": [1]})
    assert data.extra["classes"] == ("0", "1", "2") and data.coarse_names == ("even", "odd")


@pytest.mark.slow
def test_the_example_trains_on_real_images(shared_data: Path, tmp_path: Path) -> None:
    """Better than a guess at both, and each image's class is that of its folder in the archive."""
    archive = shared_data / "cifar10" / "cifar10_jpeg.zip"
    options = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["benchmark"]
    name = options.pop("name")
    options |= {"data": str(archive), "samples": 60, "size": 16, "width": 4, "cache": str(tmp_path)}
    training = {"epochs": 6, "milestones": [], "batch_size": 32}
    trained = Training(Trial(name, "ce", (0, 1), options=options, training=training))
    data = trained.data
    assert len(data.inputs) == 1200 and len(trained.parts["heldout"][0]) == 600
    with zipfile.ZipFile(archive) as packed:
        file = io.BytesIO(packed.read("cifar10/train/horse/0000.jpg"))
    image = np.asarray(Image.open(file).resize((16, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    (place,) = (data.inputs == torch.from_numpy(image.copy())).flatten(1).all(1).nonzero()
    assert data.extra["classes"][data.fine[place]] == "horse" and data.coarse_names[data.coarse[place]] == "animals"
    *_, last = trained.run()
    assert min(last.metrics["accuracy/coarse"]) > 0.6
    # of ten classes
    assert min(last.metrics["accuracy/fine-linear"]) > 0.15
    assert np.mean(last.metrics["accuracy/fine-linear-validation"]) > 0.15
