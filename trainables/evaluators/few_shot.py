"""Few-shot transfer: N-way K-shot nearest-class-mean accuracy on classes that training never saw (§5.3, table 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from trainables.evaluators import Evaluator, Snapshot

#: bytes of features gathered at a time: on a CPU they should stay in its cache (measured: 3 to 6 MB)
_CHUNK_BYTES = {"cpu": 6 * 2**20}
_CHUNK_BYTES_ELSEWHERE = 256 * 2**20


@dataclass(frozen=True)
class Runs:
    """R few-shot runs of N classes: ``support`` (R, N, K) and ``queries`` (R, N, Q) int64 sample indices.

    The second dimension is the class: queries of column c belong with the support of column c.
    """

    support: Tensor
    queries: Tensor

    def to(self, device: torch.device) -> Runs:
        return Runs(self.support.to(device), self.queries.to(device))


def draw_runs(labels: Tensor, *, ways: int, shots: int, queries: int, runs: int, seed: int) -> Runs:
    """Draw ``runs`` few-shot runs, uniformly and without replacement within a run, from ``labels`` (n,) on CPU.

    Each run takes ``ways`` distinct classes, and of each ``shots`` + ``queries`` distinct samples; classes
    may differ in size. The draw depends on its arguments alone, so it serves every criterion and seed.
    Raises ``ValueError`` where there are fewer classes than ``ways`` or a class has too few samples.
    """
    classes, sizes = labels.unique(return_counts=True)
    needed = shots + queries
    if len(classes) < ways:
        raise ValueError(f"{ways}-way runs need as many classes, but there are {len(classes)}")
    if int(sizes.min()) < needed:
        smallest = int(sizes.argmin())
        raise ValueError(
            f"class {int(classes[smallest])} has {int(sizes[smallest])} samples, "
            f"but {shots} shots and {queries} queries need {needed}"
        )
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(runs, *shape, generator=generator, dtype=torch.float64)

    picked = uniform(len(classes)).topk(ways).indices
    size = sizes[picked]
    # Floyd's sampling without replacement, all runs a draw at a time: no memory that grows with the class size
    chosen = torch.empty(runs, ways, needed, dtype=torch.int64)
    for i in range(needed):
        last = size - needed + i
        value = (uniform(ways) * (last + 1)).long()
        taken = (chosen[..., :i] == value.unsqueeze(-1)).any(-1)
        chosen[..., i] = torch.where(taken, last, value)
    # Floyd's sets are uniform but their order is not, and the first are the support
    chosen = chosen.gather(-1, uniform(ways, needed).argsort(-1))
    first = sizes.cumsum(0) - sizes
    samples = labels.argsort(stable=True)[first[picked].unsqueeze(-1) + chosen]
    return Runs(samples[..., :shots].contiguous(), samples[..., shots:].contiguous())


def nearest_class_mean(features: Tensor, runs: Runs, shots: Sequence[int]) -> Tensor:
    """Accuracy (len(shots), S, R) of every replica in every run, 0..1, for ``features`` (S, n, d).

    A query goes to the class whose mean support feature is nearest in Euclidean distance, the mean being over
    the first K of the support for each K in ``shots``; a tie goes to the class that comes first in the run.
    NaN for a replica with a feature that is not finite.
    """
    replicas, samples, d = features.shape
    # whole rows are gathered twice as fast along the first dimension
    rows = features.flatten(0, 1)
    first_row = samples * torch.arange(replicas, device=features.device).unsqueeze(1)
    _, ways, most = runs.support.shape
    queries = runs.queries.shape[-1]
    own = torch.arange(ways, device=features.device).repeat_interleave(queries).unsqueeze(1)
    budget = _CHUNK_BYTES.get(features.device.type, _CHUNK_BYTES_ELSEWHERE)
    chunk = max(1, budget // (replicas * ways * (most + queries) * d * features.element_size()))
    accuracy = []
    for support, query in zip(runs.support.split(chunk), runs.queries.split(chunk), strict=True):
        supported = rows.index_select(0, (first_row + support.flatten()).flatten()).view(-1, ways, most, d)
        # all K side by side, since gathering the queries costs more than multiplying them
        means = torch.cat([supported[:, :, :k].mean(2) for k in shots], 1)
        tested = rows.index_select(0, (first_row + query.flatten()).flatten()).view(-1, ways * queries, d)
        # ‖q − m‖² less ‖q‖², which is the same for every class
        distance = torch.baddbmm(means.square().sum(-1).unsqueeze(1), tested, means.mT, alpha=-2)
        hits = distance.unflatten(-1, (len(shots), ways)).argmin(-1) == own
        accuracy.append(hits.to(features.dtype).mean(1).view(replicas, -1, len(shots)))
    diverged = ~features.isfinite().flatten(1).all(1)
    return torch.cat(accuracy, 1).permute(2, 0, 1).masked_fill(diverged.unsqueeze(1), torch.nan)


def half_width(accuracy: Tensor, level: float = 0.95) -> Tensor:
    """Half the Student-t interval (S,) of the mean over runs, for ``accuracy`` (S, R)."""
    runs = accuracy.shape[1]
    return accuracy.std(1) * (stats.t.ppf((1 + level) / 2, runs - 1) / math.sqrt(runs))


def few_shot(
    *,
    parts: Mapping[str, str],
    base: str = "train",
    ways: int = 5,
    shots: Sequence[int] = (1, 5),
    queries: int = 15,
    runs: int = 10_000,
    seed: int = 0,
    every: int = 1,
) -> Evaluator:
    """The evaluator ``few-shot``: nearest-class-mean accuracy on each of ``parts``, part -> suffix of its metrics.

    For K in ``shots``, on features as they are (the released evaluation) ``accuracy/K-shot``; on features
    centred by the mean of part ``base`` and scaled to unit length (Wang et al. 2019, "SimpleShot")
    ``accuracy/K-shot-normalized``; and with ``-ci`` half the 95% Student-t interval over runs. A part's
    suffix follows: ``accuracy/1-shot-validation``. A part with fewer than ``ways`` classes is scored over
    all of its classes. The samples of a part must be the same, in the same order, for every replica
    (``ValueError`` otherwise): the runs, drawn once from ``seed``, serve all of them, every K (which takes the
    first K of the support) and every criterion.
    """
    drawn: dict[str, Runs] = {}

    def runs_of(part: str, fine: Tensor) -> Runs:
        if part not in drawn:
            if not bool((fine == fine[:1]).all()):
                raise ValueError(f"the samples of part {part!r} differ between replicas, so no runs can be shared")
            labels = fine[0].cpu()
            classes = len(labels.unique())
            drawn[part] = draw_runs(
                labels, ways=min(ways, classes), shots=max(shots), queries=queries, runs=runs, seed=seed
            ).to(fine.device)
        return drawn[part]

    def measure(snapshot: Snapshot) -> dict[str, Tensor]:
        centre = snapshot.outputs(base).features.mean(1, keepdim=True)
        measured: dict[str, Tensor] = {}
        for part, suffix in parts.items():
            if not snapshot.has(part):
                continue
            outputs = snapshot.outputs(part)
            # distances don't change with a shift, and near the origin they lose fewer digits
            centred = outputs.features - centre
            for kind, features in (("", centred), ("-normalized", functional.normalize(centred, dim=-1))):
                accuracies = nearest_class_mean(features, runs_of(part, outputs.fine), shots)
                for k, accuracy in zip(shots, accuracies, strict=True):
                    name = f"accuracy/{k}-shot{kind}{suffix}"
                    measured[name] = accuracy.mean(1)
                    measured[f"{name}-ci"] = half_width(accuracy)
        return measured

    return Evaluator("few-shot", measure, every=every)
