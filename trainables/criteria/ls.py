"""Label smoothing (§2.2, Szegedy et al. 2016)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from trainables.criterion import Batch, Criterion, Hyperparameter


def label_smoothing(logits: Tensor, targets: Tensor, sigma: float | Tensor, form: str = "others") -> Tensor:
    """Cross-entropy (S,) against smoothed targets, in nats; logits (S, B, C), targets (S, B), σ a number or (S,).

    ``others`` (the paper) puts 1−σ on the class and σ/(C−1) on each other class; ``uniform`` (the released
    hyperspectral code, PyTorch's ``label_smoothing``) puts 1−σ+σ/C and σ/C. The first at σ is the second at
    σ·C/(C−1).
    """
    classes = logits.shape[-1]
    uniform_share = sigma * classes / (classes - 1) if form == "others" else sigma
    log_q = functional.log_softmax(logits, -1)
    target_term = log_q.gather(-1, targets.unsqueeze(-1)).squeeze(-1).mean(1)
    return -((1 - uniform_share) * target_term + uniform_share * log_q.mean((1, 2)))


class LabelSmoothing(Criterion):
    """Label smoothing at σ, in the form that the recipe's ``smoothing`` names."""

    label = "LS"
    meaning = "label smoothing: cross-entropy against targets that are softened"
    position = 1
    hyperparameters = (
        Hyperparameter(
            "sigma",
            "σ",
            0.1,
            low=0,
            high=1,
            below_high=True,
            by_replica=True,
            meaning="the share of each target that is spread out",
        ),
    )

    def forward(self, batch: Batch) -> Tensor:
        return label_smoothing(batch.logits, batch.targets, self.setup.values["sigma"], self.setup.recipe.smoothing)
