"""Each criterion's loss and gradient against its formula in plain numpy, one sample after another, in float64.

python -m benchmarks.equality
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import describe
from trainables import criteria
from trainables.anchors import exponential_noise
from trainables.criterion import Batch, Criterion, Setup, View
from trainables.replicas import stream, streams
from trainables.trial import Recipe

#: replicas, samples, classes, dimensions, anchors, fine classes
S, B, C, D, E, FINE = 2, 12, 3, 3, 4, 6
#: half a step of the central differences by which the formulas are differentiated
STEP = 1e-6


class Given(NamedTuple):
    """What one replica's formula is of: ``features`` (n, d), of two views the first B of the first, and the others."""

    features: np.ndarray
    weight: np.ndarray
    targets: np.ndarray
    teacher: np.ndarray
    fine: np.ndarray
    values: Mapping[str, float]
    criterion: Criterion
    seed: int
    #: where the formula is differentiated: what a gradient passes by is taken from here
    origin: np.ndarray


def log_softmax(scores: np.ndarray) -> np.ndarray:
    return np.array([row - math.log(sum(math.exp(value) for value in row)) for row in scores])


def ce(given: Given, features: np.ndarray | None = None) -> float:
    scores = log_softmax((given.features if features is None else features) @ given.weight)
    return -sum(scores[i, given.targets[i]] for i in range(len(scores))) / len(scores)


def ls(given: Given) -> float:
    scores, sigma = log_softmax(given.features @ given.weight), given.values["sigma"]
    wanted = [[1 - sigma if c == y else sigma / (C - 1) for c in range(C)] for y in given.targets]
    return -sum(wanted[i][c] * scores[i, c] for i in range(B) for c in range(C)) / B


def confidence_penalty(given: Given) -> float:
    scores = log_softmax(given.features @ given.weight)
    entropy = -sum(math.exp(q) * q for row in scores for q in row) / B
    return ce(given) - given.values["beta"] * entropy


def fierce(given: Given) -> float:
    """Eq. 8 to 13: H of the nearest anchors, and its slope times what the noisy soft assignment changes."""
    anchors, recipe = given.criterion.setup.anchors[given.seed].numpy(), given.criterion.setup.recipe
    noise = exponential_noise((B, E), [stream(given.seed, "gumbel", 1)], torch.float64, torch.device("cpu"))[0].numpy()

    def cosines(r: np.ndarray) -> np.ndarray:
        return np.array([r @ a / (np.linalg.norm(r) * np.linalg.norm(a)) for a in anchors])

    def soft(features: np.ndarray) -> np.ndarray:
        scores = [(cosines(r) - np.log(n)) / recipe.temperature for r, n in zip(features, noise, strict=True)]
        return np.exp(log_softmax(np.array(scores))).mean(0)

    p = np.bincount([int(cosines(r).argmax()) for r in given.origin], minlength=E) / B
    slope = -np.log2(p + recipe.entropy_epsilon) - p / ((p + recipe.entropy_epsilon) * math.log(2))
    bits = -float(p @ np.log2(p + recipe.entropy_epsilon))
    bits += float(slope @ (soft(given.features) - soft(given.origin)))
    return ce(given) - given.values["lambda"] * bits


def distillation(given: Given) -> float:
    weight, temperature = given.values["weight"], given.values["temperature"]
    student = log_softmax(given.features @ given.weight / temperature)
    taught = log_softmax(given.teacher / temperature)
    divergence = sum(math.exp(q) * (q - p) for q, p in zip(taught.flat, student.flat, strict=True)) / B
    return (1 - weight) * ce(given) + weight * temperature**2 * divergence


def vcreg(given: Given) -> float:
    covariance = np.cov(given.features, rowvar=False)
    narrow = sum(max(0.0, 1 - math.sqrt(covariance[j, j] + 1e-4)) for j in range(D)) / D
    between = sum(covariance[i, j] ** 2 for i in range(D) for j in range(D) if i != j) / (D * (D - 1))
    return ce(given) + given.values["variance"] * narrow + given.values["covariance"] * between


def sigreg(given: Given) -> float:
    count = int(given.values["slices"])
    if count:
        drawn = torch.randn(D, count, generator=stream(given.seed, "slices", 1), dtype=torch.float64).numpy()
        slices = (drawn / np.linalg.norm(drawn, axis=0)).T
        shares = np.full(count, 1 / count)
    else:
        slices, shares = all_slices()
    t = np.linspace(0, 3, 17)
    # (knots, samples, slices)
    waves = np.exp(1j * t[:, None, None] * (given.features @ slices.T))
    heights = np.abs(waves.mean(1) - np.exp(-(t**2) / 2)[:, None]) ** 2 * np.exp(-(t**2) / 2)[:, None]
    statistic = 2 * B * float(((heights[1:] + heights[:-1]) / 2).sum(0) @ shares) * (t[1] - t[0])
    return ce(given) + given.values["strength"] * statistic


def all_slices() -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of three dimensions and their weights: Gauss's rule over the height, and equal angles."""
    heights, weights = np.polynomial.legendre.leggauss(24)
    angles = 2 * np.pi * np.arange(40) / 40
    h, angle = (grid.ravel() for grid in np.meshgrid(heights, angles, indexing="ij"))
    radius = np.sqrt(1 - h**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), h], 1), np.repeat(weights / 2, 40) / 40


def contrasts(given: Given) -> tuple[float, float]:
    """L_out and class-conditional InfoNCE of both views, term by term."""
    layers = [given.criterion.get_submodule(f"projection.{place}") for place in (0, 2)]
    (a, b), (c, d) = ([p[given.seed].detach().numpy() for p in (layer.weight, layer.bias)] for layer in layers)
    projected = np.maximum(given.features @ a + b, 0) @ c + d
    unit = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    y, n = np.concatenate([given.targets, given.targets]), 2 * B
    supervised = spread = 0.0
    for i in range(n):
        e = {j: math.exp(float(unit[i] @ unit[j]) / given.values["tau"]) for j in range(n) if j != i}
        alike = [j for j in e if y[j] == y[i]]
        supervised -= sum(math.log(e[j] / sum(e.values())) for j in alike) / len(alike) / n
        spread -= math.log(e[(i + B) % n] / sum(e[j] for j in alike)) / n
    return supervised, spread


def of_both_views(given: Given) -> float:
    """The classifier's cross-entropy, which the features do not follow."""
    return (ce(given, given.origin[:B]) + ce(given, given.origin[B:])) / 2


def supcon(given: Given) -> float:
    return contrasts(given)[0] + of_both_views(given)


def supcon_spread(given: Given) -> float:
    (supervised, spread), share = contrasts(given), given.values["spread"]
    return (1 - share) * supervised + share * spread + of_both_views(given)


def fine_labels(given: Given) -> float:
    head = given.criterion.get_submodule("head")
    weight, bias = (p[given.seed].detach().numpy() for p in (head.weight, head.bias))
    scores = log_softmax(given.features @ weight + bias)
    return -sum(scores[i, given.fine[i]] for i in range(B)) / B + ce(given, given.origin)


#: a row of the table: the criterion, its hyperparameters where they are not its defaults, and its formula
ROWS: tuple[tuple[str, Mapping[str, float], Callable[[Given], float]], ...] = (
    ("ce", {}, ce),
    ("ls", {"sigma": 0.3}, ls),
    ("fierce", {"lambda": 0.7, "e": E}, fierce),
    ("confidence-penalty", {"beta": 0.3}, confidence_penalty),
    # before its anchors move
    ("fierce-learned", {"lambda": 0.7, "e": E}, fierce),
    ("distillation", {"weight": 0.3, "temperature": 2.5}, distillation),
    ("vcreg", {"variance": 0.7, "covariance": 0.3}, vcreg),
    ("sigreg", {"strength": 0.3, "slices": 64}, sigreg),
    ("sigreg", {"strength": 0.3, "slices": 0}, sigreg),
    ("supcon", {"tau": 0.3}, supcon),
    ("supcon-spread", {"tau": 0.3, "spread": 0.4}, supcon_spread),
    ("fine-labels", {}, fine_labels),
)


def compare(name: str, values: Mapping[str, float], formula: Callable[[Given], float]) -> tuple[float, float]:
    """Largest relative difference of the losses, and of the gradients by the features, over the replicas."""
    recipe, kind = Recipe(1, B, 0.1, assignment="nearest"), criteria.find(name)
    fine = torch.arange(B) % FINE
    anchors = _drawn("anchors", S, E, D).abs()
    setup = Setup(tuple(range(S)), kind.settle(values, recipe), recipe, anchors, D, C, fine=fine)
    criterion = kind(setup).double()
    views, targets = kind.views, torch.stack([torch.randperm(B, generator=stream(s, "targets")) % C for s in range(S)])
    features = (1.5 * _drawn("features", S, views * B, D)).requires_grad_()
    weight, teacher = _drawn("weight", S, D, C), _drawn("teacher", S, B, C)
    logits = features @ weight
    batch = Batch(
        logits[:, :B],
        features[:, :B],
        targets,
        lambda stream_name: streams(range(S), stream_name, 1),
        second=View(logits[:, B:], features[:, B:]) if views == 2 else None,
        teacher=teacher,
        fine=fine.expand(S, B),
        origin=features,
    )
    losses = criterion(batch)
    (gradient,) = torch.autograd.grad(losses.sum(), features)
    of_loss = of_gradient = 0.0
    for s in range(S):
        origin = features[s].detach().numpy()
        given = Given(
            *(each[s].detach().numpy() for each in (features, weight, targets, teacher)),
            fine.numpy(),
            setup.values,
            criterion,
            s,
            origin,
        )
        of_loss = max(of_loss, abs(float(losses[s].detach()) / formula(given) - 1))
        expected = np.zeros_like(origin)
        for place in np.ndindex(*origin.shape):
            step = np.zeros_like(origin)
            step[place] = STEP
            above, below = (formula(given._replace(features=origin + sign * step)) for sign in (1, -1))
            expected[place] = (above - below) / (2 * STEP)
        of_gradient = max(of_gradient, float(np.abs(gradient[s].numpy() - expected).max() / np.abs(expected).max()))
    return of_loss, of_gradient


def main() -> None:
    print(describe())
    print(f"{S} replicas, {B} samples, {D} dimensions, float64; largest relative difference of the")
    print("criterion                      loss     gradient (of central differences of the formula)")
    for name, values, formula in ROWS:
        of_loss, of_gradient = compare(name, values, formula)
        named = name + "".join(f" {key}={value:g}" for key, value in values.items() if key == "slices")
        print(f"{named:28s} {of_loss:8.1e}     {of_gradient:8.1e}")


def _drawn(name: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


if __name__ == "__main__":
    main()
