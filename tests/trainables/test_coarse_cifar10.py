"""CIFAR-10 by two coarse classes: who is of which, what is measured, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from trainables.benchmarks import DataError, find
from trainables.benchmarks.cifar10 import Cifar10Options
from trainables.training import Training
from trainables.trial import Trial

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def folder(path: Path, names: tuple[str, ...]) -> str:
    """An image a class for training and one for testing, each of one colour."""
    for number, name in enumerate(names):
        for part in ("train", "test"):
            place = path / part / name
            place.mkdir(parents=True)
            Image.new("RGB", (8, 8), (20 * number, len(part), 50)).save(place / "0.png")
    return str(path)


def load(data: str, cache: Path) -> list[tuple[str, str]]:
    """Of each sample its class of ten and its group."""
    options = Cifar10Options(data=data, size=8, cache=str(cache))
    coarse_data = find("coarse-cifar10").load(options)
    plain = find("cifar10").load(options)
    assert torch.equal(coarse_data.fine, plain.fine) and coarse_data.fingerprint != plain.fingerprint
    pairs = zip(coarse_data.fine.tolist(), coarse_data.coarse.tolist(), strict=True)
    return [(plain.coarse_names[fine], coarse_data.coarse_names[coarse]) for fine, coarse in pairs]


def test_animals_and_vehicles(tmp_path: Path) -> None:
    pairs = load(folder(tmp_path / "images", NAMES), tmp_path / "cache")
    vehicles = {"airplane", "automobile", "ship", "truck"}
    assert sorted(set(pairs)) == [(name, "vehicle" if name in vehicles else "animal") for name in NAMES]
    assert len(pairs) == 20


@pytest.mark.parametrize(
    ("names", "sentence"),
    [((*NAMES[:9], "lorry"), "has the class 'lorry', which is none of CIFAR-10's"), (NAMES[2:8], "of one group alone")],
)
def test_other_classes_are_refused(tmp_path: Path, names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        load(folder(tmp_path / "images", names), tmp_path / "cache")


def test_fine_classes_are_read_by_probes() -> None:
    options = {"samples": 6, "size": 16, "width": 2}
    trial = Trial("coarse-cifar10", "ce", (0, 1), options=options, training={"epochs": 1, "batch_size": 16})
    training = Training(trial)
    (record,) = training.run()
    assert training.data.coarse_names == ("first", "second")
    assert {
        f"accuracy/fine-{probe}" for probe in ("linear", "neighbours", "nearest-mean", "clusters")
    } <= record.metrics.keys()
    assert training.arrays()["features"].shape[0] == 2
