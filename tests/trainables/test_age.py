"""The age benchmark: its options, data and split, and its metrics against a plain recomputation from its outputs."""

from __future__ import annotations

import math
import zipfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from trainables.anchors import draw_anchors
from trainables.benchmarks import Data, DataError
from trainables.benchmarks.age import Age, AgeOptions
from trainables.benchmarks.simulated_faces import simulate
from trainables.evaluators import Outputs
from trainables.replicas import stream, streams
from trainables.training import Training
from trainables.trial import Trial

SMALL = {"size": 16, "width": 2, "samples": 240}


@pytest.fixture(scope="module")
def data() -> Data:
    return Age().load(AgeOptions(**SMALL))


def trial(criterion: str = "ce", protocol: str = "released", seeds: tuple[int, ...] = (0, 1), **options: Any) -> Trial:
    return Trial(
        "trainables.benchmarks.age:Age",
        criterion,
        seeds,
        protocol,
        options=SMALL | options,
        training={"epochs": 2, "batch_size": 32},
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": ""}, "data must be the path"),
        ({"metadata": "imdb.mat"}, "metadata needs data to be a path"),
        ({"threshold": "mean"}, "threshold must be 'median', an age, or a list of ages, not 'mean'"),
        ({"threshold": []}, "threshold must be 'median', an age, or a list"),
        ({"threshold": [30, "old"]}, "threshold must be 'median', an age, or a list"),
        ({"threshold": float("nan")}, "threshold must be 'median', an age, or a list"),
        ({"threshold": [40, 20]}, "threshold must be a list of ascending ages"),
        ({"size": 4}, "size must be a whole number of at least 8, not 4"),
        ({"size": True}, "size must be a whole number of at least 8, not True"),
        ({"width": 0}, "width must be a whole number of at least 1, not 0"),
        ({"evaluation": 1.5}, "evaluation must be a whole number"),
        ({"samples": 3}, "samples must be a whole number of at least 10, not 3"),
        ({"mode": "fast"}, "mode must be one of auto, grouped, looped, bmm, not 'fast'"),
        ({"validation": 0.5}, "validation must be a share"),
        ({"heldout": -0.1}, "heldout must be a share"),
    ],
)
def test_a_bad_option_is_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AgeOptions(**options)


def test_simulated_faces_repeat_and_have_the_stated_ages() -> None:
    pixels, ages = simulate(600, 16)
    again, same = simulate(600, 16)
    assert torch.equal(pixels, again)
    assert torch.equal(ages, same)
    assert pixels.shape == (600, 3, 16, 16)
    assert ages.min() >= 1
    assert ages.max() <= 100
    assert (ages == ages.round()).all()
    assert ages.median() == pytest.approx(36, abs=3)
    assert not torch.equal(simulate(600, 16, seed=1)[0], pixels)


def test_simulated_faces_tell_the_age_in_part() -> None:
    pixels, ages = simulate(1500, 16)
    inputs = torch.nn.functional.avg_pool2d(pixels.float(), 2).flatten(1) / 255
    inputs = torch.cat([inputs, torch.ones(1500, 1)], 1).double()
    # ridge regression on a third of the pixels, scored on the last 300
    fitted, scored = slice(0, 1200), slice(1200, 1500)
    gram = inputs[fitted].T @ inputs[fitted] + torch.eye(inputs.shape[1])
    weights = torch.linalg.solve(gram, inputs[fitted].T @ ages[fitted].double())
    explained = 1 - (inputs[scored] @ weights - ages[scored]).square().mean() / ages[scored].var()
    assert 0.2 < explained < 0.95


def test_the_coarse_label_is_whether_the_age_is_above_the_sorted_middle(data: Data) -> None:
    middle = sorted(data.fine.tolist())[len(data.fine) // 2]
    assert data.coarse.tolist() == [int(age > middle) for age in data.fine]
    assert data.coarse_names == (f"up to {middle:g}", f"over {middle:g}")
    assert data.provenance == "simulated"
    assert data.inputs.dtype == torch.uint8


def test_several_thresholds_make_several_classes() -> None:
    data = Age().load(AgeOptions(**SMALL, threshold=[20, 36, 60]))
    assert data.coarse.tolist() == [sum(age > limit for limit in (20, 36, 60)) for age in data.fine]
    assert data.coarse_names == ("up to 20", "over 20 to 36", "over 36 to 60", "over 60")
    assert data.fingerprint != Age().load(AgeOptions(**SMALL)).fingerprint


def test_an_empty_class_is_named() -> None:
    with pytest.raises(DataError, match="simulated has no face in the class 'over 150': change threshold"):
        Age().load(AgeOptions(**SMALL, threshold=150))


def test_more_samples_than_faces_is_one_sentence(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "few.zip", "w") as archive:
        for age in range(1, 15):
            image = tmp_path / "face.png"
            from PIL import Image

            Image.new("RGB", (8, 8), (age, age, age)).save(image)
            archive.write(image, f"{age}_0_0_20170112213500903.jpg")
    options = AgeOptions(data=str(tmp_path / "few.zip"), cache=str(tmp_path / "cache"), size=8)
    data = Age().load(options)
    assert sorted(data.fine.tolist()) == list(range(1, 15))
    assert data.provenance == "real"
    subset = Age().load(replace(options, samples=10))
    assert len(subset.fine) == 10
    with pytest.raises(DataError, match="has 14 faces, fewer than the 15 of 'samples'"):
        Age().load(replace(options, samples=15))


def test_split_is_a_partition_and_evaluation_is_part_of_train(data: Data) -> None:
    options = AgeOptions(**SMALL, evaluation=50, validation=0.2, heldout=0.1)
    parts = Age().split(data, options, stream(0, "split"))
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 168,
        "evaluation": 50,
        "validation": 48,
        "heldout": 24,
    }
    together = torch.cat([parts["train"], parts["validation"], parts["heldout"]])
    assert sorted(together.tolist()) == list(range(240))
    assert set(parts["evaluation"].tolist()) <= set(parts["train"].tolist())


def test_batches_are_normalised_as_imagenet_is() -> None:
    from torchvision.transforms.v2 import functional

    inputs = torch.randint(0, 256, (2, 3, 3, 8, 8), dtype=torch.uint8)
    expected = functional.normalize(inputs.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(Age().batch(inputs, AgeOptions(), True, []), expected)
    torch.testing.assert_close(Age().batch(inputs, AgeOptions(augment=True), False, []), expected)


def test_augmentation_depends_on_the_replica_s_own_stream() -> None:
    inputs = torch.randint(0, 256, (2, 6, 3, 16, 16), dtype=torch.uint8)
    augmented = AgeOptions(augment=True)
    both = Age().batch(inputs, augmented, True, streams((0, 1), "augmentation", 1))
    alone = Age().batch(inputs[1:], augmented, True, streams((1,), "augmentation", 1))
    torch.testing.assert_close(both[1:], alone)
    assert not torch.equal(both, Age().batch(inputs, AgeOptions(), True, []))


def test_protocols_differ_where_the_sources_do() -> None:
    released, paper = (Age().recipe(protocol, AgeOptions()) for protocol in ("released", "paper"))
    assert (released.optimizer, released.batch_size, released.learning_rate) == ("adam", 256, 1e-3)
    assert (released.entropy_form, released.hyperparameters["lambda"]) == ("weighted", 0.2)
    assert (paper.optimizer, paper.batch_size, paper.entropy_form) == ("sgd", 64, "subtract")
    assert paper.hyperparameters["lambda"] == 0.3
    for recipe in (released, paper):
        assert (recipe.similarity, recipe.anchors, recipe.hyperparameters["e"]) == ("squared-distance", "grid", 100)
    with pytest.raises(ValueError, match="unknown protocol 'both'"):
        Age().recipe("both", AgeOptions())


@pytest.mark.parametrize("protocol", ["paper", "released"])
@pytest.mark.parametrize("criterion", ["ce", "ls", "fierce", "confidence-penalty"])
def test_every_criterion_trains(criterion: str, protocol: str) -> None:
    training = Training(trial(criterion, protocol))
    records = list(training.run())
    assert len(records) == 2
    for record in records:
        assert all(math.isfinite(value) for values in record.metrics.values() for value in values), record
    assert {"mse/transport", "mse/transport-heldout", "entropy/features", "accuracy/coarse"} <= set(records[0].metrics)
    # arrays hold numbers of samples and curves, never images
    own = {name: array for name, array in training.arrays().items() if not name.startswith("validation-")}
    assert {name: array.shape[1:] for name, array in own.items()} == {
        "features": (30, 1),
        "heldout-features": (30, 1),
        "fine": (30,),
        "coarse": (30,),
        "probabilities": (30, 2),
        "reliability": (10, 3),
    }


@pytest.mark.parametrize("mode", ["grouped", "looped", "bmm"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_an_epoch_in_bf16_stays_within_bounds_of_float32(mode: str, channels_last: bool) -> None:
    """The same steps in either precision and layout: the loss to 1%, the weights' changes to a cosine above .9."""
    plain, mixed = (
        Training(
            Trial(
                "age",
                "fierce",
                (0, 1),
                options={"samples": 240, "size": 16, "width": 4, "mode": mode, "channels_last": layout},
                training={"epochs": 1, "batch_size": 32, "anchors": "centred-grid"},
            )
        )
        for layout in (None, channels_last)
    )
    # a CPU computes in bf16 as well where it is told to
    mixed.mixed_precision = True
    before = torch.cat([value.flatten(1) for value in plain.weights().values() if value.is_floating_point()], 1)
    losses, changes = [], []
    for training in (plain, mixed):
        losses.append(torch.tensor(next(iter(training.run())).metrics["loss/train"]))
        after = torch.cat([value.flatten(1) for value in training.weights().values() if value.is_floating_point()], 1)
        changes.append(after - before)
    torch.testing.assert_close(losses[1], losses[0], rtol=0.01, atol=0)
    assert (torch.nn.functional.cosine_similarity(*changes) > 0.9).all()


def test_without_held_out_images_the_released_way_remains() -> None:
    records = list(Training(trial(validation=0.0, heldout=0.0)).run())
    assert "mse/transport" in records[-1].metrics
    assert "calibration/ece" in records[-1].metrics
    assert not [name for name in records[-1].metrics if "heldout" in name or name == "accuracy/coarse"]


class Stored:
    """A snapshot of outputs made up for the test."""

    epoch, epochs, seeds, similarity = 1, 1, (0, 1), "squared-distance"

    def __init__(self, parts: dict[str, Outputs]) -> None:
        self.parts = parts
        self.anchors = draw_anchors("grid", 100, 1, streams(self.seeds, "anchors"))

    def has(self, part: str) -> bool:
        return part in self.parts

    def outputs(self, part: str) -> Outputs:
        return self.parts[part]


def made_up(n: int, seed: int, direction: float) -> Outputs:
    """Two replicas that know the age in part; with a ``direction`` of −1 the features fall with it."""
    generator = torch.Generator().manual_seed(seed)
    ages = torch.randint(1, 90, (2, n), generator=generator).float()
    features = direction * (ages + 12 * torch.randn(2, n, generator=generator)) / 10
    score = direction * features - 3.6
    return Outputs(
        features.unsqueeze(-1),
        torch.stack([-score, score], -1),
        (ages > 36).long(),
        ages,
        torch.arange(n).repeat(2, 1),
    )


def age_mse_by_loop(outputs: Outputs, known: Outputs, s: int, classes: np.ndarray, direction: float) -> list[float]:
    """Squared error for each β, one sample after another: equal shares of the sorted known ages by rank."""
    features = direction * outputs.features[s, :, 0].double().numpy()
    ages, population = outputs.fine[s].numpy(), np.sort(known.fine[s].double().numpy())
    n, m = len(features), len(population)
    retrieved = np.empty(n)
    for rank, sample in enumerate(np.argsort(features)):
        # n·m small shares of mass: a rank has m of them in a row, a known age n
        shares = [population[share // n] for share in range(rank * m, (rank + 1) * m)]
        retrieved[sample] = np.mean(shares)
    members = defaultdict(list)
    for age, label in zip(known.fine[s].tolist(), known.coarse[s].tolist(), strict=True):
        members[label].append(age)
    means = np.array([np.mean(members[label]) for label in classes])
    return [float(np.mean((b * means + (1 - b) * retrieved - ages) ** 2)) for b in np.linspace(0, 1, 101)]


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_metrics_equal_a_plain_recomputation(data: Data, direction: float) -> None:
    parts = {
        "evaluation": made_up(90, 1, direction),
        "validation": made_up(40, 2, direction),
        "heldout": made_up(60, 3, direction),
    }
    evaluators = {e.name: e for e in Age().evaluators(data, AgeOptions())}
    transport = evaluators["transport"].measure
    features = evaluators["features"].measure
    assert transport is not None
    assert features is not None
    measured = {name: value.tolist() for name, value in transport(Stored(parts)).items()}
    bits = {name: value.tolist() for name, value in features(Stored(parts)).items()}
    known = parts["evaluation"]
    for s in range(2):
        by_part = {
            name: age_mse_by_loop(part, known, s, part.logits[s].argmax(-1).numpy(), direction)
            for name, part in parts.items()
        }
        halves = [
            Outputs(**{name: value[:, part] for name, value in vars(parts["validation"]).items()})
            for part in (slice(20), slice(20, None))
        ]
        first, second = (
            np.array(age_mse_by_loop(half, known, s, half.logits[s].argmax(-1).numpy(), direction)) for half in halves
        )
        hard = age_mse_by_loop(known, known, s, known.coarse[s].numpy(), direction)
        released = by_part["evaluation"]
        chosen = int(np.argmin(by_part["validation"]))
        expected = {
            "mse/transport": min(released),
            "mse/transport-hard": min(hard),
            "mse/transport-alone": released[0],
            "mse/class-mean": released[100],
            "interpolation/beta": np.argmin(released) / 100,
            "mse/transport-heldout": by_part["heldout"][chosen],
            "mse/class-mean-heldout": by_part["heldout"][100],
            "interpolation/beta-heldout": chosen / 100,
            "mse/transport-heldout-validation": (second[first.argmin()] + first[second.argmin()]) / 2,
            "mse/class-mean-heldout-validation": by_part["validation"][100],
            "interpolation/beta-heldout-validation": (first.argmin() + second.argmin()) / 200,
            "mse/random-pairing": 2 * known.fine[s].double().var(correction=0).item(),
        }
        assert {name: values[s] for name, values in measured.items()} == pytest.approx(expected, rel=1e-5)
        assert measured["mse/transport"][s] < measured["mse/class-mean"][s] < measured["mse/random-pairing"][s]
        counts, _ = np.histogram(known.features[s].numpy(), 100)
        assert bits["entropy/features"][s] == pytest.approx(scipy_entropy(counts, base=2), abs=0.05)
        assert bits["entropy/features-corrected"][s] > bits["entropy/features"][s]


def test_a_diverged_replica_measures_nan_and_its_neighbour_does_not_notice(data: Data) -> None:
    parts = {name: made_up(50, seed, 1.0) for seed, name in enumerate(("evaluation", "validation", "heldout"))}
    evaluators = {e.name: e for e in Age().evaluators(data, AgeOptions())}
    measure = evaluators["transport"].measure
    assert measure is not None
    before = measure(Stored(parts))
    broken = {name: replace(part, features=part.features.clone()) for name, part in parts.items()}
    for part in broken.values():
        part.features[0, 0] = torch.nan
    after = measure(Stored(broken))
    for name, value in after.items():
        assert value[1] == before[name][1]
        if name not in ("mse/random-pairing",):
            assert value[0].isnan(), name


def test_a_resumed_training_equals_an_undisturbed_one() -> None:
    whole = Training(trial("fierce"))
    records = list(whole.run())
    first = Training(trial("fierce"))
    next(first.run())
    second = Training(trial("fierce"))
    second.load(first.state())
    (resumed,) = second.run()
    assert resumed.metrics == records[1].metrics
