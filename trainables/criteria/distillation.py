"""Distillation of a network into another of its kind (Hinton et al. 2015; §2.2; born again: Furlanello et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from trainables.criteria import reference
from trainables.criteria.ce import cross_entropy
from trainables.criterion import Batch, Criterion, Hyperparameter


def divergence(logits: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """T²·KL(teacher ‖ student) (S,) of the outputs at temperature T, mean over the batch, in nats; logits (S, B, C).

    T² keeps the gradient's size where T varies: per sample it is T·(q_student − q_teacher), each at T.
    """
    student, taught = (functional.log_softmax(scores / temperature, -1) for scores in (logits, teacher))
    return temperature**2 * (taught.exp() * (taught - student)).sum(-1).mean(1)


class Distillation(Criterion):
    """(1 − α)·CE + α·T²·KL(teacher ‖ student); the teacher is the same seed's network, trained by cross-entropy.

    Teacher and student share initial weights, split, order and augmentation, and the teacher, which is trained first
    and within the same trial, is the trial of cross-entropy exactly. With G generations it is itself a student, of
    G − 1. It sees the student's own inputs in evaluation mode. At α = 0 this is cross-entropy, without a teacher.
    """

    label = "distillation"
    meaning = "learning a trained network's outputs beside the coarse labels"
    position = 5
    hyperparameters = (
        Hyperparameter("weight", "α", 0.5, low=0, high=1, meaning="the teacher's share of the loss"),
        Hyperparameter("temperature", "T", 4.0, low=0.1, high=100, log=True),
        Hyperparameter("generations", "G", 1, low=1, whole=True, meaning="the number of generations"),
    )

    @classmethod
    def teacher(cls, values: Mapping[str, float]) -> tuple[str, dict[str, float]] | None:
        if not values["weight"]:
            return None
        earlier = values["generations"] - 1
        return ("distillation", {**values, "generations": earlier}) if earlier else (reference(), {})

    def forward(self, batch: Batch) -> Tensor:
        ce, weight = cross_entropy(batch.logits, batch.targets), self.setup.values["weight"]
        if batch.teacher is None:
            return ce
        taught = divergence(batch.logits, batch.teacher, self.setup.values["temperature"])
        loss: Tensor = (1 - weight) * ce + weight * taught
        return loss
