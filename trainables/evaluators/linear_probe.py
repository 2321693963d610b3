"""Linear probes of frozen features, batched over replicas: closed-form ridge, and multinomial logistic regression.

How strongly a probe is regularised is chosen by samples that it was not fitted to, for each replica by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainables.evaluators.descent import minimise

#: strengths of the ridge that are tried, in shares of the features' mean variance
RIDGE = tuple(10.0**power for power in range(-9, 2))
#: strengths of the logistic probe's penalty that are tried
LOGISTIC = (1e-1, 1e-2, 1e-3, 1e-4)
#: features of the ridge in a tensor, and logits of the logistic one, at most, by which replicas are taken together
_FEATURES, _LOGITS = 2**20, 2**23


def ridge(
    features: Tensor, targets: Tensor, tuning: Tensor, tuning_targets: Tensor, strengths: tuple[float, ...] = RIDGE
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (S, d, m), offset (S, m) and strength (S,) of an affine map from features to targets, in closed form.

    ``features`` (S, n, d) and ``targets`` (S, n, m) are fitted in float64: the minimum of mean squared error plus
    strength × the mean variance of a feature × ‖weights‖², so that the scale of the features doesn't matter. The
    strength is the one with the lowest error on ``tuning`` (S, t, d), ``tuning_targets`` (S, t, m). All finite.
    """
    parts = (features, targets, tuning, tuning_targets)
    # a few replicas at a time, so that their copies in float64 are small
    together = max(1, _FEATURES // features[0].numel())
    split = [torch.split(part, together) for part in parts]
    solved = [_ridge(x, y, tuned, wanted, strengths) for x, y, tuned, wanted in zip(*split, strict=True)]
    weights, offset, strength = (torch.cat(parts) for parts in zip(*solved, strict=True))
    return weights, offset, strength


def _ridge(
    features: Tensor, targets: Tensor, tuning: Tensor, tuning_targets: Tensor, strengths: tuple[float, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """`ridge` of some replicas."""
    x, y = features.double(), targets.double()
    centre, mean = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    x, y = x - centre, y - mean
    covariance = torch.bmm(x.mT, x) / x.shape[1]
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    eigenvalues = eigenvalues.clamp(min=0)
    # of features that do not vary; small enough for any, and large enough to be multiplied by a strength
    scale = eigenvalues.mean(-1).clamp(min=1e-200)
    rotated = torch.bmm(vectors.mT, torch.bmm(x.mT, y) / x.shape[1])
    # (S, K, d): what each direction is divided by, for each strength
    divisors = eigenvalues.unsqueeze(1) + scale[:, None, None] * torch.tensor(
        strengths, dtype=x.dtype, device=x.device
    ).view(1, -1, 1)
    turned = torch.bmm(tuning.double() - centre, vectors)
    wanted = tuning_targets.double() - mean
    errors = [
        (torch.bmm(turned, rotated / divisors[:, k].unsqueeze(-1)) - wanted).square().mean((1, 2))
        for k in range(len(strengths))
    ]
    best = torch.stack(errors, 1).argmin(1)
    divisor = divisors.gather(1, best.view(-1, 1, 1).expand(-1, 1, divisors.shape[-1])).squeeze(1)
    weights = torch.bmm(vectors, rotated / divisor.unsqueeze(-1))
    offset = (mean - torch.bmm(centre, weights)).squeeze(1)
    return weights, offset, torch.tensor(strengths, dtype=x.dtype, device=x.device)[best]


def logistic(
    features: Tensor,
    labels: Tensor,
    tuning: Tensor,
    tuning_labels: Tensor,
    classes: int,
    strengths: tuple[float, ...] = LOGISTIC,
    iterations: int = 200,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (S, d, C), offset (S, C) and strength (S,) of a multinomial logistic regression, by L-BFGS in float64.

    ``features`` (S, n, d) are standardized, each to mean 0 and deviation 1, where the minimum is that of the mean
    negative log-likelihood of ``labels`` (S, n) plus strength / 2 × ‖weights‖²; weights and offset are returned for
    the features as they are. The strength is the one under which ``tuning`` (S, t, d), ``tuning_labels`` (S, t) are
    likeliest. All finite.
    """
    centre = features.double().mean(1, keepdim=True)
    deviation = features.double().std(1, keepdim=True, correction=0)
    # a constant feature says nothing
    scale = torch.where(deviation > 0, 1 / deviation, 0.0)
    standardized = (features.double() - centre) * scale
    together = max(1, _LOGITS // (features.shape[1] * classes * len(strengths)))
    parts = zip(torch.split(standardized, together), torch.split(labels, together), strict=True)
    solved = [_solve(x, y, classes, strengths, iterations) for x, y in parts]
    # (S, K, d + 1, C)
    weights = torch.cat(solved)
    tuned = torch.einsum("std,skdc->sktc", (tuning.double() - centre) * scale, weights[:, :, :-1])
    tuned = tuned + weights[:, :, -1:]
    spread = tuning_labels.unsqueeze(1).expand(-1, len(strengths), -1)
    losses = functional.cross_entropy(tuned.permute(0, 3, 1, 2), spread, reduction="none").mean(-1)
    best = losses.argmin(1)
    chosen = weights[torch.arange(len(weights), device=best.device), best]
    slopes = chosen[:, :-1] * scale.mT
    offset = chosen[:, -1] - torch.bmm(centre, slopes).squeeze(1)
    return slopes, offset, torch.tensor(strengths, dtype=weights.dtype, device=weights.device)[best]


def _solve(x: Tensor, labels: Tensor, classes: int, strengths: tuple[float, ...], iterations: int) -> Tensor:
    """Weights (S, K, d + 1, C), the offset last, for standardized features (S, n, d) and each strength."""
    replicas, samples, d = x.shape
    count = len(strengths)
    # strengths of one replica stand one below another as rows, so that one product serves all, and samples come last,
    # where a softmax over classes is several times as fast
    penalty = torch.tensor(strengths, dtype=x.dtype, device=x.device).view(1, count, 1, 1)
    wanted = functional.one_hot(labels, classes).to(x).mT.unsqueeze(1).contiguous()

    def objective(flat: Tensor) -> tuple[Tensor, Tensor]:
        weights = flat.view(replicas, count, d + 1, classes)
        slopes = weights[:, :, :-1]
        rows = slopes.transpose(2, 3).reshape(replicas, count * classes, d)
        logits = torch.bmm(rows, x.mT).view(replicas, count, classes, samples) + weights[:, :, -1].unsqueeze(-1)
        log_q = torch.log_softmax(logits, 2)
        value = -(log_q * wanted).sum((2, 3)) / samples + (penalty * slopes.square()).sum((2, 3)) / 2
        residual = log_q.exp_().sub_(wanted).div_(samples)
        by_row = torch.bmm(residual.view(replicas, count * classes, samples), x)
        by_slope = by_row.view(replicas, count, classes, d).transpose(2, 3) + penalty * slopes
        gradient = torch.cat([by_slope, residual.sum(3).unsqueeze(2)], 2)
        return value.flatten(), gradient.reshape(replicas * count, -1)

    start = x.new_zeros(replicas * count, (d + 1) * classes)
    return minimise(objective, start, iterations=iterations, tolerance=1e-6).view(replicas, count, d + 1, classes)


def outputs(features: Tensor, weights: Tensor, offset: Tensor) -> Tensor:
    """What a probe says (S, n, m) of features (S, n, d)."""
    return torch.bmm(features.double(), weights) + offset.unsqueeze(1)
