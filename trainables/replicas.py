"""Seeds as a batch dimension: every replica's random streams, and the optimizer over stacked parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from trainables.trial import Recipe


def stream(seed: int, name: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The random stream ``name`` of a replica, e.g. ``stream(3, "order", epoch)``.

    A stream depends on (seed, name, counters) alone, so adding one shifts no other, and all criteria of
    one seed share theirs. Counting epochs instead of storing a generator's state makes a resumed epoch
    draw what an undisturbed one draws.
    """
    key = "/".join([str(seed), name, *map(str, counters)])
    digest = hashlib.sha256(key.encode()).digest()
    generator = torch.Generator(device=device)
    generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return generator


def streams(
    seeds: Sequence[int], name: str, *counters: int, device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """`stream` for each of ``seeds``."""
    return [stream(seed, name, *counters, device=device) for seed in seeds]


def make_optimizer(network: nn.Module, recipe: Recipe, further: Iterable[nn.Parameter] = ()) -> torch.optim.Optimizer:
    """The recipe's optimizer over all replicas at once, and over ``further`` parameters, which never decay.

    Adam and SGD act element by element, so stacked parameters are stepped as each replica's own would be.
    Weight decay is applied to weights only: a parameter is a weight where one replica's share of it has
    two dimensions or more, which the backbone states in ``replica_dims(name)`` or, by default, as the
    parameter's dimensions less the leading S.
    """
    if recipe.weight_decay:
        weights = [p for name, p in network.named_parameters() if _replica_dims(network, name, p) >= 2]
        held = {id(p) for p in weights}
        others = [p for p in network.parameters() if id(p) not in held]
        groups = [
            {"params": weights, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
    else:
        groups = [{"params": list(network.parameters()), "weight_decay": 0.0}]
    if own := list(further):
        groups.append({"params": own, "weight_decay": 0.0})
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.learning_rate, fused=True)
    return torch.optim.SGD(
        groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
    )


def _replica_dims(network: nn.Module, name: str, parameter: nn.Parameter) -> int:
    stated = getattr(network, "replica_dims", None)
    return int(stated(name)) if stated is not None else parameter.dim() - 1
