"""The few-shot evaluator against a plain loop, scikit-learn and scipy."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.neighbors import NearestCentroid
from torch import Tensor

import trainables.evaluators.few_shot as evaluator
from trainables.evaluators import Outputs
from trainables.evaluators.few_shot import Runs, draw_runs, few_shot, half_width, nearest_class_mean


def clustered(labels: Tensor, replicas: int, d: int, seed: int = 0, noise: float = 1.5) -> Tensor:
    """Features (S, n, d) in float64 of overlapping classes, different for every replica."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(replicas, int(labels.max()) + 1, d, generator=g, dtype=torch.float64)
    return centres[:, labels] + noise * torch.randn(replicas, len(labels), d, generator=g, dtype=torch.float64)


def unequal_labels() -> Tensor:
    """Seven classes of 9 to 40 samples, shuffled."""
    sizes = torch.tensor([9, 12, 40, 10, 25, 11, 30])
    labels = torch.arange(7).repeat_interleave(sizes)
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]


def plain_loop(features: np.ndarray, runs: Runs, shots: int) -> np.ndarray:
    """Accuracy (R,) of one replica, one run, one query and one class at a time."""
    accuracy = []
    for support, queries in zip(runs.support[:, :, :shots].numpy(), runs.queries.numpy(), strict=True):
        right = total = 0
        for way, row in enumerate(queries):
            for sample in row:
                distances = []
                for of_class in support:
                    mean = sum(features[s] for s in of_class) / len(of_class)
                    distances.append(float(np.sqrt(((features[sample] - mean) ** 2).sum())))
                right += int(np.argmin(distances) == way)
                total += 1
        accuracy.append(right / total)
    return np.array(accuracy)


@pytest.mark.parametrize("shots", [1, 5])
def test_equals_a_plain_loop_run_by_run(shots: int) -> None:
    labels = unequal_labels()
    features = clustered(labels, replicas=3, d=6)
    runs = draw_runs(labels, ways=5, shots=shots, queries=4, runs=40, seed=0)
    (ours,) = nearest_class_mean(features, runs, [shots])
    assert ours.shape == (3, 40)
    assert 0.3 < ours.mean() < 0.9  # neither chance nor ceiling, where a wrong rule could hide
    for replica in range(3):
        np.testing.assert_allclose(ours[replica], plain_loop(features[replica].numpy(), runs, shots), atol=1e-12)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # its variance of one sample
@pytest.mark.parametrize("shots", [1, 5])
def test_equals_nearest_centroid(shots: int) -> None:
    labels = unequal_labels()
    features = clustered(labels, replicas=2, d=8)
    runs = draw_runs(labels, ways=5, shots=shots, queries=4, runs=60, seed=3)
    (ours,) = nearest_class_mean(features, runs, [shots])
    columns = np.arange(5)
    for replica in range(2):
        x = features[replica].numpy()
        for r in range(60):
            model = NearestCentroid().fit(x[runs.support[r].flatten()], columns.repeat(shots))
            expected = model.score(x[runs.queries[r].flatten()], columns.repeat(4))
            assert ours[replica, r].item() == pytest.approx(expected, abs=1e-12)


def test_fewer_shots_take_the_first_of_the_support() -> None:
    labels = unequal_labels()
    features = clustered(labels, replicas=2, d=8)
    runs = draw_runs(labels, ways=4, shots=5, queries=4, runs=30, seed=2)
    together = nearest_class_mean(features, runs, [5, 1, 3])
    assert together.shape == (3, 2, 30)
    for ours, shots in zip(together, (5, 1, 3), strict=True):
        np.testing.assert_allclose(ours[1], plain_loop(features[1].numpy(), runs, shots), atol=1e-12)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = unequal_labels()
    features = clustered(labels, replicas=2, d=8)
    runs = draw_runs(labels, ways=5, shots=1, queries=4, runs=37, seed=3)
    whole = nearest_class_mean(features, runs, [1])
    monkeypatch.setattr(evaluator, "_CHUNK_RUNS", 7)
    torch.testing.assert_close(nearest_class_mean(features, runs, [1]), whole, rtol=0, atol=0)


def test_runs_are_distinct_samples_of_distinct_classes() -> None:
    labels = unequal_labels()
    runs = draw_runs(labels, ways=5, shots=5, queries=4, runs=500, seed=0)
    assert runs.support.shape == (500, 5, 5)
    assert runs.queries.shape == (500, 5, 4)
    for support, queries in zip(runs.support, runs.queries, strict=True):
        samples = torch.cat([support, queries], 1)
        assert len(samples.unique()) == 45
        of = labels[samples]
        assert (of == of[:, :1]).all()
        assert len(of[:, 0].unique()) == 5


def test_runs_depend_on_their_seed_alone() -> None:
    labels = unequal_labels()

    def draw(seed: int) -> Tensor:
        torch.rand(seed + 1)  # the global stream must not matter
        return draw_runs(labels, ways=3, shots=1, queries=2, runs=20, seed=seed).queries

    assert torch.equal(draw(5), draw(5))
    assert not torch.equal(draw(5), draw(6))


def test_runs_are_uniform_over_classes_samples_and_roles() -> None:
    """χ² over every (class, support sample) cell, of unequal classes of 3 and 6 samples."""
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 1, 1, 1])
    runs = draw_runs(labels, ways=2, shots=1, queries=2, runs=6000, seed=11)
    for drawn in (runs.support[..., 0], runs.queries[..., 0], runs.queries[..., 1]):
        for label, size in ((0, 3), (1, 6)):
            of = drawn[labels[drawn] == label]
            assert len(of) == 6000
            counts = np.bincount(of.numpy(), minlength=9)[labels.numpy() == label]
            assert len(counts) == size
            assert stats.chisquare(counts).pvalue > 1e-3
    first = labels[runs.support[:, 0, 0]]
    assert stats.binomtest(int((first == 0).sum()), 6000).pvalue > 1e-3


def test_too_few_samples_or_classes_is_said() -> None:
    labels = torch.tensor([0] * 30 + [4] * 19)
    with pytest.raises(ValueError, match="class 4 has 19 samples, but 5 shots and 15 queries need 20"):
        draw_runs(labels, ways=2, shots=5, queries=15, runs=2, seed=0)
    with pytest.raises(ValueError, match="5-way runs need as many classes, but there are 2"):
        draw_runs(labels, ways=5, shots=1, queries=1, runs=2, seed=0)


def test_pairs_and_products_find_the_same() -> None:
    """A GPU takes the second way."""
    labels = unequal_labels()
    features = clustered(labels, replicas=3, d=6)
    runs = draw_runs(labels, ways=5, shots=5, queries=4, runs=40, seed=0)
    queries = runs.queries.flatten(1)
    answers = [
        nearest(features, runs.support, queries, [1, 5])
        for nearest in (evaluator._nearest_by_pairs, evaluator._nearest_by_products)
    ]
    assert answers[0].shape == (3, 40, 2, 20)
    assert torch.equal(*answers)


def test_a_diverged_replica_has_no_accuracy() -> None:
    labels = torch.arange(3).repeat_interleave(20)
    features = torch.randn(2, 60, 4, generator=torch.Generator().manual_seed(0))
    runs = draw_runs(labels, ways=3, shots=1, queries=5, runs=8, seed=0)
    alone = nearest_class_mean(features[:1], runs, [1])
    features[1, 7, 2] = torch.inf
    accuracy = nearest_class_mean(features, runs, [1])
    assert torch.equal(accuracy[:, :1], alone)
    assert bool(accuracy[:, 1].isnan().all())


def test_half_width_is_scipys_interval() -> None:
    accuracy = torch.rand(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for row, ours in zip(accuracy.numpy(), half_width(accuracy), strict=True):
        low, high = stats.t.interval(0.95, 49, loc=row.mean(), scale=stats.sem(row))
        assert ours.item() == pytest.approx((high - low) / 2, rel=1e-12)


@dataclass
class Held:
    """A snapshot of given features."""

    parts: dict[str, Outputs]
    epoch: int = 1
    epochs: int = 1
    seeds: tuple[int, ...] = (0, 1)
    anchors: Tensor = field(default_factory=lambda: torch.zeros(2, 2, 8))
    similarity: str = "cosine"

    def has(self, part: str) -> bool:
        return part in self.parts

    def outputs(self, part: str) -> Outputs:
        return self.parts[part]


def outputs(features: Tensor, labels: Tensor) -> Outputs:
    replicas, n, _ = features.shape
    fine = labels.expand(replicas, n)
    return Outputs(features, torch.zeros(replicas, n, 3), torch.full_like(fine, -1), fine, torch.arange(n).expand(2, n))


def test_metrics_of_every_part() -> None:
    labels = unequal_labels()
    novel, base = clustered(labels, 2, 8, seed=5, noise=2.0), clustered(labels, 2, 8, seed=6) + 4
    few = torch.tensor([0, 1, 2]).repeat_interleave(20)
    snapshot = Held(
        {"base": outputs(base, labels), "novel": outputs(novel, labels), "other": outputs(clustered(few, 2, 8), few)}
    )
    evaluator = few_shot(
        parts={"novel": "", "other": "-validation", "absent": "-absent"}, base="base", queries=4, runs=50, seed=9
    )
    assert evaluator.measure is not None
    measured = evaluator.measure(snapshot)
    names = {
        f"accuracy/{k}-shot{kind}{part}" for k in (1, 5) for kind in ("", "-normalized") for part in ("", "-validation")
    }
    assert set(measured) == names | {f"{name}-ci" for name in names}
    assert all(value.shape == (2,) for value in measured.values())

    runs = draw_runs(labels, ways=5, shots=5, queries=4, runs=50, seed=9)
    for replica in range(2):
        x, centre = novel[replica].numpy(), base[replica].numpy().mean(0)
        expected = plain_loop(x, runs, 1)
        assert measured["accuracy/1-shot"][replica].item() == pytest.approx(expected.mean(), abs=1e-12)
        unit = (x - centre) / np.linalg.norm(x - centre, axis=1, keepdims=True)
        expected = plain_loop(unit, runs, 1)
        assert measured["accuracy/1-shot-normalized"][replica].item() == pytest.approx(expected.mean(), abs=1e-12)
    # three classes only: three ways, whose chance level is a third
    runs = draw_runs(few, ways=3, shots=5, queries=4, runs=50, seed=9)
    expected = plain_loop(snapshot.parts["other"].features[0].numpy(), runs, 5)
    assert measured["accuracy/5-shot-validation"][0].item() == pytest.approx(expected.mean(), abs=1e-12)


def test_collapsed_features_are_at_chance() -> None:
    labels = unequal_labels()
    runs = draw_runs(labels, ways=5, shots=1, queries=4, runs=10, seed=0)
    assert nearest_class_mean(torch.ones(1, len(labels), 8), runs, [1])[0, 0].tolist() == pytest.approx([0.2] * 10)


def test_replicas_with_other_samples_are_refused() -> None:
    labels = unequal_labels()
    held = outputs(clustered(labels, 2, 8), labels)
    shuffled = Outputs(held.features, held.logits, held.coarse, torch.stack([labels, labels.flip(0)]), held.indices)
    evaluator = few_shot(parts={"novel": ""}, base="novel", queries=4, runs=5)
    assert evaluator.measure is not None
    with pytest.raises(ValueError, match="the samples of part 'novel' differ between replicas"):
        evaluator.measure(Held({"novel": shuffled}))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_accuracy_by_distances_that_are_not_finite_is_nan(value: float) -> None:
    """1e30 is finite, its square is not: all distances would tie, and the first class be the nearest."""
    fine = torch.arange(4).repeat_interleave(12)
    features = torch.randn(3, 48, 5, generator=torch.Generator().manual_seed(1)) + fine[:, None]
    spoilt = features.clone()
    spoilt[1, 7, 2] = value

    def measure(features: Tensor) -> Any:
        outputs = Outputs(features, features[..., :2], fine.expand(3, -1), fine.expand(3, -1), fine.expand(3, -1))
        snapshot = SimpleNamespace(has=lambda part: True, outputs=lambda part: outputs)
        judge = few_shot(parts={"train": ""}, ways=4, shots=(1, 3), queries=5, runs=20)
        assert judge.measure is not None
        return judge.measure(cast(Any, snapshot))

    healthy, measured = measure(features), measure(spoilt)
    for name, values in measured.items():
        assert values.isnan().tolist() == [False, True, False], name
        # not finite is part of the mean that centres its own replica alone
        assert torch.equal(values[[0, 2]], healthy[name][[0, 2]]), name
