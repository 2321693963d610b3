"""How long a study still takes, judged by the epochs and trials that were seen.

A trial takes a while to begin, its epochs, and a while to end (the last epoch measures more, and what it found is
sent). While none has ended, the epochs seen tell; then the trials that have. Time in which no trial is at work, as Ray
takes to start, tells nothing.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from statistics import fmean


@dataclass
class _Running:
    """A trial at work: when it began, and the first and the last epoch that was told, each with its time.

    The very last of its epochs, which takes longer than others, is no ``last``, but shows that it ``is_through``.
    """

    begun: float
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

    def __init__(self) -> None:
        #: trials in all, and those that have ended
        self.planned = self.ended = 0
        self._running: dict[int, _Running] = {}
        #: of trials that have ended: seconds of a whole one, an epoch, and beside its epochs before and after them
        self._whole: list[float] = []
        self._paces: list[float] = []
        self._begins: list[float] = []
        self._tails: list[float] = []
        #: trials at work at the same time, at most
        self._slots = 1

    def begin(self, number: int, now: float) -> None:
        """Trial ``number`` begins."""
        self._running[number] = _Running(now)

    def epoch(self, number: int, epoch: int, epochs: int, now: float) -> None:
        """Trial ``number`` has done ``epoch`` of ``epochs``; the first that it tells is the first that it trains."""
        trial = self._running[number]
        trial.epochs, trial.is_through = epochs, epoch == epochs
        if trial.last is None or epoch < epochs:
            trial.last = epoch, now
        trial.first = trial.first or trial.last
        # one may begin a moment before another ends, in its place
        self._slots = max(self._slots, sum(other.last is not None for other in self._running.values()))

    def end(self, number: int, now: float) -> None:
        """Trial ``number`` is no longer at work."""
        trial = self._running.pop(number)
        if trial.first is None or trial.last is None or not trial.is_through:
            return
        if trial.pace is not None:
            self._paces.append(trial.pace)
            self._begins.append(trial.begin or 0.0)
            self._tails.append(now - trial.last[1] - trial.pace * (trial.epochs - trial.last[0]))
        # what an earlier launch has trained took no time of this one
        before = (trial.pace or trial.first[1] - trial.begun) * (trial.first[0] - 1)
        self._whole.append(now - trial.begun + before)

    def left(self, now: float) -> float | None:
        """Seconds left; None while nothing tells."""
        whole = self._one()
        if whole is None:
            return None
        ends = [self._rest(trial, whole, now) for trial in self._running.values()]
        ends += [0.0] * (self._slots - len(ends))
        heapq.heapify(ends)
        # each trial that waits takes the place of the one that ends first
        for _ in range(self.planned - self.ended - len(self._running)):
            heapq.heapreplace(ends, ends[0] + whole)
        return max(ends)

    def _one(self) -> float | None:
        """Seconds that a trial takes: as those that ended have, or, while none has, as those at work will."""
        if self._whole:
            # the first one of each process waits for that to start
            later = self._whole[self._slots :]
            return fmean(later) if later else max(0.0, fmean(self._whole) - self._spared())
        found = []
        for trial in self._running.values():
            pace = trial.pace
            if pace is not None:
                found.append((trial.begin or 0.0) + pace * trial.epochs)
        return fmean(found) if found else None

    def _spared(self) -> float:
        """Seconds by which the trials at work began faster than those that ended."""
        begins = [trial.begin for trial in self._running.values() if trial.begin is not None]
        return fmean(self._begins) - fmean(begins) if begins and self._begins else 0.0

    def _rest(self, trial: _Running, whole: float, now: float) -> float:
        """Seconds that a trial at work still takes."""
        pace = trial.pace or (fmean(self._paces) if self._paces else None)
        if trial.last is None or pace is None:
            return max(0.0, whole - (now - trial.begun))
        tail = fmean(self._tails) if self._tails else 0.0
        return max(0.0, pace * (trial.epochs - trial.last[0]) + tail - (now - trial.last[1]))
