"""Events that are written by one process and read by another."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import pytest

from study.launch.events import EventLines, Replay, write_event
from study.launch.sweep import Outcome


class Calls:
    """An observer that notes what it is told."""

    def __init__(self) -> None:
        self.made: list[tuple[object, ...]] = []

    def started(self, planned: int) -> None:
        self.made.append(("started", planned))

    def trial_started(self, number: int, label: str, role: str) -> None:
        self.made.append(("trial_started", number, label, role))

    def epoch(self, number: int, epoch: int, epochs: int, means: Mapping[str, float]) -> None:
        self.made.append(("epoch", number, epoch, epochs, means))

    def trial_ended(self, number: int, state: str, reason: str | None, means: Mapping[str, float]) -> None:
        self.made.append(("trial_ended", number, state, reason, means))

    def message(self, text: str) -> None:
        self.made.append(("message", text))


def test_what_is_written_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    calls, lines = Calls(), EventLines()
    for observer in (calls, lines):
        observer.started(2)
        observer.trial_started(0, "fierce λ=1 e=10", "grid")
        observer.epoch(0, 1, 5, {"mse/raw": 0.1 + 0.2})
        observer.message("trial 0: out of memory\ntried again")
        observer.trial_ended(0, "failed", "a reason", {"mse/raw": 1e-300})
    write_event("outcome", done=1, failed=1, missing=0, interrupted=False)
    read = Calls()
    replay = Replay(read)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 6
    for line in ["2026 INFO Ray's own", "Running entrypoint for job s-1: exec fierce run s.yaml", *printed]:
        replay(line)
    assert read.made == calls.made
    assert replay.outcome == Outcome(1, 1, 0, False)
    assert replay.error is None


def test_values_that_json_has_no_word_for(capsys: pytest.CaptureFixture[str]) -> None:
    EventLines().epoch(0, 1, 5, {"a": math.nan, "b": math.inf, "c": 1.0})
    line = capsys.readouterr().out
    assert json.loads(line, parse_constant=pytest.fail)["means"] == {"a": None, "b": None, "c": 1.0}
    read = Calls()
    replay = Replay(read)
    replay("Running entrypoint for job s-1: …")
    replay(line)
    [(_, _, _, _, means)] = read.made
    assert isinstance(means, Mapping)
    assert math.isnan(means["a"])
    assert math.isnan(means["b"])
    assert means["c"] == 1


def test_lines_that_are_no_event() -> None:
    read = Calls()
    replay = Replay(read)
    for line in ("before", "Running entrypoint for job s-1: …", "a warning", "", "[1, 2]", '{"event": "later"}'):
        replay(line)
    replay("error: benchmark.data: no such file")
    assert read.made == [("message", "a warning"), ("message", "[1, 2]")]
    assert replay.error == "benchmark.data: no such file"
    assert replay.outcome is None
