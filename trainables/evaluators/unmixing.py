"""How well abundances are read from a network trained on coarse labels: from its outputs, and by three probes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: Adam's defaults, which the released code leaves as they are
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def raw_mse(probabilities: Tensor, abundances: Tensor) -> Tensor:
    """Squared error (S,) of class probabilities against abundances (S, n, m): sum over materials, mean over samples.

    Table 1's "raw MSE" as the released code prints it, without the square root of eq. 14.
    """
    return (probabilities - abundances).square().sum(-1).mean(-1)


def least_squares_mse(features: Tensor, targets: Tensor, heldout: Tensor, heldout_targets: Tensor) -> Tensor:
    """Held-out MSE (S,), mean over samples and materials, of affine least squares from features to abundances.

    ``features`` (S, n, d) and ``targets`` (S, n, m) are fitted in float64, ``heldout`` (S, h, d) scored
    against ``heldout_targets`` (S, h, m). Of several solutions (units that never fire) the one of least
    norm, with `numpy.linalg.lstsq`'s threshold. NaN where a feature is not finite.
    """
    replicas = zip(features, targets, heldout, heldout_targets, strict=True)
    # one after another: a replica's system in float64 then fits the cache
    return torch.stack([_least_squares_mse(*replica) for replica in replicas]).to(features.dtype)


def _least_squares_mse(features: Tensor, targets: Tensor, heldout: Tensor, heldout_targets: Tensor) -> Tensor:
    """`least_squares_mse` of one replica."""
    if not features.isfinite().all():
        return features.new_full((), math.nan, dtype=torch.float64)
    system = torch.cat([_with_ones(features), targets], -1).double()
    # R of [X Y] holds R of X and QᵀY: the same solution as from X itself, without forming Q
    triangle = torch.linalg.qr(system, mode="r").R
    columns = features.shape[-1] + 1
    # R of X has the singular values of X, by which the rank is judged
    left, singular, right = torch.linalg.svd(triangle[:columns, :columns], full_matrices=False)
    threshold = singular[0] * torch.finfo(torch.float64).eps * max(len(features), columns)
    inverse = torch.where(singular > threshold, 1 / singular, 0.0)
    weights = right.T @ (inverse.unsqueeze(-1) * (left.T @ triangle[:columns, columns:]))
    return (_with_ones(heldout.double()) @ weights - heldout_targets).square().mean()


def standardize(features: Tensor, heldout: Tensor) -> tuple[Tensor, Tensor]:
    """Both parts (S, n, d) with mean 0 and deviation 1 per feature of the first; a constant feature becomes 0."""
    mean = features.mean(1, keepdim=True)
    deviation = features.std(1, keepdim=True, correction=0)
    deviation = torch.where(deviation > 0, deviation, 1.0)
    return (features - mean) / deviation, (heldout - mean) / deviation


def probe_mse(
    features: Sequence[Tensor],
    targets: Tensor,
    heldout: Sequence[Tensor],
    heldout_targets: Tensor,
    generators: Sequence[torch.Generator],
    *,
    learning_rates: Sequence[float],
    epochs: int,
    batch_size: int = 200,
) -> Tensor:
    """Held-out MSE (P, S, epochs), mean over samples and materials, of linear layers and a softmax trained with MSE.

    The paper's transfer probe (§5.2): Adam, its rate ×0.1 after every quarter of the epochs, on frozen features
    (S, n, d) and abundances ``targets`` (S, n, m); scored on ``heldout`` (S, h, d) after each epoch. P probes, each on
    its own version of ``features`` and ``heldout`` (as they are, standardized, …) at its own rate, are trained in one
    pass. Replica s draws its initial layer, as ``torch.nn.Linear`` does, and then each epoch's order from
    ``generators[s]`` (CPU) alone, the same for all P.
    """
    probes, (replicas, samples, dimensions) = len(features), features[0].shape
    materials = targets.shape[-1]
    inputs = [_with_ones(version).flatten(0, 1) for version in features]
    wanted = targets.to(features[0].dtype).flatten(0, 1)
    heldout_columns = torch.cat([_with_ones(version) for version in heldout]).transpose(1, 2)
    heldout_wanted = heldout_targets.to(features[0].dtype).transpose(1, 2)
    drawn = torch.stack([torch.rand(materials, dimensions + 1, generator=g) for g in generators])
    weights = ((2 * drawn - 1) / math.sqrt(dimensions)).to(features[0]).repeat(probes, 1, 1)
    rates = weights.new_tensor(learning_rates).repeat_interleave(replicas).view(-1, 1, 1)
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    first_row = samples * torch.arange(replicas).unsqueeze(1)
    errors, step = [], 0
    for epoch in range(epochs):
        decay = 0.1 ** (4 * epoch // epochs)
        order = first_row + torch.stack([torch.randperm(samples, generator=g) for g in generators])
        for batch in order.to(weights.device).split(batch_size, dim=1):
            rows = batch.reshape(-1)
            x = torch.cat([version.index_select(0, rows) for version in inputs])
            x = x.view(probes * replicas, -1, dimensions + 1)
            a = wanted.index_select(0, rows).view(replicas, -1, materials).transpose(1, 2)
            # materials before samples: softmax and products run several times faster than the other way round
            q = torch.softmax(torch.bmm(weights, x.transpose(1, 2)), 1)
            # gradient of the mean squared error through the softmax: q ⊙ (r − Σ q r), with r = q − a up to 2/(Bm)
            slope = (q.unflatten(0, (probes, replicas)) - a).flatten(0, 1).mul_(q)
            slope.sub_(q.mul_(slope.sum(1, keepdim=True)))
            gradient = torch.bmm(slope, x).mul_(2 / (batch.shape[1] * materials))
            step += 1
            first.lerp_(gradient, 1 - BETA1)
            second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            deviation = second.sqrt().mul_((1 - BETA2**step) ** -0.5).add_(EPSILON)
            weights.addcmul_(first / deviation, rates, value=-decay / (1 - BETA1**step))
        outputs = torch.softmax(torch.bmm(weights, heldout_columns), 1).unflatten(0, (probes, replicas))
        errors.append(outputs.sub_(heldout_wanted).square_().mean((2, 3)))
    return torch.stack(errors, -1)


def _with_ones(features: Tensor) -> Tensor:
    """(…, d) -> (…, d + 1): a last column of ones, for the bias."""
    return torch.cat([features, features.new_ones(*features.shape[:-1], 1)], -1)
