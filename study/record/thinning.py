"""Which points of a metric a seed's run holds, where the trial's artifact has them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from trainables.training import Record


class Thinning:
    """At most so many ``points`` of each metric, evenly apart, the last planned epoch always among them; or "all".

    What is kept follows from the epoch, the planned epochs and the metric's own cadence, so that a resume keeps the
    same points. A metric that is measured every so many epochs is first there at the epoch of that number.
    """

    def __init__(self, points: int | Literal["all"]) -> None:
        self.points = points
        #: planned epochs; all points are kept while they are not known
        self.epochs: int | None = None
        self._every: dict[str, int] = {}

    def see(self, records: Sequence[Record]) -> None:
        """Take further ``records``, from the first epoch on."""
        for record in records:
            for name in record.metrics:
                self._every.setdefault(name, record.epoch)

    def keeps(self, metric: str, epoch: int) -> bool:
        """Whether a seed's run holds the metric's value at that epoch."""
        if self.points == "all" or self.epochs is None or not self.points:
            return self.points != 0
        every = self._every[metric]
        return epoch == self.epochs or epoch % (every * math.ceil(self.epochs / every / self.points)) == 0
