"""The few-shot benchmarks: splits, preprocessing, and whole trials on simulated, miniature and real images."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from trainables.benchmarks import Benchmark, DataError, augmentation
from trainables.benchmarks.few_shot import (
    CIFAR_MEAN,
    CIFAR_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Cifar10FewShot,
    CifarFS,
    Cub,
    CubOptions,
    FewShotOptions,
    shipped_split,
)
from trainables.benchmarks.simulated_textures import simulate
from trainables.replicas import stream, streams
from trainables.training import Training
from trainables.trial import Trial

HERE = "trainables.benchmarks.few_shot:"
SMALL = {"width": 2, "runs": 20, "queries": 3, "shots": [1, 2], "samples": 6}


@pytest.mark.parametrize(("name", "sizes"), [("cifar_fs", (64, 16, 20)), ("cub", (100, 50, 50))])
def test_published_splits(name: str, sizes: tuple[int, ...], shared_data: Path) -> None:
    split = shipped_split(name)
    assert tuple(map(len, split.values())) == sizes
    assert len(set().union(*split.values())) == sum(sizes)
    published = json.loads((shared_data / "splits" / f"{name}.json").read_text(encoding="utf-8"))
    assert {part: list(names) for part, names in split.items()} == {
        "base": published["train"],
        "validation": published["val"],
        "novel": published["test"],
    }


@pytest.mark.parametrize(("benchmark", "strength"), [(CifarFS, 1.5), (Cub, 2.0), (Cifar10FewShot, 1.5)])
@pytest.mark.parametrize("protocol", ["paper", "released"])
def test_recipe(benchmark: type[CifarFS], strength: float, protocol: str) -> None:
    made = benchmark()
    assert isinstance(made, Benchmark)
    recipe = made.recipe(protocol, made.Options())
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.weight_decay) == (350, 64, 0.1, 5e-4)
    assert (recipe.optimizer, recipe.momentum, recipe.nesterov) == ("sgd", 0.9, True)
    assert recipe.milestones == (100, 200, 300)
    assert recipe.hyperparameters["lambda"] == strength
    with pytest.raises(ValueError, match="unknown protocol 'ours'; known: paper, released"):
        made.recipe("ours", made.Options())


def test_parts_hold_whole_classes() -> None:
    benchmark = CifarFS()
    options = FewShotOptions(samples=20, size=8, heldout=0.25, validation=0.1, centring=50)
    data = benchmark.load(options)
    assert data.provenance == "simulated"
    assert data.classes == 64
    split = benchmark.split(data, options, stream(3, "split"))
    fine = {part: set(data.fine[indices].tolist()) for part, indices in split.items()}
    assert fine["validation-classes"] == set(range(64, 80))
    assert fine["novel"] == set(range(80, 100))
    assert {part: len(indices) for part, indices in split.items()} == {
        "train": 832,
        "validation": 128,
        "heldout": 320,
        "base": 50,
        "validation-classes": 320,
        "novel": 400,
    }
    base = torch.cat([split["train"], split["validation"], split["heldout"]])
    assert sorted(base.tolist()) == list(range(1280))
    assert torch.equal(data.coarse[base], data.fine[base])
    assert (data.coarse[split["novel"]] == -1).all()
    assert set(split["base"].tolist()) <= set(split["train"].tolist())
    other = benchmark.split(data, options, stream(4, "split"))
    assert torch.equal(other["novel"], split["novel"])
    assert not torch.equal(other["train"], split["train"])


def test_evaluation_images_of_cifar() -> None:
    x = torch.randint(0, 256, (2, 5, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    expected = functional.normalize(functional.to_dtype(x, torch.float32, scale=True), CIFAR_MEAN, CIFAR_STD)
    torch.testing.assert_close(CifarFS().batch(x, FewShotOptions(), False, []), expected)


def test_training_images_of_cifar_are_shifted_and_flipped() -> None:
    """Every image is one of the 2·9² that a shift of up to 4 pixels and a flip can make."""
    x = torch.randint(0, 256, (2, 3, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    made = CifarFS().batch(x, FewShotOptions(), True, streams((0, 1), "augmentation", 1))
    padded = functional.normalize(functional.pad(x.float() / 255, [4]), CIFAR_MEAN, CIFAR_STD)
    crops = [padded[..., i : i + 32, j : j + 32] for i in range(9) for j in range(9)]
    candidates = torch.stack([*crops, *(crop.flip(-1) for crop in crops)])
    assert ((candidates - made).abs().amax((-3, -2, -1)).amin(0) < 1e-6).all()


def test_evaluation_images_of_cub_are_torchvisions() -> None:
    """84 pixels from 192: resized to 96, centre crop."""
    assert Cub().stored_size(84) == 192
    x = torch.randint(0, 256, (2, 3, 3, 192, 192), generator=torch.Generator().manual_seed(0)).byte()
    expected = functional.to_dtype(x.flatten(0, 1), torch.float32, scale=True)
    expected = functional.center_crop(functional.resize(expected, [96, 96], antialias=True), [84, 84])
    expected = functional.normalize(expected, IMAGENET_MEAN, IMAGENET_STD).unflatten(0, (2, 3))
    torch.testing.assert_close(Cub().batch(x, CubOptions(), False, []), expected, rtol=0, atol=1e-5)


def test_training_images_of_cub_are_torchvisions() -> None:
    """Random resized crop, colour jitter and flip with the parameters that the generators give in this order."""
    x = torch.randint(0, 256, (2, 3, 3, 48, 48), generator=torch.Generator().manual_seed(0)).byte()
    made = Cub().batch(x, CubOptions(size=21), True, streams((0, 1), "augmentation", 1))
    assert made.shape == (2, 3, 3, 21, 21)
    again = streams((0, 1), "augmentation", 1)
    boxes = augmentation.draw_boxes(3, 48, 48, again)
    factors, order = augmentation.draw_jitter(3, 0.4, again)
    flips = augmentation.draw_flips(3, again)
    adjust = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    for i, image in enumerate(x.flatten(0, 1)):
        scaled = functional.to_dtype(image, torch.float32, scale=True)
        expected = functional.resized_crop(scaled, *boxes[i].tolist(), size=[21, 21], antialias=True)
        for step in order[i].tolist():
            expected = adjust[step](expected, float(factors[i, step]))
        if flips[i]:
            expected = functional.horizontal_flip(expected)
        expected = functional.normalize(expected, IMAGENET_MEAN, IMAGENET_STD)
        torch.testing.assert_close(made.flatten(0, 1)[i], expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("size", [8, 21, 32, 84])
def test_sizes_of_cub_come_back(size: int) -> None:
    edge = Cub().stored_size(size)
    x = torch.zeros(1, 2, 3, edge, edge, dtype=torch.uint8)
    options = CubOptions(size=size)
    assert Cub().batch(x, options, False, []).shape[-2:] == (size, size)
    assert Cub().batch(x, options, True, streams((0,), "augmentation", 1)).shape[-2:] == (size, size)


def test_backbone_has_512_features_after_relu() -> None:
    benchmark = CifarFS()
    options = FewShotOptions(samples=20, size=8)
    data = benchmark.load(options)
    network = benchmark.backbone(data, options, streams((0,), "init"))
    features, logits = network(torch.randn(1, 4, 3, 8, 8))
    assert features.shape == (1, 4, 512)
    assert features.min() >= 0
    assert logits.shape == (1, 4, 64)


def test_simulated_classes_do_not_depend_on_how_many_follow() -> None:
    few, labels = simulate(2, 5, 16)
    many, _ = simulate(4, 5, 16)
    assert torch.equal(few, many[:10])
    assert labels.tolist() == [0] * 5 + [1] * 5
    assert few.dtype == torch.uint8
    assert len(many.flatten(1).unique(dim=0)) == 20


def trained(benchmark: str, options: Mapping[str, Any], **training: Any) -> list[dict[str, list[float]]]:
    trial = Trial(
        HERE + benchmark,
        "fierce",
        seeds=(0, 1),
        hyperparameters={"e": 5},
        options={**SMALL, **options},
        training={"epochs": 2, **training},
        cadence={"few-shot": 1},
    )
    return [record.metrics for record in Training(trial).run()]


EXPECTED = {
    f"accuracy/{k}-shot{kind}{part}{ci}"
    for k in (1, 2)
    for kind in ("", "-normalized")
    for part in ("", "-validation")
    for ci in ("", "-ci")
}


@pytest.mark.parametrize("benchmark", ["CifarFS", "Cub", "Cifar10FewShot"])
def test_a_simulated_trial(benchmark: str) -> None:
    for metrics in trained(benchmark, {"size": 8, "heldout": 0.1}):
        assert set(metrics) >= EXPECTED | {"accuracy/coarse"}
        assert all(0 <= value <= 1 for name in EXPECTED for value in metrics[name])


def test_a_trial_on_the_layout_of_cifar_100(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    names = [name for part in shipped_split("cifar_fs").values() for name in sorted(part)]
    labels = list(range(100)) * 3
    pixels = np.random.default_rng(0).integers(0, 256, (600, 3072), dtype=np.uint8)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    for file, part in (("train", pixels[:300]), ("test", pixels[300:])):
        (folder / file).write_bytes(pickle.dumps({"data": part, "fine_labels": labels}))
    options: dict[str, Any] = {"data": str(tmp_path), "verify": False, "size": 8}
    assert trained("CifarFS", options)[-1].keys() >= EXPECTED
    data = CifarFS().load(FewShotOptions(**{**SMALL, **options}))
    assert data.provenance == "real"
    assert data.extra["classes"] == tuple(name for part in shipped_split("cifar_fs").values() for name in part)
    # each class's images are the file's own: rows c, 100 + c and 200 + c
    for position, name in ((0, data.extra["classes"][0]), (99, data.extra["classes"][99])):
        row = torch.from_numpy(pixels[names.index(name)].reshape(3, 32, 32))
        expected = functional.resize(row, [8, 8], antialias=True)
        assert torch.equal(data.inputs[data.fine == position][0], expected)


def test_a_trial_on_the_layout_of_cub(tmp_path: Path) -> None:
    folder = tmp_path / "CUB_200_2011"
    classes = sorted(name for part in shipped_split("cub").values() for name in part)
    files, labels = [], []
    for c, name in enumerate(classes):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(5):
            file = f"{name}/{i}.jpg"
            pixels = np.random.default_rng(5 * c + i).integers(0, 256, (9, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / file)
            files.append(file)
            labels.append(c + 1)
    for table, values in (
        ("images", files),
        ("image_class_labels", labels),
        ("classes", classes),
    ):
        (folder / f"{table}.txt").write_text("".join(f"{i} {v}\n" for i, v in enumerate(values, 1)), encoding="utf-8")
    options = {"data": str(tmp_path), "cache": str(tmp_path / "cache"), "size": 8}
    assert trained("Cub", options)[-1].keys() >= EXPECTED


@pytest.mark.slow
def test_a_trial_on_cifar_10s_images(shared_data: Path, tmp_path: Path) -> None:
    options = {
        "data": str(shared_data / "cifar10" / "cifar10_jpeg.zip"),
        "cache": str(tmp_path),
        "size": 8,
        "samples": 40,
        "runs": 200,
    }
    last = trained("Cifar10FewShot", options)[-1]
    assert last.keys() >= EXPECTED
    # three novel classes, two of validation: chance is a third and a half
    assert all(value > 0.28 for value in last["accuracy/2-shot"])
    assert all(value > 0.42 for value in last["accuracy/2-shot-validation"])


def test_own_classes_and_a_class_without_enough_images(tmp_path: Path) -> None:
    for c, (name, count) in enumerate((("a", 9), ("b", 9), ("c", 9), ("d", 8))):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (8, 8), (20 * i, 60 * c, 0)).save(tmp_path / name / f"{i}.png")
    own: dict[str, Any] = {
        "data": str(tmp_path),
        "cache": str(tmp_path / "cache"),
        "base_classes": ["a", "b"],
        "novel_classes": ["d", "c"],
        "size": 8,
        "queries": 7,
        "shots": [1],
        "heldout": 0.0,
    }
    benchmark = Cifar10FewShot()
    data = benchmark.load(FewShotOptions(**own))
    assert data.extra["classes"] == ("a", "b", "d", "c")
    assert data.fine.bincount().tolist() == [9, 9, 8, 9]
    with pytest.raises(DataError, match=r"class 'd' of .* has 8 images, but 2 shots and 7 queries need 9: set shots"):
        benchmark.load(FewShotOptions(**{**own, "shots": [1, 2]}))
    with pytest.raises(DataError, match=r"has no class 'cc' \(1 of 4 classes of the split are missing\); it has 'c'"):
        benchmark.load(FewShotOptions(**{**own, "novel_classes": ["cc", "d"]}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": ""}, "data must be the path of a folder"),
        ({"size": 7}, "size must be a whole number of at least 8, not 7"),
        ({"width": 0}, "width must be a whole number of at least 1, not 0"),
        ({"ways": 1}, "ways must be a whole number of at least 2, not 1"),
        ({"runs": 1.5}, "runs must be a whole number of at least 2, not 1.5"),
        ({"samples": 0}, "samples must be a whole number of at least 1, not 0"),
        ({"shots": 1}, "shots must be a list, not 1"),
        ({"shots": []}, "shots must be a list of whole numbers of at least 1"),
        ({"mode": "fast"}, "mode must be one of auto, grouped, looped, bmm, not 'fast'"),
        ({"heldout": 0.6}, r"heldout must be a share in \[0, 0.5\], not 0.6"),
        ({"download": True}, "download needs data to be the folder"),
        ({"base_classes": "cat"}, "base_classes must be a list, not 'cat'"),
        ({"base_classes": [1, 2]}, "base_classes must be a list of class names: put numbers in quotes"),
        ({"base_classes": ["a", "b"]}, "base_classes and novel_classes are given together"),
        ({"base_classes": ["a", "b"], "novel_classes": ["c", "b"]}, "class 'b' stands twice"),
        ({"base_classes": ["a"], "novel_classes": ["c", "b"]}, "need two classes or more each"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FewShotOptions(**options)


def test_a_benchmark_without_an_archive_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cub cannot be downloaded: set data to the folder"):
        Cub().load(Cub.Options(data=str(tmp_path), download=True))
