"""Networks of a trial that has ended, from its weights: what they make of inputs that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.benchmarks import DataError
from trainables.contract_words import shape_of
from trainables.training import Training
from trainables.trial import Trial


class Trained:
    """The networks of all seeds of ``trial`` with the ``weights`` that its training left (``weights.pt``).

    The benchmark's data is loaded, since it shapes the network. Raises as `Training` does, and ``RuntimeError`` where
    the weights are of another network.
    """

    def __init__(self, trial: Trial, weights: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        self._training = Training(trial, device)
        self._training.network.load_state_dict(weights)
        self.network.eval()

    @property
    def trial(self) -> Trial:
        return self._training.trial

    @property
    def network(self) -> nn.Module:
        """The replicated network: inputs (S, B, …) as the benchmark's ``batch`` makes them -> features, logits."""
        return self._training.network

    @property
    def inputs(self) -> Tensor:
        """The benchmark's own inputs (N, …), as it stores them."""
        return self._training.data.inputs

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the coarse classes, in the order of the logits."""
        return self._training.data.coarse_names

    def features(self, inputs: Any, seed: int) -> np.ndarray:
        """Features (n, d), by the network of ``seed``, of ``inputs`` (n, …): an array or tensor in `inputs`' form."""
        return self._outputs(inputs, seed)[0]

    def logits(self, inputs: Any, seed: int) -> np.ndarray:
        """Logits (n, C), as `features`."""
        return self._outputs(inputs, seed)[1]

    def _outputs(self, inputs: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
        stored = self._training.data.inputs
        given = torch.as_tensor(inputs)
        if given.shape[1:] != stored.shape[1:] or given.is_floating_point() != stored.is_floating_point():
            raise DataError(
                f"inputs are {shape_of(given)} of {given.dtype}; the benchmark stores {shape_of(stored)} of "
                f"{stored.dtype}: give new ones in that form, samples first"
            )
        place = self.trial.seeds.index(seed)
        features, logits = self._training.answers(given.to(stored.device, stored.dtype))
        return features[place].cpu().numpy(), logits[place].cpu().numpy()
