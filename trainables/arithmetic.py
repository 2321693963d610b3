"""How torch computes in a process that trains: the same numbers each time, and float32 at its full precision."""

from __future__ import annotations

import torch


def settle() -> None:
    """Set torch, for the whole process, so that a training can be repeated to the bit on its own device.

    Threads inherit part of it, so it comes before the first parallel operation.
    """
    # idle units drive Adam's moments and soft assignments below 1e-38, where CPU arithmetic is many times slower
    torch.set_flush_denormal(True)
    # some of cuDNN's kernels sum in the order in which threads arrive: a resume would go another way
    torch.backends.cudnn.deterministic = True
    # torch lets a GPU's convolutions round their inputs to 10 bits, its matrix products not: kernels would differ by
    # more than the order of sums; `mixed_precision` is the way to compute in fewer bits
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
