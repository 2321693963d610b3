"""CIFAR-10 by two coarse classes, animals and vehicles: are the ten classes still told apart by the features?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch

from trainables.benchmarks import Data, DataError, fingerprint
from trainables.benchmarks.cifar10 import Cifar10, Cifar10Options, kept_arrays
from trainables.benchmarks.few_shot import coarse_accuracy
from trainables.evaluators import Evaluator, classification

#: the coarse classes
GROUPS: Mapping[str, Sequence[str]] = {
    "animal": ("bird", "cat", "deer", "dog", "frog", "horse"),
    "vehicle": ("airplane", "automobile", "ship", "truck"),
}


class CoarseCifar10(Cifar10):
    """The benchmark `Cifar10` trained on two coarse classes, the split of the literature on class collapse.

    Chen et al. (2022), "Perfectly balanced", ICML. Simulated textures are halved by their number.
    """

    name: ClassVar[str] = "coarse-cifar10"

    def load(self, options: Cifar10Options) -> Data:
        """Inputs (N, 3, H, H) uint8; fine (N,) the class of ten, coarse (N,) the group that it is of."""
        data = super().load(options)
        names = data.coarse_names
        if options.data == "simulated":
            groups: Mapping[str, Sequence[str]] = {
                "first": names[: len(names) // 2],
                "second": names[len(names) // 2 :],
            }
        else:
            groups = GROUPS
        group_of = {name: number for number, group in enumerate(groups.values()) for name in group}
        if unknown := [name for name in names if name not in group_of]:
            raise DataError(
                f"{options.data} has the class {unknown[0]!r}, which is none of CIFAR-10's: {', '.join(group_of)}"
            )
        coarse = torch.tensor([group_of[name] for name in names])[data.fine]
        if len(torch.unique(coarse)) < len(groups):
            raise DataError(f"{options.data} has classes of one group alone, of {' and '.join(groups)}")
        return replace(
            data,
            coarse=coarse,
            coarse_names=tuple(groups),
            fingerprint=fingerprint(data.inputs, coarse, data.fine, data.extra["test"]),
            description=f"{data.description}, of which {' and '.join(groups)} are told in training",
        )

    def evaluators(self, data: Data, options: Cifar10Options) -> Sequence[Evaluator]:
        """Coarse accuracy each epoch; the ten classes are read by the probes of every benchmark."""
        return (
            Evaluator("accuracy", coarse_accuracy, metrics=classification.ACCURACY),
            Evaluator("arrays", arrays=kept_arrays),
        )
