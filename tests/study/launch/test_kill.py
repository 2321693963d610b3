"""``kill -9`` of the driver, of a trial's worker, and of both, at seeded random moments; then resume to the end."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import torch
from mlflow import MlflowClient

from analysis import schema
from analysis.legacy import HYPERPARAMETERS
from study.file.plan import trial_for
from study.file.spec import StudySpec
from study.home import Home
from tests.launches import Launch, epochs_saved, require_undisturbed
from trainables.training import Training

pytestmark = pytest.mark.ray

#: two baselines and two searched trials, two at a time: an epoch waits a little, so that a kill finds it at work
SPEC = StudySpec.model_validate(
    {
        "name": "s",
        "benchmark": {"name": "tiny:Tiny", "pause": 0.1},
        "criteria": ["ce", "ls"],
        "search": {
            "criteria": {"fierce": {"lambda": {"low": 0.01, "high": 10, "log": True}}},
            "trials": 2,
            "objective": {"label_free": True},
        },
        "seeds": [1, 4],
        "training": {"epochs": 10},
        "concurrency": 2,
        "max_failures": 2,
    }
)
TRIALS, EPOCHS = 4, 10
#: a driver that takes its head for lost after seconds in place of twenty
IMPATIENT = "from study.launch import cluster\ncluster.LOOK_SECONDS, cluster.LOST_SECONDS = 1.0, 4.0\n"


def workers(home: Home) -> dict[int, int]:
    """Trial -> the process that holds its lock."""
    holding = {}
    for folder in Path("/proc").glob("[0-9]*/fd"):
        # processes and their files come and go while one looks
        try:
            targets = [entry.readlink() for entry in folder.iterdir()]
        except OSError:
            continue
        for path in targets:
            if path.name == "lock" and path.parent.parent == home.study("s") / "trials":
                holding[int(path.parent.name)] = int(folder.parent.name)
    return holding


@pytest.fixture
def launches() -> Iterator[list[Launch]]:
    """Launches that the test makes; none of them outlives it."""
    made: list[Launch] = []
    yield made
    for launch in made:
        launch.kill()


@pytest.mark.thorough
def test_a_study_survives_kills_of_its_driver_and_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launches: list[Launch]
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    home, chance = Home(tmp_path), random.Random(20)
    first, second, third = sorted(chance.sample(range(1, TRIALS * EPOCHS - 8), 3))

    launches.append(launch := Launch(home, SPEC))
    # a worker: its trial is taken up again by another one
    launch.until(lambda: epochs_saved(home, SPEC) >= first and bool(workers(home)))
    victim = chance.choice(sorted(workers(home).values()))
    os.kill(victim, signal.SIGKILL)
    # the driver; its Ray dies with it, a worker perhaps a moment later
    launch.until(lambda: epochs_saved(home, SPEC) >= second)
    launch.kill()

    launches.append(launch := Launch(home, SPEC))
    launch.until(lambda: epochs_saved(home, SPEC) >= third and bool(workers(home)))
    for worker in workers(home).values():
        os.kill(worker, signal.SIGKILL)
    launch.kill()

    launches.append(launch := Launch(home, SPEC))
    assert launch.program.ended(300)[0] == 0, launch.said()
    assert f"Outcome(done={TRIALS}, failed=0, missing=0, interrupted=False)" in launch.said()
    assert not workers(home)
    check_optuna(home)
    check_tune(home)
    check_tracking(home)


def check_optuna(home: Home) -> None:
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{home.root / 'optuna.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * TRIALS
    points = [(trial.user_attrs["criterion"], str(trial.user_attrs["hyperparameters"])) for trial in study.trials]
    assert len(set(points)) == TRIALS
    assert [criterion for criterion, _ in points] == ["ce", "ls", "fierce", "fierce"]


def check_tune(home: Home) -> None:
    (path,) = (home.study("s") / "tune").glob("experiment_state-*.json")
    states = [json.loads(row[0]) for row in json.loads(path.read_text(encoding="utf-8"))["trial_data"]]
    ended = [(state["config"]["number"], state["status"]) for state in states]
    assert ended == [(number, "TERMINATED") for number in range(TRIALS)]


def check_tracking(home: Home) -> None:
    """Each run once and FINISHED, each (metric, epoch) once, every number that of an undisturbed training."""
    torch.set_num_threads(1)
    client = MlflowClient(home.tracking_uri())
    experiment = client.get_experiment_by_name("s")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert Counter(run.data.tags[schema.LEVEL] for run in runs) == {"study": 1, "trial": TRIALS, "seed": 2 * TRIALS}
    keyed = {(run.data.tags.get(schema.TRIAL), run.data.tags.get(schema.SEED)): run for run in runs}
    assert len(keyed) == len(runs)
    for number in range(TRIALS):
        run = keyed[str(number), None]
        values = {name: float(run.data.params[name]) for name in HYPERPARAMETERS if name in run.data.params}
        trial = trial_for(SPEC, run.data.tags[schema.CRITERION], values)
        undisturbed = list(Training(trial).run())
        for column, seed in enumerate(trial.seeds):
            run = keyed[str(number), str(seed)]
            require_undisturbed(client, run, column, undisturbed)
            assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == [schema.ARRAYS]


def test_a_driver_that_lost_its_head_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launches: list[Launch]
) -> None:
    """Ray itself would end it without a word, and leave its runs RUNNING."""
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    home = Home(tmp_path)
    launches.append(launch := Launch(home, SPEC, first=IMPATIENT))
    launch.until(lambda: epochs_saved(home, SPEC) >= 1)
    children = (
        Path(f"/proc/{launch.program.pid}/task/{launch.program.pid}/children").read_text(encoding="utf-8").split()
    )
    (head,) = [
        int(child) for child in children if Path(f"/proc/{child}/comm").read_text(encoding="utf-8") == "gcs_server\n"
    ]
    os.kill(head, signal.SIGKILL)
    assert launch.program.ended(120)[0] == 2, launch.said()
    assert "was lost; bring it back and resume the study" in launch.said()
    assert "Traceback" not in launch.said()
    client = MlflowClient(home.tracking_uri())
    experiment = client.get_experiment_by_name("s")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert runs and "RUNNING" not in {run.info.status for run in runs}
