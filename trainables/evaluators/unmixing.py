"""How well abundances are read from a network trained on coarse labels: from its outputs, and by three probes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from trainables.metrics import Metric
from trainables.recording import Repeated

#: fine labels recovered from the output (eq. 14), by the paper's probe, by better conditioned ones
RAW = (
    Metric(
        "mse/raw",
        "raw MSE",
        "softmax output against the fine labels: squared error summed over materials, mean over samples",
        better="lower",
        reads_fine=True,
    ),
    Metric("rmse/raw", "raw RMSE", "square root of mse/raw, eq. 14 to the letter", better="lower", reads_fine=True),
)
PROBES = (
    Metric(
        "mse/transfer",
        "transfer MSE",
        "the paper's probe, last epoch: linear + softmax on frozen features, Adam lr 0.1; mean over materials",
        better="lower",
        reads_fine=True,
    ),
    Metric(
        "mse/transfer-min",
        "transfer MSE, best epoch",
        "the same probe at its best epoch, as the released notebook also prints",
        better="lower",
        reads_fine=True,
    ),
    Metric(
        "mse/transfer-standardized",
        "transfer MSE, standardized",
        "the same probe on standardized features, Adam lr 0.01",
        better="lower",
        reads_fine=True,
    ),
)
LEAST_SQUARES = (
    Metric(
        "mse/transfer-least-squares",
        "transfer MSE, least squares",
        "closed-form affine least squares from the features to the fine labels",
        better="lower",
        reads_fine=True,
    ),
)

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
    weights: Tensor = right.T @ (inverse.unsqueeze(-1) * (left.T @ triangle[:columns, columns:]))
    return (_with_ones(heldout.double()) @ weights - heldout_targets).square().mean()


def standardize(features: Tensor, heldout: Tensor) -> tuple[Tensor, Tensor]:
    """Both parts (S, n, d) with mean 0 and deviation 1 per feature of the first; a constant feature becomes 0."""
    mean, deviation = _moments(features)
    return (features - mean) / deviation, (heldout - mean) / deviation


@dataclass(frozen=True)
class Probe:
    """How a probe is trained: Adam's first rate, and whether the features are standardized (see `standardize`)."""

    learning_rate: float
    standardized: bool = False


def probe_mse(
    features: Tensor,
    targets: Tensor,
    heldout: Tensor,
    heldout_targets: Tensor,
    generators: Sequence[torch.Generator],
    probes: Sequence[Probe],
    *,
    epochs: int,
    batch_size: int = 200,
) -> Tensor:
    """Held-out MSE (P, S, epochs), mean over samples and materials, of a linear layer and a softmax trained with MSE.

    The paper's transfer probe (§5.2): Adam, its rate ×0.1 after every quarter of the epochs, on frozen ``features``
    (S, n, d) and abundances ``targets`` (S, n, m); scored on ``heldout`` (S, h, d) after each epoch. The P ``probes``
    are trained in one pass. Replica s draws its initial layer, as ``torch.nn.Linear`` does, and then each epoch's order
    from ``generators[s]`` (CPU) alone, the same for all probes.
    """
    replicas, samples, d = features.shape
    materials, count = targets.shape[-1], len(probes)
    mean, deviation = (moment.unsqueeze(1) for moment in _moments(features))
    # centred features serve all probes: each takes them as (centred + offset) · scale
    offset = torch.cat([torch.zeros_like(mean) if probe.standardized else mean for probe in probes], 1)
    scale = torch.cat([1 / deviation if probe.standardized else torch.ones_like(mean) for probe in probes], 1)
    # inputs and what is wanted in one row, which is gathered at once
    table = torch.cat([_with_ones(features - mean.squeeze(1)), targets.to(features.dtype)], -1).flatten(0, 1)
    heldout_columns = _with_ones(heldout - mean.squeeze(1)).transpose(1, 2)
    heldout_wanted = heldout_targets.to(features.dtype).transpose(1, 2).unsqueeze(1)
    drawn = torch.stack([torch.rand(materials, d + 1, generator=g) for g in generators])
    # (S, P, m, d + 1), the bias last
    weights = ((2 * drawn - 1) / math.sqrt(d)).to(features).unsqueeze(1).repeat(1, count, 1, 1)
    rates = weights.new_tensor([probe.learning_rate for probe in probes]).view(-1, 1, 1)
    first, second, gradient = torch.zeros_like(weights), torch.zeros_like(weights), torch.empty_like(weights)
    first_row = samples * torch.arange(replicas).unsqueeze(1)

    def outputs(columns: Tensor) -> Tensor:
        """Abundances (S, P, m, B) by each probe of centred features (S, d + 1, B)."""
        scaled = weights[..., :d] * scale
        bias = weights[..., d:] + (scaled * offset).sum(-1, keepdim=True)
        # materials before samples: softmax and products run several times faster than the other way round
        logits = torch.bmm(torch.cat([scaled, bias], -1).flatten(1, 2), columns)
        return torch.softmax(torch.unflatten(logits, 1, (count, materials)), 2)

    def train(rows: Tensor, rate: Tensor | float, growth: Tensor | float) -> None:
        """One step on the ``rows`` (S·B,) of the table; see `_factors`."""
        gathered = table.index_select(0, rows).view(replicas, -1, d + 1 + materials)
        x, a = gathered[..., : d + 1], gathered[..., d + 1 :].transpose(1, 2).unsqueeze(1)
        q = outputs(x.transpose(1, 2))
        # gradient of the mean squared error through the softmax: q ⊙ (r − Σ q r), with r = q − a up to 2/(Bm)
        slope = (q - a).mul_(q)
        slope.sub_(q.mul_(slope.sum(2, keepdim=True)))
        by_column = torch.bmm(slope.flatten(1, 2), x).mul_(2 / (x.shape[1] * materials)).view_as(weights)
        torch.addcmul(by_column[..., :d], by_column[..., d:], offset, out=gradient[..., :d])
        gradient[..., :d].mul_(scale)
        gradient[..., d:] = by_column[..., d:]
        first.lerp_(gradient, 1 - BETA1)
        second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        root = second.sqrt().mul_(growth).add_(EPSILON)
        weights.addcmul_((first / root).mul_(rate), rates)

    batches = -(-samples // batch_size)
    factors = _factors(epochs, batches)
    # of a step by the size of its batch: what it reads, and itself
    kept: dict[int, tuple[Tensor, Tensor, Repeated]] = {}
    # on a GPU a step reads its factors from memory, to be recorded; on a CPU numbers are quicker
    sent = None if weights.device.type == "cpu" else torch.tensor(factors).to(weights)
    errors = []
    for epoch in range(epochs):
        order = first_row + torch.stack([torch.randperm(samples, generator=g) for g in generators])
        for place, batch in enumerate(torch.split(order.to(weights.device), batch_size, dim=1)):
            step = epoch * batches + place
            if sent is None:
                train(batch.reshape(-1), *factors[step])
                continue
            size = batch.shape[1]
            if size not in kept:
                rows, pair = batch.reshape(-1).clone(), sent[step].clone()
                kept[size] = rows, pair, Repeated(partial(train, rows, pair[0], pair[1]), weights.device)
            rows, pair, repeated = kept[size]
            rows.copy_(batch.reshape(-1))
            pair.copy_(sent[step])
            repeated()
        errors.append(outputs(heldout_columns).sub_(heldout_wanted).square_().mean((2, 3)))
    return torch.stack(errors, -1).transpose(0, 1)


def _factors(epochs: int, batches: int) -> list[tuple[float, float]]:
    """By step, Adam's rate over its first moment's share, and the root of its second one's inverse.

    The rate is relative to the first epoch's.
    """
    steps = range(1, epochs * batches + 1)
    decays = [0.1 ** (4 * epoch // epochs) for epoch in range(epochs) for _ in range(batches)]
    return [(-decay / (1 - BETA1**t), (1 - BETA2**t) ** -0.5) for decay, t in zip(decays, steps, strict=True)]


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (S, 1, d) of each feature of (S, n, d); the deviation of a constant one is 1."""
    low, high = features.aminmax(dim=1, keepdim=True)
    # the mean of equal numbers may differ from them by rounding, which their deviation then is as well
    constant = low == high
    deviation = features.std(1, keepdim=True, correction=0)
    return torch.where(constant, low, features.mean(1, keepdim=True)), torch.where(constant, 1.0, deviation)


def _with_ones(features: Tensor) -> Tensor:
    """(…, d) -> (…, d + 1): a last column of ones, for the bias."""
    return torch.cat([features, features.new_ones(*features.shape[:-1], 1)], -1)
