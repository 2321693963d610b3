"""Convolutions of S replicas as batched matrix products over patches: every value under the kernel's k² places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: bytes of patches that are unfolded at a time: they are k² times what they are taken from
PATCH_BYTES = 256 * 2**20


def convolve(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """S convolutions without bias: ``x`` (S, C, B, H, W), ``weight`` (S, out, C, k, k) -> (S, out, B, H', W').

    Images come after channels, so that a replica's patches are a matrix (C·k², B·H'·W') whose product with its weights
    has this layout again. Patches are unfolded anew in the backward pass, `PATCH_BYTES` of them at a time. Has no
    second derivative. Under autocast computed in its precision.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    convolved: Tensor = _Convolution.apply(x, weight, stride, padding)
    return convolved


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        edge = weight.shape[-1]
        height, width = ((size + 2 * padding - edge) // stride + 1 for size in x.shape[-2:])
        out = x.new_empty(*weight.shape[:2], x.shape[2], height, width)
        matrix = weight.flatten(2)
        for part in _parts(out, weight):
            patches = _unfold(x[part], edge, stride, padding)
            torch.bmm(matrix[part], patches, out=out[part].flatten(2))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding, edge = ctx.stride, ctx.padding, weight.shape[-1]
        by_input = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        by_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        matrix = weight.flatten(2)
        slope = slope.contiguous()
        for part in _parts(slope, weight):
            rows = slope[part].flatten(2)
            if by_weight is not None:
                patches = _unfold(x[part], edge, stride, padding)
                torch.bmm(rows, patches.mT, out=by_weight[part].flatten(2))
                del patches
            if by_input is not None:
                _fold(torch.bmm(matrix[part].mT, rows), by_input[part], slope.shape[-2:], edge, stride, padding)
        return by_input, by_weight, None, None


def _parts(out: Tensor, weight: Tensor) -> Iterator[slice]:
    """So many replicas at a time that their patches take `PATCH_BYTES` at most, one at least."""
    patches = math.prod(weight.shape[2:]) * math.prod(out.shape[2:]) * out.element_size()
    count = max(1, PATCH_BYTES // max(1, patches))
    return (slice(start, start + count) for start in range(0, len(out), count))


def _unfold(x: Tensor, edge: int, stride: int, padding: int) -> Tensor:
    """(S, C, B, H, W) -> patches (S, C·k², B·H'·W')."""
    padded = functional.pad(x, (padding,) * 4) if padding else x
    windows = padded.unfold(3, edge, stride).unfold(4, edge, stride)
    # (S, C, k, k, B, H', W'), one copy
    return windows.permute(0, 1, 5, 6, 2, 3, 4).reshape(len(x), x.shape[1] * edge**2, -1)


def _fold(patches: Tensor, into: Tensor, size: torch.Size, edge: int, stride: int, padding: int) -> None:
    """Write the sums of ``patches`` (S, C·k², B·H'·W') at the places that they come from to ``into`` (S, C, B, H, W).

    ``size`` is (H', W').
    """
    replicas, channels, images, height, width = into.shape
    placed = patches.view(replicas, channels, edge, edge, images, *size)
    whole = into.new_zeros(replicas, channels, images, height + 2 * padding, width + 2 * padding)
    for row in range(edge):
        for column in range(edge):
            rows = slice(row, row + stride * (size[0] - 1) + 1, stride)
            columns = slice(column, column + stride * (size[1] - 1) + 1, stride)
            whole[..., rows, columns] += placed[:, :, row, column]
    into.copy_(whole[..., padding : padding + height, padding : padding + width])
