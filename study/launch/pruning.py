"""Which trials are stopped early."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler

from trainables.assignment import Assignment


class SearchedAlone(AsyncHyperBandScheduler):
    """ASHA, by which no trial that confirms a choice is stopped: it must be trained as long as what it repeats.

    Nor are seeds that are added to a trial which was trained to its end.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        given = Assignment.from_config(trial.config)
        if given.role == "confirm" or given.addition:
            return self.CONTINUE
        return str(super().on_trial_result(tune_controller, trial, result))
