"""CIFAR-10: its split, its numbers about the feature space, and what it keeps for the figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from trainables.benchmarks import Benchmark
from trainables.benchmarks.cifar10 import Cifar10, Cifar10Options
from trainables.replicas import stream
from trainables.training import Training
from trainables.trial import Trial


def run(**options: Any) -> tuple[Training, list[dict[str, list[float]]]]:
    trial = Trial(
        "trainables.benchmarks.cifar10:Cifar10",
        "ce",
        seeds=(0, 1),
        options={"size": 8, "width": 2, **options},
        training={"epochs": 2},
        cadence={"geometry": 1},
    )
    training = Training(trial)
    return training, [record.metrics for record in training.run()]


def test_simulated() -> None:
    assert isinstance(Cifar10(), Benchmark)
    training, metrics = run(samples=20)
    assert training.data.provenance == "simulated"
    assert {part: indices.shape[1] for part, indices in training.parts.items()} == {"train": 160, "heldout": 40}
    assert "geometry/between-within" in metrics[-1]
    assert "geometry/cat-dog" not in metrics[-1]  # textures have no cats


@pytest.mark.slow
def test_real_images(shared_data: Path, tmp_path: Path) -> None:
    training, metrics = run(
        data=str(shared_data / "cifar10" / "cifar10_jpeg.zip"), cache=str(tmp_path), samples=30, validation=0.1
    )
    data = training.data
    assert {part: indices.shape[1] for part, indices in training.parts.items()} == {
        "train": 270,
        "validation": 30,
        "heldout": 300,
    }
    assert data.extra["test"][training.parts["heldout"]].all()
    assert not data.extra["test"][training.parts["train"]].any()
    assert data.fine[training.parts["heldout"][0]].bincount().tolist() == [30] * 10

    # the kept features tell the same story as the logged numbers
    arrays = training.arrays()
    assert arrays["features"].shape == (2, 300, 16)
    cat, dog = data.coarse_names.index("cat"), data.coarse_names.index("dog")
    for s in range(2):
        x, y = arrays["features"][s].astype(np.float64), arrays["fine"][s]
        centres = np.stack([x[y == c].mean(0) for c in range(10)])
        within = np.linalg.norm(x - centres[y], axis=1).mean()
        assert metrics[-1]["geometry/between-within"][s] == pytest.approx(pdist(centres).mean() / within, rel=1e-2)
        pair = np.linalg.norm(centres[cat] - centres[dog]) / pdist(centres).mean()
        assert metrics[-1]["geometry/cat-dog"][s] == pytest.approx(pair, rel=2e-2)


def test_split_without_a_test_part() -> None:
    options = Cifar10Options(samples=10, size=8, heldout=0.3, validation=0.1)
    benchmark = Cifar10()
    split = benchmark.split(benchmark.load(options), options, stream(0, "split"))
    assert [len(split[part]) for part in ("train", "validation", "heldout")] == [63, 7, 30]
    assert sorted(torch.cat(list(split.values())).tolist()) == list(range(100))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heldout": 0}, "heldout must be above 0"),
        ({"validation": "a"}, r"validation must be a share in \[0, 0.5\], not 'a'"),
        ({"size": True}, "size must be a whole number of at least 8, not True"),
        ({"samples": 0}, "samples must be a whole number of at least 1, not 0"),
        ({"mode": "x"}, "mode must be one of"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Cifar10Options(**options)
