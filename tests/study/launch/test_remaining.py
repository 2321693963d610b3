"""How long a study still takes, against how long simulated ones took."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from study.launch.cost import Cost, Kind
from study.launch.remaining import Remaining
from trainables.trial import Trial

#: seconds that Ray takes to start
RAY = 9.0


def simulated(
    trials: int,
    slots: int,
    epochs: int,
    pace: float,
    start: float,
    actor: float,
    tail: float,
    noise: float,
    first: int = 1,
    points: int = 1,
    weights: Sequence[float] = (1.0,),
) -> tuple[list[tuple[float, str, int, int]], float]:
    """(time, event, trial, epoch) as a study tells them, at most one epoch a second and trial, and when it has ended.

    A trial begins in ``start`` s, on a new actor ``actor`` s later, and ends ``tail`` s after its last epoch; ``first``
    is the first epoch that the first trial still has to train. So many ``points`` are trained at once in a slot. Trial
    i takes ``weights[i]`` times as long, and so on from their first.
    """
    random = np.random.default_rng(0)
    free, told = [(RAY, slot) for slot in range(slots)], []
    for begun in range(0, trials, points):
        group = range(begun, min(trials, begun + points))
        now, _ = heapq.heappop(free)
        told += [(now, "begin", number, 0) for number in group]
        weight = weights[begun % len(weights)]
        now += start + (actor if begun < slots * points else 0.0)
        shown = -np.inf
        for epoch in range(first if begun == 0 else 1, epochs + 1):
            now += weight * pace * random.uniform(1 - noise, 1 + noise)
            if now - shown >= 1.0 and epoch < epochs:
                told += [(now, "epoch", number, epoch) for number in group]
                shown = now
        now += tail
        told += [(now - 0.1 * tail, "epoch", number, epochs) for number in group]
        told += [(now, "end", number, 0) for number in group]
        heapq.heappush(free, (now, begun))
    return sorted(told, key=lambda event: (event[0], event[1] == "begin")), max(now for now, _ in free)


def predicted(weights: Sequence[float], tail: float = 0.0) -> Cost:
    """A cost of a trial of each weight, of a criterion of its own."""
    kinds = [
        Kind(Trial("hyperspectral", f"kind-{place}", (0,)), 1, fixed=tail, pace=weight, epochs=1)
        for place, weight in enumerate(weights)
    ]
    return Cost(0, 0, 1, 0, 0, 0.0, kinds)


@pytest.mark.parametrize(
    "study",
    [
        {"trials": 12, "slots": 1, "epochs": 20, "pace": 0.4, "start": 0.5, "actor": 2.0, "tail": 1.0, "noise": 0.2},
        {"trials": 12, "slots": 4, "epochs": 20, "pace": 3.0, "start": 2.0, "actor": 2.0, "tail": 6.0, "noise": 0.1},
        {"trials": 9, "slots": 2, "epochs": 200, "pace": 0.05, "start": 0.3, "actor": 1.5, "tail": 1.0, "noise": 0.3},
        {"trials": 2, "slots": 1, "epochs": 100, "pace": 0.5, "start": 1.0, "actor": 2.0, "tail": 1.5, "noise": 0.2},
        {"trials": 3, "slots": 4, "epochs": 100, "pace": 0.5, "start": 1.0, "actor": 2.0, "tail": 1.5, "noise": 0.2},
        {"trials": 30, "slots": 3, "epochs": 40, "pace": 0.1, "start": 0.2, "actor": 1.5, "tail": 0.2, "noise": 0.2},
        {
            "trials": 6,
            "slots": 2,
            "epochs": 50,
            "pace": 1.0,
            "start": 1.0,
            "actor": 2,
            "tail": 3,
            "noise": 0.1,
            "first": 40,
        },
        {
            "trials": 24,
            "slots": 2,
            "epochs": 20,
            "pace": 0.5,
            "start": 0.5,
            "actor": 2.0,
            "tail": 1.0,
            "noise": 0.2,
            "points": 3,
        },
        # fast trials first, slow ones later
        {
            "trials": 4,
            "slots": 2,
            "epochs": 60,
            "pace": 0.5,
            "start": 0.5,
            "actor": 2.0,
            "tail": 1.0,
            "noise": 0.1,
            "weights": (0.6, 0.6, 1.4, 1.4),
        },
        {
            "trials": 12,
            "slots": 2,
            "epochs": 40,
            "pace": 0.5,
            "start": 0.5,
            "actor": 2.0,
            "tail": 1.0,
            "noise": 0.1,
            "weights": (0.4, 0.5, 0.6, 0.6, 0.7, 0.7, 1.0, 1.1, 1.4, 1.5, 1.7, 1.8),
        },
    ],
)
def test_from_a_third_of_the_way_on_it_is_within_15_per_cent(study: dict[str, Any]) -> None:
    told, whole = simulated(**study)
    weights = study.get("weights", (1.0,))
    remaining = Remaining(predicted(weights))
    remaining.planned = int(study["trials"])
    odd = []
    for now, event, number, epoch in told:
        if event == "begin":
            remaining.begin(number, now, f"kind-{number % len(weights)} λ=1")
        elif event == "epoch":
            remaining.epoch(number, epoch, int(study["epochs"]), now)
        else:
            remaining.end(number, now)
        left = remaining.left(now)
        if now >= RAY + (whole - RAY) / 3:
            assert left is not None
            # the last seconds are rounded
            if abs(left - (whole - now)) > max(0.15 * (whole - now), 0.03 * whole):
                odd.append((now, left, whole - now))
    assert odd == []


def test_what_comes_after_the_epochs_may_be_known_before() -> None:
    remaining = Remaining(predicted((1.0,), tail=5.0))
    remaining.planned = 2
    remaining.begin(0, 0.0)
    remaining.epoch(0, 1, 10, 1.0)
    remaining.epoch(0, 3, 10, 3.0)
    # seven epochs of 1 s and 5 s, and a trial of ten and 5 s
    assert remaining.left(3.0) == pytest.approx(27.0)


def test_trials_of_earlier_launches_tell_nothing() -> None:
    remaining = Remaining()
    remaining.planned = 3
    for number in (0, 1):
        remaining.begin(number, 5.0)
        remaining.end(number, 5.0)
    assert remaining.left(5.0) is None
    remaining.begin(2, 6.0)
    remaining.epoch(2, 1, 10, 8.0)
    assert remaining.left(8.0) is None
    remaining.epoch(2, 3, 10, 12.0)
    assert remaining.left(12.0) == pytest.approx(14.0)
    # nothing is told meanwhile
    assert remaining.left(15.0) == pytest.approx(11.0)
    # one that is interrupted is gone on with later
    remaining.end(2, 16.0, is_over=False)
    assert remaining.left(16.0) is None
