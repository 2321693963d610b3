"""A trial's records written to MLflow, for processes that write at the same time; it imports little, as each does."""

from __future__ import annotations

from threading import Barrier

from study.record.tracking import Tracking
from trainables.assignment import Assignment
from trainables.training import Record


def write(tracked: Tracking, given: Assignment, epochs: int, together: Barrier) -> None:
    """Write ``epochs`` of the trial's two seeds, each in a request of its own, once all are ``together``."""
    together.wait()
    tracker = tracked.open_trial(given)
    for epoch in range(1, epochs + 1):
        tracker.add([Record(epoch, {"loss/train": [1.0, 2.0]}, epoch)])
        tracker.flush(now=True)
        assert all(line.sent == epoch for line in tracker._lines or ())
    tracker.finish()
