"""Splits that keep samples together: photos of one person, blocks of neighbouring pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.benchmarks import Data, DataError, Split

#: each sample by itself, as the paper splits
RANDOM = "random"


def checked(split: Any, known: Sequence[str]) -> None:
    """``split`` is ``random``, ``{by: group}``, or ``{by: block, size: n}``, of those that are ``known``.

    Raises ``ValueError`` with one sentence.
    """
    if split == RANDOM:
        return
    forms = {"group": "{by: group}", "block": "{by: block, size: 10}"}
    allowed = " or ".join([RANDOM, *(forms[by] for by in known)])
    by = split.get("by") if isinstance(split, Mapping) else None
    if by not in known or set(split) - ({"by", "size"} if by == "block" else {"by"}):
        raise ValueError(f"split must be {allowed}, not {split!r}")
    size = split.get("size")
    if by == "block" and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ValueError(f"split by block needs its size, the edge of a block in pixels, as in {forms[by]}")


def blocks(pixels: Tensor, shape: tuple[int, int], order: str, size: int) -> Tensor:
    """The block (N,) of each of ``pixels`` (N,), numbered in ``order`` in an image of ``shape`` (rows, columns).

    Blocks of ``size`` × ``size`` pixels are laid from the first row and column on; the last ones may be smaller.

    >>> blocks(torch.arange(6), (2, 3), "row-major", 2).tolist()
    [0, 0, 1, 0, 0, 1]
    """
    rows, columns = shape
    if order == "row-major":
        row, column = pixels // columns, pixels % columns
    else:
        row, column = pixels % rows, pixels // rows
    return row // size * -(-columns // size) + column // size


def split(data: Data, groups: Tensor, shares: Mapping[str, int], generator: torch.Generator) -> Split:
    """Parts of so many samples each as ``shares`` say, and ``train``, the rest: no group (N,) stands in two.

    Groups are dealt in random order, each to the part whose turn it is where there is room for it. The last one of a
    part may be too large: what is too many of it is left out, and of ``train`` as much as makes it equally large for
    every ``generator``. Samples of a part stand in random order. Raises `DataError` where groups are too large.
    """
    order = torch.randperm(len(groups), generator=generator)
    names, members = torch.unique(groups, return_inverse=True)
    sizes = members.bincount().tolist()
    # what the last group of a part may leave over
    wasted = (max(sizes) - 1) * sum(share > 0 for share in shares.values())
    trained = len(groups) - sum(shares.values()) - wasted
    if trained < 1:
        raise DataError(
            f"the groups of {data.name} are too large for its split: the largest has {max(sizes):,} of {len(groups):,} "
            "samples; make the blocks or the parts smaller"
        )
    waiting = torch.randperm(len(names), generator=generator).tolist()
    parts = {}
    for part, share in shares.items():
        taken, waiting = _dealt(waiting, sizes, share)
        parts[part] = _of_groups(order, members, taken)[:share]
    return {"train": _of_groups(order, members, waiting)[:trained], **parts}


def _dealt(waiting: Sequence[int], sizes: Sequence[int], share: int) -> tuple[list[int], list[int]]:
    """The groups that a part of ``share`` samples takes of those ``waiting``, and the others, in their order."""
    taken: list[int] = []
    others: list[int] = []
    room = share
    for group in waiting:
        if room and sizes[group] <= room:
            taken.append(group)
            room -= sizes[group]
        else:
            others.append(group)
    if room:
        # none of the others fits: the smallest leaves least over
        last = min(others, key=lambda group: sizes[group])
        others.remove(last)
        taken.append(last)
    return taken, others


def _of_groups(order: Tensor, members: Tensor, groups: Sequence[int]) -> Tensor:
    """The samples of ``groups``, in ``order``."""
    wanted = torch.zeros(int(members.max()) + 1, dtype=torch.bool)
    wanted[list(groups)] = True
    return order[wanted[members[order]]]
