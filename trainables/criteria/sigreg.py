"""Sketched isotropic Gaussian regularisation of the features, SIGReg (LeJEPA: Balestriero & LeCun 2025, 2511.08544)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.criteria.ce import cross_entropy
from trainables.criterion import Batch, Criterion, Hyperparameter
from trainables.epps_pulley import epps_pulley, mean_over_slices
from trainables.metrics import Metric
from trainables.replicas import drawn

STATISTIC = Metric(
    "normality/batch",
    "Epps–Pulley statistic of a batch",
    "distance of a training batch's features from an isotropic standard normal distribution, mean over random slices "
    "and the epoch's batches; 0 at best",
)


def directions(d: int, count: int, generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Random unit vectors (S, d, count), uniform on the sphere, replica s from its own stream."""
    normal = drawn(lambda values, g: values.normal_(generator=g), (d, count), generators, like.dtype, like.device)
    # a third of the time of `torch.nn.functional.normalize`
    return normal.div_(normal.square().sum(1, keepdim=True).sqrt_())


class SIGReg(Criterion):
    """CE + λ·mean Epps–Pulley statistic of the features along M random slices, drawn anew for each batch.

    It fixes mean, scale and shape of the features: an isotropic standard normal distribution is what it is least for.
    The statistic, knots, range and number of slices are those of the authors' library. There λ is .02, added to the
    loss as here; the .05 here was taken from the paper, whose text could not be read again. The source puts a
    projector between features and statistic, which ``training.projector`` does not: that one stands above.

    M = 0 is ours: the mean over all slices, which random ones estimate, in closed form and without their noise.
    """

    label = "SIGReg"
    meaning = "cross-entropy and a statistic that draws the features to a Gaussian cloud"
    position = 7
    hyperparameters = (
        Hyperparameter("strength", "λ", 0.05, low=0, log=True, meaning="the weight of the statistic", by_replica=True),
        Hyperparameter(
            "slices", "M", 1024, low=0, whole=True, log=True, meaning="the number of random slices, 0 for all there are"
        ),
    )
    metrics = (STATISTIC,)

    def forward(self, batch: Batch) -> Tensor:
        count = int(self.setup.values["slices"])
        statistic = _along(batch, count) if count else mean_over_slices(batch.features)
        self.measured = {STATISTIC.name: statistic.detach()}
        term: Tensor = self.setup.values["strength"] * statistic
        return cross_entropy(batch.logits, batch.targets) + term


def _along(batch: Batch, count: int) -> Tensor:
    """The mean statistic (S,) along ``count`` random slices of the batch's features."""
    slices = directions(batch.features.shape[-1], count, batch.streams("slices"), batch.features)
    # a row a slice, which `epps_pulley` need not copy
    projected = torch.bmm(slices.transpose(1, 2), batch.features.transpose(1, 2))
    return epps_pulley(projected.transpose(1, 2))
