"""The ceiling: its loss against torch and numpy, and that coarse labels have no part in its features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables.criteria.fine_labels import FineLabels
from trainables.criterion import Batch, Setup
from trainables.replicas import stream, streams
from trainables.training import Training
from trainables.trial import Recipe, Trial

S, B, C, D, N = 3, 20, 2, 5, 60
WHERE = "tests.trainables.test_shared_evaluators"


def drawn(*shape: int, name: str = "features") -> Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


def losses(fine: Tensor) -> tuple[FineLabels, Batch, Tensor]:
    """A criterion for labels ``fine`` of N samples, a batch of its first B, alike for all replicas, and its losses."""
    criterion = FineLabels(Setup((0, 1, 2), {}, Recipe(1, B, 0.1), torch.zeros(S, 2, D), D, C, fine)).double()
    features = drawn(S, B, D).requires_grad_()
    targets = torch.randint(C, (S, B), generator=stream(0, "targets"))
    own = fine[:B].unsqueeze(0).expand(S, *[-1] * fine.dim())
    batch = Batch(features @ drawn(D, C, name="classifier"), features, targets, lambda name: streams((0, 1, 2), name))
    batch = Batch(batch.logits, features, targets, batch.streams, fine=own)
    return criterion, batch, criterion(batch).detach()


def coarse(batch: Batch, s: int) -> float:
    return float(functional.cross_entropy(batch.logits[s].detach(), batch.targets[s]))


def test_classes_are_told_by_cross_entropy_whatever_their_numbers() -> None:
    fine = torch.tensor([3, 7, 40])[torch.arange(N) % 3]
    criterion, batch, found = losses(fine)
    for s in range(S):
        logits = batch.features[s] @ criterion.head.weight[s] + criterion.head.bias[s]
        expected = functional.cross_entropy(logits, torch.arange(B) % 3)
        assert float(found[s]) == pytest.approx(float(expected.detach()) + coarse(batch, s), rel=1e-12)


@pytest.mark.parametrize("shape", [(N,), (N, 3)])
def test_values_are_told_by_squared_error_of_standardized_ones(shape: tuple[int, ...]) -> None:
    fine = 30 + 4 * drawn(*shape, name="fine")
    criterion, batch, found = losses(fine)
    values = fine.reshape(N, -1).numpy()
    wanted = (values[:B] - values.mean(0)) / values.std(0)
    for s in range(S):
        told = (batch.features[s] @ criterion.head.weight[s] + criterion.head.bias[s]).detach().numpy()
        assert float(found[s]) == pytest.approx(np.mean((told - wanted) ** 2) + coarse(batch, s), rel=1e-12)


def test_a_value_that_never_varies_spoils_nothing() -> None:
    _, _, found = losses(torch.stack([torch.full((N,), 2.5), drawn(N, name="fine")], 1))
    assert found.isfinite().all()


def test_coarse_labels_have_no_part_in_the_features() -> None:
    def trained(flip: bool) -> Training:
        training = Training(Trial(f"{WHERE}:Bare", "fine-labels", (0, 1), training={"epochs": 2}))
        if flip:
            training.data.coarse = 1 - training.data.coarse
        list(training.run())
        return training

    plain, flipped = trained(False), trained(True)
    features, logits = plain._predict(plain.parts["heldout"])
    others, other_logits = flipped._predict(flipped.parts["heldout"])
    torch.testing.assert_close(features, others)
    assert not torch.allclose(logits, other_logits)


@pytest.mark.slow
def test_it_learns_what_coarse_labels_do_not_ask_for() -> None:
    """The gap that a coarse label leaves, by the same network and epochs: digits that are told as even or odd."""
    taught, untaught = (
        [r.metrics for r in Training(Trial("examples.digits:Digits", name, (0, 1), training={"epochs": 8})).run()][-1]
        for name in ("fine-labels", "ce")
    )
    assert min(taught["accuracy/fine-linear"]) > max(untaught["accuracy/fine-linear"])
    # of two classes; the classifier has had eight epochs, on features that are not made for it
    assert min(taught["accuracy/coarse"]) > 0.6
