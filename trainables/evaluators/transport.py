"""Ages read back from a one-dimensional feature by optimal transport, for S replicas at once (§5.1, figure 1).

The features are ranked, and the ranks mapped to the known distribution of the ages; the result is interpolated with
the mean age of the predicted class. Ages are in years, squared errors in years².
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import ot
import torch
from torch import Tensor

from trainables.metrics import Metric

#: ages read from a feature of one dimension (figure 1)
AGES = tuple(
    Metric(name, label, note, "years²", "lower", reads_fine=True)
    for name, label, note in (
        (
            "mse/transport",
            "age MSE, training images",
            "released: optimal transport interpolated with class means, on 10,000 training images, best β chosen on "
            "them",
        ),
        ("mse/transport-hard", "age MSE, true class", "the same with the mean age of the true class"),
        ("mse/transport-alone", "age MSE, transport alone", "optimal transport without the class means (β = 0)"),
        ("mse/class-mean", "age MSE, class mean", "the mean age of the predicted class alone (β = 1)"),
        ("mse/random-pairing", "age MSE, random pairing", "ages dealt at random, the expected value"),
        (
            "mse/transport-heldout",
            "age MSE, held out",
            "held-out images, with the ages and class means of the training images and β chosen on validation images",
        ),
        (
            "mse/class-mean-heldout",
            "age MSE, class mean, held out",
            "the mean age of the predicted class alone (β = 1)",
        ),
    )
)
BETA = (
    Metric(
        "interpolation/beta",
        "interpolation coefficient β",
        "the β of mse/transport: 1 ignores the feature",
        reads_fine=True,
    ),
    Metric(
        "interpolation/beta-heldout",
        "interpolation coefficient β, held out",
        "the β of mse/transport-heldout",
        reads_fine=True,
    ),
)

#: the held-out metrics on the validation images, where β needs other images to be chosen on
VALIDATION = tuple(
    replace(
        metric,
        name=f"{metric.name}-validation",
        label=f"{metric.label.removesuffix(', held out')} (validation)",
        note="the same on validation images, with β chosen on one half of them and scored on the other",
        twin_of=metric.name,
    )
    for metric in (*AGES, *BETA)
    if metric.name.endswith("-heldout")
)

#: interpolation coefficients: 0 is the transported age alone, 1 the class mean alone
BETAS = torch.linspace(0, 1, 101, dtype=torch.float64)


def age_by_rank(known: Tensor, n: int) -> Tensor:
    """The age that optimal transport gives to each of ``n`` ranks: known ages (S, m) -> (S, n) float64, ascending.

    The plan is POT's between n equal masses on the ranks and m equal masses on the known ages; a rank whose mass is
    split gets the mean of the ages it goes to (barycentric projection). It holds for every feature with n values, so
    one plan per replica serves a whole training.

    >>> age_by_rank(torch.tensor([[50.0, 20, 40, 30]]), 2).tolist()
    [[25.0, 45.0]]
    """
    ranks = np.arange(n, dtype=np.float64)
    rows = []
    for ages in known.double().cpu().numpy():
        # the dense plan would be n × m
        plan = ot.emd_1d(ranks, ages, dense=False)
        # POT's plan of a single rank has one dimension
        rows.append(n * np.atleast_1d(plan @ ages))
    return torch.from_numpy(np.stack(rows)).to(known.device)


def orientation(features: Tensor, logits: Tensor) -> Tensor:
    """+1 or −1 (S,): the sign with which the features (S, n) grow with the predicted class of logits (S, n, C).

    Classes are ordered by age, and the sign is that of the covariance with the expected class Σ c·q_c, so that no
    fine label is used. +1 where the covariance is zero, NaN where an output is not finite.
    """
    order = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    # softmax over a last dimension of two takes as long as the sort; over the middle one a tenth of it
    expected = (logits.mT.contiguous().softmax(1) * order.unsqueeze(1)).sum(1)
    covariance = ((features - features.mean(1, keepdim=True)) * (expected - expected.mean(1, keepdim=True))).sum(1)
    return torch.where(covariance < 0, -1.0, 1.0).to(features.dtype).masked_fill(covariance.isnan(), torch.nan)


def transported(features: Tensor, by_rank: Tensor) -> Tensor:
    """The transported age of each sample: oriented features (S, n), `age_by_rank` (S, n) -> (S, n) float64.

    Samples whose features are equal share the mean of their ages, whatever their order. A replica with a feature
    that is not finite gets NaN throughout.
    """
    n = features.shape[1]
    values, order = features.sort(1)
    positions = torch.arange(n, device=features.device).expand_as(order)
    changes = values[:, 1:] != values[:, :-1]
    edge = changes.new_ones(len(changes), 1)
    first = torch.where(torch.cat([edge, changes], 1), positions, 0).cummax(1).values
    last = torch.where(torch.cat([changes, edge], 1), positions, n - 1).flip(1).cummin(1).values.flip(1)
    total = torch.nn.functional.pad(by_rank.cumsum(1), (1, 0))
    shared = (total.gather(1, last + 1) - total.gather(1, first)) / (last + 1 - first)
    ages = torch.empty_like(by_rank).scatter_(1, order, shared)
    return ages.masked_fill(~features.isfinite().all(1, keepdim=True), torch.nan)


def class_ages(known: Tensor, coarse: Tensor, classes: int) -> Tensor:
    """Mean age of each class: known ages (S, m) with their true classes (S, m) -> (S, C) float64.

    A class without a member gets the mean of all ages.

    >>> class_ages(torch.tensor([[20.0, 30, 70]]), torch.tensor([[0, 0, 1]]), 3).tolist()
    [[25.0, 70.0, 40.0]]
    """
    one_hot = torch.nn.functional.one_hot(coarse, classes).double()
    ages = known.double().unsqueeze(1)
    means = (ages @ one_hot).squeeze(1) / one_hot.sum(1)
    return torch.where(means.isnan(), ages.mean(2), means)


def interpolated_mse(ages: Tensor, class_age: Tensor, transported_age: Tensor) -> Tensor:
    """Mean squared error (S, 101) of β·``class_age`` + (1−β)·``transported_age`` for each β in `BETAS`; all (S, n).

    The error is a quadratic in β, so three moments give it for every β.
    """
    ages = ages.double()
    by_class, by_transport = class_age - ages, transported_age - ages
    # (S, 1) each
    squares = by_class.square().mean(1, keepdim=True), by_transport.square().mean(1, keepdim=True)
    mixed = (by_class * by_transport).mean(1, keepdim=True)
    betas = BETAS.to(ages.device)
    return betas**2 * squares[0] + 2 * betas * (1 - betas) * mixed + (1 - betas) ** 2 * squares[1]


def random_pairing_mse(ages: Tensor, known: Tensor) -> Tensor:
    """Expected squared error (S,) of ages dealt at random from the known ones: (S, n), (S, m).

    Closed form: both variances and the squared difference of the means. It is what transport gives to a feature that
    knows nothing.
    """
    ages, known = ages.double(), known.double()
    difference = ages.mean(1) - known.mean(1)
    return ages.var(1, unbiased=False) + known.var(1, unbiased=False) + difference.square()
