"""Files of a trial among the artifacts of its runs in MLflow: trajectories, arrays and weights."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import schema

if TYPE_CHECKING:
    import numpy as np
    from mlflow.entities import Run
    from torch import Tensor

    from trainables.training import Record


def send_trajectories(uri: str, run: Run, name: str, records: Sequence[Record], seeds: Sequence[int]) -> None:
    """Write all values of the ``records``, of these ``seeds``, to the file ``name``, in place of an earlier one."""
    import numpy as np

    from analysis import columns

    epochs: dict[str, list[int]] = {}
    values: dict[str, list[Sequence[float]]] = {}
    for record in records:
        for metric, of_seeds in record.metrics.items():
            epochs.setdefault(metric, []).append(record.epoch)
            values.setdefault(metric, []).append(of_seeds)
    trajectories = {metric: (epochs[metric], np.array(values[metric])) for metric in epochs}
    _send(uri, run, name, lambda file: columns.write(file, trajectories, seeds))


def send_arrays(uri: str, run: Run, arrays: Mapping[str, np.ndarray], column: int) -> None:
    """Write what a replica keeps of its last epoch; the ``arrays`` are of all replicas."""
    import numpy as np

    own = {name: values[column] for name, values in arrays.items()}
    _send(uri, run, schema.ARRAYS, lambda file: np.savez(file, **own))


def send_all_arrays(uri: str, run: Run, name: str, arrays: Mapping[str, np.ndarray], seeds: Sequence[int]) -> None:
    """Write what all replicas keep of their last epoch to the file ``name``, by seed and name."""
    import numpy as np

    own = {f"{seed}/{key}": values[column] for column, seed in enumerate(seeds) for key, values in arrays.items()}
    _send(uri, run, name, lambda file: np.savez(file, **own))


def send_weights(uri: str, run: Run, name: str, weights: Mapping[str, Tensor]) -> None:
    """Write the weights of all replicas to the file ``name``."""
    import torch

    _send(uri, run, name, lambda file: torch.save(dict(weights), file))


def is_there(uri: str, run: Run, name: str) -> bool:
    """Whether the run was given the file ``name``, and still has it."""
    from analysis import artifacts

    return name in artifacts.kept(run) and name in artifacts.names(uri, run)


def is_lost(uri: str, run: Run, name: str) -> bool:
    """Whether the run was given the file ``name``, and no longer has it."""
    from analysis import artifacts

    return name in artifacts.kept(run) and name not in artifacts.names(uri, run)


def _send(uri: str, run: Run, name: str, write: Callable[[Path], None]) -> None:
    from analysis import artifacts

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / name
        write(file)
        artifacts.write(uri, run, file)
