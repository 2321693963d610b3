"""Benchmarks: data with coarse and fine labels, a backbone, evaluators and the paper's defaults.

A benchmark is found by its name, or by ``package.module:name`` for one of your own.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, get_args, get_origin, get_type_hints, runtime_checkable

import torch
from torch import Tensor, nn

from trainables.evaluators import Evaluator
from trainables.trial import Recipe

#: name in a study file -> where the benchmark stands
BENCHMARKS: Mapping[str, str] = {
    "hyperspectral": "trainables.benchmarks.hyperspectral:Hyperspectral",
    "age": "trainables.benchmarks.age:Age",
    "cifar-fs": "trainables.benchmarks.few_shot:CifarFS",
    "cub": "trainables.benchmarks.few_shot:Cub",
    "cifar10-few-shot": "trainables.benchmarks.few_shot:Cifar10FewShot",
    "cifar10": "trainables.benchmarks.cifar10:Cifar10",
    "coarse-cifar10": "trainables.benchmarks.coarse_cifar10:CoarseCifar10",
    "table": "trainables.benchmarks.table:TableBenchmark",
    "images": "trainables.benchmarks.own_images:OwnImages",
}

#: what a criterion is tried on: a benchmark that needs no file, and options that make it small
QUICK: tuple[str, Mapping[str, Any]] = ("hyperspectral", {"pixels": 300})

#: where data come from
Provenance = Literal["real", "semi-synthetic", "simulated"]
PROVENANCES: tuple[str, ...] = get_args(Provenance)


class _OnDisk:
    """Marks text that names a file or folder."""


#: the type of an option that names a file or folder, or one in an object store (``s3://…``). The option's default may
#: be a word of the benchmark's, such as ``simulated``; a ``pathlib.Path`` is always a path. Text of other types is
#: never taken for one
DataPath = Annotated[str, _OnDisk]


def path_options(options: type) -> frozenset[str]:
    """The fields of the dataclass ``options`` that are declared as paths, or as lists of them."""
    hints = get_type_hints(options, include_extras=True)
    return frozenset(name for name, hint in hints.items() if _mentions(hint, _OnDisk) or _mentions(hint, Path))


def make_options(options: type, values: Mapping[str, Any]) -> Any:
    """The ``options`` with the plain ``values`` of a study file: a list becomes a tuple, text a path, as declared."""
    hints = get_type_hints(options, include_extras=True)
    return options(**{name: _typed(value, hints.get(name)) for name, value in values.items()})


def _mentions(hint: Any, kind: type) -> bool:
    if isinstance(hint, type) and get_origin(hint) is None:
        return issubclass(hint, kind)
    return any(_mentions(argument, kind) for argument in get_args(hint))


def _typed(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        items = [_typed(item, hint) for item in value]
        return tuple(items) if _is_tuple(hint) else items
    return Path(value) if isinstance(value, str) and _mentions(hint, Path) else value


def _is_tuple(hint: Any) -> bool:
    return tuple in (hint, get_origin(hint)) or any(_is_tuple(argument) for argument in get_args(hint))


@dataclass
class Data:
    """A data set in memory, with both kinds of labels; `trainables.contract.check_data` holds it to what is said here.

    ``inputs`` (N, …) as stored (float spectra, uint8 images), finite; ``coarse`` (N,) int64 class indices in
    0..C−1 (−1 where a sample is never trained on, e.g. a novel class), two classes or more; ``fine`` (N,) or (N, m)
    what the evaluators compare with, finite. ``provenance`` is one of `PROVENANCES`, and stands beside every number
    made from the data.
    """

    name: str
    provenance: str
    #: what tells the data from others: `fingerprint` of the tensors, or of what they are made from
    fingerprint: str
    inputs: Tensor
    coarse: Tensor
    fine: Tensor
    coarse_names: tuple[str, ...]
    description: str = ""
    #: anything a benchmark's own evaluators need (image shape, class lists, …); ``columns``, where it is there, names
    #: those of inputs (N, columns) in messages
    extra: dict[str, Any] = field(default_factory=dict)
    #: files of the source that are not among the samples, and why
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def classes(self) -> int:
        return len(self.coarse_names)

    def to(self, device: torch.device | str) -> Data:
        """The same data with its tensors on ``device``."""
        moved = {name: getattr(self, name).to(device) for name in ("inputs", "coarse", "fine")}
        return Data(**{**self.__dict__, **moved})


def fingerprint(*tensors: Tensor) -> str:
    """SHA-256 over types, shapes and values of ``tensors`` on the CPU, in hexadecimal."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


#: part of the data ("train", "validation", "heldout", or a benchmark's own) -> indices (n,) int64 on CPU;
#: a part has the same length for every seed. The three named share no sample, and each of theirs has a coarse class
Split = dict[str, Tensor]


@runtime_checkable
class Benchmark(Protocol):
    """What a benchmark provides. Instances are made without arguments and hold no state."""

    name: ClassVar[str]
    #: a frozen dataclass: the benchmark's options in a study file, with their defaults and a
    #: ``__post_init__`` that raises ``ValueError`` with one sentence on a bad value (`trainables.benchmarks.options`
    #: has one that reads the types)
    Options: ClassVar[type]

    def recipe(self, protocol: str, options: Any) -> Recipe:
        """The defaults under ``protocol`` (``paper`` or ``released``)."""
        ...

    def load(self, options: Any) -> Data:
        """Read or generate the data; ``DataError`` with one sentence where that fails."""
        ...

    def split(self, data: Data, options: Any, generator: torch.Generator) -> Split:
        """Parts of the data for one seed; ``generator`` (CPU) is that seed's stream "split"."""
        ...

    def batch(self, inputs: Tensor, options: Any, train: bool, generators: Sequence[torch.Generator]) -> Tensor:
        """Stored inputs (S, B, …) to the network's: normalised, and augmented where ``train``.

        ``generators`` (CPU) are the replicas' streams "augmentation"; `trainables.replicas.drawn` draws from them for
        inputs on any device.
        """
        ...

    def backbone(self, data: Data, options: Any, generators: Sequence[torch.Generator]) -> nn.Module:
        """A replicated network: (S, B, …) -> features (S, B, d), logits (S, B, C).

        ``generators`` (CPU) are the replicas' streams "init"; replica s draws from its own alone. A network with a
        method ``fit_inputs`` is given, before it is trained, each replica's training samples (n, …) as `batch` makes
        them, one replica after another: to standardize by them, say.
        """
        ...

    def evaluators(self, data: Data, options: Any) -> Sequence[Evaluator]:
        """What is measured, each with its cadence."""
        ...


class DataError(ValueError):
    """The data cannot be used as it stands; the message is one sentence that names the file."""


def find(name: str) -> Benchmark:
    """The benchmark called ``name``, or the one at ``package.module:name``.

    Raises ``LookupError`` with one sentence where there is none.
    """
    target = BENCHMARKS.get(name, name)
    if ":" not in target:
        raise LookupError(
            f"unknown benchmark {name!r}; known: {', '.join(sorted(BENCHMARKS))}, or your own as package.module:name"
        )
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise LookupError(f"a benchmark of one's own is named as package.module:name, not {name!r}")
    try:
        factory = getattr(importlib.import_module(module), attribute)
        made = factory() if isinstance(factory, type) else factory
    # a module of one's own raises whatever it likes
    except Exception as error:
        raise LookupError(f"benchmark {name!r} cannot be imported: {error or type(error).__name__}") from error
    if not isinstance(made, Benchmark):
        raise LookupError(f"{name!r} is not a benchmark: see trainables.benchmarks.Benchmark for what one provides")
    return made
