"""What a benchmark of one's own must give, checked: its data, splits and metrics; `network_contract` has its network.

Each check raises `DataError` with one sentence that names the class and the field. Those of tensors' shapes alone read
no value, so that a training step can afford them on any device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables import network_contract
from trainables.benchmarks import BENCHMARKS, PROVENANCES, Benchmark, Data, DataError, Split
from trainables.contract_words import call, kind_of, listed, owner_of, shape_of
from trainables.evaluators import Evaluator, shared
from trainables.replicas import stream
from trainables.trial import Recipe

#: parts of a split that share no sample with each other
DISJOINT = ("train", "validation", "heldout")
#: options that bring a network, or what it begins with, of the user's own
OWN_NETWORK = ("backbone", "weights")
#: metrics of the training itself
TRAINING_METRICS = ("loss/train", "accuracy/train")
#: what MLflow takes as a metric's name
_METRIC_NAME = re.compile(r"[\w.\- ]+(/[\w.\- ]+)*")
#: MLflow takes no longer name
_LONGEST_METRIC_NAME = 250
_SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)


def own_network(name: str, options: Any) -> bool:
    """Whether the network of the benchmark called ``name`` is the user's own: its code, or its options."""
    return name not in BENCHMARKS or any(getattr(options, option, None) is not None for option in OWN_NETWORK)


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
        raise DataError(f"{where} must return trainables.benchmarks.Data, not {kind_of(data)}")
    for name in ("inputs", "coarse", "fine"):
        value = getattr(data, name)
        if not isinstance(value, Tensor):
            raise DataError(f"{where}: {name} must be a tensor, not {kind_of(value)}")
        if value.dim() == 0 or len(value) != len(data.inputs):
            inputs = shape_of(data.inputs)
            raise DataError(f"{where}: {name} is {shape_of(value)}, but inputs are {inputs}: one a sample")
        if value.is_complex():
            raise DataError(f"{where}: {name} must be real numbers, not {value.dtype}")
        if not len(value):
            raise DataError(f"{where}: there are no samples")
    if not data.inputs[0].numel():
        raise DataError(f"{where}: inputs are {shape_of(data.inputs)}: a sample holds no value")
    if data.fine.dim() > 2:
        raise DataError(f"{where}: fine is {shape_of(data.fine)}; it must be (samples,) or (samples, values)")
    for name in ("name", "fingerprint", "description"):
        if not isinstance(getattr(data, name), str):
            raise DataError(f"{where}: {name} must be text, not {kind_of(getattr(data, name))}")
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
            raise DataError(f"{where} must return a dict, part -> indices, not {kind_of(split)}")
        if split.keys() != splits[0].keys():
            others = listed(splits[0])
            raise DataError(f"{where}: the parts of seed {seed} are {listed(split)}, those of others {others}")
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


def check_evaluators(evaluators: Any, where: str) -> tuple[Evaluator, ...]:
    """A sequence of `Evaluator`, each with a name and a cadence of its own."""
    if not isinstance(evaluators, Sequence) or not all(isinstance(evaluator, Evaluator) for evaluator in evaluators):
        raise DataError(f"{where} must return a sequence of trainables.evaluators.Evaluator, not {kind_of(evaluators)}")
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


def all_evaluators(made: Any, data: Data, parts: Collection[str], where: str) -> tuple[Evaluator, ...]:
    """What a benchmark ``made``, checked, and behind it the evaluators of `trainables.evaluators.shared`.

    ``parts`` are the split's that are not empty.
    """
    own = check_evaluators(made, where)
    return (*own, *shared.of_every_benchmark(own, data.coarse, data.fine, data.classes, parts))


def check_metrics(metrics: Any, seeds: int, known: Collection[str], where: str) -> Mapping[str, Tensor]:
    """What an evaluator measured: name -> (S,), under names that are not ``known`` already.

    ``where`` starts the message, e.g. "Table.evaluators: 'fine'".
    """
    if not isinstance(metrics, Mapping):
        raise DataError(f"{where} must give a dict, metric -> one value a seed, not {kind_of(metrics)}")
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
            given = shape_of(values) if isinstance(values, Tensor) else kind_of(values)
            raise DataError(f"{where}: metric {name!r} must be a tensor of one value a seed, ({seeds},), not {given}")
    return metrics


def check_arrays(arrays: Any, seeds: int, known: Collection[str], where: str) -> Mapping[str, Tensor]:
    """What an evaluator keeps: name -> (S, …), under names that are not ``known`` already."""
    if not isinstance(arrays, Mapping):
        raise DataError(f"{where} must give a dict, name -> (S, …), not {kind_of(arrays)}")
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
    splits = [call(f"{owner}.split", benchmark.split, data, options, stream(seed, "split")) for seed in seeds]
    check_splits(splits, seeds, data, f"{owner}.split")
    again = call(f"{owner}.split", benchmark.split, data, options, stream(seeds[0], "split"))
    if not all(torch.equal(indices, again[part]) for part, indices in splits[0].items()):
        raise DataError(f"{owner}.split parts the data otherwise when asked again: draw from its generator alone")
    made = call(f"{owner}.evaluators", benchmark.evaluators, data, options)
    parts = [part for part, indices in splits[0].items() if len(indices)]
    evaluators = all_evaluators(made, data, parts, f"{owner}.evaluators")
    train = torch.stack([split["train"] for split in splits])
    last = (train.shape[1] - 1) % recipe.batch_size + 1
    if network or last == 1:
        with torch.random.fork_rng(devices=[]):
            network_contract.examine(benchmark, data, options, recipe, seeds, train[:, :2], last)
    return evaluators


def _check_classes(data: Data, where: str) -> None:
    names, coarse = data.coarse_names, data.coarse
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: coarse_names must be a tuple of text, a name for each class, not {names!r}")
    if coarse.dim() != 1:
        raise DataError(f"{where}: coarse is {shape_of(coarse)}; it must be (samples,), one class index each")
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
        given = f"{indices.dtype} {shape_of(indices)}" if isinstance(indices, Tensor) else kind_of(indices)
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
