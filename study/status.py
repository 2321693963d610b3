"""How far a study is: done, running, failed and missing, by trial and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from study import plan, sweep, tracking
from study.home import Home

State = Literal["done", "running", "failed", "missing"]


@dataclass(frozen=True)
class TrialStatus:
    """One planned trial; ``number`` is None while a search has not proposed it.

    ``seeds`` are the replicas' states by what the tracking holds: a trial that is done in Optuna, but whose runs
    are not all there, shows it here.
    """

    number: int | None
    role: str
    label: str
    state: State
    reason: str | None
    seeds: Mapping[int, State]
    #: epochs that every replica has in the tracking store
    epoch: int
    means: Mapping[str, float]


@dataclass(frozen=True)
class StudyStatus:
    """A study: whether some process runs it, where it is tracked, and its planned trials."""

    name: str
    running: bool
    tracking_uri: str
    epochs: int
    trials: tuple[TrialStatus, ...]

    def count(self, state: State) -> int:
        """How many trials are in ``state``."""
        return sum(trial.state == state for trial in self.trials)

    def count_replicas(self, state: State) -> int:
        """How many replicas, over all planned trials, are in ``state``."""
        return sum(each == state for trial in self.trials for each in trial.seeds.values())


def read(home: Home, name: str) -> StudyStatus:
    """The status of the study ``name``; `UserError` for an unknown study or a server that does not answer.

    A trial that was interrupted, and that no process trains any more, is missing: a resume goes on with it.
    """
    spec = sweep.load_spec(home, name)
    # optuna takes a second to import
    from study import search

    running, epochs = sweep.is_running(home, name), plan.recipe(spec).epochs
    uri = home.tracking_uri(spec)
    runs = tracking.read_runs(uri, name)
    study = search.load_study(spec, home)
    trials = []
    for number, trial in (search.attempts(study) if study else {}).items():
        attributes = trial.user_attrs
        criterion, values = attributes[search.CRITERION], attributes.get(search.HYPERPARAMETER_VALUES)
        ends: dict[str, State] = {"COMPLETE": "done", "PRUNED": "done", "FAIL": "failed"}
        state = ends.get(trial.state.name, "running" if running and trial.state.name == "RUNNING" else "missing")
        held = {seed: runs.get((number, seed), ("", 0)) for seed in spec.seeds}
        trials.append(
            TrialStatus(
                number=number,
                role=attributes[search.ROLE],
                label=criterion if values is None else plan.label(criterion, values),
                state=state,
                reason=attributes.get(search.REASON),
                seeds={seed: _replica(status, running) for seed, (status, _) in held.items()},
                epoch=min(epochs if epoch is None else epoch for _, epoch in held.values()),
                means={key: value for key, value in attributes.get(search.MEANS, {}).items() if value is not None},
            )
        )
    nothing: dict[int, State] = dict.fromkeys(spec.seeds, "missing")
    for point in search.absent_points(spec, study) if study else plan.fixed_points(spec):
        label = plan.label(point.trial.criterion, point.trial.hyperparameters)
        trials.append(TrialStatus(None, point.role, label, "missing", None, nothing, 0, {}))
    unproposed = TrialStatus(None, "search", "not proposed yet", "missing", None, nothing, 0, {})
    trials += [unproposed] * (plan.planned(spec) - len(trials))
    return StudyStatus(name, running, uri, epochs, tuple(trials))


def _replica(status: str, running: bool) -> State:
    states: dict[str, State] = {"FINISHED": "done", "FAILED": "failed", "RUNNING": "running" if running else "missing"}
    return states.get(status, "missing")
