"""The confidence penalty (§2.2, Pereyra et al. 2017)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from trainables.criterion import Batch, Criterion, Hyperparameter


def confidence_penalty(logits: Tensor, targets: Tensor, beta: float | Tensor) -> Tensor:
    """CE − β·H(q) (S,), with the entropy of the output distribution in nats; β a number or (S,)."""
    log_q = functional.log_softmax(logits, -1)
    target_term = log_q.gather(-1, targets.unsqueeze(-1)).squeeze(-1).mean(1)
    output_entropy = -(log_q.exp() * log_q).sum(-1).mean(1)
    return -target_term - beta * output_entropy


class ConfidencePenalty(Criterion):
    """Cross-entropy less β times the entropy of the output; the paper says that it behaves as label smoothing."""

    label = "confidence penalty"
    meaning = "cross-entropy less the entropy of the output"
    position = 3
    hyperparameters = (
        Hyperparameter("beta", "β", 0.1, low=0, log=True, by_replica=True, meaning="the weight of the entropy"),
    )

    def forward(self, batch: Batch) -> Tensor:
        return confidence_penalty(batch.logits, batch.targets, self.setup.values["beta"])
