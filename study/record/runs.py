"""The runs of a study in MLflow: found by their tags, kept once, restored where they were deleted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis import schema

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

#: runs in one answer of a search
PAGE = 1000


def search(
    client: MlflowClient, experiment: str, tags: Mapping[str, str], *more: str, deleted: bool = False
) -> list[Run]:
    """All runs of the experiment with these tags, oldest first: those that are not deleted, or those that are."""
    from mlflow.entities import ViewType

    wanted = " and ".join([*(f"tags.`{name}` = '{value}'" for name, value in tags.items()), *more])
    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    matching: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment], wanted, view, max_results=PAGE, order_by=["attributes.start_time ASC"], page_token=token
        )
        matching += page
        token = page.token
        if not token:
            return matching


def oldest(client: MlflowClient, runs: Sequence[Run]) -> dict[tuple[str, str | None], Run]:
    """(level, seed) -> its run; a second one, made by a request whose answer was lost, is deleted."""
    kept: dict[tuple[str, str | None], Run] = {}
    for run in runs:
        tags = run.data.tags
        if kept.setdefault((tags[schema.LEVEL], tags.get(schema.SEED)), run) is not run:
            client.delete_run(run.info.run_id)
    return kept


def found_or_restored(
    client: MlflowClient, experiment: str, tags: Mapping[str, str], *, parent: str = "", identity: str = ""
) -> dict[tuple[str, str | None], Run]:
    """(level, seed) -> its run. A run of a study or trial that was deleted is restored while MLflow still has it.

    It holds what no checkpoint does: weights, the report. A seed's is not, since it may have been deleted for what it
    holds, and its checkpoint has it all. Which deleted run is the study's own, and not another's of its name, is told
    by the ``identity`` of a study and the ``parent`` of a trial.
    """
    kept = oldest(client, search(client, experiment, tags))
    level = ("trial", None) if parent else ("study", None)
    if level in kept:
        return kept
    for run in search(client, experiment, {**tags, schema.LEVEL: level[0]}, deleted=True):
        theirs = run.data.tags.get("mlflow.parentRunId") if parent else run.data.tags.get(schema.IDENTITY)
        if theirs and theirs == (parent or identity):
            log.warning("the run of %s %s was deleted in MLflow and is restored", level[0], run.info.run_name)
            client.restore_run(run.info.run_id)
            kept[level] = client.get_run(run.info.run_id)
            break
    return kept


def adopt(client: MlflowClient, parent: str, runs: Sequence[Run]) -> None:
    """Hang ``runs`` below ``parent``, which stands for one that was deleted."""
    for run in runs:
        if run.data.tags.get("mlflow.parentRunId") != parent:
            client.set_tag(run.info.run_id, "mlflow.parentRunId", parent)


def restore_experiment(client: MlflowClient, experiment: str, identity: str) -> bool:
    """Restore a deleted experiment, which keeps its name, where it is that of the study with this ``identity``.

    Another study's is for its owner to restore.
    """
    deleted = search(client, experiment, {schema.LEVEL: "study"}, deleted=True)
    if not identity or identity not in {run.data.tags.get(schema.IDENTITY) for run in deleted}:
        return False
    log.warning("the study's MLflow experiment was deleted and is restored")
    client.restore_experiment(experiment)
    _delete_again(client, experiment)
    return True


def _delete_again(client: MlflowClient, experiment: str) -> None:
    """Restoring an experiment brings back what was deleted before it, too: of runs that are there twice one stays."""
    groups: dict[tuple[str | None, ...], list[Run]] = {}
    for run in search(client, experiment, {}):
        key = tuple(run.data.tags.get(name) for name in (schema.LEVEL, schema.TRIAL, schema.SEED))
        groups.setdefault(key, []).append(run)
    for runs in groups.values():
        # runs that were deleted were sent again later, so the newest finished one is complete
        kept = max(runs, key=lambda run: (run.info.status == "FINISHED", run.info.start_time))
        for run in runs:
            if run is not kept:
                client.delete_run(run.info.run_id)


@dataclass(frozen=True)
class Holdings:
    """What MLflow has of a study's trials, by number.

    ``whole``: all runs are finished, with the artifacts that they were given. ``there``: all runs are there, with their
    trajectories, whatever became of them.
    """

    whole: frozenset[int]
    there: frozenset[int]


def holdings(tracked: Sequence[Run], uri: str) -> Holdings:
    """What MLflow at ``uri`` has of the trials whose runs are ``tracked``."""
    from analysis import artifacts, runless

    lacking = {run.info.run_id for run in artifacts.lacking(uri, tracked)}
    own = {int(run.data.tags[schema.TRIAL]): run for run in tracked if run.data.tags.get(schema.LEVEL) == "trial"}
    seeds: dict[int, dict[str, Run]] = {number: {} for number in own}
    for run in runless.with_seeds(tracked):
        if run.data.tags.get(schema.LEVEL) == "seed":
            seeds.setdefault(int(run.data.tags[schema.TRIAL]), {})[run.data.tags[schema.SEED]] = run
    there = {
        number
        for number, run in own.items()
        if set(seeds[number]) >= set(_planned_seeds(run)) and run.info.run_id not in lacking
    }
    whole = {
        number
        for number in there
        if all(
            run.info.status == "FINISHED" and run.info.run_id not in lacking
            for run in (own[number], *seeds[number].values())
        )
    }
    return Holdings(frozenset(whole), frozenset(there))


def _planned_seeds(run: Run) -> list[str]:
    return [seed for seed in run.data.tags.get(schema.SEEDS, "").split(",") if seed]
