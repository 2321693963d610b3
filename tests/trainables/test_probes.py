"""Probes of fine labels against scikit-learn and scipy, and the edges of what they are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn import cluster, linear_model, metrics, neighbors
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from trainables.evaluators import Outputs, clusters, descent, linear_probe, neighbours, probes, scores
from trainables.replicas import streams

SEEDS = (0, 1)


def blobs(seed: int, n: int = 120, d: int = 6, fine: int = 6, coarse: int = 2, spread: float = 0.5) -> Outputs:
    """Two replicas' outputs: fine classes around means of their own, three to a coarse class."""
    means = np.random.default_rng(0).normal(size=(len(SEEDS), fine, d))
    random = np.random.default_rng(seed)
    labels = random.integers(0, fine, (len(SEEDS), n))
    features = means[np.arange(len(SEEDS))[:, None], labels] + spread * random.normal(size=(len(SEEDS), n, d))
    parts = [
        torch.from_numpy(array) for array in (features, np.zeros((len(SEEDS), n, coarse)), labels % coarse, labels)
    ]
    return Outputs(*parts, torch.arange(n).expand(len(SEEDS), n))


def valued(seed: int, n: int = 120) -> Outputs:
    """The same with fine labels of three values that follow the features in part."""
    outputs = blobs(seed, n)
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(6, 3)))
    noise = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(len(SEEDS), n, 3)))
    fine = torch.tanh(outputs.features @ weights) + 0.3 * noise
    return Outputs(outputs.features, outputs.logits, outputs.coarse, fine, outputs.indices)


def test_ridge_is_scikit_learns_at_its_strength() -> None:
    train, tuning = valued(2, 40), valued(3, 30)
    weights, offset, strength = linear_probe.ridge(train.features, train.fine, tuning.features, tuning.fine)
    for s in range(len(SEEDS)):
        x, y = train.features[s].numpy(), train.fine[s].numpy()
        scale = np.var(x, 0).mean() * len(x)
        tried = [linear_model.Ridge(strength * scale).fit(x, y) for strength in linear_probe.RIDGE]
        losses = [np.square(m.predict(tuning.features[s]) - tuning.fine[s].numpy()).mean() for m in tried]
        best = int(np.argmin(losses))
        assert strength[s].item() == pytest.approx(linear_probe.RIDGE[best])
        np.testing.assert_allclose(weights[s].T, tried[best].coef_, rtol=1e-7)
        np.testing.assert_allclose(offset[s], tried[best].intercept_, rtol=1e-7)


def test_ridge_does_not_depend_on_scale_and_takes_constant_features() -> None:
    train, tuning = valued(2, 40), valued(3, 30)
    plain = linear_probe.ridge(train.features, train.fine, tuning.features, tuning.fine)
    scaled = linear_probe.ridge(1e4 * train.features, train.fine, 1e4 * tuning.features, tuning.fine)
    torch.testing.assert_close(1e4 * scaled[0], plain[0])
    # as a training has it
    torch.set_flush_denormal(True)
    constant = torch.ones_like(train.features)
    weights, offset, _ = linear_probe.ridge(constant, train.fine, constant[:, :30], tuning.fine)
    said = linear_probe.outputs(constant, weights, offset)
    torch.testing.assert_close(said, train.fine.mean(1, keepdim=True).expand_as(said))


def test_logistic_is_scikit_learns_at_its_strength() -> None:
    train, tuning = blobs(2), blobs(3, 60)
    weights, offset, strength = linear_probe.logistic(train.features, train.fine, tuning.features, tuning.fine, 6)
    for s in range(len(SEEDS)):
        scaler = StandardScaler().fit(train.features[s])
        x, y = scaler.transform(train.features[s]), train.fine[s].numpy()
        tried = [
            linear_model.LogisticRegression(C=1 / (strength * len(x)), tol=1e-9, max_iter=5000).fit(x, y)
            for strength in linear_probe.LOGISTIC
        ]
        unseen = scaler.transform(tuning.features[s])
        losses = [metrics.log_loss(tuning.fine[s], m.predict_proba(unseen), labels=range(6)) for m in tried]
        best = int(np.argmin(losses))
        assert strength[s].item() == pytest.approx(linear_probe.LOGISTIC[best])
        said = linear_probe.outputs(tuning.features, weights, offset)[s].softmax(-1)
        np.testing.assert_allclose(said, tried[best].predict_proba(unseen), atol=2e-3)


def test_problems_are_minimised_apart() -> None:
    """Convex problems of different size and curvature, against scipy; each alone as among the others."""
    random = np.random.default_rng(0)
    slopes, offsets = random.normal(size=(4, 30, 5)), random.normal(size=(4, 30))
    weights = np.array([0.01, 1.0, 100.0, 1e4])

    def one(x: np.ndarray, p: int) -> tuple[float, np.ndarray]:
        terms = weights[p] * np.exp(slopes[p] @ x + offsets[p])
        return float(terms.sum() + x @ x), slopes[p].T @ terms + 2 * x

    def objective(x: Tensor, problems: Sequence[int] = range(4)) -> tuple[Tensor, Tensor]:
        values, gradients = zip(*(one(row, p) for row, p in zip(x.numpy(), problems, strict=True)), strict=True)
        return torch.tensor(values, dtype=torch.float64), torch.from_numpy(np.stack(gradients))

    start = torch.zeros(4, 5, dtype=torch.float64)
    minima = descent.minimise(objective, start, tolerance=1e-6)
    for p in range(4):
        expected = optimize.minimize(one, start[p].numpy(), (p,), jac=True, method="BFGS", tol=1e-10).x
        np.testing.assert_allclose(minima[p], expected, rtol=1e-5, atol=1e-7)
        alone = descent.minimise(lambda x, p=p: objective(x, [p]), start[p : p + 1], tolerance=1e-6)
        assert torch.equal(alone, minima[p : p + 1])


def test_neighbours_are_scikit_learns() -> None:
    train, asked = blobs(2), blobs(3, 50)
    nearest = neighbours.nearest(train.features + 100, asked.features + 100, 5)
    votes = neighbours.vote(train.fine, nearest, 6)
    averages = neighbours.average(valued(2).fine, nearest)
    for s in range(len(SEEDS)):
        x, queries = train.features[s].numpy(), asked.features[s].numpy()
        expected = neighbors.NearestNeighbors(n_neighbors=5).fit(x).kneighbors(queries, return_distance=False)
        assert [set(row) for row in nearest[s].tolist()] == [set(row) for row in expected.tolist()]
        classifier = neighbors.KNeighborsClassifier(5).fit(x, train.fine[s])
        assert votes[s].tolist() == classifier.predict(queries).tolist()
        regressor = neighbors.KNeighborsRegressor(5).fit(x, valued(2).fine[s])
        np.testing.assert_allclose(averages[s], regressor.predict(queries), rtol=1e-9)


def test_nearest_mean_is_scikit_learns_and_never_an_absent_class() -> None:
    train, asked = blobs(2), blobs(3, 50)
    nearest = neighbours.nearest_mean(train.features, train.fine, asked.features, 8)
    for s in range(len(SEEDS)):
        expected = neighbors.NearestCentroid().fit(train.features[s], train.fine[s]).predict(asked.features[s])
        assert nearest[s].tolist() == expected.tolist()


def test_clusters_lie_within_coarse_classes_and_are_as_tight_as_scikit_learns() -> None:
    outputs = blobs(2, spread=0.2)
    counts = [[3, 3], [3, 3]]
    numbered = clusters.within_classes(outputs.features, outputs.coarse, counts, streams(SEEDS, "clusters"))
    for s in range(len(SEEDS)):
        for c in range(2):
            members = outputs.coarse[s] == c
            own = numbered[s][members]
            assert set(own.tolist()) <= {3 * c, 3 * c + 1, 3 * c + 2}
            x = outputs.features[s][members].numpy()
            inertia = sum(np.square(x[own == k] - x[own == k].mean(0)).sum() for k in own.unique())
            reference = cluster.KMeans(3, n_init=10, random_state=0).fit(x).inertia_
            assert inertia == pytest.approx(reference, rel=0.02)
    alone = clusters.within_classes(
        outputs.features[1:], outputs.coarse[1:], counts[1:], streams(SEEDS[1:], "clusters")
    )
    assert torch.equal(alone[0], numbered[1])


def test_clusters_are_paired_with_labels_by_hand() -> None:
    told = torch.tensor([[0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2]])
    true = torch.tensor([[2, 2, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]])
    assert clusters.matched_accuracy(told, true, 3, 3).tolist() == pytest.approx([5 / 6, 2 / 6])


def test_scores_are_scikit_learns_and_scipys() -> None:
    true = valued(2).fine
    # ties, and a prediction that says nothing
    predicted = (true + valued(5).fine).round(decimals=1)
    predicted[1, :, 2] = 1.0
    for s in range(len(SEEDS)):
        assert scores.r_squared(predicted, true)[s] == pytest.approx(metrics.r2_score(true[s], predicted[s]))
        assert scores.mean_squared_error(predicted, true)[s] == pytest.approx(
            metrics.mean_squared_error(true[s], predicted[s])
        )
        known = [stats.spearmanr(predicted[s, :, m], true[s, :, m]).statistic for m in range(3) if (s, m) != (1, 2)]
        assert scores.spearman(predicted, true)[s] == pytest.approx(sum(known) / 3)


def test_labels_that_do_not_vary_are_left_out() -> None:
    true, predicted = valued(2).fine.clone(), valued(5).fine
    true[:, :, 1] = 4.0
    two = [0, 2]
    assert torch.equal(scores.r_squared(predicted, true), scores.r_squared(predicted[..., two], true[..., two]))
    assert torch.equal(scores.spearman(predicted, true), scores.spearman(predicted[..., two], true[..., two]))
    assert scores.r_squared(predicted[..., :1], true[..., 1:2]).isnan().all()


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_probes_of_a_replica_do_not_depend_on_the_others(kind: str) -> None:
    made = blobs if kind == "classes" else valued
    probe = probes.Classes(torch.arange(6), 2) if kind == "classes" else probes.Values(2)
    train, tuning, heldout = made(2), made(3, 40), made(4, 60)
    (together,) = probe.measure(train, [(train, tuning, heldout)], SEEDS)
    assert together.keys() == {metric.name for metric in probe.metrics}
    single = [
        Outputs(outputs.features[1:], outputs.logits[1:], outputs.coarse[1:], outputs.fine[1:], outputs.indices[1:])
        for outputs in (train, tuning, heldout)
    ]
    (alone,) = probe.measure(single[0], [(single[0], single[1], single[2])], SEEDS[1:])
    for name, values in together.items():
        torch.testing.assert_close(alone[name], values[1:], rtol=1e-6, atol=1e-9)


def test_separate_classes_are_read_by_every_probe() -> None:
    train, heldout = blobs(2, spread=0.05), blobs(4, spread=0.05)
    (metrics,) = probes.Classes(torch.arange(6), 2).measure(train, [(train, heldout, heldout)], SEEDS)
    assert all(values.tolist() == [1.0, 1.0] for values in metrics.values())
