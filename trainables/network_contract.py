"""What a network of one's own must be, checked: its seeds apart, its outputs in shape, and the same when made again.

Each check raises `DataError` with one sentence. Those of tensors' shapes alone read no value, so that a training step
can afford them on any device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainables.backbones import Looped
from trainables.benchmarks import Benchmark, Data, DataError
from trainables.contract_words import call, first_line, kind_of, owner_of, shape_of
from trainables.replicas import streams
from trainables.trial import Recipe

#: seeds of which a network is made, at most, where those of all seeds would hold more than so many values
_FEW_SEEDS, _MANY_VALUES = 2, 2**26


class NetworkError(DataError):
    """The network cannot be made or run on this device; on another it might."""


def check_replicas(network: Any, where: str) -> None:
    """Replicas of `Looped` share no memory and no module of one's own, and no layer waits for its size.

    ``where`` starts the message, e.g. "Table.backbone". What other networks share, `check_independent` finds.
    """
    if not isinstance(network, nn.Module):
        raise DataError(f"{where} must return a torch module, not {kind_of(network)}")
    for name, layer in network.named_modules():
        if any(is_lazy(tensor) for tensor in _tensors(layer, recurse=False).values()):
            raise DataError(
                f"{where}: {_class(network)} has a layer without a size, {type(layer).__name__} ({_inner(name)}): "
                "give it its number of inputs, as from data.inputs.shape"
            )
    if isinstance(network, Looped):
        named = f"{where}: {_class(network)}"
        _check_apart([(replica, f"seed number {s}") for s, replica in enumerate(_replicas(network))], named)


def check_batch(batch: Any, shape: Sequence[int], where: str) -> None:
    """``Benchmark.batch`` keeps the leading ``shape`` (S, B)."""
    if not isinstance(batch, Tensor):
        raise DataError(f"{where} must return a tensor, not {kind_of(batch)}")
    if batch.shape[:2] != tuple(shape):
        raise DataError(
            f"{where} returns {shape_of(batch)}; {shape[0]} seeds × {shape[1]} samples must stay its first two"
        )


def check_outputs(outputs: Any, shape: Sequence[int], classes: int, network: nn.Module) -> tuple[Tensor, Tensor]:
    """The ``network``'s outputs for (S, B) = ``shape``: features (S, B, d) and logits (S, B, C) of C ``classes``."""
    wanted = f"features (S, B, d) and logits (S, B, C), with S = {shape[0]}, B = {shape[1]} and C = {classes} classes"
    if not (isinstance(outputs, tuple) and len(outputs) == 2 and all(isinstance(output, Tensor) for output in outputs)):
        raise DataError(f"{_class(network)}.forward must return two tensors, {wanted}, not {kind_of(outputs)}")
    features, logits = outputs
    lead = tuple(shape)
    if features.dim() == 3 and features.shape[:2] == lead and features.shape[2] and logits.shape == (*lead, classes):
        return features, logits
    swapped = features.shape == (*lead, classes) and logits.dim() == 3
    raise DataError(
        f"{_class(network)}.forward returns {shape_of(features)} and {shape_of(logits)}; it must be {wanted}"
        + (": the two are swapped" if swapped else "")
    )


def examine(
    benchmark: Benchmark,
    data: Data,
    options: Any,
    recipe: Recipe,
    seeds: Sequence[int],
    samples: Tensor,
    last: int,
) -> None:
    """The benchmark's network by ``samples`` (S, B) of the data; its last batch of an epoch holds ``last``.

    It is made on the CPU, run forwards and backwards, and thrown away; `NetworkError` where its own code fails.
    """
    where, dtype = f"{owner_of(benchmark)}.backbone", getattr(torch, recipe.dtype)

    def made(seeds: Sequence[int]) -> nn.Module:
        network = call(where, benchmark.backbone, data, options, streams(seeds, "init"), kind=NetworkError)
        check_replicas(network, where)
        return network.to(dtype)

    alone = made(seeds[:1])
    if sum(tensor.numel() for tensor in _tensors(alone).values()) * len(seeds) > _MANY_VALUES:
        seeds = seeds[:_FEW_SEEDS]
    network = made(seeds)
    # a network that one call shares with the next would start from another trial's weights, so they must be apart
    calls = [(replica, "one call") for replica in _replicas(alone)]
    _check_apart([*calls, *((replica, "the next") for replica in _replicas(network))], f"{where}: {_class(network)}")
    samples = samples[: len(seeds)]
    inputs = {train: _batch(benchmark, data, options, samples, seeds, train=train).to(dtype) for train in (False, True)}
    features, logits = _run(network.eval(), inputs[False], data.classes)
    for name, value in (("features", features), ("logits", logits)):
        if not value.isfinite().all():
            raise DataError(
                f"{_class(network)}.forward: {name} of the first samples are not finite before any training"
            )
    _check_same(alone.eval(), network, inputs[False], data.classes, where)
    if recipe.anchors in ("grid", "centred-grid") and features.shape[-1] != 1:
        raise DataError(
            f"training.anchors: {recipe.anchors} lies on a line, but the features of {_class(network)} have "
            f"{features.shape[-1]} dimensions: set uniform or centred"
        )
    _check_last_batch(network, inputs[True], data.classes, last, recipe)
    _check_nothing_kept(network, inputs, data.classes)
    check_independent(network.train(), inputs[True], data.classes)


def check_independent(network: nn.Module, inputs: Tensor, classes: int) -> None:
    """No parameter and no sample of one replica acts on another's outputs, told by their gradients for ``inputs``."""
    leaf = inputs.detach().clone().requires_grad_()
    # torch forbids changing a leaf in place, which the network may do to its inputs, so it gets a copy
    features, logits = _run(network, leaf.clone(), classes)
    _check_order(network, inputs, classes)
    if len(inputs) < 2:
        return
    names, parameters = zip(*((n, p) for n, p in network.named_parameters() if p.requires_grad), strict=True)
    # a normalised output has a constant sum, so that sum has no gradient: random weights have one
    scores = sum(
        (output * torch.randn_like(output)).flatten(1).sum(1) for output in (features, logits) if output.requires_grad
    )
    assert isinstance(scores, Tensor)
    first, others = (
        torch.autograd.grad(score, (leaf, *parameters), allow_unused=True, retain_graph=True)
        for score in (scores[0], scores[1:].sum())
    )
    if (first[0] is not None and bool((first[0][1:].abs() > 0).any())) or (
        others[0] is not None and bool((others[0][0].abs() > 0).any())
    ):
        raise DataError(f"{_class(network)}: the outputs of one seed depend on another's samples: keep the seeds apart")
    for name, mine, theirs in zip(names, first[1:], others[1:], strict=True):
        if mine is not None and theirs is not None and bool(((mine.abs() > 0) & (theirs.abs() > 0)).any()):
            raise DataError(f"{_class(network)}: parameter {name} is shared between seeds: give each its own")


def _check_apart(modules: Sequence[tuple[nn.Module, str]], where: str) -> None:
    """No memory and no module with a state of one's own is shared by ``modules`` of different names."""
    whole: dict[int, str] = {}
    for module, whose in modules:
        if whole.setdefault(id(module), whose) != whose:
            raise DataError(
                f"{where}: {whole[id(module)]} and {whose} get the same network: make a new one at each call, or they "
                "train each other's"
            )
    seen, plain = dict[int, str](), vars(nn.Module()).keys()
    spans: list[tuple[int, int, str, str]] = []
    for module, whose in modules:
        for inner in module.modules():
            # networks may share a module that keeps nothing, such as an activation given as a default
            stateless = type(inner).__module__.startswith("torch.nn.") or vars(inner).keys() <= plain
            if stateless or seen.setdefault(id(inner), whose) == whose:
                continue
            raise DataError(
                f"{where}: a module {type(inner).__name__} is in the networks of {seen[id(inner)]} and {whose}: "
                "make a new one at each call"
            )
        for name, tensor in _tensors(module).items():
            memory = tensor.untyped_storage()
            if memory.nbytes() and tensor.device.type != "meta":
                spans.append((memory.data_ptr(), memory.data_ptr() + memory.nbytes(), name, whose))
    spans.sort()
    end, last_name, last_whose = 0, "", ""
    for start, stop, name, whose in spans:
        if start < end and whose != last_whose:
            raise DataError(
                f"{where}: {_inner(name)} of {whose} shares its memory with {_inner(last_name)} of {last_whose}: "
                "make new parameters and buffers at each call"
            )
        if stop > end:
            end, last_name, last_whose = stop, name, whose


def _check_same(alone: nn.Module, network: nn.Module, inputs: Tensor, classes: int, where: str) -> None:
    """The first seed's network is the same, made alone or among others."""
    once, twice = (_run(network, inputs, classes) for _ in range(2))
    if not all(torch.equal(a, b) for a, b in zip(once, twice, strict=True)):
        # a network that draws random numbers differs from run to run, so its outputs cannot be compared
        return
    for mine, among in zip(_run(alone, inputs[:1], classes), once, strict=True):
        if mine[0].shape != among[0].shape or not torch.allclose(mine[0], among[0], rtol=1e-3, atol=1e-4):
            raise DataError(
                f"{where}: the network of a seed differs when it is made again: draw its weights from the seed's "
                "generator alone"
            )


def _check_order(network: nn.Module, inputs: Tensor, classes: int) -> None:
    """The logits come from parameters, and where features are as wide not the features from the logits by a layer."""
    replica = _replicas(network)[0]
    features, logits = replica(inputs[0].clone() if isinstance(network, Looped) else inputs.clone())
    if not logits.requires_grad:
        raise DataError(
            f"{_class(network)}.forward: no parameter acts on the logits, its second output: none is trained"
        )
    if features.shape[-1] != classes or features is logits or features.grad_fn is None:
        return
    waiting, seen, reached, by_parameters = [features.grad_fn], set(), False, False
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node is logits.grad_fn:
            reached = True
            continue
        by_parameters |= type(node).__name__ == "AccumulateGrad"
        waiting += [above for above, _ in node.next_functions if above is not None]
    if reached and by_parameters:
        raise DataError(
            f"{_class(network)}.forward: the first output is computed from the second by a layer: the two look "
            "swapped, features come first and logits second"
        )


def _check_last_batch(network: nn.Module, inputs: Tensor, classes: int, last: int, recipe: Recipe) -> None:
    """Where the last batch of an epoch holds one sample, the network can be trained on one."""
    if last > 1 or inputs.shape[1] < 2:
        return
    _run(network.train(), inputs, classes)
    try:
        check_outputs(network(inputs[:, :1]), (len(inputs), 1), classes, network)
    # two samples have passed, so it is the single one that fails here
    except Exception as error:
        raise DataError(
            f"training.batch_size: batches of {recipe.batch_size} leave one sample for the last, and "
            f"{_class(network)} cannot be trained on one alone ({first_line(error)}): set another size"
        ) from error


def _check_nothing_kept(network: nn.Module, inputs: Mapping[bool, Tensor], classes: int) -> None:
    """What one replica of `Looped` makes of ``inputs`` (by whether for training) is the same after another trained.

    This finds what is kept outside parameters and buffers, as in a class's attribute or a list of the module.
    """
    if not isinstance(network, Looped) or len(network.replicas) < 2:
        return
    first, second = (Looped([network.replicas[s]]) for s in (0, 1))

    def seen() -> tuple[Tensor, ...]:
        return _run(first.eval(), inputs[False][:1], classes)

    before, again = seen(), seen()
    _run(second.train(), inputs[True][1:2], classes)
    # a network that draws random numbers differs from run to run, so only others are judged
    if all(map(torch.equal, before, again)) and not all(map(torch.equal, before, seen())):
        raise DataError(
            f"{_class(network)}: training one seed changes another's outputs: keep what it remembers in buffers of its "
            "own (register_buffer)"
        )


def _batch(
    benchmark: Benchmark, data: Data, options: Any, samples: Tensor, seeds: Sequence[int], *, train: bool
) -> Tensor:
    """The network's inputs (S, B, …) for ``samples`` (S, B)."""
    where = f"{owner_of(benchmark)}.batch"
    generators = streams(seeds, "augmentation", 1) if train else []
    batch = call(where, benchmark.batch, data.inputs[samples], options, train, generators)
    check_batch(batch, samples.shape, where)
    if not batch.isfinite().all():
        raise DataError(f"{where} makes values that are not finite of finite inputs")
    return batch


def _run(network: nn.Module, inputs: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    outputs = call(f"{_class(network)}.forward", network, inputs, kind=NetworkError)
    return check_outputs(outputs, inputs.shape[:2], classes, network)


def _tensors(module: nn.Module, recurse: bool = True) -> dict[str, Tensor]:
    """Parameters and buffers by name."""

    def both() -> Iterator[tuple[str, Tensor]]:
        yield from module.named_parameters(recurse=recurse, remove_duplicate=False)
        yield from module.named_buffers(recurse=recurse, remove_duplicate=False)

    return dict(both())


def _replicas(network: nn.Module) -> list[nn.Module]:
    """The networks of each seed, where they are modules of their own, or the one of all."""
    return list(network.replicas) if isinstance(network, Looped) else [network]


def _class(network: nn.Module) -> str:
    return type(_replicas(network)[0]).__name__


def _inner(name: str) -> str:
    """A name within a replica."""
    return re.sub(r"^replicas\.\d+\.", "", name)
