"""SupCon with class-conditional InfoNCE, which spreads the samples of a class (Chen et al. 2022, arXiv 2204.07596)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.criteria.supcon import TEMPERATURE, SupCon, similarities, supervised
from trainables.criterion import Hyperparameter


def class_conditional(logits: Tensor, targets: Tensor) -> Tensor:
    """Class-conditional InfoNCE (S,), mean over the n = 2·B views, of `similarities` (S, n, n) and classes (S, n).

    Of view i with j the other view of its sample: −log exp(s_ij) / Σ_{a ≠ i of its class} exp(s_ia).
    """
    of_class = logits.masked_fill(targets.unsqueeze(1) != targets.unsqueeze(2), -torch.inf)
    views = torch.arange(logits.shape[1], device=logits.device)
    other = views.roll(len(views) // 2).expand(len(logits), 1, -1).transpose(1, 2)
    return (of_class.logsumexp(-1) - logits.gather(2, other).squeeze(2)).mean(1)


class SupConSpread(SupCon):
    """(1 − α)·SupCon + α·class-conditional InfoNCE, at α = ½ the two at equal weights; all else as SupCon.

    SupCon alone is least where a class is one point (class collapse); the second term is what pulls its samples apart.
    Weights and τ are those of the released code, which sums both at weight 1 and halves. That code's first term differs
    from L_out of Khosla et al., which is taken here over all views: it contrasts samples across the two views alone,
    leaves other positives out of the denominators, and cuts similarities over τ of positives at 1.
    """

    label = "SupCon + spread"
    meaning = "supervised contrastive learning that keeps the samples of a class apart"
    position = 9
    hyperparameters = (
        Hyperparameter(
            "spread", "α", 0.5, low=0, high=1, meaning="the share of class-conditional InfoNCE", by_replica=True
        ),
        TEMPERATURE,
    )

    def contrast(self, projected: Tensor, targets: Tensor) -> Tensor:
        logits, spread = similarities(projected, self.setup.values["tau"]), self.setup.values["spread"]
        loss: Tensor = (1 - spread) * supervised(logits, targets) + spread * class_conditional(logits, targets)
        return loss
