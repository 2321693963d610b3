"""Each augmentation against torchvision's, image by image with the same drawn parameters."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from trainables.benchmarks import augmentation as ours
from trainables.replicas import streams

N, S = 24, 2


def images(height: int = 20, width: int = 20) -> Tensor:
    """(S·N, 3, H, W) in 0..1, smooth enough that interpolation matters."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(S * N, 3, 6, 6, generator=g)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def generators() -> list[torch.Generator]:
    return streams((3, 8), "augmentation", 1)


def test_flip() -> None:
    x = (images() * 255).byte()
    flipped = ours.draw_flips(N, generators())
    assert 0 < flipped.sum() < len(flipped)
    expected = [functional.horizontal_flip(image) if f else image for image, f in zip(x, flipped, strict=True)]
    assert torch.equal(ours.flip(x, flipped), torch.stack(expected))


def test_shift() -> None:
    x = (images() * 255).byte()
    corners = ours.draw_shifts(N, 4, generators())
    expected = [
        functional.crop(functional.pad(image, [4]), int(top), int(left), 20, 20)
        for image, (top, left) in zip(x, corners, strict=True)
    ]
    assert torch.equal(ours.shift(x, corners, 4), torch.stack(expected))


def test_shifts_cover_the_padding_evenly() -> None:
    corners = ours.draw_shifts(9000, 4, generators())
    for axis in corners.T:
        counts = torch.bincount(axis)
        assert len(counts) == 9
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [6, 17, 40])
def test_resized_crop(size: int) -> None:
    x = images(23, 31)
    boxes = ours.draw_boxes(N, 23, 31, generators())
    boxes[0] = torch.tensor([22, 30, 1, 1])
    boxes[1] = torch.tensor([0, 0, 23, 31])
    expected = [
        functional.resized_crop(image, *box.tolist(), size=[size, size], antialias=True)
        for image, box in zip(x, boxes, strict=True)
    ]
    torch.testing.assert_close(ours.resized_crop(x, boxes, size), torch.stack(expected), rtol=0, atol=2e-6)


def test_boxes_are_distributed_as_torchvisions() -> None:
    """Kolmogorov–Smirnov on the area and the position of boxes in a wide image, where many attempts fail."""
    height, width = 60, 100
    boxes = ours.draw_boxes(2000, height, width, generators()).double()
    theirs = v2.RandomResizedCrop(10)
    torch.manual_seed(0)
    blank = torch.zeros(3, height, width)
    drawn = [theirs.make_params([blank]) for _ in range(4000)]
    expected = torch.tensor([[p["top"], p["left"], p["height"], p["width"]] for p in drawn], dtype=torch.float64)
    assert (boxes[:, 0] + boxes[:, 2] <= height).all()
    assert (boxes[:, 1] + boxes[:, 3] <= width).all()
    for of in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2], lambda b: b[:, 0], lambda b: b[:, 1]):
        assert stats.ks_2samp(of(boxes), of(expected)).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(10, 100), (100, 10)])
def test_boxes_that_never_fit_are_central(height: int, width: int) -> None:
    boxes = ours.draw_boxes(N, height, width, generators(), scale=(0.9, 1.0))
    expected = v2.RandomResizedCrop(10, scale=(0.9, 1.0)).make_params([torch.zeros(3, height, width)])
    assert boxes.unique(dim=0).tolist() == [[expected[k] for k in ("top", "left", "height", "width")]]


def test_jitter() -> None:
    x = images()
    factors, order = ours.draw_jitter(N, 0.4, generators())
    assert 0.6 <= factors.min() < 0.7
    assert 1.3 < factors.max() <= 1.4
    assert len(order.unique(dim=0)) == 6
    adjust = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    expected = []
    for image, f, steps in zip(x, factors, order, strict=True):
        for step in steps.tolist():
            image = adjust[step](image, float(f[step]))
        expected.append(image)
    torch.testing.assert_close(ours.jitter(x, factors, order), torch.stack(expected), rtol=0, atol=2e-6)


def test_a_replica_draws_from_its_own_generator() -> None:
    alone = streams((8,), "augmentation", 1)
    together = generators()
    for draw in (
        lambda g: ours.draw_flips(N, g),
        lambda g: ours.draw_shifts(N, 4, g),
        lambda g: ours.draw_boxes(N, 23, 31, g),
        lambda g: ours.draw_jitter(N, 0.4, g)[0],
    ):
        assert torch.equal(draw(alone), draw(together)[N:])
