"""Few-shot transfer: N-way K-shot nearest-class-mean accuracy on classes that training never saw (§5.3, table 2)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from trainables.evaluators import Evaluator, Snapshot
from trainables.metrics import Metric

#: runs scored at a time on a CPU (measured: 400 to 800), and bytes of features gathered at a time elsewhere
_CHUNK_RUNS, _CHUNK_BYTES = 400, 256 * 2**20


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
    classes, sizes = torch.unique(labels, return_counts=True)
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
    NaN for a replica with a feature that is not finite, or so long that distances are not.
    """
    _, ways, most = runs.support.shape
    queries = runs.queries.shape[-1]
    own = torch.arange(ways, device=features.device).repeat_interleave(queries)
    if features.device.type == "cpu":
        nearest, chunk = _nearest_by_pairs, _CHUNK_RUNS
    else:
        gathered = len(features) * ways * (most + queries) * features.shape[-1] * features.element_size()
        nearest, chunk = _nearest_by_products, max(1, _CHUNK_BYTES // gathered)
    accuracy = []
    for support, query in zip(torch.split(runs.support, chunk), torch.split(runs.queries, chunk), strict=True):
        hits = nearest(features, support, query.flatten(1), shots) == own
        accuracy.append(hits.to(features.dtype).mean(-1))
    # no distance is above four times the largest square
    diverged = ~(4 * features.square().sum(-1)).isfinite().all(1)
    return torch.cat(accuracy, 1).permute(2, 0, 1).masked_fill(diverged.unsqueeze(1), torch.nan)


# distances below are ‖m‖² − 2 q·m, which lack ‖q‖², the same for every class


def _nearest_by_pairs(features: Tensor, support: Tensor, queries: Tensor, shots: Sequence[int]) -> Tensor:
    """The nearest class mean (S, R, len(shots), Q) of ``queries`` (R, Q), a product of two rows at a time.

    Nothing is gathered: a mean stays in the CPU's nearest cache while the queries of its run pass by.
    """
    runs, ways, _ = support.shape
    per_run = len(shots) * ways
    columns = queries.unsqueeze(1).expand(-1, per_run, -1).flatten()
    rows = torch.arange(0, len(columns) + 1, queries.shape[1])
    answers = []
    for own in features:
        means = torch.stack(
            [functional.embedding_bag(support[..., :k].flatten(0, 1), own, mode="mean") for k in shots]
        ).view(len(shots), runs, ways, -1)
        means = means.transpose(0, 1).flatten(0, 2)
        squares = means.square().sum(-1).repeat_interleave(queries.shape[1])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            pairs = torch.sparse_csr_tensor(rows, columns, squares, (len(means), len(own)), check_invariants=False)
        distance = torch.sparse.sampled_addmm(pairs, means, own.T, alpha=-2).values()
        # a minimum is found faster along the last dimension
        answers.append(distance.view(runs, len(shots), ways, -1).transpose(2, 3).contiguous().argmin(-1))
    return torch.stack(answers)


def _nearest_by_products(features: Tensor, support: Tensor, queries: Tensor, shots: Sequence[int]) -> Tensor:
    """The same, a matrix product for each run: many small ones at once, as a GPU likes them."""
    replicas, samples, d = features.shape
    runs, ways, most = support.shape
    # whole rows are gathered twice as fast along the first dimension
    rows = features.flatten(0, 1)
    first_row = samples * torch.arange(replicas, device=features.device).unsqueeze(1)
    supported = rows.index_select(0, (first_row + support.flatten()).flatten()).view(-1, ways, most, d)
    # all K side by side, since gathering the queries costs more than multiplying them
    means = torch.cat([supported[:, :, :k].mean(2) for k in shots], 1)
    tested = rows.index_select(0, (first_row + queries.flatten()).flatten()).view(-1, queries.shape[1], d)
    distance = torch.baddbmm(means.square().sum(-1).unsqueeze(1), tested, means.mT, alpha=-2)
    return distance.view(replicas, runs, -1, len(shots), ways).argmin(-1).transpose(2, 3)


def _unit(features: Tensor) -> Tensor:
    """Features (S, n, d) scaled to unit length, 0 where they are 0, NaN where their length is not finite."""
    length = features.norm(dim=-1, keepdim=True)
    return functional.normalize(features, dim=-1).masked_fill(~length.isfinite(), torch.nan)


def half_width(accuracy: Tensor, level: float = 0.95) -> Tensor:
    """Half the Student-t interval (S,) of the mean over runs, for ``accuracy`` (S, R)."""
    runs = accuracy.shape[1]
    return accuracy.std(1) * float(stats.t.ppf((1 + level) / 2, runs - 1) / math.sqrt(runs))


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
            classes = len(torch.unique(labels))
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
            for kind, features in (("", centred), ("-normalized", _unit(centred))):
                accuracies = nearest_class_mean(features, runs_of(part, outputs.fine), shots)
                for k, accuracy in zip(shots, accuracies, strict=True):
                    name = f"accuracy/{k}-shot{kind}{suffix}"
                    measured[name] = accuracy.mean(1)
                    measured[f"{name}-ci"] = half_width(accuracy)
        return measured

    return Evaluator(
        "few-shot", measure, every=every, metrics=declared(parts.values(), shots), on_validation="heldout" in parts
    )


def declared(suffixes: Collection[str], shots: Sequence[int]) -> tuple[Metric, ...]:
    """The metrics of `few_shot` for parts with these ``suffixes``."""
    kinds = {"": ("", ""), "-normalized": (", normalized", " on features centred and scaled to unit length")}
    spreads = {
        "": ("", "mean over runs"),
        "-ci": (", half-width over runs", "half the 95% Student-t interval over runs"),
    }
    return tuple(
        Metric(
            f"accuracy/{k}-shot{kind}{suffix}{spread}",
            f"{k}-shot accuracy{named}{', validation classes' if suffix else ''}{half}",
            f"nearest class mean of {k} labelled samples a class{features}, "
            f"{'validation' if suffix else 'novel'} classes, {what}",
            better="" if spread else "higher",
            reads_fine=True,
            # those of validation classes stand for those of novel ones
            twin_of=f"accuracy/{k}-shot{kind}{spread}" if suffix and "" in suffixes else "",
        )
        for k in shots
        for kind, (named, features) in kinds.items()
        for suffix in suffixes
        for spread, (half, what) in spreads.items()
    )
