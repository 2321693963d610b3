"""Seeds as a batch dimension: every replica's random streams, and the optimizer over stacked parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedules

from trainables.trial import Recipe

ADAMS: Mapping[str, type[torch.optim.Adam]] = MappingProxyType({"adam": torch.optim.Adam, "adamw": torch.optim.AdamW})


def stream(seed: int, name: str, *counters: int) -> torch.Generator:
    """The random stream ``name`` of a replica on the CPU, e.g. ``stream(3, "order", epoch)``.

    A stream depends on (seed, name, counters) alone, so adding one shifts no other, and all criteria of
    one seed share theirs. Counting epochs instead of storing a generator's state makes a resumed epoch
    draw what an undisturbed one draws.
    """
    key = "/".join([str(seed), name, *map(str, counters)])
    digest = hashlib.sha256(key.encode()).digest()
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return generator


def streams(seeds: Sequence[int], name: str, *counters: int) -> list[torch.Generator]:
    """`stream` for each of ``seeds``."""
    return [stream(seed, name, *counters) for seed in seeds]


#: writes random values of one replica to a tensor, from its generator
Fill = Callable[[Tensor, torch.Generator], object]
#: what `drawn` goes through, while a step is noted or recorded
Drawing = Callable[[Fill, tuple[int, ...], Sequence[torch.Generator], torch.dtype, torch.device], Tensor]


def drawn(
    fill: Fill,
    shape: Sequence[int],
    generators: Sequence[torch.Generator],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Random values (S, *shape) on ``device``: ``fill`` writes those of a replica, from its own generator.

    They are drawn on the CPU, since a GPU draws others from the same seed, and sent without waiting for the device.
    """
    return _drawing(fill, tuple(shape), generators, dtype, torch.device(device))


def draw(
    fill: Fill, shape: tuple[int, ...], generators: Sequence[torch.Generator], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """What `drawn` does where nothing stands in its place."""
    elsewhere = device.type != "cpu"
    values = torch.empty(len(generators), *shape, dtype=dtype, pin_memory=elsewhere)
    for replica, generator in zip(values, generators, strict=True):
        fill(replica, generator)
    return values.to(device, non_blocking=True) if elsewhere else values


_drawing: Drawing = draw


@contextmanager
def drawing(through: Drawing) -> Iterator[None]:
    """Whatever is `drawn` within is asked of ``through``: see `trainables.replay`."""
    global _drawing
    before, _drawing = _drawing, through
    try:
        yield
    finally:
        _drawing = before


@cache
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The ``values`` (n,) on ``device``, sent there once: a copy from a list waits for the device each time."""
    return torch.tensor(values, dtype=dtype, device=device)


def make_optimizer(network: nn.Module, recipe: Recipe, further: Iterable[nn.Parameter] = ()) -> torch.optim.Optimizer:
    """The recipe's optimizer over all replicas at once, and over ``further`` parameters, which never decay.

    Adam, AdamW and SGD act element by element, so stacked parameters are stepped as each replica's own would be.
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
    if recipe.optimizer in ADAMS:
        return ADAMS[recipe.optimizer](groups, lr=recipe.learning_rate, fused=True)
    return torch.optim.SGD(
        groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
    )


def learning_rates(recipe: Recipe) -> tuple[float, ...]:
    """The learning rate of each epoch, by torch's own schedules.

    They are gone through beforehand: a resumed training then needs the number of its epoch alone. Raises ``ValueError``
    where no epoch is left after the warm-up.
    """
    if recipe.warmup >= recipe.epochs:
        raise ValueError(f"warmup must be below the {recipe.epochs} epochs of a trial, not {recipe.warmup}")
    carrier = torch.optim.SGD([torch.zeros(1)], lr=recipe.learning_rate)
    after: schedules.LRScheduler
    if recipe.schedule == "cosine":
        after = schedules.CosineAnnealingLR(carrier, recipe.epochs - recipe.warmup)
    else:
        passed = recipe.warmup + 1
        after = schedules.LambdaLR(
            carrier, lambda epoch: recipe.gamma ** sum(epoch + passed > milestone for milestone in recipe.milestones)
        )
    whole: schedules.LRScheduler = after
    if recipe.warmup:
        rise = schedules.LinearLR(carrier, 1 / (recipe.warmup + 1), total_iters=recipe.warmup)
        whole = schedules.SequentialLR(carrier, [rise, after], [recipe.warmup])
    rates = []
    for _ in range(recipe.epochs):
        rates.append(float(carrier.param_groups[0]["lr"]))
        carrier.step()
        whole.step()
    return tuple(rates)


def _replica_dims(network: nn.Module, name: str, parameter: nn.Parameter) -> int:
    stated = getattr(network, "replica_dims", None)
    return int(stated(name)) if stated is not None else parameter.dim() - 1
