"""Metrics of held-out samples, measured on the validation part as well: what a study may choose by.

Where a split has both parts, an evaluator that reads ``heldout`` is measured a second time with ``validation`` in its
place, and each metric has a twin, ``mse/raw-validation``. An evaluator that reads ``validation`` itself is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from trainables.evaluators import Evaluator, Outputs, Snapshot
from trainables.metrics import Metric

SUFFIX = "-validation"
#: twins that go by another name
NAMED = {"accuracy/coarse": "accuracy/validation"}
#: the part that twins are measured on, in place of the other
PARTS = VALIDATION, HELDOUT = "validation", "heldout"


def name_of(metric: str) -> str:
    """The name of the twin of ``metric``; empty for one that is of the validation part itself.

    >>> name_of("mse/raw"), name_of("accuracy/coarse"), name_of("accuracy/validation")
    ('mse/raw-validation', 'accuracy/validation', '')
    """
    if metric.endswith(SUFFIX) or metric in NAMED.values():
        return ""
    return NAMED.get(metric, f"{metric}{SUFFIX}")


def original(twin: str) -> str:
    """The name of the metric that ``twin`` is the twin of; empty where it is none by its name."""
    named = {other: metric for metric, other in NAMED.items()}
    return named.get(twin) or (twin.removesuffix(SUFFIX) if twin.endswith(SUFFIX) else "")


def declared(evaluators: Iterable[Evaluator], parts: Collection[str]) -> tuple[Metric, ...]:
    """The twins of what ``evaluators`` declare, those that they declare themselves aside.

    ``parts`` are the split's that are not empty. None where these lack one of the two. An evaluator is taken to read
    ``heldout``, since that shows when it measures.
    """
    if not set(PARTS) <= set(parts):
        return ()
    evaluators = list(evaluators)
    own = {metric.name for evaluator in evaluators for metric in evaluator.metrics}
    return tuple(_twins([evaluator for evaluator in evaluators if evaluator.on_validation], own))


def _twins(evaluators: Iterable[Evaluator], own: Collection[str]) -> Iterator[Metric]:
    for evaluator in evaluators:
        for metric in evaluator.metrics:
            if (name := name_of(metric.name)) and name not in own:
                yield twin_of(metric)


def twin_of(metric: Metric) -> Metric:
    """The declaration of the twin of ``metric``."""
    label = f"{metric.label or metric.name} (validation)"
    note = f"{metric.note}; on the validation part" if metric.note else "on the validation part"
    return replace(metric, name=name_of(metric.name), label=label, note=note, twin_of=metric.name)


class OnValidation:
    """``snapshot`` with the validation part in place of the held-out one (see `trainables.evaluators.Snapshot`)."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.epoch, self.epochs, self.seeds = snapshot.epoch, snapshot.epochs, snapshot.seeds
        self.anchors, self.common_anchors = snapshot.anchors, snapshot.common_anchors
        self.similarity = snapshot.similarity

    def has(self, part: str) -> bool:
        return self._snapshot.has(VALIDATION if part == HELDOUT else part)

    def outputs(self, part: str) -> Outputs:
        return self._snapshot.outputs(VALIDATION if part == HELDOUT else part)
