"""The Epps–Pulley statistic by which SIGReg measures features: along given slices, and as the mean over all of them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import torch
from torch import Tensor

#: the integral over −T_MAX..T_MAX is twice that over 0..T_MAX, by the trapezoid rule on so many knots
T_MAX, KNOTS = 3.0, 17
#: values that are worked on at once: on a CPU what its cache holds
CHUNK_VALUES = {"cpu": 2**16}
CHUNK_VALUES_ELSEWHERE = 2**22
#: the table of `mean_over_slices`: intervals, and their width for up to `_WIDE` dimensions, above which it grows as √d
_INTERVALS, _WIDTH, _WIDE = 2**14, 1 / 32, 100


def epps_pulley(projected: Tensor) -> Tensor:
    """Epps–Pulley statistic (S,) of B projected samples, mean over M slices; ``projected`` is (S, B, M).

    For a slice B·∫ |φ̂(t) − exp(−t²/2)|²·exp(−t²/2) dt over −3..3, with φ̂ the samples' empirical characteristic
    function: the less, the more they look like N(0, 1). By the trapezoid rule on 17 knots over 0..3, which symmetry
    doubles. NaN for a replica with a value that is not finite.
    """
    statistic: Tensor = _AlongSlices.apply(projected)
    return statistic


def mean_over_slices(features: Tensor) -> Tensor:
    """The mean (S,) of `epps_pulley` over all slices of ``features`` (S, B, d): what random slices estimate.

    The mean of cos(t·u·v) over unit vectors u is Ω(t·|v|) = 0F1(; d/2; −t²|v|²/4), so that the mean of |φ̂(t)|² is one
    of Ω over all pairs of samples, and the statistic a sum of one function of their distances and one of their
    lengths. NaN for a replica with a value that is not finite.
    """
    statistic: Tensor = _OverAllSlices.apply(features)
    return statistic


class _AlongSlices(torch.autograd.Function):
    """Closed-form gradient, found in the forward pass: autograd would keep 32 tensors of (S, B, M)."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor) -> Tensor:
        replicas, samples, slices = projected.shape
        # a row a slice, which costs no copy where the projections were computed so
        rows = projected.transpose(1, 2).reshape(-1, samples)
        height = max(1, _chunk_values(rows) // samples)
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

    t, target, weight = _knots_on(rows.dtype, rows.device)
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


@lru_cache(maxsize=8)
def _knots_on(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """`_knots` as squares (4, 4) on ``device``, sent there once."""
    return tuple(each.to(device, dtype).view(_SIDE, _SIDE) for each in _knots())


def _multiply(out: Tensor, place: int, first: Tensor, one: int, second: Tensor, other: int) -> None:
    """Complex product of planes ``one`` and ``other`` into plane ``place``; real planes before imaginary ones."""
    (a, b), (c, d) = ((each[at], each[at + len(each) // 2]) for each, at in ((first, one), (second, other)))
    real, imaginary = out[place], out[place + len(out) // 2]
    torch.mul(a, c, out=real).addcmul_(b, d, value=-1)
    torch.mul(a, d, out=imaginary).addcmul_(b, c)


class _OverAllSlices(torch.autograd.Function):
    """Sums over pairs, a block of rows at a time; the gradient is found in the forward pass."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        samples, d = features.shape[1:]
        table = _table(d, features.dtype, features.device)
        of_length, slope = table.at(features.square().sum(2) + 1, table.of_length)
        statistic = samples * table.constant - 2 * of_length.sum(1, dtype=torch.float64)
        gradient = -4 * slope.unsqueeze(2) * features
        # differences are as before, and their squares lose fewer digits
        centred = features - features.mean(1, keepdim=True)
        squares = centred.square().sum(2)
        height = max(1, _chunk_values(features) // samples)
        for replica, (x, lengths) in enumerate(zip(centred, squares, strict=True)):
            for start in range(0, samples, height):
                block = slice(start, start + height)
                above = torch.addmm(lengths + 1, x[block], x.T, alpha=-2).add_(lengths[block, None]).clamp_(min=1)
                # of large features a sample's distance to itself would be a rounding error that counts
                above[:, block].fill_diagonal_(1)
                values, slopes = table.at(above, table.of_distance)
                statistic[replica] += values.sum(dtype=torch.float64) / samples
                pull = slopes.sum(1, keepdim=True) * x[block] - slopes @ x
                gradient[replica, block] += pull * (4 / samples)
        ctx.save_for_backward(gradient)
        return statistic.to(features.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        gradient: Tensor = ctx.saved_tensors[0]
        return gradient * upstream[0].reshape(-1, 1, 1)


class _Table(NamedTuple):
    """Two functions of a squared length s, as cubic polynomials (4, intervals) of √(s + 1) − 1 in equal intervals.

    Beyond the last interval both are 0, what they fall to.
    """

    of_distance: Tensor
    of_length: Tensor
    constant: float
    width: float

    def at(self, above: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """The function at s where s + 1 is ``above``, and its derivative by s."""
        root = above.sqrt()
        place = (root - 1).mul_(1 / self.width)
        # what is no number becomes the least integer here, and stays none by its place in the interval
        interval = place.clamp(max=coefficients.shape[1] - 1).int().clamp_(min=0)
        place -= interval
        # four selections of numbers are faster than one of rows, which are then read with gaps
        a, b, c, e = (row.index_select(0, interval.view(-1)).view_as(root) for row in coefficients)
        # Horner's scheme, for the polynomial and its derivative
        value = torch.addcmul(c, e, place)
        slope = torch.addcmul(value, e, place)
        value = torch.addcmul(b, value, place)
        slope = torch.addcmul(value, slope, place)
        return torch.addcmul(a, value, place), slope.div_(root).mul_(0.5 / self.width)


@lru_cache(maxsize=8)
def _table(d: int, dtype: torch.dtype, device: torch.device) -> _Table:
    """The table for d dimensions: G(s) = Σ_k w_k·Ω(t_k·√s) of distances, and the same with w_k·e^{−t_k²/2} of lengths.

    Hermite's polynomials, of values and derivatives: dΩ/ds = −t²/(2d)·Ω in d + 2 dimensions.
    """
    width = _WIDTH * max(1.0, math.sqrt(d / _WIDE))
    t, target, weight = (each.numpy() for each in _knots())
    root = 1 + width * np.arange(_INTERVALS + 1)
    arguments = np.sqrt(root**2 - 1)[:, None] * t
    values = _mean_cosine(d, arguments)
    # by the place in an interval, which is (root − 1) / width
    slopes = -(t**2) / (2 * d) * _mean_cosine(d + 2, arguments) * (2 * width * root)[:, None]
    made = []
    for factor in (weight, weight * target):
        value, slope = values @ factor, slopes @ factor
        rise = np.diff(value)
        polynomial = [value[:-1], slope[:-1], 3 * rise - 2 * slope[:-1] - slope[1:], slope[:-1] + slope[1:] - 2 * rise]
        rows = np.stack(polynomial)
        rows[:, -1] = 0
        made.append(torch.from_numpy(rows).to(device, dtype))
    return _Table(made[0], made[1], float((weight * target**2).sum()), width)


def _mean_cosine(d: int, r: np.ndarray) -> np.ndarray:
    """Ω(r), the mean of cos(r·u₁) over unit vectors u of d dimensions, to some 1e-13."""
    if d <= 2 * _WIDE:
        found: np.ndarray = scipy.special.hyp0f1(d / 2, -(r**2) / 4)
        return found
    # scipy's overflows; here √d·u₁ is nearly normal: its density (1 − z²/d)^{(d−3)/2} by the trapezoid rule, which for
    # functions like this one errs by rounding alone
    z = np.linspace(0, 12, 121)
    density = np.exp((d - 3) / 2 * np.log1p(-(z**2) / d))
    density[0] /= 2
    density /= density.sum()
    scaled = r / math.sqrt(d)
    total = np.zeros_like(r)
    for place, share in zip(z, density, strict=True):
        total += share * np.cos(scaled * place)
    return np.where(scaled < 12, total, 0.0)


def _chunk_values(like: Tensor) -> int:
    return CHUNK_VALUES.get(like.device.type, CHUNK_VALUES_ELSEWHERE)
