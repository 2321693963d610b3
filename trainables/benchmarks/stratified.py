"""Splits in which each class has its share of each part."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.benchmarks import Split


def split(labels: Tensor, classes: int, shares: Mapping[str, float], generator: torch.Generator) -> Split:
    """Parts with the ``shares`` of each class, dealt at random, and ``train``, the rest, as large for every generator.

    ``labels`` (N,) number the ``classes`` from 0. A part whose share is not 0 has one sample at least of a class, and
    so has ``train``: a class holds as many samples as there are such parts, or more. Samples of a part stand in random
    order.
    """
    order = torch.randperm(len(labels), generator=generator)
    dealt: dict[str, list[Tensor]] = {part: [] for part in (*shares, "train")}
    for label in range(classes):
        of_class = order[labels[order] == label]
        sizes: list[int] = []
        # what the parts that are not dealt yet need
        needed = 1 + sum(share > 0 for share in shares.values())
        for share in shares.values():
            needed -= share > 0
            left = len(of_class) - sum(sizes)
            sizes.append(min(max(1, round(len(of_class) * share)), left - needed) if share else 0)
        sizes.append(len(of_class) - sum(sizes))
        for part, indices in zip(dealt, torch.split(of_class, sizes), strict=True):
            dealt[part].append(indices)
    joined = {part: torch.cat(indices) for part, indices in dealt.items()}
    return {part: indices[torch.randperm(len(indices), generator=generator)] for part, indices in joined.items()}
