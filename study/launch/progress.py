"""What a running study shows: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from analysis.numbers import shortened
from study.file.spec import StudySpec
from study.launch.remaining import Remaining

if TYPE_CHECKING:
    from study.launch.cost import Cost

#: shown beside the coarse accuracy in a study without a search: every trial has it
PLAIN_METRIC = "loss/train"
#: seconds between two plain lines about epochs
QUIET_SECONDS = 10.0
#: what writing to a terminal or pipe that was closed raises; rich would end the process
_GONE = (OSError, ValueError, SystemExit)


class StudyProgress:
    """Follows a study (the observer of `study.launch.sweep.run`) and prints to ``console``; a context manager.

    The best trial is named by the search's objective; a fixed lower bound among the constraints is respected. The
    label-free rule and a bound relative to cross-entropy are settled at the study's end, so no best trial is named
    meanwhile, nor is one in a study without a search. `tell_time` is for events that are told later than they were.
    """

    def __init__(self, spec: StudySpec, console: Console, cost: Cost | None = None) -> None:
        """``cost`` is what the study was predicted to take, where that is known."""
        self.console = console
        search = spec.search
        self._metric = search.objective.metric if search else PLAIN_METRIC
        self._sign = -1.0 if search and search.objective.direction == "maximize" else 1.0
        self._constraint = search.constraint if search else None
        self._ranked = search is not None and not search.needs_ce
        #: a label as it is shown -> as it was told, and a trial's number -> its label as it is shown
        self._told: dict[str, str] = {}
        self._labels: dict[int, str] = {}
        #: trials that confirm: on other seeds, so that none is the best so far
        self._confirming: set[int] = set()
        self._remaining = Remaining(cost)
        #: what the clock of the events is ahead of this process's
        self._ahead = 0.0
        self._best: tuple[float, str] | None = None
        self._last_line = time.monotonic()
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}")
        )
        self._tasks: dict[int, TaskID] = {}
        self._total: TaskID | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            live = Live(console=self.console, get_renderable=self._display, refresh_per_second=4)
            # a terminal may go away, before the first trial as well as after the last
            with suppress(*_GONE):
                live.start()
                self._live = live
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            with suppress(*_GONE):
                self._live.stop()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps a copy of what it calls on disk, and a display belongs to this process alone."""
        return {}

    def started(self, planned: int) -> None:
        self._remaining.planned = planned
        if self._live is not None:
            self._total = self._bars.add_task("trials", total=planned, note="")
        else:
            self._print(f"{planned} trials planned")

    def trial_started(self, number: int, label: str, role: str) -> None:
        label = next(short for short in shortened(label) if self._told.setdefault(short, label) == label)
        self._labels[number] = label
        self._remaining.begin(number, self._now(), label)
        if role == "confirm":
            self._confirming.add(number)
        if self._live is None:
            self._print(f"trial {number} started: {label} ({role})")

    def epoch(self, number: int, epoch: int, epochs: int, means: Mapping[str, float]) -> None:
        """``means`` are the seeds' means after ``epoch`` of ``epochs``."""
        self._remaining.epoch(number, epoch, epochs, self._now())
        note = _values(means, self._shown)
        if self._live is not None:
            if number not in self._tasks:
                self._tasks[number] = self._bars.add_task(f"  {number}: {self._labels[number]}", total=epochs, note="")
            self._bars.update(self._tasks[number], completed=epoch, note=note)
        elif time.monotonic() - self._last_line >= QUIET_SECONDS:
            self._print(f"trial {number} epoch {epoch}/{epochs} {note}".rstrip() + self._left_words())

    def trial_ended(self, number: int, state: str, reason: str | None, means: Mapping[str, float]) -> None:
        self._remaining.end(number, self._now(), is_over=state != "interrupted")
        label = self._labels[number]
        value = means.get(self._metric, math.nan)
        if (
            self._eligible(means)
            and number not in self._confirming
            and math.isfinite(value)
            and (self._best is None or self._sign * value < self._sign * self._best[0])
        ):
            self._best = (value, label)
        line = f"trial {number} {state}: {label}" + (f": {reason}" if reason else "")
        if self._live is not None:
            if number in self._tasks:
                self._bars.remove_task(self._tasks.pop(number))
            if self._total is not None:
                self._bars.update(self._total, completed=self._remaining.ended)
            if reason:
                self._print(line)
        else:
            self._print(
                f"{line} {_values(means, self._shown)}".rstrip()
                + f" ({self._remaining.ended}/{self._remaining.planned} ended)"
            )

    def message(self, text: str) -> None:
        """A line that is no trial's."""
        self._print(text)

    @property
    def _shown(self) -> tuple[str, ...]:
        return ("accuracy/coarse", self._metric)

    def _eligible(self, means: Mapping[str, float]) -> bool:
        if not self._ranked:
            return False
        bound = self._constraint
        return bound is None or bound.at_least is None or means.get(bound.metric, -math.inf) >= bound.at_least

    def tell_time(self, moment: float) -> None:
        """The next event was at ``moment``, in seconds of a clock of its own."""
        self._ahead = moment - time.monotonic()

    def _now(self) -> float:
        return time.monotonic() + self._ahead

    def _left_words(self) -> str:
        left = self._remaining.left(self._now())
        return "" if left is None else f", about {_duration(left)} left"

    def _display(self) -> Table:
        table = Table.grid()
        table.add_row(self._bars)
        best = f"best so far {self._metric} {self._best[0]:.5g}: {self._best[1]}" if self._best else ""
        table.add_row(Text(f"{best}{self._left_words()}".removeprefix(", ")))
        return table

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        self.console.print(Text(line), soft_wrap=True)


def _values(means: Mapping[str, float], names: tuple[str, ...]) -> str:
    return " ".join(f"{name} {means[name]:.4g}" for name in dict.fromkeys(names) if name in means)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
