"""Splits that keep samples together: nothing of a group in two parts, and parts as large for every seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainables.test_faces import as_folder, jpeg, metadata
from trainables import contract
from trainables.benchmarks import Data, DataError, Split, grouped
from trainables.benchmarks.age import Age, AgeOptions
from trainables.benchmarks.faces import read_faces
from trainables.benchmarks.hyperspectral import Hyperspectral, HyperspectralOptions
from trainables.replicas import stream

SEEDS = tuple(range(20))


def data(samples: int) -> Data:
    labels = torch.arange(samples) % 2
    return Data("made up", "simulated", "", torch.zeros(samples, 1), labels, labels, ("even", "odd"))


def require_apart(splits: Sequence[Split], groups: Tensor, parts: Sequence[str]) -> None:
    """No group stands in two parts of a seed, and no sample twice in one."""
    for split in splits:
        groups_of = {part: set(groups[split[part]].tolist()) for part in parts}
        assert all(groups_of[one].isdisjoint(groups_of[two]) for one in parts for two in parts if one < two)
        assert all(len(split[part].unique()) == len(split[part]) for part in parts)


@pytest.mark.parametrize("kind", ["equal", "singletons", "skewed"])
def test_groups_stand_in_one_part_and_parts_are_as_large_for_every_seed(kind: str) -> None:
    random = np.random.default_rng(3)
    samples = 600
    groups = torch.from_numpy(
        {
            "equal": np.arange(samples) // 7,
            "singletons": random.permutation(samples),
            "skewed": np.minimum(random.geometric(0.05, samples), 80),
        }[kind]
    )
    shares = {"validation": 75, "heldout": 160}
    splits = [grouped.split(data(samples), groups, shares, stream(seed, "split")) for seed in SEEDS]
    contract.check_splits(splits, SEEDS, data(samples), "split")
    require_apart(splits, groups, ("train", "validation", "heldout"))
    largest = int(groups.unique(return_counts=True)[1].max())
    for split in splits:
        assert {part: len(split[part]) for part in shares} == shares
        # what the last group of each of two parts may leave over, and no more, is not used
        assert len(split["train"]) == samples - 75 - 160 - 2 * (largest - 1)
    again = grouped.split(data(samples), groups, shares, stream(4, "split"))
    assert all(torch.equal(again[part], splits[4][part]) for part in again)
    assert not torch.equal(splits[4]["heldout"].sort().values, splits[5]["heldout"].sort().values)


def test_groups_that_are_too_large_are_refused() -> None:
    with pytest.raises(DataError, match=r"the largest has 90 of 100 samples"):
        grouped.split(data(100), (torch.arange(100) >= 90).long(), {"heldout": 30}, stream(0, "split"))


@pytest.mark.parametrize("order", ["row-major", "column-major"])
def test_blocks_are_squares_of_the_image(order: str) -> None:
    rows, columns, size = 13, 17, 5
    tiles = np.kron(np.arange(12).reshape(3, 4), np.ones((size, size), int))[:rows, :columns]
    numbered = tiles.ravel(order="C" if order == "row-major" else "F")
    pixels = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(1))
    blocks = grouped.blocks(pixels, (rows, columns), order, size)
    assert blocks.tolist() == numbered[pixels.numpy()].tolist()


def test_a_scene_is_split_by_blocks() -> None:
    """No pixel that is held out lies in a block of one that is trained on; at random nearly every one does."""
    benchmark = Hyperspectral()
    options = HyperspectralOptions(split={"by": "block", "size": 10}, validation=0.2)
    scene = benchmark.load(options)
    splits = [benchmark.split(scene, options, stream(seed, "split")) for seed in SEEDS[:5]]
    contract.check_splits(splits, SEEDS[:5], scene, "split")
    # the simulated scene is numbered down its columns
    row, column = scene.extra["pixels"] % 105, scene.extra["pixels"] // 105
    block = row // 10 * 100 + column // 10
    require_apart(splits, block, ("train", "validation", "heldout"))
    at_random = benchmark.split(scene, HyperspectralOptions(), stream(0, "split"))
    assert torch.isin(block[at_random["heldout"]], block[at_random["train"]]).float().mean() > 0.99


def test_a_scene_without_rows_and_columns_has_no_blocks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "scene.npz", Y=random.random((60, 5)), A=np.eye(3)[np.arange(60) % 3])
    options = HyperspectralOptions(data=str(tmp_path / "scene.npz"), split={"by": "block", "size": 2})
    scene = Hyperspectral().load(options)
    with pytest.raises(DataError, match="needs the rows and columns of scene"):
        Hyperspectral().split(scene, options, stream(0, "split"))


def photos(people: int = 12, pictures: int = 5) -> dict[str, bytes]:
    """Photos of ``people`` in IMDB's layout, with its metadata; every one of them passes the paper's filters."""
    born = 700_000
    rows: list[Any] = [
        (
            (
                f"{person % 3:02d}/nm{person:07d}_rm{photo}_1916-7-20_{1940 + photo}.jpg",
                born,
                1940 + photo,
                1,
                2.0,
                np.nan,
            ),
            0,
        )
        for person in range(people)
        for photo in range(pictures)
    ]
    images = {f"imdb_crop/{row[0]}": jpeg(3 * i) for i, (row, _) in enumerate(rows)}
    return {"imdb_crop/imdb.mat": metadata(rows=rows), **images}


def test_photos_of_a_person_stand_in_one_part(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, photos())
    faces = read_faces(folder, 8, tmp_path / "cache")
    persons = np.array([name.rpartition("/")[2].partition("_")[0] for name in faces.images.names])
    settings = {"data": str(folder), "size": 8, "cache": str(tmp_path / "cache"), "threshold": 26}
    options = AgeOptions(**settings, split={"by": "group"}, validation=0.2, heldout=0.2)
    loaded = Age().load(options)
    splits = [Age().split(loaded, options, stream(seed, "split")) for seed in SEEDS[:5]]
    numbered = torch.from_numpy(np.unique(persons, return_inverse=True)[1])
    require_apart(splits, numbered, ("train", "validation", "heldout"))
    assert {len(split["heldout"]) for split in splits} == {12}
    at_random = Age().split(loaded, AgeOptions(**settings), stream(0, "split"))
    assert torch.isin(numbered[at_random["heldout"]], numbered[at_random["train"]]).any()


def test_faces_that_tell_no_person_are_refused(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, {f"{age}_0_0_20170116{age}.jpg": jpeg(age) for age in range(20, 40)})
    options = AgeOptions(data=str(folder), size=8, cache=str(tmp_path / "cache"), split={"by": "group"})
    with pytest.raises(DataError, match="UTKFace do not tell whose a photo is"):
        Age().load(options)


def test_simulated_faces_have_no_person() -> None:
    with pytest.raises(DataError, match="simulated faces do not tell whose a photo is"):
        Age().load(AgeOptions(samples=20, size=8, split={"by": "group"}))


@pytest.mark.parametrize(
    ("split", "sentence"),
    [
        ("blocks", "split must be random or {by: block, size: 10}, not 'blocks'"),
        ({"by": "group"}, "split must be random or {by: block, size: 10}"),
        ({"by": "block"}, "needs its size"),
        ({"by": "block", "size": 0}, "needs its size"),
        ({"by": "block", "size": 2, "edge": 3}, "split must be random"),
    ],
)
def test_other_splits_are_named(split: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("{", r"\{")):
        HyperspectralOptions(split=split)
