"""What a benchmark of one's own must give, checked: its data, splits, batches, network and metrics.

Each check raises `DataError` with one sentence that names the class and the field. Those of tensors' shapes alone read
no value, so that a training step can afford them on any device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainables.backbones import Looped
from trainables.benchmarks import BENCHMARKS, PROVENANCES, Benchmark, Data, DataError, Split
from trainables.evaluators import Evaluator
from trainables.replicas import stream, streams
from trainables.trial import Recipe

#: parts of a split that share no sample with each other
DISJOINT = ("train", "validation", "heldout")
#: metrics of the training itself
TRAINING_METRICS = ("loss/train", "accuracy/train")
#: what MLflow takes as a metric's name
_METRIC_NAME = re.compile(r"[\w.\- ]+(/[\w.\- ]+)*")
#: MLflow takes no longer name
_LONGEST_METRIC_NAME = 250
_SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)
#: seeds of which a network is made, at most, where those of all seeds would hold more than so many values
_FEW_SEEDS, _MANY_VALUES = 2, 2**26

Returned = TypeVar("Returned")


class NetworkError(DataError):
    """The network cannot be made or run on this device; on another it might."""


def own_network(name: str, options: Any) -> bool:
    """Whether the network of the benchmark called ``name`` is the user's own: its code, or its option ``backbone``."""
    return name not in BENCHMARKS or getattr(options, "backbone", None) is not None


def owner_of(benchmark: Benchmark) -> str:
    """The benchmark's class as messages name it."""
    return getattr(benchmark, "__name__", type(benchmark).__name__)


def load(benchmark: Benchmark, options: Any, dtype: torch.dtype = torch.float32) -> Data:
    """The benchmark's data, fit to train on in ``dtype``; see `check_data`."""
    data = benchmark.load(options)
    source = getattr(options, "data", None)
    named = f" of {source}" if isinstance(source, str) else ""
    check_data(data, f"{owner_of(benchmark)}.load{named}", dtype)
    return data


def check_data(data: Any, where: str, dtype: torch.dtype = torch.float32) -> None:
    """`Data` as its docstring says; inputs, as ``dtype`` holds them, and fine labels are finite.

    ``where`` starts the message, e.g. "Table.load of digits.csv".
    """
    if not isinstance(data, Data):
        raise DataError(f"{where} must return trainables.benchmarks.Data, not {_kind(data)}")
    for name in ("inputs", "coarse", "fine"):
        value = getattr(data, name)
        if not isinstance(value, Tensor):
            raise DataError(f"{where}: {name} must be a tensor, not {_kind(value)}")
        if value.dim() == 0 or len(value) != len(data.inputs):
            raise DataError(f"{where}: {name} is {_shape(value)}, but inputs are {_shape(data.inputs)}: one a sample")
        if value.is_complex():
            raise DataError(f"{where}: {name} must be real numbers, not {value.dtype}")
        if not len(value):
            raise DataError(f"{where}: there are no samples")
    if not data.inputs[0].numel():
        raise DataError(f"{where}: inputs are {_shape(data.inputs)}: a sample holds no value")
    if data.fine.dim() > 2:
        raise DataError(f"{where}: fine is {_shape(data.fine)}; it must be (samples,) or (samples, values)")
    for name in ("name", "fingerprint", "description"):
        if not isinstance(getattr(data, name), str):
            raise DataError(f"{where}: {name} must be text, not {_kind(getattr(data, name))}")
    if data.provenance not in PROVENANCES:
        raise DataError(f"{where}: provenance must be one of {', '.join(PROVENANCES)}, not {data.provenance!r}")
    _check_classes(data, where)
    _check_finite(data.inputs.to(dtype) if data.inputs.is_floating_point() else data.inputs, "inputs", data, where)
    _check_finite(data.fine, "fine", data, where)
    # pandas' own codes have 8 bits where the classes are few
    if data.fine.dtype in _SIGNED and int(data.fine.min()) == -1:
        row = int((data.fine == -1).nonzero()[0, 0])
        raise DataError(
            f"{where}: fine of row {row} (from 0) is -1, as pandas numbers a label that is missing: fill it in, leave "
            "its row out, or give floats where -1 is a value"
        )


def check_splits(splits: Sequence[Any], seeds: Sequence[int], data: Data, where: str) -> None:
    """One `Split` a seed: indices into the data, parts alike for every seed, nothing trained on that is held out.

    ``where`` starts the message, e.g. "Table.split".
    """
    for split, seed in zip(splits, seeds, strict=True):
        if not isinstance(split, Mapping):
            raise DataError(f"{where} must return a dict, part -> indices, not {_kind(split)}")
        if split.keys() != splits[0].keys():
            raise DataError(f"{where}: the parts of seed {seed} are {_list(split)}, those of others {_list(splits[0])}")
        for part, indices in split.items():
            _check_indices(indices, len(data.inputs), f"{where}: part {part!r} of seed {seed}")
    for part in splits[0]:
        lengths = {len(split[part]) for split in splits}
        if len(lengths) > 1:
            raise DataError(
                f"{where}: part {part!r} of the split has {min(lengths)} to {max(lengths)} samples, by seed"
            )
    if not len(splits[0].get("train", ())):
        raise DataError(f"{where}: the split leaves no training samples: part 'train' is missing or empty")
    for split, seed in zip(splits, seeds, strict=True):
        _check_parts(split, data, f"{where}, seed {seed}")


def check_replicas(network: Any, where: str) -> None:
    """Replicas of `Looped` share no memory and no module of one's own, and no layer waits for its size.

    ``where`` starts the message, e.g. "Table.backbone". What other networks share, `check_independent` finds.
    """
    if not isinstance(network, nn.Module):
        raise DataError(f"{where} must return a torch module, not {_kind(network)}")
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
        raise DataError(f"{where} must return a tensor, not {_kind(batch)}")
    if batch.shape[:2] != tuple(shape):
        raise DataError(
            f"{where} returns {_shape(batch)}; {shape[0]} seeds × {shape[1]} samples must stay its first two"
        )


def check_outputs(outputs: Any, shape: Sequence[int], classes: int, network: nn.Module) -> tuple[Tensor, Tensor]:
    """The ``network``'s outputs for (S, B) = ``shape``: features (S, B, d) and logits (S, B, C) of C ``classes``."""
    wanted = f"features (S, B, d) and logits (S, B, C), with S = {shape[0]}, B = {shape[1]} and C = {classes} classes"
    if not (isinstance(outputs, tuple) and len(outputs) == 2 and all(isinstance(each, Tensor) for each in outputs)):
        raise DataError(f"{_class(network)}.forward must return two tensors, {wanted}, not {_kind(outputs)}")
    features, logits = outputs
    lead = tuple(shape)
    if features.dim() == 3 and features.shape[:2] == lead and features.shape[2] and logits.shape == (*lead, classes):
        return features, logits
    swapped = features.shape == (*lead, classes) and logits.dim() == 3
    raise DataError(
        f"{_class(network)}.forward returns {_shape(features)} and {_shape(logits)}; it must be {wanted}"
        + (": the two are swapped" if swapped else "")
    )


def check_evaluators(evaluators: Any, where: str) -> tuple[Evaluator, ...]:
    """A sequence of `Evaluator`, each with a name and a cadence of its own."""
    if not isinstance(evaluators, Sequence) or not all(isinstance(each, Evaluator) for each in evaluators):
        raise DataError(f"{where} must return a sequence of trainables.evaluators.Evaluator, not {_kind(evaluators)}")
    names = [evaluator.name for evaluator in evaluators]
    for evaluator in evaluators:
        if names.count(evaluator.name) > 1:
            raise DataError(f"{where}: two evaluators are called {evaluator.name!r}")
        if isinstance(evaluator.every, bool) or not isinstance(evaluator.every, int) or evaluator.every < 0:
            raise DataError(
                f"{where}: every of evaluator {evaluator.name!r} must be a number of epochs, or 0 for the last alone, "
                f"not {evaluator.every!r}"
            )
    return tuple(evaluators)


def check_metrics(metrics: Any, seeds: int, known: Mapping[str, Any], where: str) -> Mapping[str, Tensor]:
    """What an evaluator measured: name -> (S,), under names that are not ``known`` already.

    ``where`` starts the message, e.g. "Table.evaluators: 'fine'".
    """
    if not isinstance(metrics, Mapping):
        raise DataError(f"{where} must give a dict, metric -> one value a seed, not {_kind(metrics)}")
    for name, values in metrics.items():
        # to MLflow . and .. are folders
        if not isinstance(name, str) or not _METRIC_NAME.fullmatch(name) or {".", ".."} & set(name.split("/")):
            raise DataError(f"{where}: metric {name!r} must be named by letters, digits, '_', '-', '.', ' ' and '/'")
        if len(name) > _LONGEST_METRIC_NAME:
            raise DataError(
                f"{where}: the name of metric '{name[:40]}…' has {len(name)} letters; at most {_LONGEST_METRIC_NAME} "
                "are kept"
            )
        if name in known or name in TRAINING_METRICS:
            raise DataError(f"{where}: metric {name!r} is measured twice: name it otherwise")
        if not isinstance(values, Tensor) or values.shape != (seeds,) or values.is_complex():
            given = _shape(values) if isinstance(values, Tensor) else _kind(values)
            raise DataError(f"{where}: metric {name!r} must be a tensor of one value a seed, ({seeds},), not {given}")
    return metrics


def check_arrays(arrays: Any, seeds: int, known: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """What an evaluator keeps: name -> (S, …), under names that are not ``known`` already."""
    if not isinstance(arrays, Mapping):
        raise DataError(f"{where} must give a dict, name -> (S, …), not {_kind(arrays)}")
    for name, values in arrays.items():
        if name in known:
            raise DataError(f"{where}: array {name!r} is kept twice: name it otherwise")
        if not len(getattr(values, "shape", ())) or len(values) != seeds:
            raise DataError(f"{where}: array {name!r} must have the {seeds} seeds as its first dimension")
    return arrays


def examine(
    benchmark: Benchmark, data: Data, options: Any, recipe: Recipe, seeds: Sequence[int], *, network: bool = True
) -> tuple[Evaluator, ...]:
    """The evaluators, once all is checked that can be told without training: splits, and the network by two samples.

    ``data`` is what `load` gave. The network, where ``network`` asks for it or the last batch holds one sample, is made
    on the CPU, run forwards and backwards, and thrown away; one whose code fails there raises `NetworkError`.
    """
    owner = owner_of(benchmark)
    splits = [_call(f"{owner}.split", benchmark.split, data, options, stream(seed, "split")) for seed in seeds]
    check_splits(splits, seeds, data, f"{owner}.split")
    again = _call(f"{owner}.split", benchmark.split, data, options, stream(seeds[0], "split"))
    if not all(torch.equal(indices, again[part]) for part, indices in splits[0].items()):
        raise DataError(f"{owner}.split parts the data otherwise when asked again: draw from its generator alone")
    made = _call(f"{owner}.evaluators", benchmark.evaluators, data, options)
    evaluators = check_evaluators(made, f"{owner}.evaluators")
    train = torch.stack([split["train"] for split in splits])
    last = (train.shape[1] - 1) % recipe.batch_size + 1
    if network or last == 1:
        with torch.random.fork_rng(devices=[]):
            _examine_network(benchmark, data, options, recipe, seeds, train[:, :2], last)
    return evaluators


def _examine_network(
    benchmark: Benchmark,
    data: Data,
    options: Any,
    recipe: Recipe,
    seeds: Sequence[int],
    samples: Tensor,
    last: int,
) -> None:
    where, dtype = f"{owner_of(benchmark)}.backbone", getattr(torch, recipe.dtype)

    def made(seeds: Sequence[int]) -> nn.Module:
        network = _call(where, benchmark.backbone, data, options, streams(seeds, "init"), kind=NetworkError)
        check_replicas(network, where)
        return network.to(dtype)

    alone = made(seeds[:1])
    if sum(tensor.numel() for tensor in _tensors(alone).values()) * len(seeds) > _MANY_VALUES:
        seeds = seeds[:_FEW_SEEDS]
    network = made(seeds)
    # a network kept from one call for the next would go on from another trial's weights
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
    # a network may change its inputs in place, a leaf not
    features, logits = _run(network, leaf.clone(), classes)
    _check_order(network, inputs, classes)
    if len(inputs) < 2:
        return
    names, parameters = zip(*((n, p) for n, p in network.named_parameters() if p.requires_grad), strict=True)
    # a plain sum would be blind to what a normalisation adds up to
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


def _check_classes(data: Data, where: str) -> None:
    names, coarse = data.coarse_names, data.coarse
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: coarse_names must be a tuple of text, a name for each class, not {names!r}")
    if coarse.dim() != 1:
        raise DataError(f"{where}: coarse is {_shape(coarse)}; it must be (samples,), one class index each")
    if coarse.dtype != torch.int64:
        raise DataError(f"{where}: coarse must be class indices of type int64, not {coarse.dtype}")
    if len(names) < 2:
        raise DataError(f"{where}: coarse_names has {len(names)} class; two or more are needed, to tell apart")
    wrong = ((coarse < -1) | (coarse >= len(names))).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where}: coarse of row {row} (from 0) is {int(coarse[row])}, but the {len(names)} coarse_names number "
            f"the classes 0 to {len(names) - 1}, and -1 is for a sample without one"
        )
    if len(torch.unique(coarse)) - bool((coarse < 0).any()) < 2:
        raise DataError(f"{where}: coarse holds fewer than two classes; two or more are needed, to tell apart")


def _check_finite(values: Tensor, name: str, data: Data, where: str) -> None:
    if not values.is_floating_point():
        return
    finite = values.isfinite()
    if finite.all():
        return
    odd = (~finite).nonzero()
    row, *place = odd[0].tolist()
    value = float(getattr(data, name)[tuple(odd[0])])
    columns = data.extra.get("columns", ()) if name == "inputs" else ()
    if len(place) == 1:
        column = repr(columns[place[0]]) if len(columns) == values.shape[1] else str(place[0])
        at = f"row {row}, column {column}"
    else:
        at = f"row {row}" + (f", at {tuple(place)}" if place else "")
    fault = f"is {value:g}" if not math.isfinite(value) else f"is {value:g}, too large for {values.dtype}"
    raise DataError(
        f"{where}: {name} in {at} (from 0) {fault}; {len(odd):,} of {values.numel():,} values are not finite: "
        "fill them in, or leave their rows out"
    )


def _check_indices(indices: Any, samples: int, where: str) -> None:
    if not isinstance(indices, Tensor) or indices.dtype != torch.int64 or indices.dim() != 1:
        given = f"{indices.dtype} {_shape(indices)}" if isinstance(indices, Tensor) else _kind(indices)
        raise DataError(f"{where} must be a tensor of indices, int64 (n,), not {given}")
    if len(indices) and (int(indices.min()) < 0 or int(indices.max()) >= samples):
        raise DataError(
            f"{where} has indices {int(indices.min())} to {int(indices.max())}, but the samples are 0 to {samples - 1}"
        )


def _check_parts(split: Split, data: Data, where: str) -> None:
    """The parts of one seed that are trained on or held out."""
    taken: dict[str, Tensor] = {}
    for part in DISJOINT:
        indices = split.get(part)
        if indices is None or not len(indices):
            continue
        without = (data.coarse[indices] < 0).nonzero()
        if len(without):
            raise DataError(
                f"{where}: part {part!r} has row {int(indices[without[0]])} (from 0), which has no coarse label "
                "(coarse is -1): leave such samples out, or put them in a part of another name"
            )
        counts = indices.bincount(minlength=len(data.inputs))
        if part != "train" and int(counts.max()) > 1:
            raise DataError(f"{where}: part {part!r} has row {int(counts.argmax())} (from 0) more than once")
        for other, theirs in taken.items():
            shared = ((counts > 0) & (theirs > 0)).nonzero()
            if len(shared):
                raise DataError(
                    f"{where}: parts {other!r} and {part!r} share {len(shared):,} samples, row {int(shared[0])} "
                    "(from 0) the first: what is held out must not be trained on"
                )
        taken[part] = counts
    if len(torch.unique(data.coarse[split["train"]])) < 2:
        raise DataError(f"{where}: part 'train' holds one coarse class alone; two or more are needed, to tell apart")


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
            # an activation given as a default, say, keeps nothing
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
        # it draws random numbers, and nothing can be told from its outputs
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
    # what two samples pass
    except Exception as error:
        raise DataError(
            f"training.batch_size: batches of {recipe.batch_size} leave one sample for the last, and "
            f"{_class(network)} cannot be trained on one alone ({_first_line(error)}): set another size"
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
    # one that draws random numbers tells nothing
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
    batch = _call(where, benchmark.batch, data.inputs[samples], options, train, generators)
    check_batch(batch, samples.shape, where)
    if not batch.isfinite().all():
        raise DataError(f"{where} makes values that are not finite of finite inputs")
    return batch


def _run(network: nn.Module, inputs: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    outputs = _call(f"{_class(network)}.forward", network, inputs, kind=NetworkError)
    return check_outputs(outputs, inputs.shape[:2], classes, network)


def _call(
    where: str, function: Callable[..., Returned], *arguments: Any, kind: type[DataError] = DataError
) -> Returned:
    """The function's value; an error of any kind becomes one sentence of ``kind``."""
    try:
        return function(*arguments)
    except DataError:
        raise
    # code of one's own raises whatever it likes
    except Exception as error:
        raise kind(f"{where} fails: {type(error).__name__}: {_first_line(error)}") from error


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


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, names)))


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    return "None" if value is None else type(value).__name__


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))}{',' * (tensor.dim() == 1)})"
