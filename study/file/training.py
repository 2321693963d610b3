"""The training settings of a study file, against those that there are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import get_type_hints

from pydantic import TypeAdapter, ValidationError

from study.file.document import Keys
from study.file.sentences import nearest, problem, sentence
from trainables.trial import Projector, Recipe

#: lower bounds of the training settings: (bound, whether the bound itself is allowed)
_TRAINING_BOUNDS: Mapping[str, tuple[float, bool]] = MappingProxyType(
    {
        "epochs": (1, True),
        "batch_size": (1, True),
        "learning_rate": (0, False),
        "gamma": (0, False),
        "temperature": (0, False),
        "momentum": (0, True),
        "weight_decay": (0, True),
        "warmup": (0, True),
        "view_noise": (0, True),
        # an anchor that no feature chose pulls with -log2 of it, and below 1e-38 it is 0 in float32
        "entropy_epsilon": (1e-30, True),
    }
)


#: what others call the training settings
_OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "lr": "learning_rate",
        "wd": "weight_decay",
        "bs": "batch_size",
        "scheduler": "schedule",
        "lr_schedule": "schedule",
        "warmup_epochs": "warmup",
        "num_epochs": "epochs",
        "max_epochs": "epochs",
    }
)


def setting(name: str) -> str:
    """The training setting that is called ``name``, here or elsewhere; empty where there is none.

    >>> setting("lr"), setting("epochs"), setting("seeds")
    ('learning_rate', 'epochs', '')
    """
    known = {field.name for field in fields(Recipe)} - {"hyperparameters"}
    return _OTHER_NAMES.get(name, name if name in known else "")


def check_training(training: Mapping[str, object]) -> None:
    """The settings are fields of `trainables.trial.Recipe`, of their types and within their bounds."""
    for name, value in training.items():
        check_setting(name, value, ("training", name))


def check_setting(name: str, value: object, at: Keys) -> None:
    """One such setting, whose value stands at ``at``."""
    known = [field.name for field in fields(Recipe) if field.name != "hyperparameters"]
    if name not in known:
        meant = setting(name)
        hint = f"; did you mean {meant!r}?" if meant else nearest(name, known)
        raise problem(at, f"unknown training setting {name!r}{hint}")
    if name == "projector" and value is not None:
        if not isinstance(value, Mapping):
            raise problem(at, f"must be a mapping, as {{hidden: 512}}, or null, not {value!r}")
        try:
            Projector.read(value)
        except ValueError as error:
            raise problem(at, str(error)) from None
        return
    try:
        # a list is the only way to write a tuple in a study file
        given = tuple(value) if isinstance(value, list) else value
        TypeAdapter(get_type_hints(Recipe)[name]).validate_python(given, strict=True)
    except ValidationError as error:
        raise problem(at, sentence(error.errors()[0])) from None
    for number in value if isinstance(value, list | tuple) else [value]:
        bound, allowed = _TRAINING_BOUNDS.get(name, (1, True) if name == "milestones" else (-math.inf, True))
        if isinstance(number, int | float) and not (number >= bound if allowed else number > bound):
            raise problem(at, f"must be {'at least' if allowed else 'above'} {bound:g}, not {number:g}")
        if isinstance(number, float) and not math.isfinite(number):
            raise problem(at, f"must be a finite number, not {number}")
