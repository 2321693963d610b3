"""Which trials are stopped early, by Ray Tune's schedulers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from study.file import plan
from trainables.assignment import Assignment

if TYPE_CHECKING:
    from study.file.search import Pruner
    from study.file.spec import StudySpec


class _SearchedAlone(TrialScheduler):
    """A scheduler that neither stops nor counts baselines and what confirms a choice: they are trained to their end.

    Nor does it with seeds that are added to a trial which was trained to its end.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if not _is_searched(trial):
            return self.CONTINUE
        return str(super().on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        # one that was interrupted may have told of no metric
        if _is_searched(trial) and self._metric in result:
            super().on_trial_complete(tune_controller, trial, result)


def _is_searched(trial: Any) -> bool:
    # a pruner and several points of one trial exclude each other
    given = Assignment.from_config(trial.config)
    return given.role == "search" and not given.addition


class SuccessiveHalving(_SearchedAlone, AsyncHyperBandScheduler):
    """ASHA, or with several brackets asynchronous Hyperband (Li et al. 2020), of the searched trials alone."""


class MedianStopping(_SearchedAlone, MedianStoppingRule):
    """The median stopping rule of the searched trials alone."""


def scheduler(spec: StudySpec) -> Any:
    """The study's scheduler: one that stops nothing, or that of its pruner."""
    if spec.search is None or spec.search.pruner is None:
        return FIFOScheduler()
    pruner, objective = spec.search.pruner, spec.search.objective
    common: dict[str, Any] = {
        "time_attr": "epoch",
        "metric": f"mean/{objective.metric}",
        "mode": "min" if objective.direction == "minimize" else "max",
        "grace_period": pruner.grace_period,
    }
    if pruner.name == "median":
        # a trial is never put aside for another, which would train it again from its checkpoint
        return MedianStopping(**common, min_time_slice=math.inf)  # type: ignore[arg-type]
    most = plan.most_epochs(spec)
    assert pruner.reduction_factor is not None
    return SuccessiveHalving(
        **common, max_t=most, reduction_factor=pruner.reduction_factor, brackets=brackets(pruner, most)
    )


def brackets(pruner: Pruner, epochs: int) -> int:
    """How many brackets ``pruner`` has: those it is given, else for Hyperband as many as begin before ``epochs``."""
    assert pruner.reduction_factor is not None
    if pruner.brackets is not None:
        return pruner.brackets
    begins, count = pruner.grace_period, 0
    while begins < epochs:
        begins, count = begins * pruner.reduction_factor, count + 1
    return count
