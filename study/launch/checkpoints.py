"""What the tracking is given from checkpoints, and not by a trial at work."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial

from study.errors import UserError
from study.file.spec import StudySpec
from study.launch.parts import assigned, parts, whole
from study.record import tracking, trials
from study.record.tracker import Tracking
from trainables.assignment import Assignment
from trainables.storage import Folder
from trainables.trainable import place, read_checkpoint, recall
from trainables.training import Record


def send_again(
    spec: StudySpec, study: optuna.Study, folder: Folder, tracked: Tracking, number: int, trial: FrozenTrial
) -> None:
    """Give MLflow, which lacks runs of a trial that is not run again, what the trial's checkpoints hold."""
    attributes = trial.user_attrs
    if trials.HYPERPARAMETER_VALUES not in attributes:
        return
    given = assigned(spec, study, trial, attributes[trials.HYPERPARAMETER_VALUES])
    for part in parts(spec, study, given):
        checkpoint = read_checkpoint(place(folder, part), part.trial)
        # without one it ended before it had anything to tell
        if checkpoint is None or not checkpoint.records:
            continue
        tracked.open_shards(whole(spec, study, given))
        tracker = tracked.open_trial(part)
        recall(tracker, checkpoint)
        tracker.add(checkpoint.records)
        tracker.flush(now=True)
    status = "FAILED" if trial.state.name == "FAIL" else "KILLED"
    tracking.close_trial(tracked, number, status, attributes.get(trials.REASON, ""))


def end_parts(folder: Folder, tracked: Tracking, whole: Assignment, parts: Sequence[Assignment]) -> None:
    """Give the trial's own run the means over all parts, from their checkpoints, and end it."""
    kept = []
    for part in parts:
        checkpoint = read_checkpoint(place(folder, part), part.trial)
        if checkpoint is None:
            raise UserError(f"a checkpoint of trial {part.number} in {folder} is gone; resume the study")
        kept.append(checkpoint.records)
    tracker = tracked.open_trial(whole, merged=True)
    tracker.add([_merged(records) for records in zip(*kept, strict=True)])
    tracker.complete({}, {})
    tracker.finish()


def _merged(records: Sequence[Record]) -> Record:
    """One epoch's records of all parts as one of the whole trial."""
    first = records[0]
    metrics = {name: [value for record in records for value in record.metrics[name]] for name in first.metrics}
    return Record(first.epoch, metrics, max(record.time for record in records))
