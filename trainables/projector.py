"""An expendable projector between the features and a classifier, over S replicas at once (Wang et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainables.backbones import ReplicatedLinear
from trainables.benchmarks import DataError
from trainables.resnet import ReplicatedBatchNorm2d
from trainables.trial import Projector


class Projected(nn.Module):
    """A replicated network with a projector and a classifier of their own in place of its classifier.

    The features are the network's, and so are probed before the projector: linear, batch normalisation, ReLU, linear
    (see `Projector`). What the network computes its own logits by, beyond the features, is left out of the training.
    Replica s is initialised from its own generator alone. The projector is computed in the parameters' precision under
    autocast too, as the network's own head is.
    """

    def __init__(
        self,
        network: nn.Module,
        dimensions: int,
        classes: int,
        projector: Projector,
        generators: Sequence[torch.Generator],
    ) -> None:
        super().__init__()
        output = projector.hidden if projector.output is None else projector.output
        self.network = network
        self.inner = ReplicatedLinear(dimensions, projector.hidden, generators)
        self.norm = ReplicatedBatchNorm2d(len(generators), projector.hidden) if projector.norm == "batch" else None
        self.outer = ReplicatedLinear(projector.hidden, output, generators)
        self.classifier = ReplicatedLinear(output, classes, generators)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features, _ = self.network(x)
        with torch.autocast(x.device.type, enabled=False):
            hidden = self.inner(features.to(self.inner.weight.dtype))
            if self.norm is not None:
                # each replica's dimensions are channels of its own: (B, S·h)
                rows = self.norm(hidden.transpose(0, 1).flatten(1))
                hidden = rows.unflatten(1, (len(hidden), -1)).transpose(0, 1)
            return features, self.classifier(self.outer(torch.relu(hidden)))

    def replica_dims(self, name: str) -> int:
        inner, stated = name.removeprefix("network."), getattr(self.network, "replica_dims", None)
        if inner != name and stated is not None:
            return int(stated(inner))
        return 1 if inner == name and name.endswith("bias") else self.get_parameter(name).dim() - 1


def projected(
    network: nn.Module,
    sample: Tensor,
    classes: int,
    projector: Projector,
    generators: Sequence[torch.Generator],
    last: int,
) -> Projected:
    """``network`` with ``projector``; ``sample`` (S, 1, …) is one of its inputs, ``last`` the size of the last batch.

    Raises `DataError` where nothing below the projector would be trained, or a batch of one sample must be normalised.
    """
    with torch.enable_grad():
        features, _ = network.eval()(sample)
    if not features.requires_grad:
        raise DataError(
            "training.projector: no parameter acts on the network's features, its first output, so that nothing below "
            "the projector would be trained: return them without detach"
        )
    if last == 1 and projector.norm == "batch":
        raise DataError(
            "training.batch_size leaves one sample for the last batch, which the projector cannot normalise: set "
            "another size, or norm: none in training.projector"
        )
    made = Projected(network, features.shape[-1], classes, projector, generators)
    return made.to(features.device, features.dtype)
