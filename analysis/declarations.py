"""What a study declares of itself: its metrics and criteria, as the tracking wrote them into its run."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A metric: ``label`` stands at axes and above columns as it is, ``note`` says what was measured.

    ``better`` is ``lower``, ``higher`` or ``none``; ``fine`` says whether fine labels are read; ``twin_of`` names the
    metric of held-out samples that this one is on validation samples, where it is one; ``heldout`` says whether it is
    of held-out samples itself. Metrics of one ``group`` share a table; those of a benchmark's own have none.
    ``chance`` names the metric of what chance alone would give. ``floor_of`` names the metric that this one is where
    nothing was trained, where it is one, and ``group`` then says what was measured: one row of a table.
    """

    name: str
    label: str
    note: str = ""
    unit: str = ""
    better: str = "none"
    fine: bool = False
    twin_of: str = ""
    heldout: bool = False
    group: str = ""
    chance: str = ""
    floor_of: str = ""

    @property
    def judges(self) -> bool:
        """Whether it can say of a trained network how much of the fine labels is kept, with a better direction."""
        return self.fine and self.better in ("lower", "higher") and not self.twin_of and not self.floor_of


def by_fine(metrics: Mapping[str, Metric], measured: Collection[str], first: Sequence[str] = ()) -> str:
    """The metric by which settings are compared: what is kept of the fine labels; empty where none was ``measured``.

    Of ``metrics``, by name: those named ``first``, then a linear probe's before others; and those with a twin on
    validation samples before those without.
    """
    twins = {each.twin_of for name, each in metrics.items() if name in measured}
    names = [*first, *sorted(metrics, key=lambda name: not name.endswith("/fine-linear"))]
    wanted = (name for name in sorted(names, key=lambda name: name not in twins) if name in metrics)
    return next((name for name in wanted if name in measured and metrics[name].judges), "")


@dataclass(frozen=True)
class Hyperparameter:
    """A hyperparameter of a criterion: ``whole`` numbers only, and searched on a ``log`` scale or not.

    ``meaning`` is what it is, in a few words; empty where that was not declared.

    A training setting or option that varies between trials is declared alike.
    """

    name: str
    symbol: str
    whole: bool = False
    log: bool = False
    meaning: str = ""


@dataclass(frozen=True)
class Criterion:
    """A criterion: how it is called in figures and tables, and its hyperparameters in order.

    ``reference``: whether it is the one that the others are compared with; ``fine``: whether it reads fine labels, so
    that it is a ceiling and no rival; ``meaning``: what it is, in a few words, empty where that was not declared.
    """

    name: str
    label: str
    hyperparameters: tuple[Hyperparameter, ...] = ()
    reference: bool = False
    fine: bool = False
    meaning: str = ""


def read_metrics(content: bytes) -> Mapping[str, Metric]:
    """name -> metric, in order; raises ``ValueError`` where ``content`` is no JSON list of such declarations."""
    return {declared["name"]: _made(Metric, declared) for declared in _listed(content)}


def read_criteria(content: bytes) -> Mapping[str, Criterion]:
    """name -> criterion, in the order of figures and tables; raises ``ValueError`` as `read_metrics` does."""
    criteria = {}
    for declared in _listed(content):
        hyperparameters = tuple(_made(Hyperparameter, values) for values in declared.get("hyperparameters", ()))
        criteria[declared["name"]] = _made(Criterion, {**declared, "hyperparameters": hyperparameters})
    return criteria


def read_settings(content: bytes) -> tuple[Hyperparameter, ...]:
    """The settings that vary, in order; none where ``content`` is no JSON list of such declarations."""
    try:
        return tuple(_made(Hyperparameter, declared) for declared in _listed(content))
    except ValueError:
        return ()


def _listed(content: bytes) -> list[dict[str, Any]]:
    declared = json.loads(content)
    if not isinstance(declared, list) or not all(isinstance(entry, dict) and "name" in entry for entry in declared):
        raise ValueError("it is no list of declarations with a name each")
    return declared


def _made(kind: type[Any], values: Mapping[str, Any]) -> Any:
    # a later release may declare more
    known = {key: value for key, value in values.items() if key in kind.__dataclass_fields__}
    try:
        return kind(**known)
    except TypeError as error:
        raise ValueError(str(error)) from None
