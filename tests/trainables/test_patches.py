"""Convolutions as matrix products over patches, against torch's own, replica by replica."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables import patches


def operands(edge: int, size: tuple[int, int] = (7, 6)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 2, 4, *size, dtype=torch.float64, generator=generator)
    weight = torch.randn(3, 5, 2, edge, edge, dtype=torch.float64, generator=generator)
    return x.requires_grad_(), weight.requires_grad_()


def reference(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    each = [
        functional.conv2d(one.transpose(0, 1), w, stride=stride, padding=padding).transpose(0, 1)
        for one, w in zip(x, weight, strict=True)
    ]
    return torch.stack(each)


@pytest.mark.parametrize("memory", [1, 2**30], ids=["a replica at a time", "together"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("edge", "padding"), [(3, 1), (3, 0), (1, 0), (5, 2), (2, 1)])
def test_values_and_gradients_are_those_of_a_convolution(
    edge: int, padding: int, stride: int, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches, "PATCH_BYTES", memory)
    x, weight = operands(edge)
    expected = reference(x, weight, stride, padding)
    slope = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    wanted = torch.autograd.grad(expected, (x, weight), slope)
    ours = patches.convolve(x, weight, stride, padding)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    # a gradient that is no single block of memory, as that of a mean over maps
    for given in (slope, slope.transpose(1, 2).contiguous().transpose(1, 2)):
        found = torch.autograd.grad(ours, (x, weight), given, retain_graph=True)
        for gradient, right in zip(found, wanted, strict=True):
            torch.testing.assert_close(gradient, right, rtol=1e-10, atol=1e-10)


def test_only_what_is_asked_for_has_a_gradient() -> None:
    x, weight = operands(3)
    patches.convolve(x.detach(), weight, 1, 1).sum().backward()
    assert weight.grad is not None
    weight.grad = None
    patches.convolve(x, weight.detach(), 1, 1).sum().backward()
    assert x.grad is not None and weight.grad is None


def test_under_autocast_it_computes_in_its_precision() -> None:
    x, weight = (tensor.detach().float().requires_grad_() for tensor in operands(3))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = patches.convolve(x, weight, 1, 1)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), reference(x, weight, 1, 1), rtol=0.02, atol=0.1)
    rounded.float().sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float32
