"""What the tracking is given from checkpoints, and not by a trial at work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from study.errors import UserError
from study.file import plan
from study.file.spec import StudySpec
from study.launch.placement import split
from study.record import tracking, trials
from trainables.storage import Folder
from trainables.trainable import place, read_checkpoint, recall
from trainables.trial import Trial


def send_again(
    spec: StudySpec, study: optuna.Study, folder: Folder, tracked: tracking.Tracking, number: int, trial: FrozenTrial
) -> None:
    """Give MLflow, which lacks runs of a trial that is not run again, what the trial's checkpoints hold."""
    attributes = trial.user_attrs
    if trials.HYPERPARAMETER_VALUES not in attributes:
        return
    whole = plan.trial_for(spec, attributes[trials.CRITERION], attributes[trials.HYPERPARAMETER_VALUES])
    parts = split(whole.seeds, int(study.user_attrs.get(trials.SHARDS, 1)))
    config = {"number": number, "role": attributes[trials.ROLE]}
    for position, seeds in enumerate(parts):
        part, shard = replace(whole, seeds=seeds), (position, len(parts))
        checkpoint = read_checkpoint(place(folder, number, shard), part)
        # without one it ended before it had anything to tell
        if checkpoint is None:
            continue
        tracked.open_shards({**config, "shard": (0, 1), "trial": whole.to_dict()})
        tracker = tracked.open_trial({**config, "shard": shard, "trial": part.to_dict()})
        recall(tracker, checkpoint)
        tracker.add(checkpoint["records"])
        tracker.flush(now=True)
    status = "FAILED" if trial.state.name == "FAIL" else "KILLED"
    tracking.close_trial(tracked, number, status, attributes.get(trials.REASON, ""))


def end_shards(
    folder: Folder, tracked: tracking.Tracking, whole: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]
) -> None:
    """Give the trial's own run the means over all shards, from their checkpoints, and end it."""
    parts = []
    for config in shards:
        checkpoint = read_checkpoint(place(folder, config["number"], config["shard"]), Trial.from_dict(config["trial"]))
        if checkpoint is None:
            raise UserError(f"a checkpoint of trial {config['number']} in {folder} is gone; resume the study")
        parts.append(checkpoint["records"])
    tracker = tracked.open_trial(whole)
    tracker.add([_merged(records) for records in zip(*parts, strict=True)])
    tracker.complete({}, {})
    tracker.finish()


def _merged(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One epoch's records of all shards as one of the whole trial."""
    metrics = {
        name: [value for record in records for value in record["metrics"][name]] for name in records[0]["metrics"]
    }
    return {"epoch": records[0]["epoch"], "metrics": metrics, "time": max(record["time"] for record in records)}
