"""The studies of a home, each in a line: how far it is, when it last moved, and its best point so far."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from analysis.numbers import shortened
from study.errors import UserError
from study.home import SPEC, Home
from study.record import files

if TYPE_CHECKING:
    import optuna

    from study.file.spec import StudySpec


@dataclass(frozen=True)
class Summary:
    """A study: ``state`` is running, done, failed, interrupted, not begun, or unknown with the reason in ``best``.

    ``date`` is that of its last trial's start or end, in this machine's time; ``planned`` trials are None where they
    cannot be told, since a criterion or a benchmark is not at hand.
    """

    name: str
    state: str
    date: datetime
    done: int = 0
    planned: int | None = None
    best: str = ""


def summary(home: Home, name: str) -> Summary:
    """What Optuna's database and the home hold of the study ``name``; MLflow is not asked."""
    touched = datetime.fromtimestamp((home.study(name) / SPEC).stat().st_mtime)
    try:
        spec = files.load_spec(home, name)
        is_running = files.is_running(home, name, spec)
    except UserError as error:
        return Summary(name, "unknown", touched, best=str(error))
    # optuna takes a second to import
    from study.record import status, trials

    study = status.optuna_study(spec, home)
    if study is None:
        return Summary(name, "running" if is_running else "not begun", touched)
    attempts = trials.attempts(study).values()
    states = [trial.state.name for trial in attempts]
    done, failed = sum(states.count(state) for state in ("COMPLETE", "PRUNED")), states.count("FAIL")
    done -= len(trials.lacking_seeds(spec, study))
    times = [time for trial in attempts for time in (trial.datetime_start, trial.datetime_complete) if time]
    try:
        planned = trials.planned_trials(spec, study)
    # a criterion or benchmark of one's own that is not importable here
    except (LookupError, ValueError):
        planned = None
    if is_running:
        state = "running"
    elif planned is None:
        state = "unknown"
    else:
        state = "interrupted" if done + failed < planned else "failed" if failed else "done"
    return Summary(name, state, max(times, default=touched), done, planned, _best(spec, study))


def _best(spec: StudySpec, study: optuna.Study) -> str:
    """What a search went by, else the benchmark's main metric: the best trial's value and label; empty without one.

    Of a search the best feasible point; else the best of all trials that are done, save those that read fine labels.
    """
    from study.record import status, trials

    held = trials.attempts(study)
    if spec.search is not None:
        metric, better = spec.search.objective.metric, spec.search.objective.direction
        values = {number: float(held[number].value or 0) for number in trials.choose(spec, study).values()}
    else:
        # an earlier release kept no main metric; the coarse accuracy is measured of every benchmark
        metric, better = study.user_attrs.get(trials.MAIN_METRIC, (status.PLAIN[0], "higher"))
        values = {
            number: trial.user_attrs[trials.MEANS][metric]
            for number, trial in held.items()
            if trial.state.name == "COMPLETE" and not trial.user_attrs.get(trials.READS_FINE)
            if trial.user_attrs.get(trials.MEANS, {}).get(metric) is not None
        }
    if not values:
        return ""
    best = (min if better in ("lower", "minimize") else max)(values, key=values.__getitem__)
    return f"{metric} {values[best]:.4g}: {next(shortened(trials.named(held[best])))}"
