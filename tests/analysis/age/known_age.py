"""A small study of age estimation in a real MLflow store, with turns, correlations and verdicts that are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from analysis import schema
from tests.analysis.known_study import Store

EPOCHS = 8
SEEDS = tuple(range(10))
#: the seeds' relative deviations; they sum to zero
DEVIATIONS: Mapping[int, float] = {
    **{0: -0.03, 1: 0.01, 2: 0.0, 3: 0.02, 4: -0.01},
    **{5: 0.015, 6: -0.02, 7: 0.005, 8: 0.025, 9: -0.015},
}
#: epoch of CE's and LS's lowest error, and how much it rises per epoch after it
TURN, SLOPES = 3, {"ce": 10.0, "ls": 6.0}
#: criterion, hyperparameters; at the last epoch: error, accuracy, β
TRIALS: Sequence[tuple[str, dict[str, float], float, float, float]] = (
    ("ce", {}, 250, 0.80, 0.9),
    ("ls", {"sigma": 0.1}, 240, 0.80, 0.9),
    ("fierce", {"lambda": 0.3, "e": 100}, 150, 0.79, 0.5),
    ("fierce", {"lambda": 0.1, "e": 100}, 180, 0.80, 0.7),
    ("fierce", {"lambda": 1.0, "e": 100}, 170, 0.70, 0.3),
    ("fierce", {"lambda": 0.3, "e": 75}, 152, 0.79, 0.5),
    ("fierce", {"lambda": 0.3, "e": 150}, 151, 0.79, 0.5),
)


def error(trial: int, seed: int, epoch: int) -> float:
    """Years²: falls to ``TURN`` and rises after it under CE and LS, and falls to the end under FIERCE."""
    criterion, _, last, _, _ = TRIALS[trial]
    scale = 1 + DEVIATIONS[seed]
    if criterion in SLOPES:
        lowest = last - SLOPES[criterion] * (EPOCHS - TURN)
        return lowest + SLOPES[criterion] * abs(epoch - TURN) * scale
    return last * scale + 12 * (EPOCHS - epoch)


def values(trial: int, seed: int, epoch: int) -> dict[str, float]:
    _, _, last, accuracy, beta = TRIALS[trial]
    deviation = DEVIATIONS[seed]
    squared = error(trial, seed, epoch)
    # falls where the error rises: a rank correlation of −1
    entropy = 6 - squared / 100
    return {
        "mse/transport": squared,
        "mse/transport-hard": squared - 100,
        "mse/transport-alone": squared + 60,
        "mse/class-mean": 300 + 10 * deviation,
        "mse/random-pairing": 620.0,
        "interpolation/beta": beta + deviation / 10,
        "mse/transport-heldout": squared + 20,
        "mse/class-mean-heldout": 310 + 10 * deviation,
        "interpolation/beta-heldout": beta + deviation / 10,
        "accuracy/coarse": accuracy + deviation / 10 * (1 + trial / 10 + epoch / 100),
        "accuracy/validation": accuracy + deviation / 10,
        "entropy/features": entropy,
        "entropy/features-corrected": entropy + 0.1,
        "entropy/anchors": entropy / 2,
        "information/mutual": 0.5 - last / 1000 + deviation / 100,
        "stability": 0.9 + deviation / 100,
        "calibration/ece": 0.05 + deviation / 100,
        "calibration/mce": 0.20 + deviation / 100,
    }


def write_age_store(folder: Path) -> Store:
    """Seven trials of ten seeds, all done."""
    name, uri = "known-age", f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
    planned = ",".join(map(str, SEEDS))
    common = {
        schema.STUDY: name,
        schema.BENCHMARK: "age",
        schema.PROTOCOL: "released",
        schema.DATA_NAME: "test faces",
        schema.DATA_PROVENANCE: "simulated",
        schema.DATA_FINGERPRINT: "cd" * 32,
        schema.DATA_DESCRIPTION: "test faces: no images at all",
    }
    faces = Dataset("test faces", "cd" * 18, "code", "{}", profile=json.dumps({"samples": 1000, "classes": 2}))
    study = client.create_run(experiment, tags={**common, schema.LEVEL: "study", schema.PLANNED_TRIALS: "7"})
    client.set_terminated(study.info.run_id)
    for number, (criterion, hyperparameters, *_) in enumerate(TRIALS):
        tags = {**common, schema.TRIAL: str(number), schema.CRITERION: criterion}
        above = {schema.LEVEL: "trial", schema.SEEDS: planned, schema.ROLE: "grid" if number > 2 else "baseline"}
        trial = client.create_run(experiment, tags={**tags, **above, "mlflow.parentRunId": study.info.run_id})
        params = [Param(key, str(setting)) for key, setting in hyperparameters.items()]
        recipe = [Param("training.epochs", str(EPOCHS)), Param("training.batch_size", "64")]
        client.log_batch(trial.info.run_id, params=[*params, *recipe])
        client.log_inputs(trial.info.run_id, [DatasetInput(faces, [InputTag("provenance", "simulated")])])
        for seed in SEEDS:
            below = {schema.LEVEL: "seed", schema.SEED: str(seed), "mlflow.parentRunId": trial.info.run_id}
            run = client.create_run(experiment, tags={**tags, **below}).info.run_id
            metrics = [
                Metric(metric, value, 1, epoch)
                for epoch in range(1, EPOCHS + 1)
                for metric, value in values(number, seed, epoch).items()
            ]
            client.log_batch(run, metrics, params)
            if number < 3:
                kept = folder / schema.ARRAYS
                np.savez(kept, **replica_arrays(criterion, seed))
                client.log_artifact(run, str(kept))
            client.set_terminated(run)
        client.set_terminated(trial.info.run_id)
    return Store(uri, name, folder)


def replica_arrays(criterion: str, seed: int) -> dict[str, np.ndarray]:
    """Twelve ages in two classes.

    FIERCE's feature falls with age, so that it has to be turned; the others' swaps two pairs of each class: a rank
    correlation of 1 − 6·4/(6·35) within it.
    """
    ages = np.array([20, 21, 22, 23, 24, 25, 50, 51, 52, 53, 54, 55], np.float32)
    coarse = (ages > 36).astype(np.int64)
    order = np.array([1.0, 3, 2, 4, 6, 5])
    if criterion == "fierce":
        feature = -ages.astype(np.float32)
    else:
        feature = np.concatenate([order, 10 + order]).astype(np.float32)
    likely = np.where(coarse == 1, 0.8, 0.3) + seed / 100
    bins = (np.arange(10) + 0.5) / 10
    return {
        "features": feature[:, None],
        "fine": ages,
        "coarse": coarse,
        "probabilities": np.stack([1 - likely, likely], 1).astype(np.float32),
        "reliability": np.stack([bins, bins**1.2, np.full(10, 12.0)], -1),
    }
