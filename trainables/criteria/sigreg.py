"""Sketched isotropic Gaussian regularisation of the features, SIGReg (LeJEPA: Balestriero & LeCun 2025, 2511.08544)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.criteria.ce import cross_entropy
from trainables.criterion import Batch, Criterion, Hyperparameter
from trainables.metrics import Metric
from trainables.replicas import drawn

#: the integral over −T_MAX..T_MAX is twice that over 0..T_MAX, by the trapezoid rule on so many knots
T_MAX, KNOTS = 3.0, 17
#: projected values that are worked on at once: on a CPU what its cache holds
CHUNK_VALUES = {"cpu": 2**16}
CHUNK_VALUES_ELSEWHERE = 2**22

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
    normal = drawn(lambda values, g: values.normal_(generator=g), (d, count), generators, like.dtype, like.device)
    # a third of the time of `torch.nn.functional.normalize`
    return normal.div_(normal.square().sum(1, keepdim=True).sqrt_())


class SIGReg(Criterion):
    """CE + λ·mean Epps–Pulley statistic of the features along M random slices, drawn anew for each batch.

    It fixes mean, scale and shape of the features: an isotropic standard normal distribution is what it is least for.
    The statistic, knots, range and number of slices are those of the authors' library. There λ is .02, added to the
    loss as here; the .05 here was taken from the paper, whose text could not be read again. The source puts a
    projector between features and statistic, which ``training.projector`` does not: that one stands above.
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
        # a row a slice, see `_EppsPulley`
        projected = torch.bmm(slices.transpose(1, 2), batch.features.transpose(1, 2))
        statistic = epps_pulley(projected.transpose(1, 2))
        self.measured = {STATISTIC.name: statistic.detach()}
        term: Tensor = self.setup.values["strength"] * statistic
        return cross_entropy(batch.logits, batch.targets) + term


class _EppsPulley(torch.autograd.Function):
    """Closed-form gradient, found in the forward pass: autograd would keep 32 tensors of (S, B, M)."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor) -> Tensor:
        replicas, samples, slices = projected.shape
        # a row a slice, which costs no copy where the projections were computed so
        rows = projected.transpose(1, 2).reshape(-1, samples)
        height = max(1, CHUNK_VALUES.get(rows.device.type, CHUNK_VALUES_ELSEWHERE) // samples)
        gradient = torch.empty_like(rows)
        statistic = torch.cat(
            [
                _statistic(*chunks)
                for chunks in zip(torch.split(rows, height), torch.split(gradient, height), strict=True)
            ]
        )
        ctx.save_for_backward(gradient.div_(slices).view(replicas, slices, samples).transpose(1, 2))
        return statistic.view(replicas, slices).mean(1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        gradient: Tensor = ctx.saved_tensors[0]
        return gradient * upstream[0].reshape(-1, 1, 1)


#: the knots t_k = k·h, k = 1 to 16, as a square: k = 4a + b, with a = 0..3 and b = 1..4
_SIDE = 4


def _statistic(rows: Tensor, gradient: Tensor) -> Tensor:
    """The statistic (R,) of each slice, a row of ``rows`` (R, B); its ``gradient`` (R, B) is written there.

    With z = e^{ihx} a sum over samples of z^k is, for all knots at once, the product of z^{4a} and z^b as two matrices,
    so that 6 powers are evaluated instead of 16; the gradient is a sum over k of z^k, a product with z^b followed by
    one sum with z^{4a}. At k = 0 both characteristic functions are 1.
    """
    count, samples = rows.shape
    step, side = T_MAX / (KNOTS - 1), _SIDE
    # real parts before imaginary ones: z^1 to z^4, and z^4, z^8, z^12
    fine = rows.new_empty(2 * side, count, samples)
    coarse = rows.new_empty(2 * (side - 1), count, samples)
    angle = rows * step
    torch.cos(angle, out=fine[0])
    torch.sin(angle, out=fine[side])
    for power, (one, other) in enumerate(((0, 0), (1, 0), (1, 1)), start=1):
        _multiply(fine, power, fine, one, fine, other)
    coarse[0], coarse[side - 1] = fine[side - 1], fine[-1]
    _multiply(coarse, 1, coarse, 0, coarse, 0)
    _multiply(coarse, 2, coarse, 1, coarse, 0)

    t, target, weight = (each.to(rows).view(side, side) for each in _knots())
    products = torch.bmm(coarse.permute(1, 0, 2), fine.permute(1, 2, 0)) / samples
    of_real, of_imaginary = torch.split(products, side - 1, dim=1)
    first = (fine.sum(2) / samples).T.unsqueeze(1)
    real = torch.cat([first[..., :side], of_real[..., :side] - of_imaginary[..., side:]], 1) - target
    imaginary = torch.cat([first[..., side:], of_real[..., side:] + of_imaginary[..., :side]], 1)
    # of cos(t_k·x) and of sin(t_k·x), by which z^b is multiplied for Re and Im of z^{4a}
    of_cosine, of_sine = 2 * weight * t * imaginary, -2 * weight * t * real
    upper = torch.cat([of_cosine, of_sine], 2)
    lower = torch.cat([of_sine, -of_cosine], 2)[:, 1:]
    summed = torch.bmm(torch.cat([upper, lower], 1), fine.permute(1, 0, 2))
    torch.addcmul(summed[:, 0], summed[:, 1], coarse[0], out=gradient)
    for place in range(1, len(coarse)):
        gradient.addcmul_(summed[:, place + 1], coarse[place])
    return samples * (weight * (real.square() + imaginary.square())).sum((1, 2))


def _knots() -> tuple[Tensor, Tensor, Tensor]:
    """t_k of k = 1 to 16, e^{−t²/2} there, and the trapezoid's weights times that."""
    t = torch.arange(1, KNOTS, dtype=torch.float64) * (T_MAX / (KNOTS - 1))
    target = (-(t**2) / 2).exp()
    weight = 2 * target * T_MAX / (KNOTS - 1)
    weight[-1] /= 2
    return t, target, weight


def _multiply(out: Tensor, place: int, first: Tensor, one: int, second: Tensor, other: int) -> None:
    """Complex product of planes ``one`` and ``other`` into plane ``place``; real planes before imaginary ones."""
    (a, b), (c, d) = ((each[at], each[at + len(each) // 2]) for each, at in ((first, one), (second, other)))
    real, imaginary = out[place], out[place + len(out) // 2]
    torch.mul(a, c, out=real).addcmul_(b, d, value=-1)
    torch.mul(a, d, out=imaginary).addcmul_(b, c)
