"""A study carried through in this process, one Tune trial after another: all of a launch but Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.trainable.metadata import _TrainingRunMetadata

from study.launch import groups, snapshots, sweep
from study.launch.placement import Capacity
from study.launch.search import required_metrics
from trainables import trainable


@contextmanager
def without_ray(cores: int = 1) -> Iterator[None]:
    """`sweep.run` trains in this process, as if on a machine of so many cores."""
    capacity = Capacity(cores, 0, cores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep.cluster, "connect", lambda *arguments: nullcontext())
        patch.setattr(sweep.cluster, "require_shared", lambda *arguments: None)
        patch.setattr(sweep.cluster, "watching", lambda lost: nullcontext())
        patch.setattr(Capacity, "read", classmethod(lambda cls: capacity))
        patch.setattr(sweep, "_tuner", _Tuner)
        patch.setattr(trainable, "_take_device", lambda: "cpu")
        yield


class _Tuner:
    """What `sweep._tuner` makes, as far as a launch uses it."""

    def __init__(self, spec: Any, folder: Any, tracked: Any, searcher: Any, follower: Any, cadence: Any) -> None:
        self._spec, self._folder, self._tracked = spec, folder, tracked
        self._searcher, self._follower, self._cadence = searcher, follower, cadence

    def fit(self) -> None:
        rows: list[Any] = []
        while not isinstance(config := self._searcher.suggest(f"t{len(rows)}"), str):
            # nothing is at work that could be waited for
            assert config is not None
            trial = SimpleNamespace(trial_id=f"t{len(rows)}", config=config, last_result=None)
            trial.run_metadata = _TrainingRunMetadata()
            rows.append([json.dumps({"config": config, "status": self._train(trial)}), "{}"])
        folder = self._folder / snapshots.TUNE
        name = f"experiment_state-{len(folder.names())}.json"
        folder.write(name, json.dumps({"trial_data": rows}).encode())

    def _train(self, trial: Any) -> str:
        def report(result: dict[str, Any]) -> None:
            trial.last_result = result
            self._searcher.on_trial_result(trial.trial_id, result)
            self._follower.on_trial_result(0, [], trial, result)

        self._follower.on_trial_start(0, [], trial)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(trainable.tune, "report", report)
                trainable.train_trial(
                    trial.config,
                    folder=self._folder,
                    open_tracker=self._tracked.open_trial,
                    required=required_metrics(self._spec),
                    checkpoint_seconds=self._cadence.checkpoint,
                    report_seconds=self._cadence.report,
                    advises=groups.is_found(self._spec),
                )
        except Exception as error:
            trial.pickled_error_file = Path(self._folder.address) / "error.pkl"
            trial.pickled_error_file.write_bytes(cloudpickle.dumps(error))
            self._searcher.on_trial_complete(trial.trial_id, error=True)
            self._follower.on_trial_error(0, [], trial)
            return "ERROR"
        self._searcher.on_trial_complete(trial.trial_id, trial.last_result)
        self._follower.on_trial_complete(0, [], trial)
        return "TERMINATED"
