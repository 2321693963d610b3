"""Simulated face-like images: a latent age drives several visual cues, each with noise of its own.

No photograph is involved. The images are schematic (an oval, hair, eyes, a mouth, lines), and whatever is measured on
them is to be labelled simulated.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: how many images are drawn at once
_CHUNK = 256


def simulate(count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``count`` images (N, 3, size, size) uint8 and their ages (N,) float32, whole years in 1..100.

    The ages follow 100·Beta(2, 3.3), whose median is about 36. Six cues follow the age, each through an age of its own
    that is off by several years, so that the images tell the age only in part: grey hair, receding hairline, lines on
    the forehead, lines beside the mouth, the face's proportions and the eyes' size. Skin, hair and background colour,
    light, position and sensor noise are independent of it.
    """
    rng = np.random.default_rng(seed)
    ages = np.clip(np.floor(100 * rng.beta(2.0, 3.3, count)), 1, 100)
    images = [_draw(part, size, rng) for part in np.split(ages, range(_CHUNK, count, _CHUNK))]
    return torch.cat(images), torch.from_numpy(ages.astype(np.float32))


def _draw(ages: np.ndarray, size: int, rng: np.random.Generator) -> Tensor:
    n = len(ages)

    def apparent(years: float) -> Tensor:
        """The age as one cue shows it, (n, 1, 1), off by a normal error of so many years."""
        return torch.from_numpy(ages + rng.normal(0, years, n)).float().view(n, 1, 1)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, *shape, 1, 1))).float()

    grey = torch.sigmoid((apparent(10) - 48) / 9)
    recession = torch.sigmoid((apparent(12) - 50) / 12)
    forehead_lines = (apparent(9) / 80).clamp(0, 1)
    mouth_lines = (apparent(9) / 80).clamp(0, 1)
    grown = torch.sigmoid((apparent(5) - 12) / 6)
    eye = 0.20 - 0.07 * torch.sigmoid((apparent(6) - 15) / 10)

    axis = (torch.arange(size, dtype=torch.float32) + 0.5) / size * 2 - 1
    zoom = uniform(0.92, 1.08)
    y = (axis.view(1, size, 1) - uniform(-0.08, 0.08)) * zoom
    x = (axis.view(1, 1, size) - uniform(-0.08, 0.08)) * zoom
    edge = size / 4

    def inside(centre_x: float, centre_y: float, half_width: float | Tensor, half_height: float | Tensor) -> Tensor:
        """Soft mask (n, size, size) of an ellipse."""
        radius = (((x - centre_x) / half_width) ** 2 + ((y - centre_y) / half_height) ** 2).sqrt()
        return torch.sigmoid((1 - radius) * edge)

    def paint(canvas: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
        return canvas + mask.unsqueeze(1) * (colour - canvas)

    width, height = 0.62 - 0.06 * grown, 0.66 + 0.12 * grown
    face = inside(0.0, 0.1, width, height)
    canvas = uniform(0.1, 0.9, 3) + (uniform(-0.2, 0.2) * y).unsqueeze(1)
    natural = uniform(0.05, 0.6, 1) * _colour(1.0, 0.75, 0.5)
    hair = natural + grey.unsqueeze(1) * (0.8 - natural)
    canvas = paint(canvas, inside(0.0, -0.1, width + 0.14, height + 0.06), hair)
    skin = uniform(0.35, 0.9, 1) * _colour(1.0, 0.8, 0.68)
    canvas = paint(canvas, face, skin)
    # the fringe covers the brow of the young, and leaves it as the hairline recedes
    fringe = face * torch.sigmoid((-0.34 - 0.26 * recession - y) * edge)
    canvas = paint(canvas, fringe, hair.expand(n, 3, 1, 1))

    brow = face * (1 - fringe) * torch.exp(-(((y + 0.33) / 0.14) ** 2)) * torch.exp(-((x / 0.35) ** 2))
    stripes = 0.5 + 0.5 * torch.cos(2 * torch.pi * (y + 0.33) / 0.13)
    beside = torch.exp(-(((x.abs() - 0.26 - 0.25 * (y - 0.3)) / 0.05) ** 2)) * torch.exp(-(((y - 0.38) / 0.16) ** 2))
    shade = 1 - 0.45 * forehead_lines * brow * stripes - 0.45 * mouth_lines * face * beside
    canvas = canvas * shade.unsqueeze(1)

    dark = uniform(0.02, 0.3, 3)
    for side in (-0.25, 0.25):
        canvas = paint(canvas, inside(side, 0.0, eye, 0.6 * eye), _colour(0.95, 0.95, 0.95))
        canvas = paint(canvas, inside(side, 0.0, 0.5 * eye, 0.5 * eye), dark)
    canvas = paint(canvas, inside(0.0, 0.5, uniform(0.16, 0.24), 0.05), skin * _colour(0.8, 0.5, 0.5))
    light = 1 + uniform(-0.25, 0.25) * x + uniform(-0.15, 0.15) * y
    noise = torch.from_numpy(rng.standard_normal((n, 3, size, size), dtype=np.float32)) * 0.03
    return ((canvas * light.unsqueeze(1) + noise).clamp(0, 1) * 255).round().to(torch.uint8)


def _colour(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([red, green, blue]).view(1, 3, 1, 1)
