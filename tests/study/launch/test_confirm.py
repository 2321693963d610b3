"""A search that is confirmed, from start to end: killed while it confirms, resumed, and told the same everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from analysis import runs, schema
from analysis.runs import Study
from study.file.spec import StudySpec
from study.home import Home
from study.launch import parts, sweep
from study.record import status, trials
from tests.launches import Launch, require_undisturbed
from trainables.training import Training


def spec() -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": "s",
            "benchmark": {"name": "tiny:Tiny", "pause": 0.05},
            "criteria": ["ce"],
            "search": {
                "criteria": {"fierce": {"lambda": {"low": 0.1, "high": 10, "log": True}}},
                "trials": 2,
                "objective": {"metric": "entropy/features-validation", "direction": "maximize"},
                "confirm": 3,
            },
            "seeds": [1, 4],
            "concurrency": 1,
        }
    )


@pytest.mark.thorough
@pytest.mark.ray
def test_a_kill_while_the_choice_is_confirmed(ray_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    home, study = Home(tmp_path), spec()
    # ce, two points, and then ce and the better of these again
    launch = Launch(home, study)
    launch.until((home.study("s") / "trials" / "3" / "checkpoint.pt").is_file)
    launch.kill()
    outcome = sweep.run(study, home)
    assert (outcome.done, outcome.failed, outcome.missing) == (5, 0, 0)

    torch.set_num_threads(1)
    held = trials.load_study(study, home)
    assert held is not None
    roles = [trial.user_attrs[trials.ROLE] for trial in held.trials]
    assert roles == ["baseline", "search", "search", "confirm", "confirm"]
    values = {trial.number: trial.value for trial in held.trials}
    chosen = max((1, 2), key=lambda number: values[number])
    assert held.trials[4].user_attrs[trials.REPEATS] == chosen == held.best_trial.number

    client = MlflowClient(home.tracking_uri())
    experiment = client.get_experiment_by_name("s")
    assert experiment is not None
    tracked = client.search_runs([experiment.experiment_id], max_results=1000)
    for number in (3, 4):
        frozen = held.trials[number]
        assigned = parts.assigned(study, held, frozen, frozen.user_attrs[trials.HYPERPARAMETER_VALUES])
        assert assigned.trial.seeds == (5, 6, 7)
        records = list(Training(assigned.trial).run())
        of_trial = [run for run in tracked if run.data.tags.get(schema.TRIAL) == str(number)]
        (own,) = [run for run in of_trial if run.data.tags[schema.LEVEL] == "trial"]
        assert own.data.tags[schema.ROLE] == "confirm"
        assert own.data.tags[schema.REPEATS] == str([0, chosen][number - 3])
        by_seed = {int(run.data.tags[schema.SEED]): run for run in of_trial if schema.SEED in run.data.tags}
        for column, seed in enumerate(assigned.trial.seeds):
            require_undisturbed(client, by_seed[seed], column, records)

    state = status.read(home, "s")
    assert [(row.role, tuple(row.seeds)) for row in state.trials[2:]] == [
        ("search", (1, 4)),
        ("confirm", (5, 6, 7)),
        ("confirm", (5, 6, 7)),
    ]
    assert state.count("done") == 5 and state.count_replicas("done") == 12
    exported = runs.load(home.tracking_uri(), "s")
    assert set(exported.loc[exported["trial"] == 4, "seed"]) == {5, 6, 7}
    whole = Study.open(home.tracking_uri(), "s")
    assert whole.planned_trials == 5 and whole.metric("entropy/features").heldout
    assert whole.confirmation.parts[4] == runs.Parts(
        sizes={"train": 120, "validation": 40, "heldout": 40}, redrawn=True
    )
