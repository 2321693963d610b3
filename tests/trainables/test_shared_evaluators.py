"""What is measured of every benchmark: of those that say little themselves, and of those that measure it already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import Tiny, TinyOptions
from trainables.benchmarks import Data, Split
from trainables.evaluators import Evaluator, Snapshot, entropy, shared
from trainables.training import Training
from trainables.trial import Trial

LABEL_FREE = {metric.name for metric in shared.METRICS}


class Bare(Tiny):
    """Measures nothing itself; its fine labels are of the kind that a study asks for."""

    name = "bare"
    values = False
    parts = ("train", "validation", "heldout")

    def load(self, options: TinyOptions) -> Data:
        data = super().load(options)
        if self.values:
            data.fine = torch.stack([data.inputs.mean(1), data.fine.float()], 1)
        return data

    def split(self, data: Data, options: TinyOptions, generator: torch.Generator) -> Split:
        return {name: part for name, part in super().split(data, options, generator).items() if name in self.parts}

    def evaluators(self, data: Data, options: TinyOptions) -> Sequence[Evaluator]:
        return ()


class Valued(Bare):
    values = True


class Apart(Bare):
    """Has no part that is held out."""

    parts = ("train", "validation")


class Own(Bare):
    """Measures two of the shared metrics itself, one of them without saying so, in an evaluator of a shared name."""

    def evaluators(self, data: Data, options: TinyOptions) -> Sequence[Evaluator]:
        def scale(snapshot: Snapshot) -> Mapping[str, Tensor]:
            return {"features/scale": torch.full((len(snapshot.seeds),), 7.0)}

        def decay(snapshot: Snapshot) -> Mapping[str, Tensor]:
            return {"spectrum/decay": torch.full((len(snapshot.seeds),), 8.0)}

        return (
            Evaluator("scale", scale, metrics=(entropy.SCALE,)),
            Evaluator("decay", decay, every=2),
            Evaluator("fine-probes", every=0),
        )


class Same(Bare):
    """Fine labels that are the coarse ones, where there are coarse ones."""

    def load(self, options: TinyOptions) -> Data:
        data = super().load(options)
        return replace(data, fine=data.coarse.clone())


def last(
    benchmark: str, seeds: tuple[int, ...] = (0, 1), criterion: str = "ce", **settings: Any
) -> tuple[Training, dict[str, list[float]]]:
    """A training and the metrics of its last epoch."""
    trial = Trial(
        f"tests.trainables.test_shared_evaluators:{benchmark}", criterion, seeds, training={"epochs": 2} | settings
    )
    training = Training(trial)
    return training, [record.metrics for record in training.run()][-1]


@pytest.mark.parametrize("benchmark", ["Bare", "Valued"])
def test_a_benchmark_without_evaluators_is_measured(benchmark: str) -> None:
    training, metrics = last(benchmark)
    others = ("-validation", "-untrained", "-inputs")
    fine = {name for name in metrics if "/fine-" in name and not name.endswith(others)}
    assert len(fine) == (4 if benchmark == "Bare" else 12)
    twins = {f"{name}-validation" for name in LABEL_FREE | fine} - {"accuracy/coarse-validation"}
    floors = {f"{name}-{kind}" for name in fine for kind in ("untrained", "inputs")}
    measured = LABEL_FREE | fine | twins | floors | {"accuracy/validation"}
    assert metrics.keys() - {"loss/train", "accuracy/train"} == measured
    declared = {metric.name: metric for metric in training.metrics}
    assert metrics.keys() == declared.keys()
    assert {name for name, metric in declared.items() if metric.reads_fine} == {n for n in metrics if "/fine-" in n}
    assert all(torch.tensor(values).isfinite().all() for values in metrics.values())


def test_metrics_are_those_of_the_outputs() -> None:
    training, metrics = last("Bare")
    features, logits = training._predict(training.parts["validation"])
    coarse = training.data.coarse[training.parts["validation"]]
    likelihood = -torch.log_softmax(logits, -1).gather(-1, coarse.unsqueeze(-1)).mean((1, 2))
    assert metrics["likelihood/coarse-validation"] == pytest.approx(likelihood.tolist(), rel=1e-5)
    assert metrics["features/scale-validation"] == pytest.approx(
        features.flatten(1).std(1, correction=0).tolist(), rel=1e-5
    )
    assert metrics["accuracy/validation"] == pytest.approx((logits.argmax(-1) == coarse).double().mean(1).tolist())
    kept = training.arrays()
    assert torch.equal(torch.from_numpy(kept["validation-indices"]), training.parts["validation"].int())
    assert torch.equal(torch.from_numpy(kept["validation-predicted"]), logits.argmax(-1).int())
    heldout, _ = training._predict(training.parts["heldout"])
    torch.testing.assert_close(torch.from_numpy(kept["heldout-features"]).float(), heldout, rtol=1e-3, atol=1e-4)


def test_a_seed_alone_is_measured_as_among_others() -> None:
    for benchmark in ("Bare", "Valued"):
        _, among = last(benchmark, (0, 1, 2), dtype="float64")
        _, alone = last(benchmark, (1,), dtype="float64")
        assert {name: values[0] for name, values in alone.items()} == pytest.approx(
            {name: values[1] for name, values in among.items()}, rel=1e-7
        )


def test_measured_at_the_last_epoch_unless_told_otherwise() -> None:
    trial = Trial("tests.trainables.test_shared_evaluators:Bare", "ce", (0,), training={"epochs": 3})
    records = [set(record.metrics) for record in Training(trial).run()]
    assert [names >= LABEL_FREE for names in records] == [False, False, True]
    records = [set(record.metrics) for record in Training(replace(trial, cadence={"label-free": 1})).run()]
    assert [names >= LABEL_FREE for names in records] == [True, True, True]
    assert ["accuracy/fine-linear" in names for names in records] == [False, False, True]


def test_what_a_benchmark_measures_itself_is_left_to_it() -> None:
    training, metrics = last("Own")
    assert metrics["features/scale"] == [7.0, 7.0] and metrics["spectrum/decay"] == [8.0, 8.0]
    assert metrics.keys() >= LABEL_FREE
    # its evaluator fine-probes stands in the place of the shared one
    assert not any("/fine-" in name for name in metrics)
    names = [metric.name for metric in training.metrics]
    assert names.count("features/scale") == 1


def test_nothing_is_asked_of_parts_that_are_not_there() -> None:
    training, metrics = last("Apart")
    assert metrics.keys() == {"loss/train", "accuracy/train"} == {metric.name for metric in training.metrics}
    _, metrics = last("Same")
    assert metrics.keys() >= LABEL_FREE and not any("/fine-" in name for name in metrics)


def test_a_diverged_replica_has_no_number() -> None:
    trial = Trial("tests.trainables.test_shared_evaluators:Valued", "ce", (0, 1), training={"epochs": 1})
    training = Training(trial)
    with torch.no_grad():
        next(training.network.parameters())[0] = torch.inf
    training.epoch = 1
    metrics = training._evaluate()
    floors = {name: value for name, value in metrics.items() if name.endswith(("-untrained", "-inputs"))}
    assert floors and all(bool(value.isfinite().all()) for value in floors.values())
    trained = [value for name, value in metrics.items() if name not in floors]
    assert all(bool(value[0].isnan()) and bool(value[1].isfinite()) for value in trained)
    assert (training.arrays()["validation-predicted"][0] == -1).all()


def test_a_long_training_part_is_sampled() -> None:
    train = torch.arange(50_000).expand(2, -1)
    sample = shared.training_sample(train)
    assert sample is not None and sample.shape == (2, shared.SAMPLE_SIZE)
    assert sample[0, :3].tolist() == [0, 5, 10]
    assert shared.training_sample(train[:, :100]) is None


def test_common_anchors_are_those_of_every_trial() -> None:
    """Ten, as the recipe has: the first of a trial with more, and all of cross-entropy's."""
    few, many, plain = (
        Training(Trial("tests.tiny:Tiny", criterion, (0, 1), hyperparameters=hyperparameters))
        for criterion, hyperparameters in (("fierce", {"e": 10}), ("fierce", {"e": 30}), ("ce", {}))
    )
    assert torch.equal(few.anchors, plain.anchors) and many.anchors.shape[1] == 30
    for training in (few, many, plain):
        assert torch.equal(training.common_anchors, few.anchors)
