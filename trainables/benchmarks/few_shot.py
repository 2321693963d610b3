"""Few-shot transfer (table 2): trained on base classes, asked to tell classes that it never saw."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from trainables import backbones
from trainables.benchmarks import Data, DataError, DataPath, Split, augmentation, fingerprint
from trainables.benchmarks.natural_images import CUB, DOWNLOADS, download, read_images
from trainables.benchmarks.options import Bounds, Checked, is_number
from trainables.benchmarks.simulated_textures import simulate
from trainables.evaluators import Evaluator, Snapshot, classification, entropy
from trainables.evaluators.few_shot import few_shot
from trainables.kernels import Mode
from trainables.resnet import ReplicatedResNet18
from trainables.trial import Recipe

#: the few-shot evaluator takes about a fifth of an epoch's time, so it waits for every fifth
EVALUATION_EVERY = 5
#: per-channel mean and standard deviation over CIFAR-100's and ImageNet's training images
CIFAR_MEAN, CIFAR_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: images of each simulated class
SIMULATED_SAMPLES = 60
Share = Annotated[float, Bounds(0, 0.5, "a share")]


@dataclass(frozen=True)
class FewShotOptions(Checked):
    """Where the images come from, which classes are base, validation and novel, and how runs are drawn."""

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
    #: at most so many images of each class, the first of the source; all by default
    samples: Annotated[int, Bounds(1)] | None = None
    #: shares of the base classes' images set aside for coarse accuracy; none by default, as in the paper
    heldout: Share = 0.0
    validation: Share = 0.0
    #: class names of the three parts; by default the published split
    base_classes: tuple[str, ...] = ()
    validation_classes: tuple[str, ...] = ()
    novel_classes: tuple[str, ...] = ()
    #: classes of a run, at most as many as a part has; support images of a class, by metric; queries of a class
    ways: Annotated[int, Bounds(2)] = 5
    shots: tuple[int, ...] = (1, 5)
    queries: Annotated[int, Bounds(1)] = 15
    #: how many runs are drawn, and the seed that draws them for every criterion and replica alike
    runs: Annotated[int, Bounds(2)] = 10_000
    runs_seed: Annotated[int, Bounds(0)] = 0
    #: base images whose mean feature centres the features before they are normalised
    centring: Annotated[int, Bounds(1)] = 2000
    #: whether CIFAR's files must have the published checksums
    verify: bool = True
    #: fetch the images into the folder ``data`` where they are not there
    download: bool = False
    #: where decoded images are kept; by default the user's cache folder
    cache: DataPath | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("base_classes", "validation_classes", "novel_classes", "shots"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise ValueError(f"{name} must be a list, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        for name in ("base_classes", "validation_classes", "novel_classes"):
            if not all(isinstance(label, str) for label in getattr(self, name)):
                raise ValueError(f"{name} must be a list of class names: put numbers in quotes")
        if self.download and self.data == "simulated":
            raise ValueError("download needs data to be the folder to put the images in")
        if not self.shots or not all(is_number(k, whole=True) and k >= 1 for k in self.shots):
            raise ValueError(f"shots must be a list of whole numbers of at least 1, not {list(self.shots)!r}")
        if self.backbone is not None:
            backbones.find(self.backbone)
        given = [name for name in ("base_classes", "novel_classes") if getattr(self, name)]
        if len(given) == 1 or (self.validation_classes and not given):
            raise ValueError("base_classes and novel_classes are given together, with validation_classes or without")
        if given:
            names = [name for part in self.split.values() for name in part]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"class {twice!r} stands twice in base_classes, validation_classes and novel_classes")
            if min(len(self.base_classes), len(self.novel_classes)) < 2:
                raise ValueError("base_classes and novel_classes need two classes or more each, to tell apart")
            if len(self.validation_classes) == 1:
                raise ValueError("validation_classes need two classes or more, to tell apart, or none")

    @property
    def split(self) -> dict[str, tuple[str, ...]]:
        """Class names by part as given, none where that is left to the benchmark."""
        if not self.base_classes:
            return {}
        return {"base": self.base_classes, "validation": self.validation_classes, "novel": self.novel_classes}


@dataclass(frozen=True)
class CubOptions(FewShotOptions):
    """The same, with the size of CUB's images in the paper."""

    size: Annotated[int, Bounds(8)] = 84


@dataclass(frozen=True)
class Cifar10FewShotOptions(FewShotOptions):
    """The same, with a held-out share, since CIFAR-10 has images to spare."""

    heldout: Share = 0.1


class _FewShot:
    """What the few-shot benchmarks share; each fixes its split, its λ and its augmentation."""

    name: ClassVar[str]
    Options: ClassVar[type] = FewShotOptions
    strength: ClassVar[float]
    #: the folder that the published archive unpacks to
    archive: ClassVar[str]
    mean: ClassVar[tuple[float, ...]] = CIFAR_MEAN
    std: ClassVar[tuple[float, ...]] = CIFAR_STD

    def published_split(self) -> dict[str, tuple[str, ...]]:
        """Class names of the parts ``base``, ``validation`` and ``novel``."""
        raise NotImplementedError

    def stored_size(self, size: int) -> int:
        """Edge of the images in memory for an input edge ``size``."""
        return size

    def recipe(self, protocol: str, options: FewShotOptions) -> Recipe:
        """§5.3 and the released code, which agree here but for the assignment (see `recipe`).

        The paper draws the anchors "uniformly" without a range; U[−1/e, 1/e] is the released code's.
        """
        if protocol not in ("paper", "released"):
            raise ValueError(f"unknown protocol {protocol!r}; known: paper, released")
        return recipe(self.strength, protocol)

    def load(self, options: FewShotOptions) -> Data:
        """Inputs (N, 3, H, H) uint8; fine (N,) the class, base classes first; coarse (N,) the same, −1 if not base."""
        parts = options.split or self.published_split()
        names = [name for part in parts.values() for name in part]
        edge = self.stored_size(options.size)
        if options.data == "simulated":
            samples = options.samples or SIMULATED_SAMPLES
            pixels, labels = simulate(len(names), samples, options.size)
            if edge != options.size:
                pixels = nn.functional.interpolate(pixels, (edge, edge), mode="bilinear", antialias=True)
            note = "procedural textures"
            left_out: tuple[tuple[str, str], ...] = ()
        else:
            path = Path(options.data).expanduser()
            if options.download:
                if self.archive not in DOWNLOADS:
                    raise DataError(f"{self.name} cannot be downloaded: set data to the folder that holds its images")
                download(path, self.archive)
            cache = None if options.cache is None else Path(options.cache).expanduser()
            images = read_images(path, edge, cache, verify=options.verify, published=self.archive)
            chosen, labels = _chosen(images.labels, images.names, names, options.samples, path)
            pixels, note = images.pixels[chosen], images.note
            left_out = tuple((problem.name, problem.reason) for problem in images.problems)
        bounds = {"base": len(parts["base"]), "validation": len(parts["base"]) + len(parts["validation"])}
        _check_sizes(labels, names, bounds["base"], options)
        coarse = torch.where(labels < bounds["base"], labels, -1)
        counts = " / ".join(str(len(part)) for part in parts.values())
        return Data(
            name=self.name if options.data != "simulated" else "simulated textures",
            provenance="simulated" if options.data == "simulated" else "real",
            fingerprint=fingerprint(pixels, labels),
            inputs=pixels,
            coarse=coarse,
            fine=labels,
            coarse_names=tuple(parts["base"]),
            description=f"{note}: {len(labels):,} images, {counts} base / validation / novel classes",
            extra={"classes": tuple(names), **bounds},
            left_out=left_out,
        )

    def split(self, data: Data, options: FewShotOptions, generator: torch.Generator) -> Split:
        """Base images at random into ``train``, ``validation``, ``heldout``; ``base`` is the sample that centres.

        ``validation-classes`` and ``novel`` are all images of those classes, the same for every seed.
        """
        base = (data.fine < data.extra["base"]).nonzero().squeeze(1)
        base = base[torch.randperm(len(base), generator=generator)]
        heldout, validation = round(len(base) * options.heldout), round(len(base) * options.validation)
        held, checked, train = base.split([heldout, validation, len(base) - heldout - validation])
        novel = data.fine >= data.extra["validation"]
        return {
            "train": train,
            "validation": checked,
            "heldout": held,
            "base": train[: options.centring],
            "validation-classes": ((data.fine >= data.extra["base"]) & ~novel).nonzero().squeeze(1),
            "novel": novel.nonzero().squeeze(1),
        }

    def batch(
        self, inputs: Tensor, options: FewShotOptions, train: bool, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Random crop after padding (4 pixels at 32) and flip where ``train``; normalised."""
        images = augmentation.crop_and_flip(inputs, generators) if train else inputs
        return augmentation.normalise(images.float() / 255, self.mean, self.std)

    def backbone(self, data: Data, options: FewShotOptions, generators: Sequence[torch.Generator]) -> nn.Module:
        """ResNet-18, features of 8·width dimensions after their ReLU (512 for the paper's)."""
        if options.backbone is not None:
            return backbones.own(options.backbone, data, generators)
        return ReplicatedResNet18(
            options.width, data.classes, generators, mode=options.mode, channels_last=options.channels_last
        )

    def evaluators(self, data: Data, options: FewShotOptions) -> Sequence[Evaluator]:
        """Few-shot accuracy on novel and validation classes; coarse accuracy and entropies where there is a part."""
        parts = {"novel": "", "validation-classes": "-validation"}
        return (
            Evaluator("accuracy", coarse_accuracy, metrics=classification.ACCURACY),
            Evaluator(
                "features",
                partial(feature_space, part="base"),
                every=EVALUATION_EVERY,
                metrics=FEATURE_SPACE,
                on_validation=False,
            ),
            few_shot(
                parts=parts,
                base="base",
                ways=options.ways,
                shots=options.shots,
                queries=options.queries,
                runs=options.runs,
                seed=options.runs_seed,
                every=EVALUATION_EVERY,
            ),
        )


class CifarFS(_FewShot):
    """CIFAR-FS: CIFAR-100 in 64 base, 16 validation and 20 novel classes of 600 images (table 2)."""

    name = "cifar-fs"
    strength = 1.5
    archive = "cifar-100-python"

    def published_split(self) -> dict[str, tuple[str, ...]]:
        return shipped_split("cifar_fs")


class Cub(_FewShot):
    """CUB-200-2011 at 84 pixels in DeepEMD's 100 base, 50 validation and 50 novel classes (table 2).

    Images are kept at twice the size from which the paper's test crop is cut (192 for 84 pixels, stretched to a
    square): random crops then rarely enlarge what they cut out.
    """

    name = "cub"
    Options = CubOptions
    strength = 2.0
    archive = CUB
    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def published_split(self) -> dict[str, tuple[str, ...]]:
        return shipped_split("cub")

    def stored_size(self, size: int) -> int:
        return 2 * -(-size * 8 // 7)

    def batch(
        self, inputs: Tensor, options: FewShotOptions, train: bool, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Random resized crop, colour jitter .4 and flip where ``train``; else resized (96 for 84), centre cut."""
        replicas, n, _, edge, _ = inputs.shape
        size, resized = options.size, edge // 2
        images = inputs.flatten(0, 1).float() / 255
        if train:
            boxes = augmentation.draw_boxes(n, edge, edge, generators, device=images.device)
            images = augmentation.resized_crop(images, boxes, size)
            images = augmentation.jitter(images, *augmentation.draw_jitter(n, 0.4, generators, images.device))
            images = augmentation.flip(images, augmentation.draw_flips(n, generators, images.device))
        else:
            images = nn.functional.interpolate(images, (resized, resized), mode="bilinear", antialias=True)
            start = round((resized - size) / 2)
            images = images[..., start : start + size, start : start + size]
        return torch.unflatten(augmentation.normalise(images, self.mean, self.std), 0, (replicas, n))


class Cifar10FewShot(_FewShot):
    """CIFAR-10 in 5 base, 2 validation and 3 novel classes: few-shot transfer on images that are easy to come by.

    The split is ours, each part with animals and vehicles; a run has as many ways as its part has classes.
    """

    name = "cifar10-few-shot"
    Options = Cifar10FewShotOptions
    strength = 1.5
    archive = "cifar-10-batches-py"

    def published_split(self) -> dict[str, tuple[str, ...]]:
        return {
            "base": ("airplane", "automobile", "bird", "cat", "deer"),
            "validation": ("frog", "ship"),
            "novel": ("dog", "horse", "truck"),
        }


def recipe(strength: float, protocol: str) -> Recipe:
    """The released training of a ResNet-18 on natural images, with λ = ``strength``.

    The protocols differ in the assignment: eq. 13's, or the released code's.
    """
    return Recipe(
        epochs=350,
        batch_size=64,
        learning_rate=0.1,
        optimizer="sgd",
        milestones=(100, 200, 300),
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        smoothing="others",
        similarity="cosine",
        anchors="centred",
        assignment="nearest" if protocol == "paper" else "sampled",
        hyperparameters={"sigma": 0.1, "lambda": strength, "e": 100, "beta": 0.1},
    )


def coarse_accuracy(snapshot: Snapshot) -> Mapping[str, Tensor]:
    """``accuracy/coarse`` on the part ``heldout`` and ``accuracy/validation``, where there are such parts."""
    parts = {"accuracy/coarse": "heldout", "accuracy/validation": "validation"}
    measured = {metric: snapshot.outputs(part) for metric, part in parts.items() if snapshot.has(part)}
    return {metric: classification.accuracy(outputs.logits, outputs.coarse) for metric, outputs in measured.items()}


#: what `feature_space` measures
FEATURE_SPACE = (entropy.SCALE, entropy.FEATURES, entropy.SPECTRAL, entropy.ANCHORS)


def feature_space(snapshot: Snapshot, part: str) -> Mapping[str, Tensor]:
    """Scale and entropies of the features of ``part``."""
    features = snapshot.outputs(part).features
    return {
        "features/scale": entropy.scale(features),
        "entropy/features": entropy.histogram_entropy(features),
        "entropy/spectral": entropy.spectral_entropy(features),
        "entropy/anchors": entropy.anchor_entropy(features, snapshot.anchors, snapshot.similarity),
    }


def shipped_split(name: str) -> dict[str, tuple[str, ...]]:
    """The published class lists ``cifar_fs`` (64/16/20) or ``cub`` (100/50/50, DeepEMD's), by part."""
    text = resources.files("trainables.benchmarks").joinpath("splits", f"{name}.json").read_text(encoding="utf-8")
    return {part: tuple(names) for part, names in json.loads(text).items()}


def _chosen(
    labels: Tensor, names: Sequence[str], wanted: Sequence[str], samples: int | None, path: Path
) -> tuple[Tensor, Tensor]:
    """Indices of the wanted classes' images, class after class in the source's order, and their new labels."""
    index = {name: i for i, name in enumerate(names)}
    missing = [name for name in wanted if name not in index]
    if missing:
        near = get_close_matches(missing[0], names, n=1) or list(names[:3])
        raise DataError(
            f"{path} has no class {missing[0]!r} ({len(missing)} of {len(wanted)} classes of the split are missing); "
            f"it has {', '.join(map(repr, near))} among {len(names)}"
        )
    of_class = [(labels == index[name]).nonzero().squeeze(1)[:samples] for name in wanted]
    sizes = torch.tensor([len(of) for of in of_class])
    return torch.cat(of_class), torch.arange(len(wanted)).repeat_interleave(sizes)


def _check_sizes(labels: Tensor, names: Sequence[str], base: int, options: FewShotOptions) -> None:
    """`DataError` where a validation or novel class has too few images for a run, or a base class none."""
    sizes = labels.bincount(minlength=len(names)).tolist()
    needed = max(options.shots) + options.queries
    for i, (name, size) in enumerate(zip(names, sizes, strict=True)):
        if i >= base and size < needed:
            raise DataError(
                f"class {name!r} of {options.data} has {size} images, but {max(options.shots)} shots and "
                f"{options.queries} queries need {needed}: set shots or queries lower, or samples higher"
            )
        if size == 0:
            raise DataError(f"class {name!r} of {options.data} has no images")
