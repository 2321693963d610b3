"""Seeds that have no run of their own in MLflow, as if they had one: a study may keep them in its trials' runs alone.

A run costs MLflow a request to begin and one to end, and ten seeds cost ten of each.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlflow.entities import Param, Run, RunData, RunInfo, RunTag

from analysis import schema

#: tags of a trial's run that say nothing of a seed
_TRIALS_OWN = {schema.LEVEL, schema.ROLE, schema.REPEATS, schema.SEEDS, "mlflow.parentRunId", "mlflow.runName"}


def with_seeds(runs: Sequence[Run]) -> list[Run]:
    """The ``runs``, and behind them one for each seed of a trial whose seeds have none (tag `schema.SEED_POINTS`, 0).

    It holds no metrics and no artifacts: these are the trial's, whose id is its parent's. It is FINISHED where its part
    of the trial is.
    """
    held = {(run.data.tags.get(schema.TRIAL), run.data.tags.get(schema.SEED)) for run in runs}
    made = []
    for run in runs:
        tags = run.data.tags
        if tags.get(schema.LEVEL) == "trial" and tags.get(schema.SEED_POINTS) == "0":
            ended = schema.listed(tags, schema.ENDED)
            seeds = [seed for seed in tags.get(schema.SEEDS, "").split(",") if seed]
            made += [_of(run, seed, seed in ended) for seed in seeds if (tags[schema.TRIAL], seed) not in held]
    return [*runs, *made]


def has_run(seed: Run) -> bool:
    """Whether MLflow has the run, which is not one of those that `with_seeds` makes."""
    return seed.info.artifact_uri is not None


def _of(run: Run, seed: str, is_ended: bool) -> Run:
    info = run.info
    status = "FINISHED" if is_ended else info.status
    own = RunInfo(
        run_id=f"{info.run_id}-{seed}",
        experiment_id=info.experiment_id,
        user_id=info.user_id,
        status=status,
        start_time=info.start_time,
        end_time=info.end_time,
        lifecycle_stage=info.lifecycle_stage,
        run_name=f"seed {seed}",
    )
    names = (schema.KEPT, schema.ENDED)
    tags = {
        tag: value
        for tag, value in run.data.tags.items()
        if tag not in _TRIALS_OWN and tag not in names and not tag.startswith(tuple(f"{name}." for name in names))
    }
    tags |= {schema.LEVEL: "seed", schema.SEED: seed, "mlflow.parentRunId": info.run_id}
    params = [Param(name, value) for name, value in run.data.params.items()]
    return Run(own, RunData(params=params, tags=[RunTag(tag, value) for tag, value in tags.items()]))
