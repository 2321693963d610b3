"""Replicas: independent of their neighbours, repeatable, resumable, equal to a plain torch training."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, SequentialLR

from tests.tiny import Tiny, TinyOptions
from trainables import criteria
from trainables.benchmarks import DataError
from trainables.replicas import learning_rates, stream, streams
from trainables.training import Training
from trainables.trial import Recipe, Trial


def trial(criterion: str, seeds: tuple[int, ...], **training: Any) -> Trial:
    return Trial("tests.tiny:Tiny", criterion, seeds, training={"epochs": 5, **training})


def trajectories(training: Training) -> dict[str, torch.Tensor]:
    """Metric -> (epochs, S)."""
    rows: dict[str, list[list[float]]] = {}
    for record in training.run():
        for name, values in record.metrics.items():
            rows.setdefault(name, []).append(values)
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in rows.items()}


@pytest.mark.slow
@pytest.mark.parametrize("criterion", criteria.names())
def test_a_seed_alone_follows_its_trajectory_among_ten(criterion: str) -> None:
    together = Training(trial(criterion, tuple(range(10)), dtype="float64"))
    among = trajectories(together)
    for seed in (0, 7):
        single = Training(trial(criterion, (seed,), dtype="float64"))
        alone = trajectories(single)
        assert alone.keys() == among.keys()
        for name, values in alone.items():
            torch.testing.assert_close(values[:, 0], among[name][:, seed], rtol=1e-8, atol=1e-12)
        for name, value in single.weights().items():
            torch.testing.assert_close(value[0], together.weights()[name][seed], rtol=1e-8, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", criteria.names())
def test_the_same_trial_twice_is_identical(criterion: str) -> None:
    first, second = (trajectories(Training(trial(criterion, (3, 1)))) for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


#: AdamW with warm-up and a cosine, in the words of a study file
COSINE = {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup": 2}


def _adamw(network: nn.Module) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """The same, in torch's: weights alone decay."""
    weights, biases = ([p for p in network.parameters() if p.dim() == dim] for dim in (2, 1))
    step = torch.optim.AdamW([{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0}], lr=0.01)
    rise = LinearLR(step, start_factor=1 / 3, total_iters=2)
    return step, SequentialLR(step, [rise, CosineAnnealingLR(step, T_max=3)], milestones=[2])


def _constant(step: torch.optim.Optimizer) -> tuple[torch.optim.Optimizer, LRScheduler]:
    return step, LambdaLR(step, lambda epoch: 1.0)


@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "sgd", "momentum": 0.9, "milestones": [3]}, COSINE])
def test_resumed_through_a_file_is_identical(optimizer: dict[str, Any]) -> None:
    whole = trajectories(Training(trial("fierce", (0, 1), **optimizer)))
    begun = Training(trial("fierce", (0, 1), **optimizer))
    epochs = begun.run()
    head = [next(epochs).metrics["loss/train"] for _ in range(2)]
    file = io.BytesIO()
    torch.save(begun.state(), file)
    file.seek(0)
    resumed = Training(trial("fierce", (0, 1), **optimizer))
    resumed.load(torch.load(file, weights_only=True))
    tail = trajectories(resumed)["loss/train"]
    assert torch.equal(torch.cat([torch.tensor(head, dtype=torch.float64), tail]), whole["loss/train"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        ({}, lambda net: _constant(torch.optim.Adam(net.parameters(), lr=0.01))),
        (COSINE, _adamw),
        (
            {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
            lambda net: _constant(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)),
        ),
    ],
)
def test_equals_a_plain_torch_training(optimizer: dict[str, Any], reference: Any) -> None:
    """Replica of seed 4 among ten, against nn.Linear layers trained by hand with its streams."""
    training = Training(trial("ce", (2, 4, 9, 0, 1, 3, 5, 6, 7, 8), dtype="float64", **optimizer))
    hidden = [*training.network.hidden, training.network.classifier]  # type: ignore[misc,list-item]
    layers: list[nn.Module] = []
    for layer in hidden:
        weight, bias = layer.weight[1].detach(), layer.bias[1, 0].detach()  # type: ignore[index]
        linear = nn.Linear(*weight.shape, dtype=torch.float64)
        linear.weight.data, linear.bias.data = weight.T.clone(), bias.clone()
        layers += [linear, nn.ReLU()]
    plain = nn.Sequential(*layers[:-1])

    data = Tiny().load(TinyOptions())
    train = Tiny().split(data, TinyOptions(), stream(4, "split"))["train"]
    step, schedule = reference(plain)
    expected = []
    for epoch in range(1, 6):
        total = 0.0
        for batch in train[torch.randperm(len(train), generator=stream(4, "order", epoch))].split(40):
            loss = functional.cross_entropy(plain(data.inputs[batch].double()), data.coarse[batch])
            step.zero_grad()
            loss.backward()
            step.step()
            total += float(loss.detach()) * len(batch)
        schedule.step()
        expected.append(total / len(train))
    losses = trajectories(training)["loss/train"][:, 1]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_compiled_network_follows_the_same_trajectory() -> None:
    plain, compiled = (Training(trial("fierce", (0, 1), compile=value)) for value in (False, True))
    expected, measured = trajectories(plain), trajectories(compiled)
    torch.testing.assert_close(measured["loss/train"], expected["loss/train"], rtol=1e-4, atol=0)
    # saved in one and continued in the other
    plain.load(compiled.state())


def test_criteria_of_one_seed_share_init_split_and_order() -> None:
    trained = [Training(trial(criterion, (5,))) for criterion in criteria.names()]
    for other in trained[1:]:
        assert all(torch.equal(value, other.weights()[name]) for name, value in trained[0].weights().items())
        assert all(torch.equal(indices, other.parts[part]) for part, indices in trained[0].parts.items())
        assert torch.equal(trained[0]._order(3), other._order(3))
        assert torch.equal(trained[0].anchors, other.anchors)


def test_lambda_zero_is_cross_entropy() -> None:
    zero = Trial("tests.tiny:Tiny", "fierce", (0, 1), hyperparameters={"lambda": 0.0, "e": 10})
    plain = Trial("tests.tiny:Tiny", "ce", (0, 1))
    assert torch.equal(trajectories(Training(zero))["loss/train"], trajectories(Training(plain))["loss/train"])


def test_a_cpu_computes_in_float32_whatever_is_asked() -> None:
    plain, mixed = (Training(trial("fierce", (0, 1), mixed_precision=mixed), "cpu") for mixed in (False, True))
    found, expected = trajectories(mixed), trajectories(plain)
    assert all(torch.equal(found[name].nan_to_num(), expected[name].nan_to_num()) for name in expected)


def test_streams_depend_on_seed_name_and_counters() -> None:
    def draw(*key: Any) -> float:
        return float(torch.rand((), generator=stream(*key)))

    assert draw(1, "init") == draw(1, "init")
    assert len({draw(1, "init"), draw(2, "init"), draw(1, "order"), draw(1, "order", 1), draw(1, "order", 11)}) == 5
    assert [float(torch.rand((), generator=g)) for g in streams([1, 2], "init")] == [draw(1, "init"), draw(2, "init")]


def test_cadence_and_last_epoch() -> None:
    slow = Trial("tests.tiny:Tiny", "ce", (0,), training={"epochs": 5}, cadence={"accuracy": 3, "spread": 0})
    measured = {record.epoch: set(record.metrics) for record in Training(slow).run()}
    assert [epoch for epoch, names in measured.items() if "accuracy/coarse" in names] == [3, 5]
    assert [epoch for epoch, names in measured.items() if "entropy/features" in names] == [5]


def test_a_warm_up_rises_in_equal_steps_and_a_cosine_falls_to_nought() -> None:
    rates = learning_rates(Recipe(epochs=8, batch_size=1, learning_rate=0.8, schedule="cosine", warmup=3))
    half = math.sqrt(0.5)
    by_hand = [0.2, 0.4, 0.6, *(0.4 * (1 + math.cos(math.pi * k / 5)) for k in range(5))]
    assert rates == pytest.approx(by_hand, rel=1e-12)
    plain = learning_rates(Recipe(epochs=4, batch_size=1, learning_rate=1.0, schedule="cosine"))
    assert plain == pytest.approx([1, (1 + half) / 2, 0.5, (1 - half) / 2], rel=1e-12)
    # milestones count from the first epoch, warm-up or not
    steps = learning_rates(Recipe(epochs=6, batch_size=1, learning_rate=1.0, warmup=1, milestones=(2, 4), gamma=0.5))
    assert steps == pytest.approx([0.5, 1, 0.5, 0.5, 0.25, 0.25], rel=1e-12)
    with pytest.raises(ValueError, match="warmup must be below the 2 epochs"):
        learning_rates(Recipe(epochs=2, batch_size=1, learning_rate=1.0, warmup=2))


def test_the_learning_rate_falls_after_its_milestones() -> None:
    training = Training(trial("ce", (0,), milestones=[2, 4], gamma=0.5))
    rates = [training.optimizer.param_groups[0]["lr"] for _ in training.run()]
    assert rates == [0.01, 0.01, 0.005, 0.005, 0.0025]


def test_data_that_cannot_be_used_says_so() -> None:
    with pytest.raises(DataError, match="200 are needed"):
        Training(Trial("tests.tiny:Tiny", "ce", (0,), options={"samples": 100}))


def test_unknown_settings_are_named() -> None:
    with pytest.raises(KeyError, match="epoch_count"):
        Training(trial("ce", (0,), epoch_count=3))
    with pytest.raises(LookupError, match="hyperspectral"):
        Training(Trial("no-such", "ce", (0,)))
