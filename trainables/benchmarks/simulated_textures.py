"""A simulated few-shot set: procedural textures whose classes and instances vary by factors of their own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: fixes classes and instances: the data is the same for every seed of a trial
_SEED = 20_220_510


def simulate(classes: int, samples: int, size: int) -> tuple[Tensor, Tensor]:
    """Textures (classes·samples, 3, size, size) uint8, class after class, and their labels (N,) int64.

    A texture is the sum of two gratings between two colours. Its class sets orientation, frequency and weight
    of the gratings, how far they are bent, and the colours. Its instance sets the phases, a turn and a zoom,
    the bend's place, the light's strength and direction, the colours' tint, and the noise: what a classifier
    has to see through. A class's textures are the same however many classes follow it.
    """
    pixels = torch.empty(classes * samples, 3, size, size, dtype=torch.uint8)
    line = (torch.arange(size) + 0.5) / size - 0.5
    y, x = line.view(-1, 1), line.view(1, -1)
    for c in range(classes):
        g = torch.Generator().manual_seed(_SEED + c)

        def one(low: float, high: float, g: torch.Generator = g) -> float:
            return low + (high - low) * float(torch.rand((), generator=g))

        def uniform(low: float, high: float, g: torch.Generator = g) -> Tensor:
            return low + (high - low) * torch.rand(samples, 1, 1, generator=g)

        angles, frequencies = (one(0, math.pi), one(0, math.pi)), (one(1.5, 5), one(1.5, 5))
        weight, bend = one(0.3, 0.7), one(0.0, 0.25)
        # not far from grey: colour alone must not tell a class
        colours = 0.5 + 0.4 * (torch.rand(2, 3, generator=g) - 0.5)

        turn, zoom = uniform(-0.15, 0.15), uniform(0.85, 1.15)
        bent = bend * torch.sin(2 * math.pi * (x * uniform(0.5, 1.5) + y * uniform(0.5, 1.5) + uniform(0, 1)))
        gratings = [
            torch.sin(
                2 * math.pi * (frequency * zoom * (x * torch.cos(angle + turn) + y * torch.sin(angle + turn) + bent))
                + uniform(0, 2 * math.pi)
            )
            for angle, frequency in zip(angles, frequencies, strict=True)
        ]
        mix = 0.5 + 0.5 * (weight * gratings[0] + (1 - weight) * gratings[1])
        light = uniform(0.7, 1.1) + uniform(-0.5, 0.5) * x + uniform(-0.5, 0.5) * y
        tinted = colours + 0.4 * (torch.rand(samples, 2, 3, generator=g) - 0.5)
        first, second = tinted.unsqueeze(-1).unsqueeze(-1).unbind(1)
        texture = light.unsqueeze(1) * (first + (second - first) * mix.unsqueeze(1))
        texture += 0.06 * torch.randn(texture.shape, generator=g)
        pixels[c * samples : (c + 1) * samples] = (255 * texture.clamp(0, 1)).round().byte()
    return pixels, torch.arange(classes).repeat_interleave(samples)
