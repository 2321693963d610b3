"""Replicated backbones: S networks as one module, (S, B, …) -> features (S, B, d), logits (S, B, C)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ReplicatedLinear(nn.Module):
    """S independent linear layers: ``weight`` (S, in, out), ``bias`` (S, 1, out).

    Initialised as ``torch.nn.Linear`` is, U[−1/√in, 1/√in], replica s from its own generator.
    """

    def __init__(self, inputs: int, outputs: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)

        def uniform(*shape: int) -> nn.Parameter:
            drawn = torch.stack([torch.rand(*shape, generator=g) for g in generators])
            return nn.Parameter((2 * drawn - 1) * bound)

        self.weight = uniform(inputs, outputs)
        self.bias = uniform(1, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)

    def replica_dims(self, name: str) -> int:
        return 1 if name == "bias" else 2


class ReplicatedMLP(nn.Module):
    """S multilayer perceptrons; the features are the last hidden layer after its ReLU.

    ``sizes`` are the inputs and the hidden layers, e.g. (144, 200, 400, 100).
    """

    def __init__(self, sizes: Sequence[int], classes: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(
            ReplicatedLinear(inputs, outputs, generators) for inputs, outputs in itertools.pairwise(sizes)
        )
        self.classifier = ReplicatedLinear(sizes[-1], classes, generators)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.hidden:
            x = torch.relu_(layer(x))
        return x, self.classifier(x)

    def replica_dims(self, name: str) -> int:
        return 1 if name.endswith("bias") else 2


class Looped(nn.Module):
    """S single networks stepped one after another behind the replicated interface.

    ``networks`` map (B, …) to features (B, d) and logits (B, C): any torch module of that form will do.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.replicas = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = zip(*(network(part) for network, part in zip(self.replicas, x, strict=True)), strict=True)
        return torch.stack(features), torch.stack(logits)

    def replica_dims(self, name: str) -> int:
        return self.get_parameter(name).dim()
