"""The criteria, one file each; a study file may name one of anyone's as ``package.module:name``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

import torch
from torch import Tensor

from trainables.criterion import Batch, Criterion, Hyperparameter

#: a criterion of one replica: logits (B, C), features (B, d), targets (B,), hyperparameters -> a number
OneReplica = Callable[..., Tensor]


@cache
def names() -> tuple[str, ...]:
    """The criteria that come with the service, by their names in a study file, in their order in tables."""
    files = (module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(files, key=lambda name: (find(name).position, name)))


@cache
def reference() -> str:
    """The name of the criterion that the others are compared with."""
    return next(name for name in names() if find(name).is_reference)


@cache
def find(name: str) -> type[Criterion]:
    """The criterion ``name``, or the one at ``package.module:name``: a `Criterion`, or a function of one replica.

    A function takes logits (B, C), features (B, d) and targets (B,) and returns a number; its further parameters are
    its hyperparameters, at their defaults, whole where the default is (``Annotated[float, Hyperparameter(…)]`` says
    more). Raises ``LookupError`` with one sentence where there is none.
    """
    if ":" not in name:
        shipped = [module.name for module in pkgutil.iter_modules(__path__)]
        if name.replace("-", "_") not in shipped:
            known = ", ".join(sorted(module.replace("_", "-") for module in shipped))
            raise LookupError(f"unknown criterion {name!r}; known: {known}, or your own as package.module:name")
        return _only(importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))
    module, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)
    # a module of one's own raises whatever it likes
    except Exception as error:
        raise LookupError(f"criterion {name!r} cannot be imported: {error or type(error).__name__}") from error
    if isinstance(made, type) and issubclass(made, Criterion):
        return _labelled(made, name)
    if inspect.isfunction(made):
        return _of_one_replica(made, name)
    raise LookupError(f"{name!r} is neither a trainables.criterion.Criterion nor a function: see docs/own-data.md")


def _only(module: Any) -> type[Criterion]:
    """The one criterion that ``module`` defines; ``LookupError`` where that is not one, with a label."""
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Criterion) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        defined = " and ".join(kind.__name__ for kind in classes) or "none"
        raise LookupError(f"{module.__file__} must define one trainables.criterion.Criterion, and defines {defined}")
    return _labelled(classes[0], module.__name__)


def _labelled(criterion: type[Criterion], name: str) -> type[Criterion]:
    if not isinstance(getattr(criterion, "label", None), str):
        raise LookupError(f"criterion {name!r} has no label: say in its class how tables shall call it")
    return criterion


def _of_one_replica(function: OneReplica, name: str) -> type[Criterion]:
    """``function`` as a criterion that calls it for one replica after another."""
    declared = _hyperparameters(function, name)

    class Looped(Criterion):
        label = function.__name__
        hyperparameters = declared

        def forward(self, batch: Batch) -> Tensor:
            replicas = zip(batch.logits, batch.features, batch.targets, strict=True)
            return torch.stack([function(*replica, **self.setup.values) for replica in replicas])

    return Looped


def _hyperparameters(function: OneReplica, name: str) -> tuple[Hyperparameter, ...]:
    parameters = list(inspect.signature(function).parameters.values())[3:]
    hints = get_type_hints(function, include_extras=True)
    declared = []
    for parameter in parameters:
        stated = [
            part for part in getattr(hints.get(parameter.name), "__metadata__", ()) if isinstance(part, Hyperparameter)
        ]
        if stated:
            declared.append(stated[0])
        elif isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool):
            declared.append(
                Hyperparameter(
                    parameter.name, parameter.name, parameter.default, whole=isinstance(parameter.default, int)
                )
            )
        else:
            raise LookupError(f"criterion {name!r}: its parameter {parameter.name!r} needs a number as its default")
    return tuple(declared)
