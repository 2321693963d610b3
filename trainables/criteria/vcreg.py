"""Variance-covariance regularisation of the features, VCReg (Zhu et al. 2023, arXiv 2306.13292)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.criteria.ce import cross_entropy
from trainables.criterion import Batch, Criterion, Hyperparameter

#: added to a variance under the root, whose slope would be infinite at a feature that is the same for all samples
EPSILON = 1e-4


def variance_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Two terms (S,) of a batch's features (S, B, d), with C their covariance over the batch (divisor B − 1).

    The first is the mean over the d features of max(0, 1 − √(C_jj + 1e-4)); the second the mean of C_ij² over the
    d(d − 1) pairs i ≠ j, 0 where d = 1.
    """
    samples, d = features.shape[1:]
    centred = features - features.mean(1, keepdim=True)
    # one sample has no covariance, and 0 / 0 would spoil the replica
    covariance = torch.bmm(centred.transpose(1, 2), centred) / max(1, samples - 1)
    variances = covariance.diagonal(dim1=1, dim2=2)
    narrow = torch.relu(1 - torch.sqrt(variances + EPSILON)).mean(1)
    between = (covariance - torch.diag_embed(variances)).square().sum((1, 2)) / max(1, d * (d - 1))
    return narrow, between


class VCReg(Criterion):
    """CE + α·mean_j max(0, 1 − std_j) + β·mean_{i≠j} C_ij², on the features that are probed.

    Both terms are means, over the d features and over the d(d − 1) pairs (VICReg divides the second by d). These
    divisors and the defaults were met in a rendering of the source's listing by others, whose gradients they give; the
    paper's own text could not be read again. Under the root that rendering adds 1e-5, VICReg 1e-4, as here. The source
    also applies both terms to the output of each block; here the last features alone.
    """

    label = "VCReg"
    meaning = "cross-entropy and a penalty on features that vary little or together"
    position = 6
    hyperparameters = (
        Hyperparameter(
            "variance", "α", 0.16, low=0, log=True, meaning="the weight of the variance term", by_replica=True
        ),
        Hyperparameter(
            "covariance", "β", 0.01, low=0, log=True, meaning="the weight of the covariance term", by_replica=True
        ),
    )

    def forward(self, batch: Batch) -> Tensor:
        narrow, between = variance_and_covariance(batch.features)
        values = self.setup.values
        terms: Tensor = values["variance"] * narrow + values["covariance"] * between
        return cross_entropy(batch.logits, batch.targets) + terms
