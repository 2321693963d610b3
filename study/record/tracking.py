"""MLflow: a study's experiment and run, and what is done to all its runs; those of one trial are `tracker`'s.

Runs are found by their tags, never by an id kept elsewhere, so that a restart continues the same ones. Names are
those of `analysis.schema`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import schema
from analysis.addresses import without_password
from study.file.plan import criteria_of, declared_criteria, declared_settings, planned, recipe
from study.record import facts, moved, runs
from study.record.batches import tag_entities
from study.record.facts import TAG_LENGTH
from study.record.tracker import Tracking
from study.servers.logins import without_passwords
from study.servers.mlflow import TrackingError, open_client, tracking_errors, writing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from study.file.spec import StudySpec
    from study.home import Home


#: the experiment's tag by which MLflow's interface opens it under "Model training", and not among language models
KIND = {"mlflow.experimentKind": "custom_model_development"}
#: why an attempt before the last one ended, and what the next one was given
RETRIED = "fierce.retried"


def open_study(spec: StudySpec, home: Home, identity: str = "", patience: float = 300.0) -> Tracking:
    """Find or make the study's experiment and run; the run is RUNNING afterwards.

    `TrackingError` where the run there is of another study of that name, as their ``identity`` tells, or of one that
    was trained by another recipe.
    """
    uri = home.tracking_uri(spec)
    client = open_client(uri)
    moved.settle(home, uri, {spec.name})
    source = facts.source()
    tags = {
        schema.LEVEL: "study",
        schema.STUDY: spec.name,
        schema.IDENTITY: identity,
        schema.PROTOCOL: spec.protocol,
        schema.RECIPE: json.dumps(asdict(recipe(spec))),
        schema.VARIED: json.dumps(declared_settings(spec)),
        schema.BENCHMARK: spec.benchmark.name,
        schema.SEEDS: ",".join(map(str, spec.seeds)),
        schema.PLANNED_TRIALS: str(planned(spec)),
        "mlflow.note.content": _description(spec),
        **source,
    }
    with tracking_errors(uri), writing(uri):
        experiment = _experiment(client, spec.name, identity, home.artifacts(uri))
        existing = runs.found_or_restored(client, experiment, {schema.LEVEL: "study"}, identity=identity).get(
            ("study", None)
        )
        if existing and existing.data.tags.get(schema.IDENTITY, identity) != identity:
            raise TrackingError(
                f"the MLflow experiment {spec.name!r} at {without_password(uri)} holds another study of that name, "
                "with trials in another Optuna database; run this one under another --name"
            )
        if existing:
            _require_same_recipe(spec, existing, json.loads(tags[schema.RECIPE]))
        run = existing or client.create_run(experiment, tags=tags, run_name=spec.name)
        client.log_batch(run.info.run_id, tags=tag_entities(tags))
        client.update_run(run.info.run_id, status="RUNNING")
        runs.adopt(client, run.info.run_id, runs.search(client, experiment, {schema.LEVEL: "trial"}))
    keep_file(uri, run, spec)
    _keep(uri, run, schema.CRITERIA_FILE, _json(declared_criteria(spec)))
    points = spec.tracking.seed_points
    pruned = spec.search is not None and spec.search.pruner is not None
    return Tracking(uri, spec.name, experiment, run.info.run_id, source, patience, points, pruned)


def _require_same_recipe(spec: StudySpec, run: Run, now: Mapping[str, Any]) -> None:
    """What a release changes in a recipe must not be mixed with what an earlier one trained."""
    kept = run.data.tags.get(schema.RECIPE)
    # studies of 0.1 hold no recipe, and all of them were trained with the released code's assignment
    before = json.loads(kept) if kept else {"assignment": "sampled"}
    changed = [name for name, value in before.items() if name in now and now[name] != value]
    hyperparameters = [own for criterion in criteria_of(spec).values() for own in criterion.hyperparameters]
    # the assignment only matters to criteria with anchors of their own
    if not kept and not any(own.counts_anchors for own in hyperparameters):
        changed = []
    if changed:
        name = changed[0]
        raise TrackingError(
            f"study {spec.name!r} was begun with training.{name} {before[name]!r}, and would go on with {now[name]!r}: "
            f"run it anew under another --name, or as it was begun with --set training.{name}={before[name]}"
        )


def keep_file(uri: str, run: Run, spec: StudySpec) -> None:
    """Put the study's file among the artifacts of its run."""
    _keep(uri, run, schema.STUDY_FILE, without_passwords(spec).to_yaml())


def _keep(uri: str, run: Run, name: str, text: str) -> None:
    """Put ``text`` among the artifacts of the study's run."""
    from analysis import artifacts

    with tracking_errors(uri), tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / name
        file.write_text(text, encoding="utf-8")
        artifacts.write(uri, run, file)


def declare_metrics(tracking: Tracking, declared: Sequence[Mapping[str, str | bool]]) -> None:
    """Add to the store's description what the ``declared`` metrics are (see `analysis.schema.METRICS_FILE`)."""
    from analysis import artifacts

    client = open_client(tracking.uri)
    with tracking_errors(tracking.uri), writing(tracking.uri):
        run = client.get_run(tracking.run)
        held = artifacts.read(tracking.uri, run, schema.METRICS_FILE)
        known = {metric["name"]: metric for metric in (json.loads(held) if held else [])}
        merged = known | {metric["name"]: dict(metric) for metric in declared}
        for name, metric in merged.items():
            # a trial learns by measuring which metrics are held out, so one that begins must not unset it
            if known.get(name, {}).get("heldout"):
                metric["heldout"] = True
        if merged != known:
            _keep(tracking.uri, run, schema.METRICS_FILE, _json(list(merged.values())))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def holdings(tracking: Tracking) -> runs.Holdings:
    """What of the study's trials MLflow has: whoever deletes a run, or its arrays, has it sent again."""
    client = open_client(tracking.uri)
    with tracking_errors(tracking.uri):
        tracked = runs.search(client, tracking.experiment, {schema.STUDY: tracking.study})
        return runs.holdings(tracked, tracking.uri)


def close_study(tracking: Tracking, status: str, trials: int | None = None) -> None:
    """End the study's run as ``FINISHED``, ``FAILED`` or ``KILLED``, with so many planned ``trials`` where given."""
    client = open_client(tracking.uri)
    with tracking_errors(tracking.uri), writing(tracking.uri):
        # only at the end of a search is it known how many trials confirm it
        if trials is not None:
            client.set_tag(tracking.run, schema.PLANNED_TRIALS, str(trials))
        client.set_terminated(tracking.run, status)


def close_trial(tracking: Tracking, number: int, status: str, reason: str) -> None:
    """End the runs of a trial whose worker cannot: it died, or was told to stop."""
    client = open_client(tracking.uri)
    with tracking_errors(tracking.uri):
        # a finished replica's run is complete, so it stays FINISHED whatever became of the others
        for run in runs.search(
            client, tracking.experiment, {schema.TRIAL: str(number)}, "attributes.status != 'FINISHED'"
        ):
            with writing(tracking.uri):
                client.set_tag(run.info.run_id, schema.REASON, reason[:5000])
                client.set_terminated(run.info.run_id, status)


def note(tracking: Tracking, number: int, tag: str, text: str) -> None:
    """Write the tag on the trial's own run: why it was tried again, say. Of a long text the end is kept."""
    client = open_client(tracking.uri)
    with tracking_errors(tracking.uri):
        for run in runs.search(client, tracking.experiment, {schema.TRIAL: str(number), schema.LEVEL: "trial"}):
            with writing(tracking.uri):
                client.set_tag(run.info.run_id, tag, text[-TAG_LENGTH:])


def close_open_trials(tracking: Tracking, reason: str) -> None:
    """End as ``KILLED`` every run of a trial or seed that is still RUNNING though nobody trains it any more."""
    client = open_client(tracking.uri)
    with tracking_errors(tracking.uri):
        for run in runs.search(client, tracking.experiment, {}, "attributes.status = 'RUNNING'"):
            if run.data.tags.get(schema.LEVEL) in ("trial", "seed"):
                with writing(tracking.uri):
                    client.set_tag(run.info.run_id, schema.REASON, reason)
                    client.set_terminated(run.info.run_id, "KILLED")


def read_runs(uri: str, study: str) -> dict[tuple[int, int], tuple[str, int | None]]:
    """(trial, seed) -> its run's status and, unless it is FINISHED, the last epoch that the store holds.

    Empty where the study was never tracked.
    """
    from analysis import runless

    client = open_client(uri)
    states: dict[tuple[int, int], tuple[str, int | None]] = {}
    with tracking_errors(uri):
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            return states

        def last_epoch(run: Run) -> int:
            losses = client.get_metric_history(run.info.run_id, "loss/train")
            return max((loss.step for loss in losses), default=0)

        own, seeds = (
            runs.search(client, experiment.experiment_id, {schema.LEVEL: level}) for level in ("trial", "seed")
        )
        seeds = runless.with_seeds([*own, *seeds])[len(own) :]
        # a seed's run may lack epochs; the trial's has none before its end where seeds are trained apart, and where
        # they were added those of the others
        apart = {run.data.tags[schema.TRIAL] for run in seeds if run.info.status == "FINISHED"}
        numbers = ((run.data.tags[schema.TRIAL], run) for run in own if run.info.status != "FINISHED")
        reached = {number: last_epoch(run) for number, run in numbers if number not in apart}
        for run in seeds:
            epoch, tags = None, run.data.tags
            if run.info.status != "FINISHED":
                epoch = reached.get(tags[schema.TRIAL]) or (last_epoch(run) if run.data.metrics else 0)
            states[int(tags[schema.TRIAL]), int(tags[schema.SEED])] = (run.info.status, epoch)
    return states


def _experiment(client: MlflowClient, name: str, identity: str, location: str | None) -> str:
    """The id of the study's experiment, which is made, or restored where the study's own was deleted."""
    existing = client.get_experiment_by_name(name)
    if existing is None:
        location = f"{location}/{name}" if location else None
        return str(client.create_experiment(name, artifact_location=location, tags=KIND))
    experiment = str(existing.experiment_id)
    if existing.lifecycle_stage != "active" and not runs.restore_experiment(client, experiment, identity):
        raise TrackingError(
            f"the MLflow experiment {name!r} was deleted; restore it there, or run the study under another --name"
        )
    for tag, kind in KIND.items():
        if tag not in existing.tags:
            client.set_experiment_tag(experiment, tag, kind)
    return experiment


def _description(spec: StudySpec) -> str:
    search = (
        f", {spec.search.trials} searched trials for each of {', '.join(spec.search.criteria)}" if spec.search else ""
    )
    return (
        f"{spec.description}\n\nBenchmark **{spec.benchmark.name}**, protocol **{spec.protocol}**, "
        f"{planned(spec)} trials{search}, {len(spec.seeds)} seeds each.\n\n"
        f"`fierce status {spec.name}`, `fierce resume {spec.name}`, `fierce report {spec.name}`"
    ).strip()
