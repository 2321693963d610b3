"""The expendable projector: what it computes, what is probed, what is trained, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from study.file.training import check_training
from tests.tiny import Tiny
from trainables import criteria
from trainables.backbones import Looped, ReplicatedMLP
from trainables.benchmarks import Data, DataError
from trainables.projector import Projected
from trainables.replicas import make_optimizer, streams
from trainables.resnet import ReplicatedResNet18
from trainables.training import Training
from trainables.trial import Projector, Recipe, Trial


def trial(
    criterion: str = "ce", seeds: tuple[int, ...] = (0, 1), benchmark: str = "tests.tiny:Tiny", **training: Any
) -> Trial:
    return Trial(benchmark, criterion, seeds, training={"epochs": 3, "projector": {"hidden": 12}, **training})


class Net(nn.Module):
    """One's own, with a classifier that no projector can see."""

    def __init__(self, data: Data, detached: bool = False) -> None:
        super().__init__()
        self.body, self.head, self.detached = nn.Linear(8, 5), nn.Linear(5, data.classes), detached

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.tanh(self.body(x))
        return features.detach() if self.detached else features, self.head(features)


class Own(Tiny):
    def backbone(self, data: Data, options: Any, generators: Sequence[torch.Generator]) -> nn.Module:
        networks = []
        for generator in generators:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
                networks.append(Net(data, detached=False))
        return Looped(networks)


class Detached(Tiny):
    def backbone(self, data: Data, options: Any, generators: Sequence[torch.Generator]) -> nn.Module:
        return Looped([Net(data, detached=True) for _ in generators])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("projector", [Projector(7), Projector(7, 4), Projector(7, norm="none")])
def test_it_is_torch_s_layers_replica_by_replica(projector: Projector, training: bool) -> None:
    network = ReplicatedMLP((8, 5), 3, streams((0, 1), "init"))
    made = Projected(network, 5, 3, projector, streams((0, 1), "projector")).double().train(training)
    x = torch.randn(2, 11, 8, dtype=torch.float64)
    plain = []
    for s in range(2):
        layers: list[nn.Module] = []
        for layer in (made.inner, made.outer, made.classifier):
            linear = nn.Linear(*layer.weight[s].shape, dtype=torch.float64)
            linear.weight.data, linear.bias.data = layer.weight[s].T.detach().clone(), layer.bias[s, 0].detach().clone()
            layers.append(linear)
        norm = nn.BatchNorm1d(7, dtype=torch.float64) if projector.norm == "batch" else nn.Identity()
        plain.append(nn.Sequential(layers[0], norm, nn.ReLU(), *layers[1:]).train(training))
    for _ in range(3):
        features, logits = made(x)
        assert torch.equal(features, network(x)[0])
        for s in range(2):
            torch.testing.assert_close(logits[s], plain[s](features[s]))
    if made.norm is not None:
        torch.testing.assert_close(made.norm.running_var[1], plain[1][1].running_var)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", criteria.names())
def test_every_criterion_trains_with_it_and_a_seed_alone_as_among_others(criterion: str) -> None:
    settings = {"epochs": 2, "dtype": "float64"}
    together, alone = (Training(trial(criterion, seeds, **settings)) for seeds in ((0, 1, 2), (1,)))
    for among, single in zip(together.run(), alone.run(), strict=True):
        for name, values in single.metrics.items():
            assert values[0] == pytest.approx(among.metrics[name][1], rel=1e-8, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("benchmark", ["tests.tiny:Tiny", f"{__name__}:Own"])
def test_features_are_the_network_s_own_and_those_below_are_trained(benchmark: str) -> None:
    """Initial weights of the network stay the ones without a projector, so that the two are paired."""
    plain = Training(trial(benchmark=benchmark, projector=None))
    training = Training(trial(benchmark=benchmark))
    before = {name: value.clone() for name, value in training.weights().items()}
    for name, value in plain.weights().items():
        assert torch.equal(before[f"network.{name}"], value)
    part = training.parts["heldout"]
    assert torch.equal(training._predict(part)[0], plain._predict(part)[0])
    list(training.run())
    changed = {name for name, value in training.weights().items() if not torch.equal(value, before[name])}
    # the network's own classifier is thrown away
    idle = {name for name in before if "network.classifier" in name or ".head." in name}
    assert changed == set(before) - idle


def test_it_goes_on_from_a_state_exactly() -> None:
    expected = [record.metrics for record in Training(trial("fierce")).run()]
    begun, file = Training(trial("fierce")), io.BytesIO()
    head = [next(begun.run()).metrics]
    torch.save(begun.state(), file)
    file.seek(0)
    resumed = Training(trial("fierce"))
    resumed.load(torch.load(file, weights_only=True))
    assert head + [record.metrics for record in resumed.run()] == expected


def test_weight_decay_is_on_weights_alone() -> None:
    network = Projected(
        ReplicatedResNet18(2, 3, streams((0,), "init")), 16, 3, Projector(6), streams((0,), "projector")
    )
    decayed, others = (
        {id(p) for p in group["params"]}
        for group in make_optimizer(network, Recipe(1, 1, 0.1, weight_decay=0.1)).param_groups
    )
    for name, parameter in network.named_parameters():
        weight = name.endswith("weight") and ".bn" not in name and "downsample.1" not in name and "norm" not in name
        assert id(parameter) in (decayed if weight else others), name


def test_a_network_below_which_nothing_would_be_trained_is_refused() -> None:
    with pytest.raises(DataError, match=r"training\.projector: no parameter acts on the network's features"):
        Training(trial(benchmark=f"{__name__}:Detached"))


def test_a_last_batch_of_one_sample_cannot_be_normalised() -> None:
    with pytest.raises(DataError, match="leaves one sample for the last batch"):
        Training(trial(batch_size=119))
    Training(trial(batch_size=119, projector={"hidden": 3, "norm": "none"}))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "projector needs hidden"),
        ({"hidden": 0}, "hidden of projector must be a whole number of at least 1, not 0"),
        ({"hidden": 2.5}, "not 2.5"),
        ({"hidden": True}, "not True"),
        ({"hidden": 4, "output": 0}, "output of projector"),
        ({"hidden": 4, "norm": "layer"}, "norm of projector must be batch or none, not 'layer'"),
        ({"hidden": 4, "widht": 4}, "projector has no 'widht'; known: hidden, output, norm"),
        (12, "must be a mapping, as {hidden: 512}, or null, not 12"),
    ],
)
def test_what_is_no_projector_is_said(value: object, words: str) -> None:
    with pytest.raises(PydanticCustomError, match=words):
        check_training({"projector": value})


def test_a_projector_of_a_study_file_is_the_recipe_s() -> None:
    check_training({"projector": {"hidden": 4}, "view_noise": 0.5})
    check_training({"projector": None})
    recipe = Recipe(1, 1, 0.1).override({"projector": {"hidden": 4, "output": 3}})
    assert recipe.projector == Projector(4, 3) and Recipe(1, 1, 0.1).projector is None
    with pytest.raises(PydanticCustomError, match="at least 0, not -1"):
        check_training({"view_noise": -1})
