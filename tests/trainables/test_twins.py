"""Metrics of the validation part: what the same training would measure were that part the held-out one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import Tiny, TinyOptions
from trainables import floors, twins
from trainables.benchmarks import Data, Split, find
from trainables.benchmarks.hyperspectral import Hyperspectral
from trainables.evaluators import Evaluator, Snapshot
from trainables.metrics import Metric
from trainables.training import Training
from trainables.trial import Trial


class SwappedScene(Hyperspectral):
    """The scene with what it calls its two parts exchanged."""

    def split(self, data: Data, options: Any, generator: torch.Generator) -> Split:
        parts = super().split(data, options, generator)
        return {**parts, "heldout": parts["validation"], "validation": parts["heldout"]}


@dataclass(frozen=True)
class SeveralOptions(TinyOptions):
    #: whether the split keeps its validation part
    validated: bool = True


class Several(Tiny):
    """Evaluators that read one part, both, or neither, and one that keeps something by part."""

    Options = SeveralOptions

    def split(self, data: Data, options: Any, generator: torch.Generator) -> Split:
        parts = super().split(data, options, generator)
        return parts if options.validated else {**parts, "validation": parts["validation"][:0]}

    def evaluators(self, data: Data, options: Any) -> Sequence[Evaluator]:
        seen: dict[str, int] = {}

        def own(snapshot: Snapshot) -> Mapping[str, Tensor]:
            return {"fine/error": error(snapshot.outputs("train").fine.float().mean(), snapshot, "heldout")}

        def error(level: Tensor, snapshot: Snapshot, part: str) -> Tensor:
            outputs = snapshot.outputs(part)
            # what it keeps of a part is that of one part alone
            assert seen.setdefault(part, int(outputs.indices[0, 0])) == int(outputs.indices[0, 0])
            return (outputs.logits.softmax(-1)[..., 1] - outputs.fine / 3).square().mean(1) + 0 * level

        def coarse(snapshot: Snapshot) -> Mapping[str, Tensor]:
            outputs = snapshot.outputs("heldout")
            return {"accuracy/coarse": (outputs.logits.argmax(-1) == outputs.coarse).double().mean(1)}

        def trained(snapshot: Snapshot) -> Mapping[str, Tensor]:
            return {"fine/train": snapshot.outputs("train").features.mean((1, 2))}

        def both(snapshot: Snapshot) -> Mapping[str, Tensor]:
            parts = ["heldout", *(["validation"] if snapshot.has("validation") else [])]
            spreads = [snapshot.outputs(part).features.std((1, 2)) for part in parts]
            return {f"fine/{part}": spread for part, spread in zip(parts, spreads, strict=True)}

        def dear(snapshot: Snapshot) -> Mapping[str, Tensor]:
            return {"fine/dear": snapshot.outputs("heldout").features.mean((1, 2))}

        def arrays(snapshot: Snapshot) -> Mapping[str, Any]:
            return {"features": snapshot.outputs("heldout").features}

        metric = Metric("fine/error", "fine error", "squared", better="lower", reads_fine=True)
        return (
            Evaluator("own", own, metrics=(metric,), arrays=arrays),
            Evaluator("coarse", coarse, every=2),
            Evaluator("trained", trained, metrics=(Metric("fine/train"),), on_validation=False),
            Evaluator("both", both),
            Evaluator("dear", dear, on_validation=False),
        )


class SwappedSeveral(Several):
    def split(self, data: Data, options: Any, generator: torch.Generator) -> Split:
        parts = super().split(data, options, generator)
        return {**parts, "heldout": parts["validation"], "validation": parts["heldout"]}


class FixedSeveral(Several):
    """As a source that sets samples aside for testing: the same ones for every seed, in another order."""

    def split(self, data: Data, options: Any, generator: torch.Generator) -> Split:
        order = torch.randperm(len(data.inputs), generator=generator)
        heldout = order % 5 == 0
        return {"train": order[~heldout], "validation": order[:0], "heldout": order[heldout]}


def several(kind: str = "Several", seeds: tuple[int, ...] = (0, 1, 2), **options: Any) -> Training:
    name = f"tests.trainables.test_twins:{kind}"
    return Training(Trial(name, "ls", seeds, options=options, training={"epochs": 2}))


def test_each_held_out_metric_has_a_twin_with_the_values_of_the_exchanged_parts() -> None:
    here, there = ([record.metrics for record in several(kind).run()] for kind in ("Several", "SwappedSeveral"))
    for mine, exchanged in zip(here, there, strict=True):
        assert mine["fine/error-validation"] == exchanged["fine/error"] != mine["fine/error"]
        assert mine["fine/error"] == exchanged["fine/error-validation"]
        # what does not read held-out data, reads the validation part itself, or does not want to, has none
        others = {"fine/train", "fine/heldout", "fine/validation", "fine/dear"}
        assert {name for name in mine if name.startswith("fine")} == others | {"fine/error", "fine/error-validation"}
    # at the evaluator's cadence, under the name that coarse accuracy always had there
    assert [record.keys() >= {"accuracy/coarse", "accuracy/validation"} for record in here] == [False, True]
    assert here[1]["accuracy/validation"] == there[1]["accuracy/coarse"]


def test_twins_are_declared_and_arrays_are_kept_once() -> None:
    training = several()
    # those of every benchmark aside
    own = [metric for metric in training.metrics if not metric.group]
    (twin,) = [metric for metric in own if metric.name.endswith(twins.SUFFIX)]
    assert (twin.name, twin.label, twin.better) == ("fine/error-validation", "fine error (validation)", "lower")
    assert twin.reads_fine and "validation" in twin.note
    assert training.arrays()["features"].shape[1] == 40


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_metrics_of_held_out_samples_are_known_once_measured(seeds: tuple[int, ...]) -> None:
    """Those that an evaluator of the held-out part gives, declared or not; a seed alone knows that others redraw it."""
    training = several(seeds=seeds)
    for _ in training.run():
        pass
    heldout = {metric.name for metric in training.metrics if metric.heldout}
    own = {"fine/error", "accuracy/coarse", "fine/heldout", "fine/validation", "fine/dear"}
    everywhere = {metric.name for metric in training.metrics if metric.group and not metric.twin_of}
    assert heldout == own | everywhere
    assert training.redraws
    # one that is not declared is, and so is its twin
    originals = {metric.name: metric.twin_of for metric in training.metrics if metric.twin_of and not metric.group}
    assert originals == {"fine/error-validation": "fine/error", "accuracy/validation": "accuracy/coarse"}
    fixed = several("FixedSeveral", seeds=seeds)
    assert not fixed.redraws


def test_without_a_validation_part_there_is_no_twin() -> None:
    training = several(validated=False)
    (first, _) = training.run()
    assert not [name for name in first.metrics if "validation" in name]
    assert not [metric for metric in training.metrics if "validation" in metric.name]


def test_twins_change_no_other_number() -> None:
    here, there = ([record.metrics for record in several(validated=validated).run()] for validated in (True, False))
    for mine, other in zip(here, there, strict=True):
        # the linear probe's regularisation is chosen by the validation part where there is one
        assert {name: mine[name] for name in other if "/fine-linear" not in name} == {
            name: values for name, values in other.items() if "/fine-linear" not in name
        }


def test_the_scenes_probes_have_twins() -> None:
    options = {"pixels": 400, "validation": 0.3, "probe_epochs": 2}
    settings = {"epochs": 1, "learning_rate": 1e-3}

    def measured(name: str) -> Mapping[str, list[float]]:
        (record,) = Training(Trial(name, "ce", (0, 1), options=options, training=settings)).run()
        return record.metrics

    mine, exchanged = (measured(name) for name in ("hyperspectral", "tests.trainables.test_twins:SwappedScene"))
    scored = [name for name in mine if name.startswith(("mse", "rmse", "calibration", "stability", "information"))]
    others = (twins.SUFFIX, *(f"-{kind}" for kind in floors.KINDS))
    named = [name for name in scored if not name.endswith(others) and "/fine-linear" not in name]
    assert {"mse/raw", "mse/transfer", "mse/transfer-least-squares", "calibration/ece"} <= set(named)
    for name in named:
        assert mine[f"{name}{twins.SUFFIX}"] == pytest.approx(exchanged[name], rel=1e-6, nan_ok=True), name


def test_metrics_of_other_classes_are_no_twins() -> None:
    """Few-shot accuracy on validation classes is measured by its own evaluator, with a validation part or without."""
    benchmark = find("cifar10-few-shot")
    options = benchmark.Options(samples=30, size=8)
    data = benchmark.load(options)
    parts = ("train", "validation", "heldout", "base", "validation-classes", "novel")
    declared = [metric.name for metric in twins.declared(benchmark.evaluators(data, options), parts)]
    assert declared == []


@pytest.mark.parametrize("metric", ["mse/raw", "accuracy/coarse", "accuracy/1-shot"])
def test_a_twin_tells_its_original(metric: str) -> None:
    assert twins.original(twins.name_of(metric)) == metric
    assert twins.original(metric) == twins.name_of(twins.name_of(metric)) == ""
