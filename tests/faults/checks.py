"""What must hold of a study after any fault: nothing lost, twice or left open, every number as if undisturbed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import numpy as np
import optuna
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from analysis import schema
from analysis.runs import Study
from study.file import plan
from study.file.spec import StudySpec
from study.launch import snapshots
from study.record.trials import CRITERION, HYPERPARAMETER_VALUES, REASON
from trainables.assignment import Assignment
from trainables.storage import Folder
from trainables.trainable import CHECKPOINT, place
from trainables.training import Training
from trainables.trial import Trial


def check_study(
    spec: StudySpec, tracking_uri: str, optuna_uri: str, storage: Folder, failed: Mapping[int, str] | None = None
) -> str:
    """Compare what Tune, Optuna and MLflow hold with each other and with a training that nothing disturbs.

    ``failed`` gives the reason of each trial that was to fail, whose trajectory must be the beginning of the
    undisturbed one. ``AssertionError`` at the first difference; what was compared, in words.
    """
    failed = failed or {}
    trials = _check_optuna(spec, optuna_uri, failed)
    _check_files(spec, storage / spec.name, trials, failed)
    rows = _check_tracking(spec, tracking_uri, trials, failed)
    ended = f"{len(trials) - len(failed)} done" + (f", {len(failed)} failed" if failed else "")
    return f"{ended}, {rows} rows"


def _check_optuna(spec: StudySpec, uri: str, failed: Mapping[int, str]) -> dict[int, Trial]:
    """Each planned trial once and ended, none waiting; the trials by number."""
    study = optuna.load_study(study_name=spec.name, storage=uri)
    assert [attempt.number for attempt in study.trials] == list(range(plan.planned(spec)))
    planned, points = {}, set()
    for attempt in study.trials:
        held = attempt.user_attrs
        assert attempt.state.name == ("FAIL" if attempt.number in failed else "COMPLETE"), attempt
        assert held.get(REASON) == failed.get(attempt.number)
        trial = plan.trial_for(spec, held[CRITERION], held[HYPERPARAMETER_VALUES])
        points.add(plan.label(trial.criterion, trial.hyperparameters))
        planned[attempt.number] = trial
    assert len(points) == len(planned)
    return planned


def _check_files(spec: StudySpec, folder: Folder, trials: Mapping[int, Trial], failed: Mapping[int, str]) -> None:
    """One snapshot of Tune's, with each trial once; one checkpoint a trial, and nothing half-written."""
    tune = folder / snapshots.TUNE
    (name,) = [name for name in tune.names() if name.startswith("experiment_state")]
    states = [json.loads(row[0]) for row in json.loads(tune.read(name) or b"")["trial_data"]]
    ended = sorted((state["config"]["number"], state["status"]) for state in states)
    assert ended == [(number, "ERROR" if number in failed else "TERMINATED") for number in sorted(trials)]
    assert (folder / "trials").names() == sorted(map(str, trials))
    for number, trial in trials.items():
        here = place(folder, Assignment(number, "grid", trial))
        assert set(here.names()) <= {CHECKPOINT, "lock"}
        with here.reading(CHECKPOINT) as file:
            checkpoint = torch.load(file, weights_only=True)
        assert checkpoint["finished"] == (number not in failed)


def _check_tracking(spec: StudySpec, uri: str, trials: Mapping[int, Trial], failed: Mapping[int, str]) -> int:
    """Each run once and ended, each (metric, epoch) once with the value of an undisturbed training; how many."""
    torch.set_num_threads(1)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(spec.name)
    assert experiment is not None
    runs = {_key(run): run for run in client.search_runs([experiment.experiment_id], max_results=1000)}
    assert Counter(client.search_runs([experiment.experiment_id], max_results=1000)).total() == len(runs)
    seeds = (None, *spec.seeds)
    assert set(runs) == {(None, None)} | {(number, seed) for number in trials for seed in seeds}
    assert runs[None, None].info.status == ("FAILED" if failed else "FINISHED")
    frame = Study.open(uri, spec.name).whole.frame
    compared = 0
    for number, trial in trials.items():
        records = list(Training(trial).run())
        for column, seed in enumerate((*spec.seeds, None)):
            run = runs[number, seed]
            assert run.info.status == ("FAILED" if number in failed else "FINISHED")
            assert run.data.tags.get(schema.REASON) == failed.get(number)
            rows = sorted(
                (row.step, name, row.value)
                for name in run.data.metrics
                for row in client.get_metric_history(run.info.run_id, name)
                if not name.startswith(schema.STANDARD_ERROR)
            )
            wanted = sorted(
                (record.epoch, name, sum(values) / len(values) if seed is None else values[column])
                for record in records
                for name, values in record.metrics.items()
            )
            np.testing.assert_equal(rows, wanted[: len(rows)] if number in failed else wanted)
            compared += len(rows)
            if number not in failed:
                kept = [file.path for file in client.list_artifacts(run.info.run_id)]
                assert kept == ([schema.TRAJECTORIES, schema.WEIGHTS] if seed is None else [schema.ARRAYS])
            if seed is not None:
                own = frame[(frame["trial"] == number) & (frame["seed"] == seed)]
                read = sorted(zip(own["epoch"], own["metric"], own["value"], strict=True))
                # what a trial that failed had sent last may be an epoch more or less than its rows
                assert len(read) >= len(rows)
                np.testing.assert_equal(read, wanted[: len(read)])
    return compared


def _key(run: Run) -> tuple[int | None, int | None]:
    number, seed = run.data.tags.get(schema.TRIAL), run.data.tags.get(schema.SEED)
    return None if number is None else int(number), None if seed is None else int(seed)
