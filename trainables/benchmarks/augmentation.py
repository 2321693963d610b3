"""Augmentations of natural images as batched tensor code: parameters are drawn per replica, applied to all at once.

Each ``draw_…`` gives parameters for S·n images, replica after replica, from the replicas' own generators, on
``device``; each transform takes them with images (N, 3, H, W), N = S·n, and equals torchvision's functional of the same
name applied image by image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.replicas import constant, drawn

Generators = Sequence[torch.Generator]
Device = torch.device | str

#: luma weights of torchvision's greyscale
_GREY = (0.2989, 0.587, 0.114)


def draw_flips(n: int, generators: Generators, device: Device = "cpu") -> Tensor:
    """Whether to flip, (N,) bool, with probability one half."""
    return _uniform(n, generators, device) < 0.5


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror the images that are ``flipped`` (N,) left to right."""
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(-1), images)


def draw_shifts(n: int, padding: int, generators: Generators, device: Device = "cpu") -> Tensor:
    """Top and left (N, 2) int64, 0..2·padding, of crops from images padded on every side."""
    return (_uniform(n, generators, device, 2) * (2 * padding + 1)).long()


def shift(images: Tensor, corners: Tensor, padding: int) -> Tensor:
    """Crops of the images' own size at ``corners`` (N, 2), after padding every side with zeros."""
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    rows = corners[:, :1] + torch.arange(height, device=images.device)
    columns = corners[:, 1:] + torch.arange(width, device=images.device)
    image = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    # advanced indices around a slice come first: (N, H, W, 3)
    return padded[image, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


def draw_boxes(
    n: int,
    height: int,
    width: int,
    generators: Generators,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    attempts: int = 10,
    device: Device = "cpu",
) -> Tensor:
    """Boxes (N, 4) int64, top, left, height and width, as torchvision's ``RandomResizedCrop`` draws them.

    The share of the area is uniform over ``scale``, the aspect ratio log-uniform over ``ratio``; the first of
    ``attempts`` that fits is taken, else the largest central box whose aspect ratio is within ``ratio``.
    """
    u = _uniform(n, generators, device, attempts, 4)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[..., 0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * u[..., 1])
    w, h = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    top, left = (u[..., 2] * (height - h + 1)).long(), (u[..., 3] * (width - w + 1)).long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(1).view(-1, 1, 1).expand(-1, 1, 4)
    boxes = torch.stack([top, left, h, w], -1).gather(1, first).squeeze(1)
    central_w, central_h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    middle = ((height - central_h) // 2, (width - central_w) // 2, central_h, central_w)
    central = constant(middle, boxes.dtype, boxes.device)
    return torch.where(fits.any(1, keepdim=True), boxes, central)


def resized_crop(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """The ``boxes`` (N, 4) of float images, resized to ``size`` × ``size`` by antialiased bilinear interpolation."""
    top, left, height, width = boxes.unbind(1)
    down = _resampling(top, height, images.shape[-2], size, images.dtype)
    across = _resampling(left, width, images.shape[-1], size, images.dtype)
    return down.unsqueeze(1) @ images @ across.unsqueeze(1).mT


def draw_jitter(n: int, strength: float, generators: Generators, device: Device = "cpu") -> tuple[Tensor, Tensor]:
    """Factors (N, 3) of brightness, contrast and saturation, uniform over 1 ± strength, and their order (N, 3)."""
    u = _uniform(n, generators, device, 6)
    return 1 + strength * (2 * u[:, :3] - 1), u[:, 3:].argsort(1)


def jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Float images in 0..1 with brightness (0), contrast (1) and saturation (2) adjusted in each image's ``order``."""
    luma = constant(_GREY, images.dtype, images.device).view(3, 1, 1)
    for step in order.unbind(1):
        kind = step.view(-1, 1, 1, 1)
        grey = (images * luma).sum(1, keepdim=True)
        # each adjustment blends with an image: black, the mean grey, the grey
        other = torch.where(kind == 1, grey.mean((2, 3), keepdim=True), grey) * (kind != 0)
        factor = factors.gather(1, step.unsqueeze(1)).view(-1, 1, 1, 1).to(images.dtype)
        images = (factor * images + (1 - factor) * other).clamp(0, 1)
    return images


def crop_and_flip(inputs: Tensor, generators: Generators) -> Tensor:
    """Images (S, B, 3, H, H) shifted by up to an eighth of their edge (4 pixels at 32) and flipped, at random."""
    (replicas, n), device = inputs.shape[:2], inputs.device
    padding = inputs.shape[-1] // 8
    images = shift(inputs.flatten(0, 1), draw_shifts(n, padding, generators, device), padding)
    return torch.unflatten(flip(images, draw_flips(n, generators, device)), 0, (replicas, n))


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Float images (…, 3, H, W) with the channels' ``mean`` taken off and divided by their ``std``."""
    shift, scale = (constant(tuple(values), images.dtype, images.device).view(3, 1, 1) for values in (mean, std))
    return (images - shift) / scale


def _uniform(n: int, generators: Generators, device: Device, *shape: int) -> Tensor:
    """U[0, 1) (S·n, *shape)."""
    return drawn(lambda values, g: values.uniform_(generator=g), (n, *shape), generators, device=device).flatten(0, 1)


def _resampling(start: Tensor, length: Tensor, inputs: int, outputs: int, dtype: torch.dtype) -> Tensor:
    """Weights (N, outputs, inputs) that resize the stretch [start, start + length) of a line to ``outputs`` values.

    A triangle around each output's centre, as wide as the larger of the two pixels, normalised within the stretch.
    """
    scale = length.to(dtype).view(-1, 1, 1) / outputs
    centre = scale * (torch.arange(outputs, device=start.device, dtype=dtype).view(1, -1, 1) + 0.5)
    position = torch.arange(inputs, device=start.device).view(1, 1, -1) - start.view(-1, 1, 1)
    weight = (1 - (position + 0.5 - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    weight = weight * ((position >= 0) & (position < length.view(-1, 1, 1)))
    return weight / weight.sum(-1, keepdim=True)
