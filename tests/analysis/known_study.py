"""A small study in a real MLflow store, with values whose means, differences and correlations are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from analysis import schema

EPOCHS = 6
SEEDS = (0, 1, 2, 3)
#: the seeds' deviations from their mean; they sum to zero
DEVIATIONS = {0: -0.003, 1: 0.001, 2: 0.0, 3: 0.002}
#: those of further seeds, where a store has them; they sum to zero as well
MORE = {4: -0.001, 5: 0.003, 6: -0.002, 7: 0.0005, 8: 0.0015, 9: -0.002}
#: by how much of that each trial's seeds deviate, so that paired differences vary
FACTORS = (1.0, 0.5, 0.8, 0.6, 0.7, 0.9, 1.1)

#: metric -> mean over seeds at the last epoch, by trial number
LEVELS = {
    "mse/raw": (0.102, 0.082, 0.056, 0.091, 0.071, 0.070, 0.058),
    "rmse/raw": (0.319, 0.286, 0.237, 0.302, 0.266, 0.265, 0.241),
    "mse/transfer": (0.078, 0.014, 0.002, 0.003, 0.0035, 0.004, 0.0021),
    "mse/transfer-min": (0.028, 0.012, 0.0018, 0.0029, 0.0031, 0.0037, 0.002),
    "mse/transfer-standardized": (0.0012, 0.0011, 0.0018, 0.0009, 0.0031, 0.0019, 0.0018),
    "mse/transfer-least-squares": (0.0008, 0.0007, 0.0014, 0.0009, 0.0026, 0.0016, 0.0014),
    "accuracy/coarse": (0.989, 0.989, 0.968, 0.985, 0.886, 0.970, 0.967),
    "accuracy/validation": (0.980, 0.980, 0.979, 0.9795, 0.88, 0.979, 0.9785),
    "entropy/features": (1.2, 1.9, 2.6, 1.8, 2.9, 2.5, 2.7),
    "entropy/spectral": (2.0, 1.5, 3.1, 2.4, 3.6, 3.0, 3.2),
    "entropy/anchors": (1.6, 1.8, 5.2, 3.0, 6.0, 4.8, 5.4),
    "information/mutual": (1.7, 0.55, 0.60, 1.3, 0.39, 0.62, 0.59),
    "stability": (0.90, 0.93, 0.935, 0.92, 0.94, 0.93, 0.93),
    "stability/released": (0.88, 0.93, 0.931, 0.92, 0.94, 0.93, 0.93),
    "calibration/ece": (0.010, 0.15, 0.12, 0.02, 0.14, 0.12, 0.12),
    "calibration/mce": (0.07, 0.37, 0.30, 0.10, 0.40, 0.30, 0.30),
}
#: metrics whose seeds deviate by a tenth, so that small errors stay positive
SMALL = ("mse/transfer-standardized", "mse/transfer-least-squares", "mse/transfer", "mse/transfer-min")

TRIALS: Sequence[tuple[str, dict[str, float], str]] = (
    ("ce", {}, "baseline"),
    ("ls", {"sigma": 0.4}, "baseline"),
    ("fierce", {"lambda": 1.0, "e": 100}, "baseline"),
    ("fierce", {"lambda": 0.1, "e": 100}, "search"),
    ("fierce", {"lambda": 4.0, "e": 100}, "search"),
    ("fierce", {"lambda": 1.0, "e": 50}, "search"),
    ("fierce", {"lambda": 1.0, "e": 200}, "search"),
)

STUDY_FILE = """\
name: {name}
description: synthetic values with known answers
benchmark: {{name: hyperspectral, data: simulated}}
protocol: released
criteria: [ce, ls, {{name: fierce, lambda: 1, e: 100}}, confidence-penalty]
tracking_uri: postgresql://someone:secret@database/mlflow
search:
  criteria: {{fierce: {{lambda: {{low: 0.1, high: 4, log: true}}, e: {{low: 10, high: 200}}}}}}
  trials: 5
  objective: {{metric: mse/transfer, direction: minimize}}
  constraint: {{metric: accuracy/coarse, within_of_ce: 0.01}}
seeds: {seeds}
"""


@dataclass(frozen=True)
class Store:
    """Where the study was written."""

    uri: str
    name: str
    folder: Path


def value(metric: str, trial: int, seed: int, epoch: int, epochs: int = EPOCHS) -> float:
    """The value that the store holds: it falls (entropies: rises) linearly to its level at the last epoch."""
    deviation = (DEVIATIONS | MORE).get(seed, 0.0) * FACTORS[trial] * (0.1 if metric in SMALL else 1.0)
    rest = (epochs - epoch) / epochs
    slope = -1.0 if metric.startswith("entropy") else 0.02
    return LEVELS[metric][trial] + deviation + slope * rest


def write_store(folder: Path, name: str = "known", seeds: Sequence[int] = SEEDS) -> Store:
    """Seven trials done; an eighth that failed; a ninth of which the last seed is missing; ten planned."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
    planned = ",".join(map(str, seeds))
    common = {
        schema.STUDY: name,
        schema.BENCHMARK: "hyperspectral",
        schema.PROTOCOL: "released",
        schema.DATA_NAME: "test scene",
        schema.DATA_PROVENANCE: "simulated",
        schema.DATA_FINGERPRINT: "ab" * 32,
        schema.DATA_DESCRIPTION: "test scene: no pixels at all",
    }
    study = client.create_run(
        experiment,
        tags={**common, schema.LEVEL: "study", schema.SEEDS: planned, schema.PLANNED_TRIALS: "10"},
        run_name=name,
    )
    client.log_text(study.info.run_id, STUDY_FILE.format(name=name, seeds=json.dumps(list(seeds))), schema.STUDY_FILE)
    client.set_terminated(study.info.run_id)
    extra = [("fierce", {"lambda": 9.0, "e": 100}, "search"), ("confidence-penalty", {"beta": 0.1}, "baseline")]
    for number, (criterion, hyperparameters, role) in enumerate([*TRIALS, *extra]):
        tags = {**common, schema.TRIAL: str(number), schema.CRITERION: criterion}
        above = {schema.LEVEL: "trial", schema.SEEDS: planned, "mlflow.parentRunId": study.info.run_id}
        trial = client.create_run(experiment, tags={**tags, **above, schema.ROLE: role})
        params = [Param(key, str(setting)) for key, setting in hyperparameters.items()]
        # means on the trial's run are no replica's values
        means = [Metric("mse/raw", 99.0, 1, EPOCHS)]
        client.log_batch(trial.info.run_id, means, [*params, Param("training.epochs", str(EPOCHS))])
        failed, short = number == 7, number == 8
        for seed in seeds[:-1] if short else seeds:
            below = {schema.LEVEL: "seed", schema.SEED: str(seed), "mlflow.parentRunId": trial.info.run_id}
            run = client.create_run(experiment, tags={**tags, **below}).info.run_id
            metrics = [
                Metric(metric, value(metric, number % len(TRIALS), seed, epoch), 1, epoch)
                for metric in LEVELS
                for epoch in range(1, (2 if failed else EPOCHS) + 1)
            ]
            client.log_batch(run, metrics, params)
            if failed:
                client.set_tag(run, schema.REASON, "the loss is not finite")
            if number < 3:
                kept = folder / schema.ARRAYS
                np.savez(kept, **replica_arrays(criterion, seed))
                client.log_artifact(run, str(kept))
            client.set_terminated(run, "FAILED" if failed else "FINISHED")
        client.set_terminated(trial.info.run_id, "FAILED" if failed else "FINISHED")
    return Store(uri, name, folder)


def replica_arrays(criterion: str, seed: int) -> dict[str, np.ndarray]:
    """Features whose four classes stand apart, under FIERCE less so; and a reliability curve with an empty bin."""
    random = np.random.default_rng(seed)
    coarse = np.arange(120) % 4
    spread = 0.8 if criterion == "fierce" else 0.2
    features = np.eye(10)[coarse] + spread * random.normal(size=(120, 10))
    fine = np.full((120, 4), 0.1) + 0.6 * np.eye(4)[coarse]
    bins = (np.arange(10) + 0.5) / 10
    frequency = np.where(np.arange(10) == 4, np.nan, bins**1.2)
    count = np.where(np.arange(10) == 4, 0, 12)
    return {
        "features": features.astype(np.float16),
        "coarse": coarse,
        "fine": fine,
        "reliability": np.stack([np.where(count > 0, bins, np.nan), frequency, count], -1),
    }
