"""Distillation: its formula, and the teacher that is trained within the trial, killed and resumed at any epoch."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from trainables.criteria.distillation import Distillation, divergence
from trainables.replicas import stream
from trainables.training import Training
from trainables.trial import Recipe, Trial

S, B, C = 3, 20, 4


def drawn(name: str) -> torch.Tensor:
    return 2 * torch.randn(S, B, C, generator=stream(0, name), dtype=torch.float64)


def trial(criterion: str, seeds: tuple[int, ...] = (0, 1), epochs: int = 3, **values: float) -> Trial:
    return Trial("tests.tiny:Tiny", criterion, seeds, hyperparameters=values, training={"epochs": epochs})


def metrics(training: Training) -> list[dict[str, list[float]]]:
    return [record.metrics for record in training.run()]


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    kept: dict[str, Any] = torch.load(file, weights_only=True)
    return kept


@pytest.mark.parametrize("temperature", [1.0, 4.0, 100.0])
def test_the_divergence_is_torch_s_and_so_is_its_gradient(temperature: float) -> None:
    student, teacher = drawn("student").requires_grad_(), drawn("teacher")
    expected = [
        temperature**2
        * functional.kl_div((z / temperature).log_softmax(-1), (v / temperature).softmax(-1), reduction="batchmean")
        for z, v in zip(student, teacher, strict=True)
    ]
    divergences = divergence(student, teacher, temperature)
    torch.testing.assert_close(divergences, torch.stack(expected))
    (gradient,) = torch.autograd.grad(divergences.sum(), student)
    at = [(logits.detach() / temperature).softmax(-1) for logits in (student, teacher)]
    torch.testing.assert_close(gradient, temperature * (at[0] - at[1]) / B)


def test_teachers_of_each_generation() -> None:
    recipe = Recipe(1, 1, 0.1)
    assert Distillation.settle({}, recipe) == {"weight": 0.5, "temperature": 4.0, "generations": 1}
    assert Distillation.teacher(Distillation.settle({}, recipe)) == ("ce", {})
    second = Distillation.settle({"generations": 2}, recipe)
    assert Distillation.teacher(second) == ("distillation", {**second, "generations": 1})
    assert Distillation.teacher(Distillation.settle({"weight": 0}, recipe)) is None


def test_the_teacher_is_the_trial_of_cross_entropy_bit_for_bit() -> None:
    student, plain = Training(trial("distillation")), Training(trial("ce"))
    assert all(torch.equal(value, plain.weights()[name]) for name, value in student.weights().items())
    metrics(plain)
    for _ in student.prepare():
        pass
    assert student.teacher is not None and student.epoch == 0
    assert all(torch.equal(value, plain.weights()[name]) for name, value in student.teacher.weights().items())


def test_a_student_is_a_plain_torch_training_against_its_teacher() -> None:
    """Replica of seed 4 of two, by autograd on its own weights."""
    training = Training(Trial("tests.tiny:Tiny", "distillation", (2, 4), training={"epochs": 2, "dtype": "float64"}))
    for _ in training.prepare():
        pass
    teacher = training.teacher
    assert teacher is not None

    def forward(weights: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        for weight, bias in zip(weights[0:-2:2], weights[1:-2:2], strict=True):
            x = torch.relu(x @ weight + bias)
        return x @ weights[-2] + weights[-1]

    student = [p[1].detach().clone().requires_grad_() for p in training.network.parameters()]
    taught = [p[1].detach().clone() for p in teacher.network.parameters()]
    step, expected = torch.optim.Adam(student, lr=0.01), []
    for epoch in (1, 2):
        total = 0.0
        for batch in training._order(epoch)[1].split(40):
            x, y = training.data.inputs[batch], training.data.coarse[batch]
            logits = forward(student, x)
            log_p = (forward(taught, x) / 4).log_softmax(-1)
            kl = (log_p.exp() * (log_p - (logits / 4).log_softmax(-1))).sum(-1).mean()
            loss = 0.5 * functional.cross_entropy(logits, y) + 0.5 * 16 * kl
            step.zero_grad()
            loss.backward()
            step.step()
            total += float(loss.detach()) * len(batch)
        expected.append(total / 120)
    assert [epoch["loss/train"][1] for epoch in metrics(training)] == pytest.approx(expected, rel=1e-9)


def test_a_teacher_is_asked_once_where_nothing_is_augmented_and_says_the_same() -> None:
    once = Training(trial("distillation"))
    expected = metrics(once)
    assert once._lessons is not None and not once._augments
    training = Training(trial("distillation"))
    training._augments = True
    for measured, wanted in zip(metrics(training), expected, strict=True):
        assert measured["loss/train"] == pytest.approx(wanted["loss/train"], rel=1e-5)
    assert training._lessons is None


def test_at_alpha_zero_it_is_cross_entropy_without_a_teacher() -> None:
    zero = Training(trial("distillation", weight=0))
    assert zero.teacher is None
    plain = Training(trial("ce"))
    expected = metrics(plain)
    # floors are measured with cross-entropy alone
    floors = {metric.name for metric in plain.metrics if metric.floor_of}
    assert metrics(zero) == [{name: record[name] for name in record if name not in floors} for record in expected]


def test_a_second_generation_learns_from_the_first() -> None:
    first, second = Training(trial("distillation")), Training(trial("distillation", generations=2))
    metrics(first)
    for _ in second.prepare():
        pass
    assert second.teacher is not None
    assert all(torch.equal(value, first.weights()[name]) for name, value in second.teacher.weights().items())
    # a teacher that is trained keeps neither its optimizer's state nor its own teacher
    assert second.teacher.teacher is None and "teacher" not in second.state()["teacher"]
    assert second.state()["teacher"]["optimizer"]["state"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("generations", [1, 2])
def test_killed_after_any_epoch_it_goes_on_exactly(generations: int) -> None:
    """Also while a teacher trains: its epochs are not trained twice, and no number changes."""
    given = trial("distillation", epochs=2, generations=generations)
    expected = metrics(Training(given))
    prepared = len(list(Training(given).prepare()))
    assert prepared == 2 * generations
    for struck in range(prepared + 1):
        begun = Training(given)
        preparing = begun.prepare()
        for _ in range(struck):
            next(preparing)
        resumed = Training(given)
        resumed.load(through_a_file(begun.state()))
        assert len(list(resumed.prepare())) == prepared - struck
        assert metrics(resumed) == expected
    begun = Training(given)
    run = begun.run()
    head = [next(run).metrics]
    resumed = Training(given)
    resumed.load(through_a_file(begun.state()))
    assert list(resumed.prepare()) == []
    assert head + metrics(resumed) == expected


def test_a_shard_has_the_numbers_of_the_whole() -> None:
    whole, shard = metrics(Training(trial("distillation", (0, 1, 2)))), metrics(Training(trial("distillation", (1,))))
    for among, alone in zip(whole, shard, strict=True):
        for name, values in alone.items():
            assert values[0] == pytest.approx(among[name][1], rel=1e-5, abs=1e-6, nan_ok=True), name


@pytest.mark.parametrize(
    "values", [{"weight": 1.0, "temperature": 0.1}, {"weight": 1.0, "temperature": 100.0}, {"weight": 1e-9}]
)
def test_extreme_settings_train(values: dict[str, float]) -> None:
    for measured in metrics(Training(trial("distillation", **values))):
        assert all(math.isfinite(value) for value in measured["loss/train"])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("weight", 1.5, "weight, the teacher's share of the loss, must be at least 0 and at most 1, not 1.5"),
        ("temperature", 0, "temperature must be at least 0.1 and at most 100, not 0"),
        ("generations", 0, "generations, the number of generations, must be a whole number of at least 1, not 0"),
    ],
)
def test_what_is_out_of_range_is_said(name: str, value: float, words: str) -> None:
    (wrong,) = [
        hyperparameter.problem(value) for hyperparameter in Distillation.hyperparameters if hyperparameter.name == name
    ]
    assert wrong == words
