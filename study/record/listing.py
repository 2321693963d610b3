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
    """The best feasible searched point: the objective's value and its label; empty where there is none yet."""
    from study.record import trials

    if spec.search is None:
        return ""
    held, sign = trials.attempts(study), -1 if spec.search.objective.direction == "maximize" else 1
    chosen = [held[number] for number in trials.choose(spec, study).values()]
    best = min(chosen, key=lambda trial: sign * float(trial.value or 0), default=None)
    if best is None:
        return ""
    return f"{spec.search.objective.metric} {best.value:.4g}: {next(shortened(trials.named(best)))}"
