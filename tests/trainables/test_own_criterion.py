"""A criterion of one's own: found by name, trained with its own parameters, independent of its neighbours."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.own_losses import Focal, plain
from trainables import criteria
from trainables.benchmarks import DataError
from trainables.conformance import examine
from trainables.criterion import Batch, Hyperparameter, Setup
from trainables.training import Training
from trainables.trial import Recipe, Trial


def trial(name: str, seeds: tuple[int, ...], **hyperparameters: float) -> Trial:
    settings: dict[str, Any] = {"epochs": 4, "dtype": "float64"}
    return Trial(
        "tests.tiny:Tiny", f"tests.own_losses:{name}", seeds, hyperparameters=hyperparameters, training=settings
    )


def losses(training: Training) -> torch.Tensor:
    return torch.tensor([record.metrics["loss/train"] for record in training.run()])


def test_focal_loss_by_hand() -> None:
    """At γ = 2, q(y) = ½: (1 − ½)²·ln 2."""
    setup = Setup((0, 1), {"gamma": 2.0}, Recipe(1, 1, 0.1), torch.zeros(2, 2, 1), 1, 2)
    batch = Batch(torch.zeros(2, 3, 2), torch.zeros(2, 3, 1), torch.zeros(2, 3, dtype=torch.long), lambda name: [])
    torch.testing.assert_close(Focal(setup)(batch), torch.full((2,), 0.25 * torch.log(torch.tensor(2.0))))


def test_its_own_parameter_is_trained_and_no_neighbours_matter() -> None:
    together, alone = (Training(trial("Focal", seeds, gamma=1.5)) for seeds in ((0, 1, 2), (1,)))
    torch.testing.assert_close(losses(together)[:, 1], losses(alone)[:, 0], rtol=1e-9, atol=0)
    learned = together.criterion.state_dict()["sharpness"]
    assert ((learned - 1).abs() > 1e-4).all()
    torch.testing.assert_close(alone.criterion.state_dict()["sharpness"][0], learned[1], rtol=1e-9, atol=0)


def test_it_goes_on_from_a_state_exactly() -> None:
    undisturbed = Training(trial("Focal", (0, 1)))
    expected = losses(undisturbed)
    first = Training(trial("Focal", (0, 1)))
    run = first.run()
    begun = [next(run).metrics["loss/train"] for _ in range(2)]
    second = Training(trial("Focal", (0, 1)))
    second.load(first.state())
    torch.testing.assert_close(torch.cat([torch.tensor(begun), losses(second)]), expected, rtol=0, atol=0)
    assert torch.equal(second.criterion.state_dict()["sharpness"], undisturbed.criterion.state_dict()["sharpness"])


def test_a_function_of_one_replica_is_called_for_each() -> None:
    kind = criteria.find("tests.own_losses:plain")
    assert kind.hyperparameters == (Hyperparameter("weight", "weight", 0.5),)
    setup = Setup((0, 1), {"weight": 0.3}, Recipe(1, 1, 0.1), torch.zeros(2, 2, 3), 3, 4)
    logits, features, targets = torch.randn(2, 5, 4), torch.randn(2, 5, 3), torch.randint(4, (2, 5))
    losses = kind(setup)(Batch(logits, features, targets, lambda name: []))
    expected = [
        functional.cross_entropy(z, y) + 0.3 * r.square().mean()
        for z, r, y in zip(logits, features, targets, strict=True)
    ]
    torch.testing.assert_close(losses, torch.stack(expected))
    assert plain.__defaults__ == (0.5,)


@pytest.mark.parametrize(
    ("name", "given", "settled", "anchors"),
    [
        ("plain", {}, {"weight": 0.5}, 10),
        ("elastic", {}, {"e": 0.5}, 10),
        ("elastic", {"e": 3.0}, {"e": 3.0}, 10),
        ("anchored", {}, {"points": 6}, 6),
        ("anchored", {"points": 7}, {"points": 7}, 7),
    ],
)
def test_only_a_hyperparameter_that_says_so_counts_the_anchors(
    name: str, given: dict[str, float], settled: dict[str, float], anchors: int
) -> None:
    """The benchmark's recipe draws 10, under every criterion."""
    training = Training(trial(name, (0, 1), **given))
    assert training.hyperparameters == settled
    assert training.anchors.shape == (2, anchors, 8)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fierse", "unknown criterion 'fierse'"),
        ("tests.own_losses:Fokal", "cannot be imported"),
        ("tests.no_such_module:Focal", "cannot be imported"),
        ("tests.own_losses:undecided", "'form' needs a number"),
        ("tests.own_losses:nn", "neither"),
    ],
)
def test_what_is_no_criterion_is_said(name: str, words: str) -> None:
    with pytest.raises(LookupError, match=words):
        criteria.find(name)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ((), "must define one trainables.criterion.Criterion, and defines none"),
        (("First", "Second"), "and defines First and Second"),
        (("First",), "has no label"),
    ],
)
def test_a_file_of_criteria_that_holds_not_one_is_said(
    classes: Sequence[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stem = "_".join(("holding", *classes)).lower()
    code = [f"class {name}(Criterion):\n    pass\n" for name in classes]
    (tmp_path / f"{stem}.py").write_text(
        "\n".join(["from trainables.criterion import Criterion", *code]), encoding="utf-8"
    )
    monkeypatch.setattr(criteria, "__path__", [*criteria.__path__, str(tmp_path)])
    with pytest.raises(LookupError, match=words):
        criteria.find(stem.replace("_", "-"))


def test_a_loss_that_is_no_number_of_a_replica_is_said() -> None:
    with pytest.raises(DataError, match=r"one loss a replica, \(2,\), and gave \(2, "):
        losses(Training(trial("wrong", (0, 1))))


@pytest.mark.parametrize(
    ("value", "words"),
    [(-1, "lambda, the weight of the entropy, must be 0 or more, not -1"), (0, None), (1e9, None)],
)
def test_range_of_a_hyperparameter(value: float, words: str | None) -> None:
    strength, e = criteria.find("fierce").hyperparameters
    assert strength.problem(value) == words
    assert e.problem(2.5) == "e, the number of anchors, must be a whole number of at least 2, not 2.5"
    (sigma,) = criteria.find("ls").hyperparameters
    assert (
        sigma.problem(1.0)
        == "sigma, the share of each target that is spread out, must be at least 0 and below 1, not 1"
    )
    assert (e.cast(100.0), strength.cast(1)) == (100, 1.0)


@pytest.mark.slow
def test_the_documented_criteria_are_these_and_conform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = (Path(__file__).resolve().parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
    losses, tests = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    for made in (Focal, plain):
        assert inspect.getsource(made) in losses
    lines = [line for line in inspect.getsource(Focal).splitlines() if line.strip()]
    assert len(lines) <= 25
    (tmp_path / "mylosses.py").write_text(losses, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("mylosses:Focal", "mylosses:plain"):
        findings = list(examine([Trial("tests.tiny:Tiny", name, (0,))]))
        assert all(finding.ok for finding in findings), findings
    # its text alone: the data of its benchmark is made by another command
    namespace: dict[str, Any] = {"__name__": "mytests"}
    exec(tests, namespace)
    focal = namespace["TestFocal"]()
    for test in (name for name in dir(focal) if name.startswith("test_")):
        getattr(focal, test)()
