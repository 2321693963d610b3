"""Handwritten digits (scikit-learn's 1,797 of 8 × 8 pixels), of which a network is told whether they are even or odd.

Nothing is measured here: the probes and the geometry are those of every benchmark.
"""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn

from trainables import backbones, trial
from trainables.benchmarks import Data, fingerprint


@dataclass(frozen=True)
class Options:
    validation: float = 0.2
    heldout: float = 0.3


class Digits:
    name, Options = "digits", Options

    def recipe(self, protocol, options):
        assignment = "nearest" if protocol == "paper" else "sampled"
        return trial.Recipe(epochs=60, batch_size=64, learning_rate=1e-3, assignment=assignment)

    def load(self, options):
        inputs, fine = (torch.tensor(array) for array in load_digits(return_X_y=True))
        x = (inputs.float() / 16, fine % 2, fine)
        return Data("digits", "real", fingerprint(*x), *x, ("even", "odd"), "8 × 8 pixels, ten digits")

    def split(self, data, options, generator):
        order = torch.randperm(len(data.inputs), generator=generator)
        heldout, validation = (round(share * len(order)) for share in (options.heldout, options.validation))
        parts = order.split([heldout, validation, len(order) - heldout - validation])
        return dict(zip(("heldout", "validation", "train"), parts, strict=True))

    def batch(self, inputs, options, train, generators):
        return inputs

    def backbone(self, data, options, generators) -> nn.Module:
        return backbones.ReplicatedMLP((64, 64, 32), data.classes, generators)

    def evaluators(self, data, options):
        return ()
