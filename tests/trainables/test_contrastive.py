"""SupCon and its spread against plain loops; the two views of a batch, and the classifier that learns apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.tiny import Tiny, TinyOptions
from trainables import criteria, views
from trainables.backbones import Looped
from trainables.benchmarks import Data, DataError, find, make_options
from trainables.criteria.supcon import PROJECTED, similarities, supervised
from trainables.criteria.supcon_spread import class_conditional
from trainables.criterion import Batch, Criterion, Setup, View
from trainables.replicas import stream, streams
from trainables.training import Training
from trainables.trial import Recipe, Trial

S, B, C, D = 3, 7, 2, 5
TAU = 0.3


def drawn(*shape: int, name: str = "projected") -> Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


def labels() -> Tensor:
    """Of both views; one sample of the first replica has its class alone."""
    targets = torch.randint(C, (S, B), generator=stream(0, "labels"))
    targets[0] = 0
    targets[0, 3] = 1
    return torch.cat([targets, targets], 1)


def plainly(z: Tensor, y: Tensor, spread: bool) -> float:
    """The mean over views of SupCon's L_out, or of class-conditional InfoNCE, of one replica, term by term."""
    n, unit = len(z), z / z.norm(dim=1, keepdim=True)
    terms = []
    for i in range(n):
        e = {a: math.exp(float(unit[i] @ unit[a]) / TAU) for a in range(n) if a != i}
        alike = [a for a in e if y[a] == y[i]]
        if spread:
            terms.append(-math.log(e[(i + n // 2) % n] / sum(e[a] for a in alike)))
        else:
            terms.append(-sum(math.log(e[p] / sum(e.values())) for p in alike) / len(alike))
    return sum(terms) / n


@pytest.mark.parametrize(("function", "spread"), [(supervised, False), (class_conditional, True)])
def test_the_losses_are_their_formulas_and_their_gradients_finite_differences(function: Any, spread: bool) -> None:
    projected, targets = drawn(S, 2 * B, D).requires_grad_(), labels()
    losses = function(similarities(projected, TAU), targets)
    expected = [plainly(z.detach(), y, spread) for z, y in zip(projected, targets, strict=True)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-10)
    assert torch.autograd.gradcheck(lambda z: function(similarities(z, TAU), targets), projected)


def test_class_collapse_is_least_for_supcon_and_not_for_its_spread() -> None:
    """Two classes, each one point and opposite: log(n/2 − 1 + n/2·e^{−2/τ}) is SupCon's bound (Graf et al. 2021)."""
    targets = torch.tensor([[0, 0, 1, 1, 0, 0, 1, 1]])
    collapsed = (1 - 2 * targets).double().unsqueeze(2) * torch.tensor([1.0, 0.0], dtype=torch.float64)
    spread = collapsed + 0.3 * drawn(1, 4, 2).repeat(1, 2, 1)
    bound = math.log(3 + 4 * math.exp(-2 / TAU))
    assert float(supervised(similarities(collapsed, TAU), targets)) == pytest.approx(bound)
    assert float(supervised(similarities(spread, TAU), targets)) > bound
    assert float(class_conditional(similarities(collapsed, TAU), targets)) == pytest.approx(math.log(3))
    assert float(class_conditional(similarities(spread, TAU), targets)) < math.log(3)


def made(name: str, **values: float) -> Criterion:
    recipe, kind = Recipe(1, B, 0.1), criteria.find(name)
    return kind(Setup(tuple(range(S)), kind.settle(values, recipe), recipe, torch.zeros(S, 2, D), D, C)).double()


@pytest.mark.parametrize(("name", "shares"), [("supcon", (1.0, 0.0)), ("supcon-spread", (0.5, 0.5))])
def test_the_criterion_is_contrast_plus_the_classifier_s_cross_entropy(name: str, shares: tuple[float, float]) -> None:
    criterion = made(name, tau=TAU)
    features, weight = drawn(S, 2 * B, D, name="features").requires_grad_(), drawn(S, D, C, name="weight")
    weight.requires_grad_()
    logits, targets = torch.bmm(features, weight), labels()
    batch = Batch(
        logits[:, :B],
        features[:, :B],
        targets[:, :B],
        lambda name: [],
        second=View(logits[:, B:], features[:, B:]),
        origin=features,
    )
    losses = criterion(batch)
    projected = []
    for s in range(S):
        (a, b), (c, d) = (
            (layer.weight[s].detach(), layer.bias[s].detach())
            for layer in criterion.projection[::2]  # type: ignore
        )
        projected.append(torch.relu(features[s].detach() @ a + b) @ c + d)
        assert a.shape == (D, PROJECTED)
    for s in range(S):
        contrast = sum(
            share * plainly(projected[s], targets[s], spread)
            for share, spread in zip(shares, (False, True), strict=True)
        )
        ce = float(functional.cross_entropy(logits[s], targets[s]).detach())
        assert float(losses[s].detach()) == pytest.approx(contrast + ce, rel=1e-9)
    of_features, of_weight = torch.autograd.grad(losses.sum(), (features, weight), retain_graph=True)
    (plain,) = torch.autograd.grad(
        torch.stack([functional.cross_entropy(z, y) for z, y in zip(logits, targets, strict=True)]).sum(),
        weight,
        retain_graph=True,
    )
    torch.testing.assert_close(of_weight, plain)
    (contrasted,) = torch.autograd.grad(
        criterion.contrast(criterion.projection(features), targets).sum(),
        features,  # type: ignore[operator]
    )
    # none of the classifier's
    torch.testing.assert_close(of_features, contrasted)


class Fading(nn.Module):
    """Logits that are not made of the features."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(8, 3), nn.Linear(8, data.classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.one(x), self.other(x)


class Faded(Tiny):
    def backbone(self, data: Data, options: Any, generators: Sequence[torch.Generator]) -> nn.Module:
        return Looped([Fading(data) for _ in generators])


def test_logits_that_are_not_made_of_the_features_are_said() -> None:
    with pytest.raises(DataError, match="logits are not computed from its features"):
        next(Training(Trial(f"{__name__}:Faded", "supcon", (0,))).run())


@pytest.mark.parametrize("name", ["supcon", "supcon-spread"])
def test_the_coarse_classifier_learns(name: str) -> None:
    *_, last = Training(Trial("tests.tiny:Tiny", name, (0, 1, 2), training={"epochs": 30})).run()
    assert min(last.metrics["accuracy/coarse"]) > 0.85


@pytest.mark.parametrize("values", [{"tau": 0.01}, {"tau": 1e6}])
@pytest.mark.parametrize("name", ["supcon", "supcon-spread"])
def test_extreme_temperatures_train(name: str, values: dict[str, float]) -> None:
    trial = Trial("tests.tiny:Tiny", name, (0, 1), hyperparameters=values, training={"epochs": 2})
    for record in Training(trial).run():
        assert all(math.isfinite(value) for value in record.metrics["loss/train"])


@pytest.mark.parametrize(
    ("benchmark", "options", "expected"),
    [
        ("hyperspectral", {"pixels": 100}, False),
        ("age", {"samples": 60, "size": 16, "width": 2, "augment": False}, False),
        ("age", {"samples": 60, "size": 16, "width": 2, "augment": True}, True),
        ("cifar10", {"size": 16, "width": 2, "samples": 3}, True),
        ("tests.tiny:Tiny", {}, False),
    ],
)
def test_whether_a_benchmark_augments(benchmark: str, options: dict[str, Any], expected: bool) -> None:
    definition = find(benchmark)
    given = make_options(definition.Options, options)
    assert views.augments(definition, definition.load(given), given) is expected


def views_of(training: Training, epoch: int) -> tuple[Tensor, Tensor]:
    """The inputs of both views of the first batch."""
    seeds, indices = training.trial.seeds, training._order(epoch)[:, : training.recipe.batch_size]
    first = training._prepared(indices, True, streams(seeds, "augmentation", epoch))
    return training._two_views(indices, first, lambda name: streams(seeds, name, epoch))


def test_noise_views_are_the_inputs_and_noise_of_their_own_spread() -> None:
    training = Training(Trial("tests.tiny:Tiny", "supcon", (0, 3), training={"view_noise": 0.2, "dtype": "float64"}))
    inputs = Tiny().load(TinyOptions()).inputs.double()
    indices = training._order(1)[:, :40]
    for number, name in enumerate(("first-view", "second-view")):
        view = views_of(training, 1)[number]
        for s, seed in enumerate((0, 3)):
            deviation = inputs[training.parts["train"][s]].std(0, unbiased=False)
            noise = torch.randn(40, 8, generator=stream(seed, name, 1), dtype=torch.float64)
            torch.testing.assert_close(view[s], inputs[indices[s]] + 0.2 * deviation * noise)


def test_an_augmented_batch_is_augmented_again_and_nothing_else_shifts() -> None:
    options = {"size": 16, "width": 2, "samples": 6}
    pair = Training(Trial("cifar10", "supcon", (2,), options=options))
    plain = Training(Trial("cifar10", "ce", (2,), options=options))
    assert pair.view_noise is None
    first, second = views_of(pair, 1)
    indices = plain._order(1)[:, : plain.recipe.batch_size]
    assert torch.equal(first, plain._prepared(indices, True, streams((2,), "augmentation", 1)))
    assert torch.equal(second, plain._prepared(indices, True, streams((2,), "second-view", 1)))
    assert not torch.equal(first, second)


def test_deviations_are_torch_s_whatever_the_chunk() -> None:
    values = 1e4 + drawn(50, 2, 3)
    train = torch.stack([torch.randperm(50, generator=stream(s, "train"))[:30] for s in range(2)])
    expected = torch.stack([values[part].std(0, unbiased=False) for part in train])
    for chunk in (7, 30, 100):
        deviations = views.deviations(lambda indices: values[indices], train, chunk)
        torch.testing.assert_close(deviations.squeeze(1), expected, rtol=1e-8, atol=0)
