"""What probes read where nothing was trained: of the network as it was initialised, and of the raw inputs.

Neither depends on the criterion, so that both are measured once a study, seed by seed, in the trial of the reference at
its last epoch. Each metric of an evaluator with ``floors`` that reads fine labels of held-out samples has two floors,
``accuracy/fine-linear-untrained`` and ``accuracy/fine-linear-inputs``, by the same probe on the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trainables.evaluators import Evaluator
from trainables.metrics import Metric
from trainables.replicas import stream

#: what is measured in place of the trained network, suffix of the metrics' names -> how tables call it
UNTRAINED, INPUTS = "untrained", "inputs"
KINDS: Mapping[str, str] = {UNTRAINED: "untrained network", INPUTS: "raw inputs"}
#: of raw inputs with more values than this, so many principal components of the training samples are read
MOST_INPUTS = 512
#: training samples that the components are those of, and steps of the subspace iteration
_SAMPLES, _ITERATIONS = 4000, 2

#: indices (S, n) -> features (S, n, d) and logits (S, n, C)
Predict = Callable[[Tensor], tuple[Tensor, Tensor]]

#: mean (d,) and principal axes (d, m)
Axes = tuple[Tensor, Tensor]


def name_of(metric: str, kind: str) -> str:
    """The name of the floor of ``metric``.

    >>> name_of("r2/fine-linear", "inputs")
    'r2/fine-linear-inputs'
    """
    return f"{metric}-{kind}"


def bounded(evaluators: Iterable[Evaluator]) -> list[Metric]:
    """The metrics of ``evaluators`` that have floors."""
    own = (metric for evaluator in evaluators if evaluator.floors for metric in evaluator.metrics)
    return [metric for metric in own if metric.reads_fine and not metric.twin_of]


def declared(evaluators: Iterable[Evaluator]) -> tuple[Metric, ...]:
    """The floors of what ``evaluators`` declare, kind by kind."""
    metrics = bounded(evaluators)
    return tuple(
        replace(
            metric,
            name=name_of(metric.name, kind),
            label=f"{metric.label or metric.name} ({words})",
            note=f"{metric.note}; {words} in place of the trained one's features".lstrip("; "),
            group=words,
            floor_of=metric.name,
        )
        for kind, words in KINDS.items()
        for metric in metrics
    )


def inputs(
    prepared: Callable[[Tensor], Tensor], train: Tensor, classes: int, seeds: Sequence[int], chunk: int
) -> Predict:
    """What stands for a network where inputs are read as they are: flattened, reduced to `MOST_INPUTS` values.

    ``prepared`` gives the network's inputs (S, n, …) at indices (S, n), of which ``train`` (S, n) are the training
    part's; ``chunk`` samples of a replica are prepared at once. The logits are 0.
    """
    count = min(_SAMPLES, train.shape[1])
    few = train[:, torch.arange(count, device=train.device) * train.shape[1] // count]
    axes: list[Axes | None] = []
    for indices, seed in zip(few, seeds, strict=True):
        own = _flat(prepared, indices, None, chunk)
        axes.append(principal(own, seed) if own.shape[1] > MOST_INPUTS else None)

    def predict(indices: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.stack([_flat(prepared, *each, chunk) for each in zip(indices, axes, strict=True)])
        return features, features.new_zeros(*indices.shape, classes)

    return predict


def principal(samples: Tensor, seed: int) -> Axes:
    """Mean (d,) and the first `MOST_INPUTS` principal axes (d, m) of samples (n, d), by a seeded subspace iteration.

    After Halko, Martinsson and Tropp (2011), SIAM Review 53, algorithm 5.1, as ``torch.svd_lowrank`` has it; that draws
    on the samples' own device, where a GPU draws others. m is n − 1 where there are fewer samples: less their mean
    they span no more, and what a sample held out has along another axis says nothing.
    """
    centre = samples.mean(0)
    tall = samples - centre
    is_wide = tall.shape[0] < tall.shape[1]
    if is_wide:
        tall = tall.mT
    count = max(1, min(MOST_INPUTS, len(samples) - 1, samples.shape[1]))
    start = torch.randn(tall.shape[1], count, dtype=tall.dtype, generator=stream(seed, "components"))
    basis = torch.linalg.qr(tall @ start.to(tall.device)).Q
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(tall.mT @ basis).Q
        basis = torch.linalg.qr(tall @ basis).Q
    left, _, right = torch.linalg.svd(basis.mT @ tall, full_matrices=False)
    return centre, basis @ left if is_wide else right.mT


def _flat(prepared: Callable[[Tensor], Tensor], indices: Tensor, axes: Axes | None, chunk: int) -> Tensor:
    """The inputs (n, d) of one replica at ``indices`` (n,), along ``axes`` where there are any."""
    parts = []
    for part in torch.split(indices, chunk):
        own = prepared(part.unsqueeze(0))[0].flatten(1)
        parts.append(own if axes is None else (own - axes[0]) @ axes[1])
    return torch.cat(parts)
