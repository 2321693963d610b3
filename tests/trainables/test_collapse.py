"""Class separation, CDNV, NC1, spectral decay and likelihood, against their definitions by loops and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics import log_loss
from torch import Tensor

from trainables.evaluators import collapse, likelihood, spectrum


def scattered(seed: int, replicas: int = 3, n: int = 60, d: int = 5, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Features around class means, and classes of unequal sizes; the last class has no sample in replica 0."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, (replicas, n))
    labels[0] %= classes - 1
    features = random.normal(size=(replicas, classes, d))[np.arange(replicas)[:, None], labels]
    features = features + 0.3 * random.normal(size=(replicas, n, d)) + 2
    return torch.from_numpy(features), torch.from_numpy(labels)


def groups(features: Tensor, labels: Tensor) -> list[np.ndarray]:
    """The features of each class that has one, of one replica."""
    return [features[labels == c].numpy() for c in labels.unique()]


def test_class_separation_is_one_less_the_ratio_of_mean_cosine_distances() -> None:
    features, labels = scattered(0)
    expected = []
    for own, classes in zip(features, labels, strict=True):
        parts = groups(own, classes)
        within = np.mean([cdist(part, part, "cosine").mean() for part in parts])
        total = np.mean([cdist(a, b, "cosine").mean() for a, b in itertools.product(parts, parts)])
        expected.append(1 - within / total)
    assert collapse.class_separation(features, labels, 4).tolist() == pytest.approx(expected)


def test_cdnv_is_the_mean_over_pairs() -> None:
    features, labels = scattered(1)
    expected = []
    for own, classes in zip(features, labels, strict=True):
        parts = groups(own, classes)
        pairs = itertools.combinations(parts, 2)
        expected.append(
            np.mean(
                [(a.var(0).sum() + b.var(0).sum()) / (2 * np.square(a.mean(0) - b.mean(0)).sum()) for a, b in pairs]
            )
        )
    assert collapse.class_distance_normalized_variance(features, labels, 4).tolist() == pytest.approx(expected)


def test_nc1_is_the_trace_with_the_pseudo_inverse() -> None:
    features, labels = scattered(2)
    expected = []
    for own, classes in zip(features, labels, strict=True):
        parts = groups(own, classes)
        within = sum((part - part.mean(0)).T @ (part - part.mean(0)) for part in parts) / len(own)
        between = np.cov(np.stack([part.mean(0) for part in parts]).T, bias=True)
        expected.append(np.trace(within @ np.linalg.pinv(between, hermitian=True)) / len(parts))
    assert collapse.within_between(features, labels, 4).tolist() == pytest.approx(expected)


def test_collapsed_classes_are_at_the_ends() -> None:
    labels = torch.tensor([[0, 1, 2] * 5])
    features = torch.eye(3)[labels[0]].unsqueeze(0)
    assert collapse.class_separation(features, labels, 3).tolist() == pytest.approx([1.0])
    assert collapse.class_distance_normalized_variance(features, labels, 3).tolist() == [0.0]
    assert collapse.within_between(features, labels, 3).tolist() == [0.0]


def test_one_class_alone_has_no_pair() -> None:
    features, labels = torch.rand(1, 8, 3), torch.ones(1, 8, dtype=torch.int64)
    assert collapse.class_distance_normalized_variance(features, labels, 3).isnan().all()
    assert collapse.within_between(features, labels, 3).isnan().all()


def test_the_decay_of_a_power_law_is_found() -> None:
    """Features whose covariance has eigenvalues rank^−α exactly, and directions that are never used."""
    random = np.random.default_rng(0)
    for alpha in (0.5, 1.0, 2.5):
        basis = np.linalg.qr(random.normal(size=(200, 12)) - 0.0)[0]
        basis = np.linalg.qr(basis - basis.mean(0))[0]
        scaled = basis * np.arange(1, 13) ** (-alpha / 2)
        features = torch.from_numpy(np.concatenate([scaled, np.zeros((200, 3))], 1) + 7)
        exponents = spectrum.decay_exponent(torch.stack([features, 1000 * features]))
        assert exponents.tolist() == pytest.approx([alpha, alpha], rel=1e-6)


def test_the_decay_is_the_weighted_least_squares_slope() -> None:
    features = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 50, 9)) ** 3)
    for own, exponent in zip(features, spectrum.decay_exponent(features).tolist(), strict=True):
        eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(own.numpy().T)))[::-1]
        rank = np.arange(1, 10)
        # polyfit takes the square root of the weights
        slope = np.polyfit(np.log(rank), np.log(eigenvalues), 1, w=rank**-0.5)[0]
        assert exponent == pytest.approx(-slope)


def test_what_has_no_spectrum_has_no_decay() -> None:
    assert spectrum.decay_exponent(torch.ones(1, 20, 5)).isnan().all()
    assert spectrum.decay_exponent(torch.full((1, 20, 5), math.nan)).isnan().all()


def test_likelihood_is_scikit_learns() -> None:
    logits = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 30, 4)))
    coarse = torch.arange(60).view(2, 30) % 4
    expected = [
        log_loss(classes, own.softmax(-1), labels=range(4)) for own, classes in zip(logits, coarse, strict=True)
    ]
    assert likelihood.negative_log_likelihood(logits, coarse).tolist() == pytest.approx(expected)
