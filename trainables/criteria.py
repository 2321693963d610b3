"""The four criteria, for S replicas at once: logits (S, B, C), targets (S, B) -> one loss per replica (S,).

λ, σ and β are numbers or (S,) tensors: each replica may have its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional

from trainables.anchors import assignment_entropy, similarity
from trainables.trial import Recipe

#: (logits (S, B, C), features (S, B, d), targets (S, B), anchors (S, e, d), noise (S, B, e) or None) -> (S,)
Criterion = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """−log q(y), mean over the batch (eq. 3), in nats."""
    return functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)


def label_smoothing(logits: Tensor, targets: Tensor, sigma: float | Tensor, form: str = "others") -> Tensor:
    """Cross-entropy against smoothed targets, in nats.

    ``others`` (the paper) puts 1−σ on the class and σ/(C−1) on each other class; ``uniform`` (the released
    hyperspectral code, PyTorch's ``label_smoothing``) puts 1−σ+σ/C and σ/C. The first at σ is the second at
    σ·C/(C−1).
    """
    classes = logits.shape[-1]
    uniform_share = sigma * classes / (classes - 1) if form == "others" else sigma
    log_q = functional.log_softmax(logits, -1)
    target_term = log_q.gather(-1, targets.unsqueeze(-1)).squeeze(-1).mean(1)
    return -((1 - uniform_share) * target_term + uniform_share * log_q.mean((1, 2)))


def confidence_penalty(logits: Tensor, targets: Tensor, beta: float | Tensor) -> Tensor:
    """CE − β·H(q), with the entropy of the output distribution in nats (§2.2, Pereyra et al. 2017)."""
    log_q = functional.log_softmax(logits, -1)
    target_term = log_q.gather(-1, targets.unsqueeze(-1)).squeeze(-1).mean(1)
    output_entropy = -(log_q.exp() * log_q).sum(-1).mean(1)
    return -target_term - beta * output_entropy


def fierce(
    logits: Tensor,
    features: Tensor,
    targets: Tensor,
    anchors: Tensor,
    noise: Tensor,
    strength: float | Tensor,
    *,
    kind: str,
    temperature: float = 1.0,
    epsilon: float = 1e-12,
    form: str = "subtract",
) -> Tensor:
    """Cross-entropy regularised by the entropy of the feature space, ``strength`` being λ.

    ``subtract`` is CE − λ·H(r̃) (eq. 8); ``weighted`` is CE/(1+λ) + λ/(1+λ)·(log2 e − H), the released age
    code. CE in nats, H in bits, as in the released code (the paper states no base).
    """
    bits = assignment_entropy(similarity(features, anchors, kind), noise, temperature, epsilon)
    loss = cross_entropy(logits, targets)
    if form == "subtract":
        return loss - strength * bits
    return (loss + strength * (math.log2(anchors.shape[1]) - bits)) / (1 + strength)


def make_criterion(name: str, hyperparameters: Mapping[str, float], recipe: Recipe) -> Criterion:
    """The criterion ``name`` with its hyperparameters by their names in a study file.

    ``LookupError`` for an unknown name; ``KeyError`` for a hyperparameter that is missing.
    """
    if name == "ce":
        return lambda logits, features, targets, anchors, noise: cross_entropy(logits, targets)
    if name == "ls":
        sigma = hyperparameters["sigma"]
        return lambda logits, features, targets, anchors, noise: label_smoothing(
            logits, targets, sigma, recipe.smoothing
        )
    if name == "confidence-penalty":
        beta = hyperparameters["beta"]
        return lambda logits, features, targets, anchors, noise: confidence_penalty(logits, targets, beta)
    if name == "fierce":
        strength = hyperparameters["lambda"]
        if not strength:
            return make_criterion("ce", {}, recipe)

        def regularised(
            logits: Tensor, features: Tensor, targets: Tensor, anchors: Tensor, noise: Tensor | None
        ) -> Tensor:
            assert noise is not None, "see needs_noise"
            return fierce(
                logits,
                features,
                targets,
                anchors,
                noise,
                strength,
                kind=recipe.similarity,
                temperature=recipe.temperature,
                epsilon=recipe.entropy_epsilon,
                form=recipe.entropy_form,
            )

        return regularised
    raise LookupError(f"unknown criterion {name!r}")


def needs_noise(name: str, hyperparameters: Mapping[str, float]) -> bool:
    """Whether the criterion samples assignments: FIERCE does, except at λ = 0, where it is cross-entropy."""
    return name == "fierce" and bool(hyperparameters["lambda"])
