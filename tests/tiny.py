"""A benchmark that trains an epoch in milliseconds: two noisy coarse classes of four fine ones, a small MLP."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainables.backbones import ReplicatedMLP
from trainables.benchmarks import Data, DataError, DataPath, Split
from trainables.evaluators import Evaluator, Snapshot, classification, entropy
from trainables.trial import Recipe

PARTS = {"train": 120, "validation": 40, "heldout": 40}


@dataclass(frozen=True)
class TinyOptions:
    samples: int = 200
    #: seconds that each epoch waits: slow enough for a test to strike in between
    pause: float = 0.0
    #: a file that decides how epochs go wrong: see `_misbehave`
    trouble: DataPath = ""
    #: the seed whose "mse/odd" is not a number
    odd_seed: int = -1


class Tiny:
    name: ClassVar[str] = "tiny"
    Options: ClassVar[type] = TinyOptions

    def recipe(self, protocol: str, options: TinyOptions) -> Recipe:
        return Recipe(
            epochs=6,
            batch_size=40,
            learning_rate=0.01,
            hyperparameters={"sigma": 0.2, "lambda": 1.0, "e": 10, "beta": 0.1},
        )

    def load(self, options: TinyOptions) -> Data:
        if options.samples < 200:
            raise DataError(f"tiny data has {options.samples} samples; 200 are needed")
        generator = torch.Generator().manual_seed(7)
        fine = torch.arange(options.samples) % 4
        inputs = 0.7 * torch.randn(options.samples, 8, generator=generator) + fine[:, None]
        digest = hashlib.sha256(inputs.numpy().tobytes()).hexdigest()
        return Data("tiny", "simulated", digest, inputs, (fine >= 2).long(), fine, ("low", "high"), "four blobs")

    def split(self, data: Data, options: TinyOptions, generator: torch.Generator) -> Split:
        order = torch.randperm(len(data.inputs), generator=generator)
        parts = order[: sum(PARTS.values())].split(list(PARTS.values()))
        return dict(zip(PARTS, parts, strict=True))

    def batch(self, inputs: Tensor, options: TinyOptions, train: bool, generators: Sequence[torch.Generator]) -> Tensor:
        return inputs

    def backbone(self, data: Data, options: TinyOptions, generators: Sequence[torch.Generator]) -> nn.Module:
        return ReplicatedMLP((8, 16, 8), data.classes, generators)

    def evaluators(self, data: Data, options: TinyOptions) -> Sequence[Evaluator]:
        def accuracy(snapshot: Snapshot) -> Mapping[str, Tensor]:
            _misbehave(options, snapshot.epoch)
            measured = {}
            for metric, part in (("accuracy/coarse", "heldout"), ("accuracy/validation", "validation")):
                outputs = snapshot.outputs(part)
                measured[metric] = (outputs.logits.argmax(-1) == outputs.coarse).double().mean(1)
            return measured

        def spread(snapshot: Snapshot) -> Mapping[str, Tensor]:
            features = snapshot.outputs("heldout").features
            return {"entropy/features": features.flatten(1).std(1)}

        def odd(snapshot: Snapshot) -> Mapping[str, Tensor]:
            seeds = torch.tensor(snapshot.seeds, dtype=torch.float64)
            return {"mse/odd": torch.where(seeds == options.odd_seed, torch.nan, seeds / 10)}

        def arrays(snapshot: Snapshot) -> Mapping[str, Any]:
            return {"features": snapshot.outputs("heldout").features}

        return (
            Evaluator("accuracy", accuracy, metrics=classification.ACCURACY),
            Evaluator("spread", spread, every=2, arrays=arrays, metrics=(entropy.FEATURES,)),
            Evaluator("odd", odd, every=0),
        )


def _misbehave(options: TinyOptions, epoch: int) -> None:
    """What the file ``options.trouble`` asks of this epoch: "<epoch> raise", "die" or "memory", once or always.

    A file that ends in ``-once`` is removed first, so that the next attempt goes well.
    """
    if options.pause:
        time.sleep(options.pause)
    trouble = Path(options.trouble)
    if not options.trouble or not trouble.is_file():
        return
    at, what = trouble.read_text(encoding="utf-8").split()
    if int(at) != epoch:
        return
    if trouble.name.endswith("-once"):
        trouble.unlink()
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "memory":
        torch.empty(2**60, dtype=torch.uint8)
    raise RuntimeError("the tiny benchmark was told to fail")
