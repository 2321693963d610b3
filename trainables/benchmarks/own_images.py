"""Images of one's own, told by a study file alone: groups of their classes are learnt, the classes looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainables import backbones, vision
from trainables.benchmarks import (
    Data,
    DataError,
    DataPath,
    Provenance,
    Split,
    augmentation,
    fingerprint,
    grouped,
    stratified,
)
from trainables.benchmarks.cifar10 import kept_arrays
from trainables.benchmarks.few_shot import IMAGENET_MEAN, IMAGENET_STD, coarse_accuracy, recipe
from trainables.benchmarks.image_groups import Groups, check_known, checked, group_of
from trainables.benchmarks.image_listing import Columns, Listing, Sample, is_list, of_folders, of_list, read
from trainables.benchmarks.natural_images import TEST, TRAIN, VALIDATION
from trainables.benchmarks.options import Bounds, Checked
from trainables.evaluators import Evaluator, classification
from trainables.kernels import Mode
from trainables.resnet import ReplicatedResNet18
from trainables.trial import Recipe

#: parts that are not trained on, with the folder that may hold one
HELD: dict[str, str] = {"heldout": TEST, "validation": VALIDATION}


@dataclass(frozen=True)
class OwnImagesOptions(Checked):
    """Where the images are, what their classes are grouped into, and how they are seen."""

    #: a folder, zip or tar with a folder of images for each class, below ``train``, ``val`` and ``test`` or not; or a
    #: list of files, .csv or .parquet
    data: DataPath
    #: the coarse classes, which are learnt, and the classes in each, which are looked for in the features: every class
    #: in one group; or, of a list of files, the column of the coarse class
    groups: dict[Any, Any] | str
    #: classes that are left out
    leave_out: tuple[str, ...] = ()
    #: columns of a list of files: of their names, and of their classes
    file: str = "file"
    fine: str = "class"
    #: a column of a list of files: all images with the same value are in one part, as photos of one animal should be
    group: str | None = None
    #: the folder, zip or tar that a list's names are in; by default the folder that the list is in
    folder: DataPath | None = None
    #: edge of the network's input in pixels; a step takes four times as long at twice the size, and at 64 most
    #: subjects of photos can still be told
    size: Annotated[int, Bounds(8)] = 64
    #: how an image becomes a square: the centre is cut out, which keeps proportions, or all of it is squeezed
    fit: Literal["crop", "stretch"] = "crop"
    #: what is done to training images at random: ``crops`` moves by up to an eighth of the edge and mirrors, ``flips``
    #: mirrors alone; few images need it most. Letters, and whatever has a left and a right, want ``none``
    augmentation: Literal["crops", "flips", "none"] = "crops"
    #: maps of the first layer of the ResNet-18, as in the paper; the features have 8 times as many dimensions
    width: Annotated[int, Bounds(1)] = 64
    #: how its convolutions of all seeds are computed: ``grouped``, ``looped`` or ``bmm``, or ``auto``, the fastest of
    #: them as timed once for a study; numbers agree up to rounding
    mode: Mode = "auto"
    #: a network of torchvision by name, or one of your own as package.module:name, in place of that ResNet-18
    backbone: str | None = None
    #: a file with the state dict that the network begins with, all but its last layer; torchvision's are not downloaded
    weights: DataPath | None = None
    #: at most so many images of each class and part, the first of the source; all by default
    samples: Annotated[int, Bounds(1)] | None = None
    #: whether folders called train, val and test are the parts; else all images are dealt at random
    own_parts: bool = True
    #: share of the images set aside for choosing a criterion and its λ, where no folder holds them; what is left over
    #: for training counts, since a network lacks images first
    validation: Annotated[float, Bounds(0, 0.5, "a share")] = 0.2
    #: share of the images that the choice is scored on, where no folder holds them
    heldout: Annotated[float, Bounds(0.01, 0.5, "a share")] = 0.2
    #: images that cannot be read, or are the same in two classes, are refused by default, as more may be wrong where
    #: one is; ``drop`` leaves them out
    unusable: Literal["drop"] | None = None
    #: where decoded images are kept; by default the user's cache folder
    cache: DataPath | None = None
    #: whether the images were taken (``real``) or made
    provenance: Provenance = "real"
    #: added to the data's description, e.g. a citation
    description: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "groups", checked(self.groups, self.leave_out))
        if not is_list(Path(self.data)):
            for option in ("group", "folder"):
                if getattr(self, option) is not None:
                    raise ValueError(f"{option} is for a list of files, and data is {self.data!r}")
            if isinstance(self.groups, str):
                raise ValueError(
                    f"groups names a column, {self.groups!r}, which {self.data!r} has not: list the groups"
                )
        if self.validation + self.heldout > 0.9:
            raise ValueError("validation and heldout must leave a tenth of the images for training: lower one of them")
        if self.backbone is not None:
            vision.check(self.backbone)
            if self.mode != "auto":
                raise ValueError(
                    "mode is how the ResNet-18 is computed, and backbone names another network: leave it out"
                )
        if self.weights is not None:
            vision.check_file(self.weights, self.backbone)


class OwnImages:
    """Groups of classes are learnt, and the classes themselves are looked for in the features."""

    name: ClassVar[str] = "images"
    Options: ClassVar[type] = OwnImagesOptions

    def recipe(self, protocol: str, options: OwnImagesOptions) -> Recipe:
        """The paper's training on natural images in 60 epochs, at a tenth of its rate for weights or another backbone.

        0.1 may throw off a network without batch normalisation, and one that is trained already.
        """
        if protocol not in ("paper", "released"):
            raise ValueError(f"unknown protocol {protocol!r}; known: paper, released")
        rate = 0.1 if options.backbone is None and options.weights is None else 0.01
        return recipe(1.5, protocol).override({"epochs": 60, "milestones": (30, 45), "learning_rate": rate})

    def load(self, options: OwnImagesOptions) -> Data:
        """Inputs (N, 3, H, H) uint8, memory-mapped; fine (N,) the class, coarse (N,) its group."""
        listing = _listed(options)
        path = str(listing.path)
        check_known(options.leave_out, listing.classes, "leave_out", path)
        of = _groups(options, listing)
        kept = listing.only(options.leave_out, options.samples)
        cache = None if options.cache is None else Path(options.cache).expanduser()
        images, problems = read(kept, options.size, cache, options.fit, drop=options.unusable == "drop")
        samples = [kept.samples[name] for name in images.names]
        names = kept.classes
        coarse_names = tuple(dict.fromkeys(of[name] for name in names))
        if not isinstance(options.groups, str):
            coarse_names = tuple(options.groups)
        fine = torch.tensor([names.index(sample.fine) for sample in samples])
        coarse = torch.tensor([coarse_names.index(of[name]) for name in names])[fine]
        parts = _parts(samples, options)
        groups = _together(samples)
        _check_sizes(fine, parts, names, options, path)
        if groups is not None:
            _check_groups(groups, parts, samples, options, path)
        if options.weights is not None:
            vision.read_weights(Path(options.weights).expanduser())
        tensors = [fine, coarse, parts, *([] if groups is None else [groups])]
        return Data(
            name=listing.path.stem,
            provenance=options.provenance,
            fingerprint=fingerprint(images.pixels, *tensors),
            inputs=images.pixels,
            coarse=coarse,
            fine=fine,
            coarse_names=coarse_names,
            description=_described(options, listing.path, of, names, coarse_names, parts),
            extra={"parts": parts, "groups": groups, "classes": tuple(names)},
            left_out=tuple((problem.name, problem.reason) for problem in problems),
        )

    def split(self, data: Data, options: OwnImagesOptions, generator: torch.Generator) -> Split:
        """The folders' own parts where there are such; what else is held out is dealt at random, by class or group."""
        parts, groups = data.extra["parts"], data.extra["groups"]
        own = {part: (parts == number).nonzero().squeeze(1) for number, part in enumerate(HELD, start=1)}
        own = {part: indices for part, indices in own.items() if len(indices)}
        fixed = {part: indices[torch.randperm(len(indices), generator=generator)] for part, indices in own.items()}
        pool = (parts == 0).nonzero().squeeze(1)
        shares = {part: getattr(options, part) for part in HELD if part not in fixed}
        if groups is not None and any(shares.values()):
            counts = {part: round(len(pool) * share) for part, share in shares.items()}
            dealt = grouped.split(data, groups[pool], counts, generator)
        else:
            dealt = stratified.split(data.fine[pool], len(data.extra["classes"]), shares, generator)
        return {**{part: pool[indices] for part, indices in dealt.items()}, **fixed}

    def batch(
        self, inputs: Tensor, options: OwnImagesOptions, train: bool, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Augmented where ``train``; normalised by ImageNet's mean and deviation, as weights of torchvision expect."""
        images = inputs
        if train and options.augmentation == "crops":
            images = augmentation.crop_and_flip(inputs, generators)
        elif train and options.augmentation == "flips":
            flipped = augmentation.draw_flips(inputs.shape[1], generators, inputs.device)
            images = augmentation.flip(inputs.flatten(0, 1), flipped).view_as(inputs)
        return augmentation.normalise(images.float() / 255, IMAGENET_MEAN, IMAGENET_STD)

    def backbone(self, data: Data, options: OwnImagesOptions, generators: Sequence[torch.Generator]) -> nn.Module:
        """ResNet-18, features of 8·width dimensions after their ReLU; or S networks of another kind."""
        network: nn.Module
        if options.backbone is None:
            network = ReplicatedResNet18(options.width, data.classes, generators, mode=options.mode)
        else:
            network = backbones.looped(vision.factory(options.backbone, options.size), data, generators)
        if options.weights is not None:
            vision.load_weights(network, Path(options.weights).expanduser(), data.classes)
        return network

    def evaluators(self, data: Data, options: OwnImagesOptions) -> Sequence[Evaluator]:
        """Coarse accuracy each epoch; the classes are read by the probes of every benchmark."""
        return (
            Evaluator("accuracy", coarse_accuracy, metrics=classification.ACCURACY),
            Evaluator("arrays", arrays=kept_arrays),
        )


def _listed(options: OwnImagesOptions) -> Listing:
    path = Path(options.data).expanduser()
    if not is_list(path):
        return of_folders(path)
    folder = None if options.folder is None else Path(options.folder).expanduser()
    coarse = options.groups if isinstance(options.groups, str) else None
    return of_list(path, Columns(options.file, options.fine, options.group, coarse), folder)


def _groups(options: OwnImagesOptions, listing: Listing) -> dict[str, str]:
    """The group of each class that is kept."""
    path = str(listing.path)
    if not isinstance(options.groups, str):
        groups: Groups = options.groups
        return group_of(groups, listing.classes, options.leave_out, path)
    of: dict[str, str] = {}
    for name, sample in listing.samples.items():
        if sample.fine in options.leave_out:
            continue
        assert sample.coarse is not None, "the list has such a column"
        if of.setdefault(sample.fine, sample.coarse) != sample.coarse:
            raise DataError(
                f"{path}: class {sample.fine!r} is of {of[sample.fine]!r} and, in {name}, of {sample.coarse!r} in "
                f"column {options.groups!r}: every class needs one"
            )
    if len(set(of.values())) < 2:
        raise DataError(
            f"{path}: column {options.groups!r} holds one coarse class alone, {next(iter(of.values()), '')!r}: two or "
            "more are needed"
        )
    return of


def _parts(samples: Sequence[Sample], options: OwnImagesOptions) -> Tensor:
    """The part (N,) that each image's folder names: 0 to train on, then as in `HELD`."""
    number = {folder: place for place, folder in enumerate(HELD.values(), start=1)}
    return torch.tensor([number.get(sample.part, 0) if options.own_parts else 0 for sample in samples])


def _together(samples: Sequence[Sample]) -> Tensor | None:
    """Numbers (N,) of the groups of images that belong together, None where nothing says."""
    if samples[0].group is None:
        return None
    return torch.from_numpy(np.unique([str(sample.group) for sample in samples], return_inverse=True)[1])


def _dealt(parts: Tensor, options: OwnImagesOptions) -> list[str]:
    """The parts among which the images without a folder of their own are dealt."""
    return [
        TRAIN,
        *(part for number, part in enumerate(HELD, start=1) if getattr(options, part) and not (parts == number).any()),
    ]


def _check_sizes(fine: Tensor, parts: Tensor, names: Sequence[str], options: OwnImagesOptions, path: str) -> None:
    """`DataError` where a class has fewer images than there are parts for them."""
    dealt = _dealt(parts, options)
    sizes = fine[parts == 0].bincount(minlength=len(names))
    least = int(sizes.argmin())
    if int(sizes[least]) >= len(dealt):
        return
    images = "1 image" if sizes[least] == 1 else f"{int(sizes[least])} images"
    if len(dealt) == 1:
        raise DataError(f"{path}: class {names[least]!r} has no image to train on: list it under leave_out")
    raise DataError(
        f"{path}: class {names[least]!r} has {images}{' to train on' if parts.any() else ''}, fewer than the "
        f"{len(dealt)} parts ({', '.join(dealt)}) that need one: list it under leave_out, or join its folder with "
        "another"
    )


def _check_groups(
    groups: Tensor, parts: Tensor, samples: Sequence[Sample], options: OwnImagesOptions, path: str
) -> None:
    """`DataError` where a group stands in two folders' parts, or there are too few for the parts."""
    for number, (part, folder) in enumerate(HELD.items(), start=1):
        both = np.intersect1d(groups[parts == number], groups[parts != number])
        if len(both):
            name = samples[int((groups == int(both[0])).nonzero()[0])].group
            raise DataError(
                f"{path}: {options.group} {name!r} has images in {folder} and in another part's folder: move them, or "
                f"say own_parts: false to have {part} dealt anew"
            )
    dealt, count = _dealt(parts, options), len(np.unique(groups[parts == 0]))
    if count < len(dealt):
        raise DataError(
            f"{path}: group column {options.group!r} has {count} groups, fewer than the {len(dealt)} parts "
            f"({', '.join(dealt)})"
        )


def _described(
    options: OwnImagesOptions,
    path: Path,
    of: dict[str, str],
    names: Sequence[str],
    coarse_names: Sequence[str],
    parts: Tensor,
) -> str:
    told = "; ".join(f"{group}: {', '.join(name for name in names if of[name] == group)}" for group in coarse_names)
    own = [folder for number, folder in enumerate(HELD.values(), start=1) if (parts == number).any()]
    text = (
        f"{path.name}: {len(parts):,} images of {len(names)} classes at {options.size} pixels, told in training as "
        f"{len(coarse_names)} ({told})"
        + (f"; {' and '.join(own)} by folder" if own else "")
        + (f"; all images of a {options.group} in one part" if options.group else "")
    )
    return f"{text}. {options.description}" if options.description else text
