"""Data and a network of one's own: a CSV file with columns ``coarse`` and ``fine``, and numbers in all the others."""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from trainables import backbones, trial
from trainables.benchmarks import Data, DataPath, fingerprint
from trainables.evaluators import Evaluator, classification, geometry
from trainables.metrics import Metric


@dataclass(frozen=True)
class Options:
    data: DataPath
    validation: float = 0.0
    backbone: str = "examples.own_data:Network"


class Network(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(data.inputs.shape[1], 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, data.classes)

    def forward(self, x):
        return (features := self.body(x)), self.head(features)


class Table:
    name, Options = "table", Options

    def recipe(self, protocol, options):
        return trial.Recipe(epochs=60, batch_size=64, learning_rate=1e-3, similarity="dot")

    def load(self, options):
        table = pd.read_csv(options.data)
        (coarse, names), (fine, _) = (table.pop(name).factorize(sort=True) for name in ("coarse", "fine"))
        x = [torch.tensor(array) for array in (table.to_numpy("float32"), coarse, fine)]
        return Data("table", "real", fingerprint(*x), *x, tuple(map(str, names)), extra={"columns": [*table]})

    def split(self, data, options, generator):
        order = torch.randperm(len(data.inputs), generator=generator)
        validation, train = order[::2].tensor_split([round(len(order[::2]) * options.validation)])
        return {"train": train, "validation": validation, "heldout": order[1::2]}

    def batch(self, inputs, options, train, generators):
        return nn.functional.layer_norm(inputs, inputs.shape[-1:])

    def backbone(self, data, options, generators):
        return backbones.own(options.backbone, data, generators)

    def evaluators(self, data, options):
        def measure(snapshot):
            train, heldout = snapshot.outputs("train"), snapshot.outputs("heldout")
            means = geometry.class_means(train.features, train.fine, int(data.fine.max()) + 1)
            distance = torch.cdist(heldout.features, means).nan_to_num(torch.inf)  # NaN: a label not trained on
            fine = classification.accuracy(-distance, heldout.fine)
            return {"accuracy/coarse": classification.accuracy(heldout.logits, heldout.coarse), "accuracy/fine": fine}

        fine = Metric("accuracy/fine", "fine accuracy", "nearest class mean", better="higher", reads_fine=True)
        return (Evaluator("fine", measure, metrics=(classification.ACCURACY[0], fine)),)
