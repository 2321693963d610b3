"""FIERCE whose anchors move: against a plain loop, scikit-learn's k-means and a hand-worked case; its state."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch.nn import functional

from trainables.criteria.fierce import Fierce
from trainables.criteria.fierce_learned import DEAD_SHARE, FierceLearned, nearest_anchors
from trainables.criterion import Batch, Criterion, Setup
from trainables.replicas import stream, streams
from trainables.training import Training
from trainables.trial import Recipe, Trial

S, B, C, D, E = 3, 30, 2, 4, 6


def drawn(*shape: int, name: str = "features") -> torch.Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


def made(kind: type[Criterion], anchors: torch.Tensor, **values: float) -> Criterion:
    recipe = Recipe(1, B, 0.1, similarity="dot", hyperparameters={"lambda": 0.5, "e": anchors.shape[1]})
    seeds = tuple(range(len(anchors)))
    return kind(Setup(seeds, kind.settle(values, recipe), recipe, anchors, anchors.shape[2], C))


def batches(features: torch.Tensor, epoch: int = 1) -> Batch:
    logits, targets = torch.zeros(*features.shape[:2], C).to(features), torch.zeros(features.shape[:2]).long()
    generators = {name: streams(range(len(features)), name, epoch) for name in ("gumbel", "reseeding")}
    return Batch(logits, features, targets, generators.__getitem__)


def test_the_nearest_anchor_is_numpy_s() -> None:
    features, anchors = drawn(S, B, D), drawn(S, E, D, name="anchors")
    distances = np.linalg.norm(features.numpy()[:, :, None] - anchors.numpy()[:, None], axis=-1)
    assert np.array_equal(nearest_anchors(features, anchors).numpy(), distances.argmin(-1))


def test_the_loss_is_fierce_s_before_the_anchors_move() -> None:
    given, anchors = drawn(S, B, D), drawn(S, E, D, name="anchors")
    fixed, learned = made(Fierce, anchors), made(FierceLearned, anchors)
    assert torch.equal(fixed(batches(given)), learned(batches(given)))
    assert torch.equal(learned.anchors.mean(), learned.setup.anchors.mean()) is False
    assert torch.equal(fixed.anchors, anchors) and torch.equal(learned.setup.anchors, anchors)


def plainly(anchors: np.ndarray, data: list[np.ndarray], decay: float, seed: int) -> tuple[np.ndarray, list[int]]:
    """The anchors (e, d) of one replica after the batches, and how many were dead, sample by sample."""
    counts, sums, dead = np.ones(len(anchors)), anchors.copy(), []
    generator = stream(seed, "reseeding", 1)
    for features in data:
        taken, total = np.zeros(len(anchors)), np.zeros_like(anchors)
        for feature in features:
            nearest = min(range(len(anchors)), key=lambda i: float(np.sum((feature - anchors[i]) ** 2)))
            taken[nearest] += 1
            total[nearest] += feature
        counts = decay * counts + (1 - decay) * taken
        sums = decay * sums + (1 - decay) * total
        mean, picks = counts.mean(), torch.randint(len(features), (len(anchors),), generator=generator)
        is_dead = counts < DEAD_SHARE * mean
        for i in np.flatnonzero(is_dead):
            counts[i], sums[i] = mean, features[picks[i]] * mean
        dead.append(int(is_dead.sum()))
        anchors = sums / counts[:, None]
    return anchors, dead


@pytest.mark.parametrize("decay", [0.99, 0.5, 0.0])
def test_anchors_move_as_in_a_plain_loop(decay: float) -> None:
    anchors = drawn(S, E, D, name="anchors")
    data = [1 + drawn(S, B, D, name=f"features {step}") for step in range(12)]
    learned, dead = made(FierceLearned, anchors, decay=decay), []
    generators = {name: streams(range(S), name, 1) for name in ("gumbel", "reseeding")}
    for features in data:
        given = batches(features)
        learned(Batch(given.logits, features, given.targets, generators.__getitem__))
        dead.append(learned.measured["anchors/dead"].tolist())
    for s in range(S):
        expected, counted = plainly(anchors[s].numpy(), [batch[s].numpy() for batch in data], decay, s)
        torch.testing.assert_close(learned.anchors[s], torch.from_numpy(expected), rtol=1e-9, atol=1e-9)
        assert [epoch[s] for epoch in dead] == counted
    assert (decay == 0.99) or sum(map(sum, dead)) > 0


def test_a_dead_anchor_is_put_onto_a_feature_of_the_batch() -> None:
    anchors = torch.tensor([[[0.0, 0.0], [100.0, 100.0]]], dtype=torch.float64)
    learned = made(FierceLearned, anchors, decay=0.05)
    features = drawn(1, B, 2)
    learned(batches(features))
    assert learned.measured["anchors/dead"].tolist() == [1.0]
    assert any(torch.allclose(learned.anchors[0, 1], feature) for feature in features[0])
    # it is not dead again at once
    assert float(learned.counts[0, 1]) == pytest.approx(float(B) * 0.95 / 2 + 0.05, rel=1e-9)


def test_still_features_find_the_centres_of_k_means() -> None:
    centres = torch.tensor([[-5.0, 0.0], [5.0, 0.0], [0.0, 6.0]], dtype=torch.float64)
    features = (centres.repeat(20, 1) + 0.3 * drawn(60, 2)).unsqueeze(0)
    learned = made(FierceLearned, centres.unsqueeze(0) + 0.8, decay=0.9)
    for _ in range(300):
        learned(batches(features))
    expected = KMeans(3, init=centres.numpy(), n_init=1).fit(features[0].numpy()).cluster_centers_
    torch.testing.assert_close(learned.anchors[0], torch.from_numpy(expected), rtol=1e-6, atol=1e-6)


def test_no_gradient_reaches_the_anchors_and_nan_stays_with_its_replica() -> None:
    features, anchors = drawn(S, B, D), drawn(S, E, D, name="anchors")
    healthy, spoilt = made(FierceLearned, anchors), made(FierceLearned, anchors)
    leaf = features.clone().requires_grad_()
    first = healthy(batches(leaf))
    # after the anchors have moved, that of the anchors as they were
    (gradient,) = torch.autograd.grad(first.sum(), leaf)
    (expected,) = torch.autograd.grad(made(Fierce, anchors)(batches(leaf)).sum(), leaf)
    assert torch.equal(gradient, expected) and not healthy.anchors.requires_grad
    features[1, 0, 0] = torch.nan
    second = spoilt(batches(features))
    assert math.isnan(float(second[1])) and torch.equal(second[[0, 2]], first.detach()[[0, 2]])
    assert torch.equal(spoilt.anchors[[0, 2]], healthy.anchors[[0, 2]])


@pytest.mark.parametrize("values", [{"lambda": 1e6, "e": 500}, {"lambda": 1e-6, "e": 2, "decay": 0.0}])
def test_extreme_settings_train(values: dict[str, float]) -> None:
    trial = Trial("tests.tiny:Tiny", "fierce-learned", (0, 1), hyperparameters=values, training={"epochs": 3})
    for record in Training(trial).run():
        assert all(math.isfinite(value) for value in record.metrics["loss/train"])


@pytest.mark.slow
def test_at_lambda_zero_it_is_cross_entropy() -> None:
    values = {"lambda": 0.0, "e": 10}
    zero = Trial("tests.tiny:Tiny", "fierce-learned", (0, 1), hyperparameters=values, training={"epochs": 2})
    plain = Training(Trial("tests.tiny:Tiny", "ce", (0, 1), training={"epochs": 2}))
    for one, other in zip(Training(zero).run(), plain.run(), strict=True):
        # floors are measured with cross-entropy alone
        floors = {metric.name for metric in plain.metrics if metric.floor_of}
        assert one.metrics == {name: values for name, values in other.metrics.items() if name not in floors}


def test_anchors_are_kept_and_a_resumed_training_is_identical() -> None:
    trial = Trial("tests.tiny:Tiny", "fierce-learned", (0, 1), training={"epochs": 5})
    undisturbed = Training(trial)
    expected = [record.metrics for record in undisturbed.run()]
    begun, file = Training(trial), io.BytesIO()
    run = begun.run()
    before = [next(run).metrics for _ in range(2)]
    torch.save(begun.state(), file)
    file.seek(0)
    resumed = Training(trial)
    resumed.load(torch.load(file, weights_only=True))
    assert torch.equal(resumed.anchors, begun.anchors) and not torch.equal(resumed.anchors, Training(trial).anchors)
    assert before + [record.metrics for record in resumed.run()] == expected
    assert torch.equal(resumed.anchors, undisturbed.anchors)
    # what is monitored is monitored at the anchors as they are now
    features, _ = undisturbed._predict(undisturbed.parts["heldout"])
    assert functional.one_hot(nearest_anchors(features, undisturbed.anchors)).sum() == features.shape[:2].numel()
