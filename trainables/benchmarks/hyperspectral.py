"""Hyperspectral unmixing (Table 1): trained on each pixel's dominant material, asked for its abundances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from trainables import backbones
from trainables.benchmarks import PROVENANCES, Data, DataError, DataPath, Provenance, Split, fingerprint, grouped
from trainables.benchmarks.options import Bounds, Checked
from trainables.benchmarks.scene_files import read_scene
from trainables.benchmarks.scene_names import chosen_names
from trainables.benchmarks.scene_order import PixelOrder
from trainables.benchmarks.scenes import Scene, simulate
from trainables.evaluators import Evaluator, Outputs, Snapshot, calibration, classification, entropy, unmixing
from trainables.replicas import streams
from trainables.trial import Recipe

#: hidden layers; the last one's outputs are the features
HIDDEN = (200, 400, 100)
#: held-out samples of a replica kept as an artifact
KEPT_SAMPLES = 2000
#: the paper's, and one on standardized features at a rate that suits them
PROBES = (unmixing.Probe(0.1), unmixing.Probe(0.01, standardized=True))
#: fixes the noise and the choice of pixels, which belong to the scene and not to a replica
_SCENE_SEED = 0


@dataclass(frozen=True)
class HyperspectralOptions(Checked):
    """Where the scene comes from, how it is split, and how long the probes train."""

    #: a .mat or .npz file, or ``simulated`` for the embedded scene
    data: DataPath = "simulated"
    #: a second file that holds the abundances, where the first does not
    abundances: DataPath | None = None
    #: how the pixels of the file are numbered; asked for where a matrix stands beside a cube, else column-major
    pixel_order: PixelOrder | None = None
    #: what spectra, abundances, endmembers, rows, columns, … are called in the files, where by no usual name
    keys: dict[str, str] | None = None
    #: white Gaussian noise added once to the scene, in dB below its mean power; none by default
    snr_db: Annotated[float, Bounds(-50, 200, "a number of decibels")] | None = None
    #: share of the training part set aside for validation, 0..0.5
    validation: Annotated[float, Bounds(0, 0.5, "a share")] = 0.0
    #: share of the pixels that is not held out; the paper's is 9,408 of 13,440
    train_fraction: Annotated[float, Bounds(0, 1, "a share", closed=False)] = 0.7
    #: ``random`` by pixel, as the paper, or ``{by: block, size: 10}``: by blocks of so many pixels along an edge
    split: str | dict[str, str | int] = grouped.RANDOM
    #: epochs of the two trained probes, the learning rate ×0.1 after every quarter
    probe_epochs: Annotated[int, Bounds(1)] = 400
    #: ``real``, ``semi-synthetic`` or ``simulated``; by default what the file says, else ``real``
    provenance: Provenance | None = None
    #: added to the data's description, e.g. a citation
    description: str = ""
    #: a fixed random subset of so many pixels; all by default
    pixels: Annotated[int, Bounds(10)] | None = None
    #: a network of your own as package.module:name, made once per replica (see `trainables.backbones.find`)
    backbone: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data == "simulated":
            if self.abundances is not None:
                raise ValueError("abundances needs data to be a file; the simulated scene has its own")
            if self.keys is not None:
                raise ValueError("keys needs data to be a file; the simulated scene has none")
            if self.provenance not in (None, "simulated"):
                raise ValueError(f"provenance of the simulated scene is simulated, not {self.provenance!r}")
        chosen_names(self.keys or {})
        grouped.checked(self.split, ["block"])
        if self.backbone is not None:
            backbones.find(self.backbone)


class Hyperspectral:
    """The benchmark of Table 1 and of figures A1 to A4 and A6 (§5.2)."""

    name: ClassVar[str] = "hyperspectral"
    Options: ClassVar[type] = HyperspectralOptions

    def recipe(self, protocol: str, options: HyperspectralOptions) -> Recipe:
        """Both protocols train alike; they differ in similarity, assignment and label smoothing."""
        differing: Mapping[str, Mapping[str, Any]] = {
            "paper": {"similarity": "cosine", "smoothing": "others", "assignment": "nearest"},
            "released": {"similarity": "dot", "smoothing": "uniform"},
        }
        if protocol not in differing:
            raise ValueError(f"unknown protocol {protocol!r}; known: {', '.join(differing)}")
        return Recipe(
            epochs=200,
            batch_size=200,
            learning_rate=1e-4,
            milestones=(100,),
            anchors="uniform",
            hyperparameters={"sigma": 0.4, "lambda": 1.0, "e": 100, "beta": 0.1},
            **differing[protocol],
        )

    def load(self, options: HyperspectralOptions) -> Data:
        """The scene: inputs (N, bands) reflectances, coarse (N,) the largest abundance, fine (N, m) abundances."""
        if options.data == "simulated":
            scene, name, provenance = simulate(), "simulated", "simulated"
        else:
            path = Path(options.data).expanduser()
            second = None if options.abundances is None else Path(options.abundances).expanduser()
            scene, name = read_scene(path, second, options.pixel_order, options.keys), path.stem
            provenance = options.provenance or scene.provenance or "real"
            if provenance not in PROVENANCES:
                raise DataError(f"provenance of {path} is {provenance!r}; one of {', '.join(PROVENANCES)} is needed")
        chosen = _chosen_pixels(scene, options)
        inputs = torch.from_numpy(_noisy(scene.spectra, options.snr_db)[chosen])
        fine = torch.from_numpy(scene.abundances[chosen])
        coarse = fine.argmax(1)
        return Data(
            name=name,
            provenance=provenance,
            fingerprint=fingerprint(inputs, coarse, fine),
            inputs=inputs,
            coarse=coarse,
            fine=fine,
            coarse_names=scene.names,
            description=_description(name, scene, inputs, options),
            # pixel numbers in the whole image, from which maps are drawn
            extra={"shape": scene.shape, "pixel_order": scene.pixel_order, "pixels": torch.from_numpy(chosen)},
        )

    def split(self, data: Data, options: HyperspectralOptions, generator: torch.Generator) -> Split:
        """Random parts ``train``, ``validation`` (empty by default) and ``heldout``; `DataError` for too few pixels."""
        count = len(data.inputs)
        fitted = round(count * options.train_fraction)
        validated = round(fitted * options.validation)
        if fitted - validated < 1 or fitted == count:
            raise DataError(f"{count} pixels of {data.name} are too few for train_fraction {options.train_fraction}")
        if isinstance(options.split, Mapping):
            shares = {"validation": validated, "heldout": count - fitted}
            return grouped.split(data, _blocks(data, int(options.split["size"])), shares, generator)
        order = torch.randperm(count, generator=generator)
        train, validation, heldout = torch.split(order, [fitted - validated, validated, count - fitted])
        return {"train": train, "validation": validation, "heldout": heldout}

    def batch(
        self, inputs: Tensor, options: HyperspectralOptions, train: bool, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Reflectances as they are: neither source normalises or augments."""
        return inputs

    def backbone(self, data: Data, options: HyperspectralOptions, generators: Sequence[torch.Generator]) -> nn.Module:
        """bands-200-400-100-m with a ReLU after each hidden layer (the released code; the paper counts two)."""
        if options.backbone is not None:
            return backbones.own(options.backbone, data, generators)
        return backbones.ReplicatedMLP((data.inputs.shape[1], *HIDDEN), data.classes, generators)

    def evaluators(self, data: Data, options: HyperspectralOptions) -> Sequence[Evaluator]:
        """On the held-out part: cheap ones each epoch, dearer ones every ten, trained probes at the last."""

        def probes(snapshot: Snapshot) -> Mapping[str, Tensor]:
            train, heldout = snapshot.outputs("train"), snapshot.outputs("heldout")
            paper, standardized = unmixing.probe_mse(
                train.features,
                train.fine,
                heldout.features,
                heldout.fine,
                streams(snapshot.seeds, "probe"),
                PROBES,
                epochs=options.probe_epochs,
            )
            return {
                "mse/transfer": paper[:, -1],
                "mse/transfer-min": paper.amin(1),
                "mse/transfer-standardized": standardized[:, -1],
            }

        return (
            Evaluator("accuracy", _accuracy, metrics=classification.ACCURACY),
            Evaluator("raw", _raw, metrics=unmixing.RAW),
            Evaluator("features", _features, metrics=(entropy.SCALE, entropy.FEATURES, entropy.SPECTRAL)),
            Evaluator("anchors", _anchors, metrics=(entropy.ANCHORS,)),
            Evaluator("least-squares", _least_squares, every=10, metrics=unmixing.LEAST_SQUARES),
            Evaluator("calibration", _calibration, every=10, metrics=calibration.ERRORS),
            Evaluator("output", _output, every=10, metrics=(*classification.OUTPUT, classification.RELEASED_STABILITY)),
            Evaluator("probes", probes, every=0, metrics=unmixing.PROBES),
            Evaluator("arrays", arrays=_arrays),
        )


def _accuracy(snapshot: Snapshot) -> Mapping[str, Tensor]:
    parts = {"accuracy/coarse": "heldout", "accuracy/validation": "validation"}
    measured = {metric: snapshot.outputs(part) for metric, part in parts.items() if snapshot.has(part)}
    return {metric: classification.accuracy(outputs.logits, outputs.coarse) for metric, outputs in measured.items()}


def _raw(snapshot: Snapshot) -> Mapping[str, Tensor]:
    heldout = snapshot.outputs("heldout")
    mse = unmixing.raw_mse(_probabilities(heldout), heldout.fine)
    return {"mse/raw": mse, "rmse/raw": mse.sqrt()}


def _features(snapshot: Snapshot) -> Mapping[str, Tensor]:
    features = snapshot.outputs("heldout").features
    return {
        "features/scale": entropy.scale(features),
        "entropy/features": entropy.histogram_entropy(features),
        "entropy/spectral": entropy.spectral_entropy(features),
    }


def _anchors(snapshot: Snapshot) -> Mapping[str, Tensor]:
    features = snapshot.outputs("heldout").features
    return {"entropy/anchors": entropy.anchor_entropy(features, snapshot.anchors, snapshot.similarity)}


def _least_squares(snapshot: Snapshot) -> Mapping[str, Tensor]:
    train, heldout = snapshot.outputs("train"), snapshot.outputs("heldout")
    mse = unmixing.least_squares_mse(train.features, train.fine, heldout.features, heldout.fine)
    return {"mse/transfer-least-squares": mse}


def _calibration(snapshot: Snapshot) -> Mapping[str, Tensor]:
    heldout = snapshot.outputs("heldout")
    curve = calibration.reliability(_probabilities(heldout), heldout.coarse)
    return {
        "calibration/ece": calibration.expected_calibration_error(curve),
        "calibration/mce": calibration.maximum_calibration_error(curve),
    }


def _output(snapshot: Snapshot) -> Mapping[str, Tensor]:
    probabilities = _probabilities(snapshot.outputs("heldout"))
    return {
        "information/mutual": classification.mutual_information(probabilities),
        "stability": classification.stability(probabilities),
        "stability/released": classification.stability_released(probabilities),
    }


def _arrays(snapshot: Snapshot) -> Mapping[str, Tensor]:
    """Held-out samples in their random order, and the reliability curve of all of them."""
    heldout = snapshot.outputs("heldout")
    probabilities = _probabilities(heldout)
    return {
        "features": heldout.features[:, :KEPT_SAMPLES].half(),
        "fine": heldout.fine[:, :KEPT_SAMPLES],
        "coarse": heldout.coarse[:, :KEPT_SAMPLES],
        "probabilities": probabilities[:, :KEPT_SAMPLES].float(),
        "reliability": calibration.reliability(probabilities, heldout.coarse),
    }


def _probabilities(outputs: Outputs) -> Tensor:
    return torch.softmax(outputs.logits, -1)


def _blocks(data: Data, size: int) -> Tensor:
    """The block of each pixel; `DataError` where the scene's rows and columns are not known."""
    if data.extra["shape"] is None:
        raise DataError(
            f"split by block needs the rows and columns of {data.name}, which its file does not tell: add them as "
            "nRow and nCol, or split at random"
        )
    return grouped.blocks(data.extra["pixels"], data.extra["shape"], data.extra["pixel_order"], size)


def _chosen_pixels(scene: Scene, options: HyperspectralOptions) -> np.ndarray:
    """Indices of all pixels, or of the fixed random subset, in ascending order."""
    available = len(scene.spectra)
    if options.pixels is None:
        return np.arange(available)
    if options.pixels > available:
        raise DataError(f"{options.data} has {available} pixels, fewer than the {options.pixels} of option 'pixels'")
    return np.sort(np.random.default_rng(_SCENE_SEED).permutation(available)[: options.pixels])


def _noisy(spectra: np.ndarray, snr_db: float | None) -> np.ndarray:
    """The scene's spectra with white noise of the mean power less ``snr_db``, the same at every call."""
    if snr_db is None:
        return spectra
    deviation = math.sqrt(np.square(spectra, dtype=np.float64).mean() / 10 ** (snr_db / 10))
    noise = np.random.default_rng(_SCENE_SEED).normal(0, deviation, spectra.shape)
    return (spectra + noise).astype(np.float32)


def _description(name: str, scene: Scene, inputs: Tensor, options: HyperspectralOptions) -> str:
    pixels, bands = inputs.shape
    noise = "no noise added" if options.snr_db is None else f"noise added at {options.snr_db:g} dB"
    text = f"{name}: {pixels:,} pixels × {bands} bands, {len(scene.names)} materials; {scene.note}; {noise}"
    return f"{text}. {options.description}" if options.description else text
