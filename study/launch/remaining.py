"""How long a study still takes, judged by the epochs and trials that were seen.

A trial takes a while to begin, its epochs, and a while to end (the last epoch measures more, and what it found is
sent). While none has ended, the epochs seen tell; then the trials that have. Time in which no trial is at work, as Ray
takes to start, tells nothing. Some trials are known to take longer than others: seconds are kept of one of weight 1.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from study.file.plan import criterion_in

if TYPE_CHECKING:
    from study.launch.cost import Cost


@dataclass
class _Running:
    """A trial at work: when it began, and the first and the last epoch that was told, each with its time.

    The very last of its epochs, which takes longer than others, is no ``last``, but shows that it ``is_through``.
    """

    begun: float
    #: how long it takes from its first epoch on, against the mean of all that are planned
    weight: float = 1.0
    first: tuple[int, float] | None = None
    last: tuple[int, float] | None = None
    epochs: int = 0
    is_through: bool = False

    @property
    def pace(self) -> float | None:
        """Seconds an epoch; None while fewer than two were told."""
        if self.first is None or self.last is None or self.last[0] <= self.first[0]:
            return None
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])

    @property
    def begin(self) -> float | None:
        """Seconds before its first epoch began, None while the pace is not known."""
        return None if self.pace is None or self.first is None else max(0.0, self.first[1] - self.begun - self.pace)


class Remaining:
    """Seconds that are left of a study, by when its trials begin, go on and end, in seconds of one clock."""

    def __init__(self, cost: Cost | None = None) -> None:
        """``cost`` tells which criteria take longer, and what trials take after their epochs until one has ended."""
        self._weights = cost.weights if cost else {}
        self._tail = cost.tail if cost else 0.0
        #: trials in all, and those that have ended
        self.planned = self.ended = 0
        self._running: dict[int, _Running] = {}
        #: the weights of the trials that have ended
        self._behind = 0.0
        #: of trials that have ended: seconds from their first epoch on, an epoch, and what is before and after epochs
        self._main: list[float] = []
        self._paces: list[float] = []
        self._begins: list[float] = []
        self._tails: list[float] = []
        #: trials at work at the same time, at most
        self._slots = 1

    def begin(self, number: int, now: float, label: str = "") -> None:
        """Trial ``number`` begins, of the criterion that its ``label`` names."""
        self._running[number] = _Running(now, self._weights.get(criterion_in(label), 1.0))

    def epoch(self, number: int, epoch: int, epochs: int, now: float) -> None:
        """Trial ``number`` has done ``epoch`` of ``epochs``; the first that it tells is the first that it trains."""
        trial = self._running[number]
        trial.epochs, trial.is_through = epochs, epoch == epochs
        if trial.last is None or epoch < epochs:
            trial.last = epoch, now
        trial.first = trial.first or trial.last
        # one may begin a moment before another ends, in its place
        self._slots = max(self._slots, sum(other.last is not None for other in self._running.values()))

    def end(self, number: int, now: float, is_over: bool = True) -> None:
        """Trial ``number`` is no longer at work; one that is not over is gone on with later."""
        trial = self._running.pop(number)
        if is_over:
            self.ended += 1
            self._behind += trial.weight
        if trial.first is None or trial.last is None or not trial.is_through:
            return
        self._begins.append(trial.begin or 0.0)
        if trial.pace is not None:
            self._paces.append(trial.pace / trial.weight)
            self._tails.append(now - trial.last[1] - trial.pace * (trial.epochs - trial.last[0]))
        # what an earlier launch has trained took no time of this one
        before = (trial.pace or trial.first[1] - trial.begun) * (trial.first[0] - 1)
        self._main.append((now - trial.begun + before - self._begins[-1]) / trial.weight)

    def left(self, now: float) -> float | None:
        """Seconds left; None while nothing tells."""
        main = self._one()
        if main is None:
            return None
        ends = [self._rest(trial, main, now) for trial in self._running.values()]
        ends += [0.0] * (self._slots - len(ends))
        heapq.heapify(ends)
        waiting = self.planned - self.ended - len(self._running)
        # the weights of all add up to their number
        weights = self.planned - self._behind - sum(trial.weight for trial in self._running.values())
        each = self._before() + main * max(0.0, weights) / max(1, waiting)
        # each trial that waits takes the place of the one that ends first
        for _ in range(waiting):
            heapq.heapreplace(ends, ends[0] + each)
        return max(ends)

    def _one(self) -> float | None:
        """Seconds that one of weight 1 takes from its first epoch on.

        As those that ended have, or, while none has, as those at work will.
        """
        if self._main:
            return fmean(self._main[self._slots :] or self._main)
        found = [
            (trial.pace * trial.epochs + self._tail) / trial.weight
            for trial in self._running.values()
            if trial.pace is not None
        ]
        return fmean(found) if found else None

    def _before(self) -> float:
        """Seconds before its first epoch of a trial that waits, whatever its weight."""
        # the first one of each process waits for that to start
        if len(self._begins) > self._slots:
            return fmean(self._begins[self._slots :])
        at_work = [trial.begin for trial in self._running.values() if trial.begin is not None]
        return fmean(at_work or self._begins or [0.0])

    def _rest(self, trial: _Running, main: float, now: float) -> float:
        """Seconds that a trial at work still takes."""
        pace = trial.pace or (fmean(self._paces) * trial.weight if self._paces else None)
        if trial.last is None or pace is None:
            return max(0.0, self._before() + main * trial.weight - (now - trial.begun))
        tail = fmean(self._tails) if self._tails else self._tail
        return max(0.0, pace * (trial.epochs - trial.last[0]) + tail - (now - trial.last[1]))
