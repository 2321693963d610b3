"""Replicated backbones: S networks as one module, (S, B, …) -> features (S, B, d), logits (S, B, C)."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainables.benchmarks import Data


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

    ``networks`` map (B, …) to features (B, d) and logits (B, C): any torch module of that form will do. Layers that
    draw from torch's global stream, as dropout does, find one of their replica's own after `reseed`.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.replicas = nn.ModuleList(networks)
        self._streams: list[tuple[Tensor, Tensor | None]] = []

    def reseed(self, seeds: Sequence[int]) -> None:
        """Start the global stream of each replica at its own of ``seeds``."""
        self._streams = []
        with torch.random.fork_rng():
            for seed in seeds:
                torch.manual_seed(seed)
                self._streams.append(_global_stream())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self._streams:
            outputs = []
            # whoever else draws from the global stream finds it as it was
            with torch.random.fork_rng([x.device] if x.is_cuda else []):
                for position, (network, part) in enumerate(zip(self.replicas, x, strict=True)):
                    _set_global_stream(*self._streams[position])
                    outputs.append(network(part))
                    self._streams[position] = _global_stream()
        else:
            outputs = [network(part) for network, part in zip(self.replicas, x, strict=True)]
        if not all(isinstance(output, tuple) and len(output) == 2 for output in outputs):
            raise TypeError(
                f"{type(self.replicas[0]).__name__} must return two tensors, features (B, d) and logits (B, classes)"
            )
        features, logits = zip(*outputs, strict=True)
        return torch.stack(features), torch.stack(logits)

    def replica_dims(self, name: str) -> int:
        return self.get_parameter(name).dim()


def is_looped(network: nn.Module) -> bool:
    """Whether something of the network goes seed by seed, so that more seeds gain it nothing."""
    return any(isinstance(module, Looped) for module in network.modules())


def _global_stream() -> tuple[Tensor, Tensor | None]:
    """The states of torch's global generators, of the CPU and of the GPU in use."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def _set_global_stream(cpu: Tensor, gpu: Tensor | None) -> None:
    torch.set_rng_state(cpu)
    if gpu is not None:
        torch.cuda.set_rng_state(gpu)


def find(name: str) -> Callable[[Data], nn.Module]:
    """The backbone of one's own at ``package.module:name``: a class or function, data -> one network for `Looped`.

    The network maps what the benchmark's ``batch`` gives (B, …) to features (B, d) and logits (B, data.classes).
    Raises ``ValueError`` with one sentence where there is none.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"backbone must be one of your own as package.module:name, not {name!r}")
    try:
        factory: Callable[[Data], nn.Module] = getattr(importlib.import_module(module), attribute)
    # a module of one's own raises whatever it likes
    except Exception as error:
        raise ValueError(f"backbone {name!r} cannot be imported: {error}") from error
    if not callable(factory):
        raise ValueError(f"backbone {name!r} must be a class or function that makes a network from the data")
    return factory


def own(name: str, data: Data, generators: Sequence[torch.Generator]) -> Looped:
    """S networks of the backbone at ``name``, see `find`; replica s is initialised from its own generator alone."""
    return looped(find(name), data, generators)


def looped(factory: Callable[[Data], nn.Module], data: Data, generators: Sequence[torch.Generator]) -> Looped:
    """S networks that ``factory`` makes from the data, replica s from its own generator alone."""
    networks = []
    for generator in generators:
        # torch's layers draw their weights from the global stream
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            networks.append(factory(data))
    return Looped(networks)
