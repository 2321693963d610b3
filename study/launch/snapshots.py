"""Ray Tune's snapshots of a study: after each launch they are made one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trainables.assignment import DECLARED, POINTS
from trainables.storage import Folder

#: Ray Tune's folder in the study's
TUNE = "tune"
#: the one snapshot that is left of all launches; Tune's own are named by the second, and the last name is the newest
WHOLE = "experiment_state-whole.json"


def lighten(trial: Any) -> None:
    """Have Tune forget what it keeps of every metric of a trial that has ended, most of what its snapshots hold.

    Optuna and MLflow have it; of a hundred thousand trials it would be gigabytes, written again and again.
    """
    kept = trial.run_metadata
    kept.metric_analysis, kept.metric_n_steps = {}, {}
    kept.last_result = {
        name: value
        for name, value in kept.last_result.items()
        if not name.startswith(("mean/", "values/")) and name not in (DECLARED, POINTS)
    }


def settle(folder: Folder, ended: set[int]) -> set[int]:
    """Make one snapshot of all in Tune's folder, with each of the ``ended`` trials that they hold once.

    A trial in parts has a row for each, and so has each of several that were trained together. Rows of trials that go
    on in a later launch are dropped, and so are those of attempts that were followed by another one and a snapshot that
    a kill left half-written. Returns the numbers of the trials that the snapshot holds whole.
    """
    rows: dict[tuple[int, int, int], list[str]] = {}
    begun: dict[tuple[int, int, int], tuple[int, float]] = {}
    counts: dict[int, dict[int, int]] = {}
    newest: dict[str, Any] = {}
    launches = [
        name
        for name in folder.names()
        if name.startswith("experiment_state-") and name.endswith(".json") and name != WHOLE
    ]
    for launch, name in enumerate([WHOLE, *launches]):
        try:
            newest = json.loads(folder.read(name) or b"")
        except ValueError:
            continue
        for row in newest["trial_data"]:
            state = json.loads(row[0])
            # Tune writes attempts of one launch in any order
            start = launch, json.loads(row[1]).get("start_time") or 0.0
            for config in state["config"].get(POINTS, [state["config"]]):
                number, (position, count) = config["number"], config.get("shard", (0, 1))
                addition = config.get("addition", 0)
                key = number, addition, position
                is_last = start >= begun.get(key, start)
                if number in ended and state["status"] in ("TERMINATED", "ERROR") and is_last:
                    rows[key], begun[key] = _essence(state, config, start[1]), start
                    counts.setdefault(number, {})[addition] = count
    if newest:
        folder.write(WHOLE, json.dumps({**newest, "trial_data": [rows[key] for key in sorted(rows)]}).encode())
    for name in launches:
        folder.remove(name)
    return {
        number
        for number, found in counts.items()
        if all((number, addition, position) in rows for addition, count in found.items() for position in range(count))
    }


def _essence(state: Mapping[str, Any], config: Mapping[str, Any], start_time: float) -> list[str]:
    """A row with no more of a trial, which the ``config`` is of, than is read here."""
    config = {name: config[name] for name in ("number", "shard", "addition") if name in config}
    return [
        json.dumps({"trial_id": state.get("trial_id"), "status": state["status"], "config": config}),
        json.dumps({"start_time": start_time}),
    ]
