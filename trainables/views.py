"""The two views of a batch that some criteria compare: the benchmark's augmentation twice, or noise without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.benchmarks import Benchmark, Data
from trainables.replicas import drawn, stream

#: samples by which it is told whether a benchmark augments
PROBED = 64
#: the streams of noise of the first and of the second view; the second one's is also that of its augmentation
FIRST, SECOND = "first-view", "second-view"


def augments(benchmark: Benchmark, data: Data, options: Any) -> bool:
    """Whether training batches of the same samples differ from draw to draw.

    Told by the data's first samples and streams of fixed seeds, so that it is the same for every trial of the data.
    """
    samples = data.inputs[:PROBED].unsqueeze(0)
    one, other = (benchmark.batch(samples.clone(), options, True, [stream(seed, "augmentation")]) for seed in (0, 1))
    return not torch.equal(one, other)


def deviations(inputs: Callable[[Tensor], Tensor], train: Tensor, chunk: int) -> Tensor:
    """Standard deviation (S, 1, …) of each network input over each replica's training part; ``train`` is (S, n).

    ``inputs`` gives those of the samples at indices (S, k), and is asked for ``chunk`` samples at a time.
    """
    # less the first sample, so that squares of large values do not swallow their differences
    origin = inputs(train[:, :1]).double()
    total, squares = torch.zeros_like(origin), torch.zeros_like(origin)
    for indices in torch.split(train, chunk, dim=1):
        values = inputs(indices).double() - origin
        total += values.sum(1, keepdim=True)
        squares += values.square().sum(1, keepdim=True)
    mean = total / train.shape[1]
    return (squares / train.shape[1] - mean.square()).clamp_(min=0).sqrt_()


def noisy(inputs: Tensor, scale: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """``inputs`` (S, B, …) plus normal noise of standard deviation ``scale`` (S, 1, …), replica s from its stream."""
    shape = inputs.shape[1:]
    noise = drawn(lambda values, g: values.normal_(generator=g), shape, generators, inputs.dtype, inputs.device)
    return inputs + scale * noise
