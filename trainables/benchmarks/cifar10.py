"""CIFAR-10 (figure 4): plain training on ten classes, whose feature space is then looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from trainables import backbones
from trainables.benchmarks import Data, DataError, DataPath, Split, augmentation, fingerprint
from trainables.benchmarks.few_shot import (
    EVALUATION_EVERY,
    FEATURE_SPACE,
    Share,
    coarse_accuracy,
    feature_space,
    recipe,
)
from trainables.benchmarks.natural_images import download, read_images
from trainables.benchmarks.options import Bounds, Checked
from trainables.benchmarks.simulated_textures import simulate
from trainables.evaluators import Evaluator, Snapshot, classification, geometry
from trainables.kernels import Mode
from trainables.resnet import ReplicatedResNet18
from trainables.trial import Recipe

#: per-channel mean and standard deviation over the training images
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
#: the folder that the published archive unpacks to
ARCHIVE = "cifar-10-batches-py"
#: held-out samples of a replica kept as an artifact
KEPT_SAMPLES = 2000
SIMULATED_SAMPLES = 200


@dataclass(frozen=True)
class Cifar10Options(Checked):
    """Where the images come from and how large the network is."""

    #: a folder, zip or tar of images (see `trainables.benchmarks.natural_images`), or ``simulated`` textures
    data: DataPath = "simulated"
    #: edge of the network's input in pixels
    size: Annotated[int, Bounds(8)] = 32
    #: maps of the ResNet's first layer; the features have 8 times as many dimensions
    width: Annotated[int, Bounds(1)] = 64
    #: how convolutions of all seeds are computed: ``grouped``, ``looped`` or ``bmm``, or ``auto``, the fastest of them
    #: as timed once for a study; numbers agree up to rounding
    mode: Mode = "auto"
    #: whether the maps' channels are last in memory, but with ``bmm``; by default as timed, with a mode on a CPU alone
    channels_last: bool | None = None
    #: a network of your own as package.module:name, in place of the ResNet (see `trainables.backbones.find`)
    backbone: str | None = None
    #: at most so many training images, and so many test images, of each class; all by default
    samples: Annotated[int, Bounds(1)] | None = None
    #: share of the images held out where the source sets none aside for testing
    heldout: Share = 0.2
    #: share of the other images set aside for validation
    validation: Share = 0.0
    #: whether CIFAR's files must have the published checksums
    verify: bool = True
    #: fetch the images into the folder ``data`` where they are not there
    download: bool = False
    #: where decoded images are kept; by default the user's cache folder
    cache: DataPath | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.download and self.data == "simulated":
            raise ValueError("download needs data to be the folder to put the images in")
        if self.backbone is not None:
            backbones.find(self.backbone)
        if self.heldout == 0:
            raise ValueError("heldout must be above 0: the feature space is looked at on held-out images")


class Cifar10:
    """The benchmark of figure 4 (A4 in the appendix's count): what is classified is also what is looked at."""

    name: ClassVar[str] = "cifar10"
    Options: ClassVar[type] = Cifar10Options

    def recipe(self, protocol: str, options: Cifar10Options) -> Recipe:
        """Neither source states one: the few-shot training with CIFAR-FS's λ, our choice, in both protocols."""
        if protocol not in ("paper", "released"):
            raise ValueError(f"unknown protocol {protocol!r}; known: paper, released")
        return recipe(1.5, protocol)

    def load(self, options: Cifar10Options) -> Data:
        """Inputs (N, 3, H, H) uint8; coarse and fine (N,) are both the class."""
        if options.data == "simulated":
            pixels, labels = simulate(10, options.samples or SIMULATED_SAMPLES, options.size)
            names: tuple[str, ...] = tuple(f"texture {c}" for c in range(10))
            test, note = torch.zeros(len(labels), dtype=torch.bool), "procedural textures"
            left_out: tuple[tuple[str, str], ...] = ()
        else:
            path = Path(options.data).expanduser()
            if options.download:
                download(path, ARCHIVE)
            cache = None if options.cache is None else Path(options.cache).expanduser()
            images = read_images(path, options.size, cache, verify=options.verify, published=ARCHIVE)
            kept = _first(images.labels, images.test, options.samples)
            pixels, labels, test = images.pixels[kept], images.labels[kept], images.test[kept]
            names, note = images.names, images.note
            left_out = tuple((problem.name, problem.reason) for problem in images.problems)
        if len(names) < 2 or len(labels) < 10:
            raise DataError(f"{options.data} has {len(labels)} images of {len(names)} classes: too few to train on")
        return Data(
            name=self.name if options.data != "simulated" else "simulated textures",
            provenance="simulated" if options.data == "simulated" else "real",
            fingerprint=fingerprint(pixels, labels, test),
            inputs=pixels,
            coarse=labels,
            fine=labels,
            coarse_names=names,
            description=f"{note}: {len(labels):,} images of {len(names)} classes "
            f"({', '.join(f'{i} {label}' for i, label in enumerate(names))})",
            extra={"test": test},
            left_out=left_out,
        )

    def split(self, data: Data, options: Cifar10Options, generator: torch.Generator) -> Split:
        """``heldout`` is what the source sets aside for testing, or else a random share; ``validation`` is random."""
        order = torch.randperm(len(data.inputs), generator=generator)
        test = data.extra["test"]
        if test.any():
            heldout, rest = order[test[order]], order[~test[order]]
        else:
            heldout, rest = order.tensor_split([round(len(order) * options.heldout)])
        validation, train = rest.tensor_split([round(len(rest) * options.validation)])
        return {"train": train, "validation": validation, "heldout": heldout}

    def batch(
        self, inputs: Tensor, options: Cifar10Options, train: bool, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Random crop after padding (4 pixels at 32) and flip where ``train``; normalised."""
        images = augmentation.crop_and_flip(inputs, generators) if train else inputs
        return augmentation.normalise(images.float() / 255, MEAN, STD)

    def backbone(self, data: Data, options: Cifar10Options, generators: Sequence[torch.Generator]) -> nn.Module:
        """ResNet-18, features of 8·width dimensions after their ReLU."""
        if options.backbone is not None:
            return backbones.own(options.backbone, data, generators)
        return ReplicatedResNet18(
            options.width, data.classes, generators, mode=options.mode, channels_last=options.channels_last
        )

    def evaluators(self, data: Data, options: Cifar10Options) -> Sequence[Evaluator]:
        """Accuracy each epoch; entropies and geometry of the held-out features every fifth."""

        def measure_geometry(snapshot: Snapshot) -> Mapping[str, Tensor]:
            heldout = snapshot.outputs("heldout")
            means = geometry.class_means(heldout.features, heldout.fine, data.classes)
            measured = {"geometry/between-within": geometry.between_within(heldout.features, heldout.fine, means)}
            if {"cat", "dog"} <= set(data.coarse_names):
                cat, dog = data.coarse_names.index("cat"), data.coarse_names.index("dog")
                measured["geometry/cat-dog"] = geometry.pair_distance(means, cat, dog)
            return measured

        return (
            Evaluator("accuracy", coarse_accuracy, metrics=classification.ACCURACY),
            Evaluator(
                "features", partial(feature_space, part="heldout"), every=EVALUATION_EVERY, metrics=FEATURE_SPACE
            ),
            Evaluator(
                "geometry",
                measure_geometry,
                every=EVALUATION_EVERY,
                metrics=(geometry.BETWEEN_WITHIN, geometry.CAT_DOG),
            ),
            Evaluator("arrays", arrays=kept_arrays),
        )


def kept_arrays(snapshot: Snapshot) -> Mapping[str, Tensor]:
    """Held-out samples in their random order."""
    heldout = snapshot.outputs("heldout")
    return {
        "features": heldout.features[:, :KEPT_SAMPLES].half(),
        "fine": heldout.fine[:, :KEPT_SAMPLES],
        "coarse": heldout.coarse[:, :KEPT_SAMPLES],
    }


def _first(labels: Tensor, test: Tensor, samples: int | None) -> Tensor:
    """Indices of the first ``samples`` training and the first ``samples`` test images of each class, all for None."""
    groups = [
        ((labels == label) & (test == part)).nonzero().squeeze(1)[:samples]
        for label in torch.unique(labels)
        for part in (False, True)
    ]
    return torch.cat(groups)
