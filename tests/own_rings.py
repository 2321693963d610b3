"""A benchmark of a user's own in one file: four noisy rings, told apart as inner and outer, with metrics of its own."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.backbones import own
from trainables.benchmarks import Data, fingerprint
from trainables.evaluators import Evaluator, Snapshot, classification, geometry
from trainables.metrics import Metric
from trainables.trial import Recipe

MARGIN = Metric("margin/heldout", "margin of the right class (nats)", "its logit less the other's", "nats", "higher")
STRAYS = Metric(
    "strays/rings", "strays among rings", "share nearer to another ring's mean feature", better="lower", reads_fine=True
)


@dataclass(frozen=True)
class Options:
    #: seconds that each epoch waits: slow enough to strike in between
    pause: float = 0.0


class Network(nn.Module):
    def __init__(self, data: Data) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 8), nn.ReLU())
        self.head = nn.Linear(8, data.classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (features := self.body(x)), self.head(features)


class Rings:
    name, Options = "rings", Options

    def recipe(self, protocol: str, options: Options) -> Recipe:
        return Recipe(epochs=6, batch_size=20, learning_rate=0.01)

    def load(self, options: Options) -> Data:
        draws = torch.Generator().manual_seed(3)
        ring, angle = torch.arange(120) % 4, 2 * torch.pi * torch.rand(120, generator=draws)
        radius = 1 + ring + 0.2 * torch.randn(120, generator=draws)
        points = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
        coarse = (ring >= 2).long()
        digest = fingerprint(points, coarse, ring)
        return Data("rings", "simulated", digest, points, coarse, ring, ("inner", "outer"))

    def split(self, data: Data, options: Options, generator: torch.Generator) -> dict[str, Tensor]:
        order = torch.randperm(len(data.inputs), generator=generator)
        return {"train": order[:80], "heldout": order[80:]}

    def batch(self, inputs: Tensor, options: Options, train: bool, generators: list[torch.Generator]) -> Tensor:
        return inputs

    def backbone(self, data: Data, options: Options, generators: list[torch.Generator]) -> nn.Module:
        return own(f"{__name__}:Network", data, generators)

    def evaluators(self, data: Data, options: Options) -> tuple[Evaluator, ...]:
        def measure(snapshot: Snapshot) -> dict[str, Tensor]:
            time.sleep(options.pause)
            train, heldout = snapshot.outputs("train"), snapshot.outputs("heldout")
            right = heldout.logits.gather(-1, heldout.coarse.unsqueeze(-1)).squeeze(-1)
            means = geometry.class_means(train.features, train.fine, 4)
            strays = 1 - classification.accuracy(-torch.cdist(heldout.features, means), heldout.fine)
            return {MARGIN.name: (2 * right - heldout.logits.sum(-1)).mean(-1), STRAYS.name: strays}

        return (Evaluator("rings", measure, metrics=(MARGIN, STRAYS)),)
