"""Anchors of the feature space, the assignment of features to them, and its entropy (§4, eq. 10 to 13)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainables.replicas import drawn

#: which rows are averaged over a batch: see `assignment_entropy`
ASSIGNMENTS = ("nearest", "sampled", "soft")


def draw_anchors(kind: str, e: int, d: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Fixed anchors (S, e, d), replica s from its own stream.

    ``uniform`` draws U[0, 1], ``centred`` U[−1/e, 1/e]; ``grid`` is 1, 2, …, e for every replica (the released
    age code) and ``centred-grid`` the same less its mean, on the scale of fresh features (ours, for short
    trainings). Grids need d = 1 (``ValueError`` otherwise).

    >>> draw_anchors("centred-grid", 4, 1, [torch.Generator()]).flatten().tolist()
    [-1.5, -0.5, 0.5, 1.5]
    """
    if kind in ("grid", "centred-grid"):
        if d != 1:
            raise ValueError(f"grid anchors lie on a line, but the features have {d} dimensions")
        line = torch.arange(1.0, e + 1)
        line = line - line.mean() if kind == "centred-grid" else line
        return line.reshape(1, e, 1).repeat(len(generators), 1, 1)
    unit = torch.stack([torch.rand(e, d, generator=g) for g in generators])
    if kind == "uniform":
        return unit
    if kind == "centred":
        return (2 * unit - 1) / e
    raise ValueError(f"unknown kind of anchors {kind!r}; known: uniform, centred, grid, centred-grid")


def similarity(features: Tensor, anchors: Tensor, kind: str) -> Tensor:
    """Similarity (S, B, e) of features (S, B, d) to anchors (S, e, d).

    ``cosine`` (the paper), ``dot`` (the released hyperspectral code) or ``squared-distance``, which is
    −‖r − a‖² (the released age code, where d = 1).
    """
    if kind == "dot":
        return torch.bmm(features, anchors.transpose(1, 2))
    if kind == "cosine":
        return torch.bmm(functional.normalize(features, dim=-1), functional.normalize(anchors, dim=-1).transpose(1, 2))
    if kind == "squared-distance":
        if features.shape[-1] == 1:
            return -((features - anchors.transpose(1, 2)) ** 2)
        # ‖r‖² + ‖a‖² − 2 r·a loses the digits of a difference of points far from 0: count from the anchors' middle
        middle = anchors.mean(1, keepdim=True)
        r, a = features - middle, anchors - middle
        squares = r.square().sum(-1, keepdim=True) + a.square().sum(-1).unsqueeze(1)
        return torch.baddbmm(squares, r, a.transpose(1, 2), alpha=-2).clamp(min=0).neg()
    raise ValueError(f"unknown similarity {kind!r}; known: cosine, dot, squared-distance")


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy in bits over the last dimension; rows may hold counts, and 0·log 0 = 0.

    >>> entropy(torch.tensor([[1.0, 1, 1, 1], [0, 7, 7, 0], [0, 0, 3, 0]])).tolist()
    [2.0, 1.0, 0.0]
    """
    p = probabilities / probabilities.sum(-1, keepdim=True)
    terms: Tensor = torch.special.entr(p)
    return terms.sum(-1) / math.log(2)


def nearest_anchor_entropy(similarities: Tensor) -> Tensor:
    """Entropy (S,) in bits, 0..log2 e, of the assignment of n samples to the most similar anchor (eq. 10).

    ``similarities`` (S, n, e). NaN for a replica with a sample whose largest similarity is not finite.

    >>> nearest_anchor_entropy(torch.tensor([[[0.9, 0.1], [0.2, 0.3]], [[0.9, 0.1], [0.3, 0.2]]])).tolist()
    [1.0, 0.0]
    """
    e = similarities.shape[-1]
    largest, nearest = similarities.max(-1)
    # where values overflow or are NaN, max() names the first of them, which need not be nearest: the entropy is NaN
    return entropy(_counts(nearest, e, similarities.dtype)).masked_fill(~largest.isfinite().all(-1), math.nan)


def exponential_noise(
    shape: Sequence[int], generators: Sequence[torch.Generator], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Exp(1) variates (S, *shape), replica s from its own stream; their −log is the Gumbel noise of eq. 11."""
    noise = drawn(lambda values, g: values.uniform_(generator=g), shape, generators, dtype, device)
    # −log U in place of exponential_(), which takes five times as long on a CPU; U may be 0, E must not be infinite
    return noise.clamp_(min=2.0**-25).log_().neg_()


def assignment_entropy(
    logits: Tensor, noise: Tensor, temperature: float = 1.0, epsilon: float = 1e-12, assignment: str = "sampled"
) -> Tensor:
    """Entropy (S,) in bits of a batch's assignment to the anchors, with the gradient of the noisy soft one (eq. 12).

    ``logits`` (S, B, e) are log π up to a constant per row: the similarity itself, since a cosine may be
    negative and log π would be undefined. ``noise`` (S, B, e) is `exponential_noise`. The value is that of the rows
    averaged over the batch, which ``assignment`` names: ``nearest``, the one-hot of the most similar anchor without
    noise (eq. 10, as eq. 13 has it); ``sampled``, the one-hot of the noisy argmax (eq. 11, the released code);
    ``soft``, the noisy soft rows themselves. ``epsilon`` stands inside the logarithm, −Σ p log2(p + ε): an anchor that
    no feature chose pulls with −log2 ε bits instead of without bound. NaN for a replica whose logits are not finite.
    """
    if assignment not in ASSIGNMENTS:
        raise ValueError(f"unknown assignment {assignment!r}; known: {', '.join(ASSIGNMENTS)}")
    bits: Tensor = _AssignmentEntropy.apply(logits, noise, temperature, epsilon, assignment)
    return bits


@cache
def chance_entropy(samples: int, e: int) -> float:
    """Expected entropy in bits of ``samples`` that each take one of ``e`` anchors with equal probability.

    E[−Σ p̂ log2 p̂], the counts n·p̂ being binomial (n, 1/e): what a batch shows where similarities say nothing.

    >>> round(chance_entropy(2, 2), 12)
    0.5
    """
    # scipy.stats takes as long to import as all else here, and few commands come to this
    from scipy.stats import binom

    share = np.arange(1, samples + 1) / samples
    return float(-e * (binom.pmf(np.arange(1, samples + 1), samples, 1 / e) * share * np.log2(share)).sum())


def _counts(nearest: Tensor, e: int, dtype: torch.dtype) -> Tensor:
    """How often each of e anchors was chosen: (S, n) indices -> (S, e)."""
    counts = torch.zeros(nearest.shape[0], e, dtype=dtype, device=nearest.device)
    return counts.scatter_add_(1, nearest, torch.ones((), dtype=dtype, device=nearest.device).expand(nearest.shape))


class _AssignmentEntropy(torch.autograd.Function):
    """Closed-form gradient, found in the forward pass: autograd would pass six times over (S, B, e)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, noise: Tensor, temperature: float, epsilon: float, assignment: str) -> Tensor:
        if temperature == 1.0:
            # softmax(l − log E) = exp(l) / E, normalised: spares a logarithm of the noise
            soft = torch.exp(logits - logits.amax(-1, keepdim=True)).div_(noise)
            soft.div_(soft.sum(-1, keepdim=True))
        else:
            soft = torch.softmax((logits - noise.log()) / temperature, -1)
        batch, e = logits.shape[1:]
        if assignment == "soft":
            p = soft.mean(1)
        else:
            p = _counts((logits if assignment == "nearest" else soft).argmax(-1), e, logits.dtype) / batch
        log2_p = torch.log2(p + epsilon)
        # dH/dp of −Σ p log2(p + ε)
        slope = -(log2_p + p / (p + epsilon) / math.log(2))
        slope = slope.unsqueeze(1)
        mean_slope = (soft * slope).sum(-1, keepdim=True)
        ctx.save_for_backward(soft.mul_(slope - mean_slope))
        ctx.scale = 1 / (batch * temperature)
        # an argmax hides that a row of soft is NaN, so this term of 0 makes the entropy NaN with it
        return -(p * log2_p).sum(-1) + 0 * mean_slope.sum((1, 2))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (upstream[0] * ctx.scale).reshape(-1, 1, 1), None, None, None, None
