"""How many points are worth training together (`trainables.points`), by steps and evaluations on a trial's own device.

Found once for a study, network, shape and device, and kept in the study's folder. Which trials may be together at all
is for whoever asks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

import torch

from trainables import criteria, kernel_choice, kernels, replay
from trainables.backbones import is_looped
from trainables.training import Training

if TYPE_CHECKING:
    from trainables.storage import Folder

log = logging.getLogger(__name__)

#: points that are tried at most; from one on, always twice as many
MOST = 16
#: how many times as fast a point must be among twice as many, for these to be worth it
WORTH = 1.1
#: each number's time is its fastest of so many steps, after the first, which allocates
ROUNDS = 4
#: epochs whose evaluations are timed, as often as each evaluator is due
EVALUATIONS = 4
#: seconds of computing that finding out may take
SECONDS = 20.0
#: folder of what was found, in a study's
FOUND = "points"


def settle(training: Training, study: Folder) -> int:
    """How many points like the trial of ``training``, itself among them, should be trained together.

    1 where its criterion takes nothing by replica, or where that is over sooner than it is timed.
    """
    taken, looped = criteria.find(training.trial.criterion).taken_by_replica(), is_looped(training.network)
    if not taken or looped or training.recipe.compile or kernel_choice.steps(training) < kernel_choice.FEW_STEPS:
        return 1
    folder, name = (
        study / FOUND,
        f"{kernel_choice.digest([training.trial.criterion, kernel_choice.key(training)])}.json",
    )
    with suppress(ValueError, KeyError, TypeError):
        return int(json.loads(folder.read(name) or b"")["points"])
    seconds = measured(training)
    best = worth(seconds)
    try:
        folder.write(name, json.dumps({"points": best, "seconds": seconds}).encode())
    except OSError as error:
        log.warning("how many points go together cannot be kept in %s (%s)", folder, error)
    return best


def worth(seconds: dict[int, float]) -> int:
    """The number of points to be trained together, by the ``seconds`` of so many, each twice the one before.

    >>> worth({1: 1.0, 2: 1.1, 4: 1.5, 8: 2.9})
    4
    """
    best = 1
    for count, taken in sorted(seconds.items()):
        if count > 1 and seconds[best] / best < WORTH * taken / count:
            break
        best = count
    return best


def measured(training: Training, limit: float = SECONDS) -> dict[int, float]:
    """Seconds of an epoch of 1, 2, 4, … points, as far as that is worth it and there are memory and time."""
    clock = kernels.stopwatch(training.device)
    found: dict[int, float] = {}
    spent, last, count = 0.0, 0.0, 1
    # twice as many take twice as long at the most
    while count <= MOST and spent + 2 * last <= limit:
        started = clock()
        try:
            found[count] = _epoch(training, count, clock)
        except (RuntimeError, MemoryError) as error:
            if not kernel_choice.out_of_memory(error):
                raise
            break
        finally:
            if training.device.type == "cuda":
                # what was tried is not what the trial will take
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
        last = clock() - started
        spent += last
        if worth(found) < count:
            break
        count *= 2
    return found


def _epoch(training: Training, count: int, clock: Callable[[], float]) -> float:
    """Seconds of an epoch of so many points, by a step and some evaluations of a training of their own."""
    trial, recipe = training.trial, training.recipe
    several = Training(replace(trial, seeds=trial.seeds * count), training.device, training.data.to("cpu"))
    several.compute_by(training.kernel)
    whole, all_batches = several.parts["train"], several.batches

    def seconds(act: Callable[[], object]) -> float:
        started = clock()
        act()
        return clock() - started

    # where steps are recorded, so many that most are replayed
    batches = 1 if several._replays is None else 2 * (replay.WARM + replay.LEAST)
    batches = min(batches, all_batches)
    several.parts["train"] = whole[:, : batches * recipe.batch_size]
    # one after another, as a trial goes through them: a step is recorded anew with each learning rate
    epochs = [place % recipe.epochs + 1 for place in range(ROUNDS + 1)]
    steps = [seconds(partial(several._train_epoch, epoch)) / batches for epoch in epochs][1:]
    several.parts["train"] = whole
    evaluations = []
    # the first draws and allocates; the last epoch's is another one
    for epoch in (1, *range(1, EVALUATIONS + 1)) if recipe.epochs > EVALUATIONS else ():
        several.epoch = epoch
        evaluations.append(seconds(several._evaluate))
    evaluation = fmean(evaluations[1:]) if evaluations else 0.0
    return min(steps) * all_batches + evaluation
