"""Age estimation (§5.1, figure 1): trained on coarse ages, asked for the exact ones by optimal transport."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from trainables.benchmarks import Data, DataError, DataPath, Split, augmentation, grouped
from trainables.benchmarks.faces import read_faces
from trainables.benchmarks.options import Bounds, Checked, is_number
from trainables.benchmarks.simulated_faces import simulate
from trainables.evaluators import (
    Evaluator,
    Outputs,
    Snapshot,
    calibration,
    classification,
    entropy,
    entropy_bias,
    transport,
)
from trainables.kernels import Mode
from trainables.metrics import Metric
from trainables.resnet import ReplicatedResNet18
from trainables.trial import Recipe

#: per-channel mean and standard deviation over ImageNet's training images
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: bins of the feature's histogram
BINS = 100
#: metrics of the output distribution
OUTPUT = (*calibration.ERRORS, *classification.OUTPUT)
#: held-out samples of a replica kept as an artifact
KEPT_SAMPLES = 2000
SIMULATED_SAMPLES = 8000
Share = Annotated[float, Bounds(0, 0.45, "a share")]
#: fixes the choice of a subset, which belongs to the data and not to a replica
_SUBSET_SEED = 0


@dataclass(frozen=True)
class AgeOptions(Checked):
    """Where the faces come from, where the ages are divided, and the size of the network."""

    #: a folder, tar or zip in the layout of IMDB-WIKI or UTKFace, a prepared cache, or ``simulated``
    data: DataPath = "simulated"
    #: ``imdb.mat`` or ``wiki.mat``, where it does not stand in ``data``
    metadata: DataPath | None = None
    #: where decoded images are kept; by default the user's cache folder
    cache: DataPath | None = None
    #: edge of the images in pixels
    size: Annotated[int, Bounds(8)] = 64
    #: the coarse label is whether the age is above this; ``median``, or a list for more than two classes
    threshold: float | str | Sequence[float] = "median"
    #: maps of the ResNet's first layer; the paper's is 16
    width: Annotated[int, Bounds(1)] = 16
    #: how convolutions of all seeds are computed: ``grouped``, ``looped`` or ``bmm``, or ``auto``, the fastest of them
    #: as timed once for a study; numbers agree up to rounding
    mode: Mode = "auto"
    #: whether the maps' channels are last in memory, but with ``bmm``; by default as timed, with a mode on a CPU alone
    channels_last: bool | None = None
    #: random shifts and flips in training; ours, neither source augments
    augment: bool = False
    #: a fixed random subset of so many images (simulated: how many are made); all by default
    samples: Annotated[int, Bounds(10)] | None = None
    #: training images on which the released code evaluates
    evaluation: Annotated[int, Bounds(2)] = 10_000
    #: shares of the images set aside to choose β on, and to score on
    validation: Share = 0.125
    heldout: Share = 0.125
    #: ``random`` by photo, as the paper, or ``{by: group}``: all photos of a person in one part (IMDB and WIKI)
    split: str | dict[str, str] = grouped.RANDOM

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data == "simulated" and self.metadata is not None:
            raise ValueError("metadata needs data to be a path; simulated faces know their age")
        if self.threshold != "median":
            limits = self.threshold if isinstance(self.threshold, Sequence) else [self.threshold]
            if isinstance(limits, str) or not limits or not all(is_number(limit) for limit in limits):
                raise ValueError(f"threshold must be 'median', an age, or a list of ages, not {self.threshold!r}")
            if any(low >= high for low, high in itertools.pairwise(limits)):
                raise ValueError(f"threshold must be a list of ascending ages, not {list(limits)!r}")
            object.__setattr__(self, "threshold", tuple(limits))
        grouped.checked(self.split, ["group"])


class Age:
    """The benchmark of figure 1 and of figures A1, A2, A3 and A5."""

    name: ClassVar[str] = "age"
    Options: ClassVar[type] = AgeOptions

    def recipe(self, protocol: str, options: AgeOptions) -> Recipe:
        """The protocols differ in optimizer, batch size, form of the loss and λ.

        A cosine in one dimension is only a sign, so both use the released code's squared distance to a grid. The
        paper states SGD and no rate; 0.01, without momentum, is ours. Where the paper's σ stands for this benchmark
        nobody says either: 0.1 is the released code's.
        """
        common = Recipe(
            epochs=500,
            batch_size=256,
            learning_rate=1e-3,
            similarity="squared-distance",
            anchors="grid",
            entropy_form="weighted",
            hyperparameters={"sigma": 0.1, "lambda": 0.2, "e": 100, "beta": 0.1},
        )
        if protocol == "released":
            return common
        if protocol == "paper":
            return replace(
                common,
                optimizer="sgd",
                batch_size=64,
                learning_rate=0.01,
                entropy_form="subtract",
                assignment="nearest",
                hyperparameters={**common.hyperparameters, "lambda": 0.3},
            )
        raise ValueError(f"unknown protocol {protocol!r}; known: paper, released")

    def load(self, options: AgeOptions) -> Data:
        """Inputs (N, 3, size, size) uint8, fine (N,) ages in years, coarse (N,) the class of the age."""
        if options.data == "simulated":
            pixels, ages = simulate(options.samples or SIMULATED_SAMPLES, options.size)
            name, provenance, note = "simulated faces", "simulated", "schematic faces, no photographs"
            pixels_digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
            people: Tensor | None = None
            left_out: tuple[tuple[str, str], ...] = ()
        else:
            faces = read_faces(options.data, options.size, options.cache, options.metadata)
            pixels, ages = faces.images.pixels, torch.from_numpy(faces.ages)
            left_out = tuple((problem.name, problem.reason) for problem in faces.images.problems)
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in faces.images.reasons().items())
            name, provenance, note = faces.layout, "real", f"left out: {reasons or 'none'}"
            pixels_digest = faces.images.sha256
            people = None if faces.people is None else torch.from_numpy(faces.people)
        if options.split != grouped.RANDOM and people is None:
            raise DataError(
                f"split by group keeps each person's photos together, but the file names of {name} do not tell whose a "
                "photo is, as those of IMDB and WIKI do: split at random"
            )
        if options.samples is not None and options.samples != len(ages):
            if options.samples > len(ages):
                raise DataError(
                    f"{options.data} has {len(ages):,} faces, fewer than the {options.samples:,} of 'samples'"
                )
            chosen = np.sort(np.random.default_rng(_SUBSET_SEED).permutation(len(ages))[: options.samples])
            pixels, ages = pixels[chosen], ages[chosen]
            people = None if people is None else people[chosen]
        limits = _limits(ages, options)
        # a class holds the ages above its lower limit, its upper limit included
        coarse = torch.bucketize(ages, torch.tensor(limits, dtype=ages.dtype))
        names = _class_names(limits)
        counts = torch.bincount(coarse, minlength=len(names)).tolist()
        if 0 in counts:
            raise DataError(f"{options.data} has no face in the class {names[counts.index(0)]!r}: change threshold")
        return Data(
            name=name,
            provenance=provenance,
            fingerprint=hashlib.sha256(
                f"{pixels_digest} {options.samples} {limits}".encode() + ages.numpy().tobytes()
            ).hexdigest(),
            inputs=pixels,
            coarse=coarse,
            fine=ages,
            coarse_names=names,
            description=f"{name}: {len(ages):,} faces at {options.size} pixels, median age {ages.median():g}; {note}",
            extra={"people": people},
            left_out=left_out,
        )

    def split(self, data: Data, options: AgeOptions, generator: torch.Generator) -> Split:
        """Random ``train``, ``validation`` and ``heldout``; ``evaluation`` is the part of train for the evaluators."""
        count = len(data.inputs)
        validated, held = (round(count * share) for share in (options.validation, options.heldout))
        if options.split != grouped.RANDOM:
            shares = {"validation": validated, "heldout": held}
            parts = grouped.split(data, data.extra["people"], shares, generator)
        else:
            order = torch.randperm(count, generator=generator)
            validation, heldout, train = torch.split(order, [validated, held, count - validated - held])
            parts = {"train": train, "validation": validation, "heldout": heldout}
        return {**parts, "evaluation": parts["train"][: options.evaluation]}

    def batch(self, inputs: Tensor, options: AgeOptions, train: bool, generators: Sequence[torch.Generator]) -> Tensor:
        """Normalised as ImageNet is; shifted by up to an eighth of the edge and flipped where that is asked for."""
        images = augmentation.crop_and_flip(inputs, generators) if train and options.augment else inputs
        return augmentation.normalise(images.float() / 255, IMAGENET_MEAN, IMAGENET_STD)

    def backbone(self, data: Data, options: AgeOptions, generators: Sequence[torch.Generator]) -> nn.Module:
        """ResNet-18 whose feature is one number; 700,182 parameters at 16 maps and two classes."""
        return ReplicatedResNet18(
            options.width,
            data.classes,
            generators,
            features="mean-of-maps",
            mode=options.mode,
            channels_last=options.channels_last,
        )

    def evaluators(self, data: Data, options: AgeOptions) -> Sequence[Evaluator]:
        """Accuracy, transport and entropies each epoch; calibration every ten."""
        return (
            Evaluator("accuracy", _accuracy, metrics=classification.ACCURACY),
            Evaluator(
                "transport",
                _Transport(),
                metrics=(*transport.AGES, *transport.BETA, *transport.VALIDATION),
                on_validation=False,
            ),
            Evaluator(
                "features",
                _features,
                metrics=(entropy.FEATURES, entropy_bias.CORRECTED, entropy.ANCHORS, entropy.SCALE),
                on_validation=False,
            ),
            Evaluator("calibration", _calibration, every=10, metrics=(*OUTPUT, *(_twice(metric) for metric in OUTPUT))),
            Evaluator("arrays", arrays=_arrays),
        )


def _twice(metric: Metric) -> Metric:
    """``metric`` of probabilities that went through the softmax twice."""
    return replace(
        metric,
        name=f"{metric.name}-double-softmax",
        label=f"{metric.label}, double softmax",
        note="with the released age code's second softmax",
    )


class _Transport:
    """Ages by optimal transport: in the released code's way, and on held-out images where there are some.

    The plans between ranks and known ages depend on the split alone, so they are made at the first epoch and kept.
    """

    def __init__(self) -> None:
        self._ages_by_rank: dict[str, Tensor] = {}

    def __call__(self, snapshot: Snapshot) -> Mapping[str, Tensor]:
        known = snapshot.outputs("evaluation")
        errors = self._errors(known, known, "evaluation", known.logits.argmax(-1))
        hard = self._errors(known, known, "evaluation", known.coarse)
        best, beta = _best(errors)
        measured = {
            "mse/transport": best,
            "mse/transport-hard": _best(hard)[0],
            "mse/transport-alone": errors[:, 0],
            "mse/class-mean": errors[:, -1],
            "mse/random-pairing": transport.random_pairing_mse(known.fine, known.fine),
            "interpolation/beta": beta,
        }
        if snapshot.has("validation") and snapshot.has("heldout"):
            # the known distribution and the class means are the training images'
            validation, heldout = snapshot.outputs("validation"), snapshot.outputs("heldout")
            chosen = self._errors(validation, known, "validation", validation.logits.argmax(-1)).argmin(1, keepdim=True)
            scored = self._errors(heldout, known, "heldout", heldout.logits.argmax(-1))
            error, beta = _at(scored, chosen)
            measured |= {
                "mse/transport-heldout": error,
                "mse/class-mean-heldout": scored[:, -1],
                "interpolation/beta-heldout": beta,
            } | self._on_validation(validation, known)
        return measured

    def _on_validation(self, validation: Outputs, known: Outputs) -> dict[str, Tensor]:
        """The held-out metrics on the validation images: β is chosen on one half of them and scored on the other."""
        if validation.coarse.shape[1] < 2:
            return {}
        halves = [
            self._errors(half, known, f"validation, half {number}", half.logits.argmax(-1))
            for number, half in enumerate(_halves(validation))
        ]
        scored = [_at(halves[1 - chosen], halves[chosen].argmin(1, keepdim=True)) for chosen in (0, 1)]
        alone = self._errors(validation, known, "validation", validation.logits.argmax(-1))
        return {
            "mse/transport-heldout-validation": (scored[0][0] + scored[1][0]) / 2,
            "mse/class-mean-heldout-validation": alone[:, -1],
            "interpolation/beta-heldout-validation": (scored[0][1] + scored[1][1]) / 2,
        }

    def _errors(self, outputs: Outputs, known: Outputs, part: str, classes: Tensor) -> Tensor:
        """Squared error (S, 101) of ``part`` by β, with each sample's class (S, n) for the class means."""
        features = outputs.features.squeeze(-1)
        if part not in self._ages_by_rank:
            self._ages_by_rank[part] = transport.age_by_rank(known.fine, features.shape[1])
        oriented = features * transport.orientation(features, outputs.logits).unsqueeze(1)
        retrieved = transport.transported(oriented, self._ages_by_rank[part])
        means = transport.class_ages(known.fine, known.coarse, outputs.logits.shape[-1])
        return transport.interpolated_mse(outputs.fine, means.gather(1, classes), retrieved)


def _halves(outputs: Outputs) -> Sequence[Outputs]:
    """The first and the second half of the samples, which stand in random order."""
    middle = outputs.coarse.shape[1] // 2
    fields = ("features", "logits", "coarse", "fine", "indices")
    return [
        Outputs(*(getattr(outputs, name)[:, part] for name in fields)) for part in (slice(middle), slice(middle, None))
    ]


def _best(errors: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest error (S,) of (S, 101) and its β (S,)."""
    return _at(errors, errors.argmin(1, keepdim=True))


def _at(errors: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The error (S,) of (S, 101) at the ``chosen`` index (S, 1), and its β (S,); both NaN where the error is."""
    error = errors.gather(1, chosen).squeeze(1)
    return error, transport.BETAS.to(chosen.device)[chosen.squeeze(1)].where(error.isfinite(), math.nan)


def _accuracy(snapshot: Snapshot) -> Mapping[str, Tensor]:
    parts = {"accuracy/coarse": "heldout", "accuracy/validation": "validation"}
    measured = {metric: snapshot.outputs(part) for metric, part in parts.items() if snapshot.has(part)}
    return {metric: classification.accuracy(outputs.logits, outputs.coarse) for metric, outputs in measured.items()}


def _features(snapshot: Snapshot) -> Mapping[str, Tensor]:
    features = snapshot.outputs("evaluation").features
    return {
        "entropy/features": entropy.histogram_entropy(features, BINS),
        "entropy/features-corrected": entropy_bias.miller_madow(features, BINS),
        "entropy/anchors": entropy.anchor_entropy(features, snapshot.anchors, snapshot.similarity),
        "features/scale": entropy.scale(features),
    }


def _calibration(snapshot: Snapshot) -> Mapping[str, Tensor]:
    """With the softmax once, and twice as the released code applies it before these metrics."""
    outputs = _scored(snapshot)
    once = outputs.logits.softmax(-1)
    measured: dict[str, Tensor] = {}
    for suffix, probabilities in {"": once, "-double-softmax": once.softmax(-1)}.items():
        curve = calibration.reliability(probabilities, outputs.coarse)
        measured |= {
            f"calibration/ece{suffix}": calibration.expected_calibration_error(curve),
            f"calibration/mce{suffix}": calibration.maximum_calibration_error(curve),
            f"information/mutual{suffix}": classification.mutual_information(probabilities),
            f"stability{suffix}": classification.stability(probabilities),
        }
    return measured


def _arrays(snapshot: Snapshot) -> Mapping[str, Tensor]:
    """Samples in their random order, without their images, and the reliability curve of all of them."""
    outputs = _scored(snapshot)
    probabilities = outputs.logits.softmax(-1)
    return {
        "features": outputs.features[:, :KEPT_SAMPLES].float(),
        "fine": outputs.fine[:, :KEPT_SAMPLES],
        "coarse": outputs.coarse[:, :KEPT_SAMPLES],
        "probabilities": probabilities[:, :KEPT_SAMPLES].float(),
        "reliability": calibration.reliability(probabilities, outputs.coarse),
    }


def _scored(snapshot: Snapshot) -> Outputs:
    return snapshot.outputs("heldout" if snapshot.has("heldout") else "evaluation")


def _limits(ages: Tensor, options: AgeOptions) -> tuple[float, ...]:
    """Upper limits of all classes but the last; the median is the sorted middle, as in the released code."""
    if options.threshold == "median":
        return (float(ages.sort().values[len(ages) // 2]),)
    assert isinstance(options.threshold, tuple), "see AgeOptions.__post_init__"
    return options.threshold


def _class_names(limits: Sequence[float]) -> tuple[str, ...]:
    between = [f"over {low:g} to {high:g}" for low, high in itertools.pairwise(limits)]
    return (f"up to {limits[0]:g}", *between, f"over {limits[-1]:g}")
