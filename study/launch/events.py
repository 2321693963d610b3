"""A running study's events as lines of JSON: written by the process that runs it, read by one that shows it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

from study.launch.observer import Observer
from study.launch.sweep import Outcome

#: the key of an event's line that tells its kind, and the kinds that are calls of an observer
EVENT, TIME = "event", "time"
OBSERVED = ("started", "trial_started", "epoch", "trial_ended", "message")
#: the last of Ray's own lines in a job's log
BEGIN = "Running entrypoint for job "
#: how the command line begins the one sentence that it ends with
ERROR = "error: "


class EventLines:
    """Follows a study (the observer of `study.launch.sweep.run`) and writes each event to stdout, a JSON object a line.

    ``{"event": "epoch", "time": 1764100000.0, "number": 3, "epoch": 7, …}``: the kind, when it was, and the arguments
    of the observer's method. A value that is not finite is null, since JSON has no word for it.
    """

    def started(self, planned: int) -> None:
        write_event("started", planned=planned)

    def trial_started(self, number: int, label: str, role: str) -> None:
        write_event("trial_started", number=number, label=label, role=role)

    def epoch(self, number: int, epoch: int, epochs: int, means: Mapping[str, float]) -> None:
        write_event("epoch", number=number, epoch=epoch, epochs=epochs, means=_finite(means))

    def trial_ended(self, number: int, state: str, reason: str | None, means: Mapping[str, float]) -> None:
        write_event("trial_ended", number=number, state=state, reason=reason, means=_finite(means))

    def message(self, text: str) -> None:
        write_event("message", text=text)


def write_event(kind: str, **values: Any) -> None:
    """One event on stdout, at once, with when it was, in seconds since 1970."""
    print(json.dumps({EVENT: kind, TIME: round(time.time(), 3), **values}, allow_nan=False), flush=True)


class Replay:
    """Reads the log of a study's job, line by line: makes the calls of ``observer`` that the events tell of.

    Lines that are no event (a warning, say) are messages to it, save Ray's own before the command's first.
    ``outcome`` is the last event's, and ``error`` the sentence for the user; both are None while there is none.
    """

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.outcome: Outcome | None = None
        self.error: str | None = None
        self._is_begun = False

    def __call__(self, line: str) -> None:
        if not self._is_begun:
            self._is_begun = line.startswith(BEGIN)
            return
        event = _read(line)
        if event is None:
            if line.startswith(ERROR):
                self.error = line.removeprefix(ERROR)
            elif line.strip():
                self.observer.message(line)
            return
        kind, moment = event.pop(EVENT), event.pop(TIME, None)
        # the log of a study is read from its start, long after
        if moment is not None and hasattr(self.observer, "tell_time"):
            self.observer.tell_time(moment)
        if "means" in event:
            event["means"] = {name: math.nan if mean is None else mean for name, mean in event["means"].items()}
        if kind == "outcome":
            self.outcome = Outcome(**event)
        # a later version may tell more
        elif kind in OBSERVED:
            getattr(self.observer, kind)(**event)


def _read(line: str) -> dict[str, Any] | None:
    """The event that `write_event` wrote as ``line``; None for any other line."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and EVENT in event else None


def _finite(means: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: value if value is not None and math.isfinite(value) else None for name, value in means.items()}
