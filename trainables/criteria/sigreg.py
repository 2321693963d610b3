"""Sketched isotropic Gaussian regularisation of the features, SIGReg (LeJEPA: Balestriero & LeCun 2025, 2511.08544)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainables.criteria.ce import cross_entropy
from trainables.criterion import Batch, Criterion, Hyperparameter
from trainables.metrics import Metric

#: the integral over −T_MAX..T_MAX is twice that over 0..T_MAX, by the trapezoid rule on so many knots
T_MAX, KNOTS = 3.0, 17
#: projected values that are worked on at once: on a CPU what its cache holds
CHUNK_VALUES = {"cpu": 2**18}
CHUNK_VALUES_ELSEWHERE = 2**25

STATISTIC = Metric(
    "normality/batch",
    "Epps–Pulley statistic of a batch",
    "distance of a training batch's features from an isotropic standard normal distribution, mean over random slices "
    "and the epoch's batches; 0 at best",
)


def epps_pulley(projected: Tensor) -> Tensor:
    """Epps–Pulley statistic (S,) of B projected samples, mean over M slices; ``projected`` is (S, B, M).

    For a slice B·∫ |φ̂(t) − exp(−t²/2)|²·exp(−t²/2) dt over −3..3, with φ̂ the samples' empirical characteristic
    function: the less, the more they look like N(0, 1). By the trapezoid rule on 17 knots over 0..3, which symmetry
    doubles. NaN for a replica with a value that is not finite.
    """
    statistic: Tensor = _EppsPulley.apply(projected)
    return statistic


def directions(d: int, count: int, generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Random unit vectors (S, d, count), uniform on the sphere, replica s from its own stream."""
    drawn = torch.empty(len(generators), d, count, dtype=like.dtype, device=like.device)
    for replica, generator in zip(drawn, generators, strict=True):
        replica.normal_(generator=generator)
    return functional.normalize(drawn, dim=1)


class SIGReg(Criterion):
    """CE + λ·mean Epps–Pulley statistic of the features along M random slices, drawn anew for each batch.

    It fixes mean, scale and shape of the features: an isotropic standard normal distribution is what it is least for.
    """

    label = "SIGReg"
    position = 7
    hyperparameters = (
        Hyperparameter("strength", "λ", 0.05, low=0, log=True, meaning="the weight of the statistic"),
        Hyperparameter("slices", "M", 1024, low=1, whole=True, log=True, meaning="the number of random slices"),
    )
    metrics = (STATISTIC,)

    def forward(self, batch: Batch) -> Tensor:
        slices = directions(
            batch.features.shape[-1], int(self.setup.values["slices"]), batch.streams("slices"), batch.features
        )
        statistic = epps_pulley(torch.bmm(batch.features, slices))
        self.measured = {STATISTIC.name: statistic.detach()}
        term: Tensor = self.setup.values["strength"] * statistic
        return cross_entropy(batch.logits, batch.targets) + term


class _EppsPulley(torch.autograd.Function):
    """Closed-form gradient, found in the forward pass: autograd would keep 32 tensors of (S, B, M)."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor) -> Tensor:
        device, (replicas, samples, slices) = projected.device.type, projected.shape
        width = max(1, CHUNK_VALUES.get(device, CHUNK_VALUES_ELSEWHERE) // (replicas * samples))
        gradient = torch.empty_like(projected)
        statistic = projected.new_zeros(replicas)
        for start in range(0, slices, width):
            chunk = slice(start, start + width)
            values, gradient[..., chunk] = _statistic(projected[..., chunk])
            statistic += values.sum(1)
        ctx.save_for_backward(gradient.div_(slices))
        return statistic / slices

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        gradient: Tensor = ctx.saved_tensors[0]
        return gradient * upstream[0].reshape(-1, 1, 1)


def _statistic(projected: Tensor) -> tuple[Tensor, Tensor]:
    """The statistic (S, m) of each slice of (S, B, m), and its gradient (S, B, m).

    At the knots t_k = k·h, cos and sin of t_k·x follow from those of h·x: cos kθ = 2 cos θ·cos (k−1)θ − cos (k−2)θ, and
    a sum of them weighted by k from Clenshaw's recurrence.
    """
    step = T_MAX / (KNOTS - 1)
    angle = projected * step
    cosine, sine = angle.cos(), angle.sin()
    double = 2 * cosine
    # cos and sin of (k − 1)θ and of kθ
    cosines, sines = (torch.ones_like(angle), cosine.clone()), (torch.zeros_like(angle), sine.clone())
    statistic = projected.new_zeros(projected.shape[0], projected.shape[2])
    # of cos kθ and of sin kθ in the gradient's sum over k; at k = 0 both characteristic functions are 1
    of_cosines, of_sines = [torch.zeros_like(statistic)], [torch.zeros_like(statistic)]
    for k in range(1, KNOTS):
        t = k * step
        target = math.exp(-(t**2) / 2)
        weight = (step if k == KNOTS - 1 else 2 * step) * target
        real, imaginary = cosines[1].mean(1) - target, sines[1].mean(1)
        statistic += weight * (real.square() + imaginary.square())
        of_cosines.append(2 * weight * t * imaginary)
        of_sines.append(-2 * weight * t * real)
        cosines = cosines[1], cosines[0].neg_().addcmul_(double, cosines[1])
        sines = sines[1], sines[0].neg_().addcmul_(double, sines[1])
    gradient = _clenshaw(of_cosines, double, cosine, even=True) + _clenshaw(of_sines, double, cosine, even=False) * sine
    return statistic * projected.shape[1], gradient


def _clenshaw(coefficients: Sequence[Tensor], double: Tensor, cosine: Tensor, *, even: bool) -> Tensor:
    """Σ_k c_k·cos kθ where ``even``, else Σ_k c_k·sin kθ / sin θ; c_k are (S, m), ``double`` 2 cos θ (S, B, m)."""
    later, last = torch.zeros_like(double), torch.zeros_like(double)
    for coefficient in reversed(coefficients[1:]):
        later, last = last, later.neg_().addcmul_(double, last).add_(coefficient.unsqueeze(1))
    return coefficients[0].unsqueeze(1) + cosine * last - later if even else last
