"""A study run to its end here, or followed in a cluster: what is shown meanwhile, how it ended, and the exit code."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from analysis.addresses import masked
from study.errors import FAILED, INTERRUPTED, REFUSED, UserError
from study.file.spec import StudySpec
from study.launch.events import EventLines, Replay, write_event
from study.launch.observer import Guarded
from study.launch.progress import StudyProgress
from study.servers.checks import check_ray, check_servers
from study.service import jobs

if TYPE_CHECKING:
    from study.home import Home
    from study.launch.cost import Cost
    from study.launch.sweep import Outcome
    from study.service.jobs import Cluster


def execute(
    spec: StudySpec,
    home: Home,
    address: str | None,
    retry_failed: bool = False,
    events: bool = False,
    size: str | None = None,
    cost: Cost | None = None,
) -> None:
    """Run the study to its end, and end with its exit code; ``size`` is what it takes of this machine, in words.

    ``cost`` is what it was predicted to take, where that is known. ``events``: what happens is written as JSON, and not
    displayed.
    """
    home.prepare()
    check_ray(address or os.environ.get("RAY_ADDRESS"))
    check_servers(home.tracking_uri(spec), home.optuna_uri(spec), home.storage(spec))
    if events:
        # Ray takes seconds to import
        from study.launch.sweep import run as sweep

        lines = EventLines()
        if size:
            Guarded(lines).message(size)
        outcome = sweep(spec, home, observer=lines, address=address, retry_failed=retry_failed)
        describe(home.tracking_uri(spec), spec.name)
        write_event("outcome", **asdict(outcome))
        raise typer.Exit(_exit_code(outcome))
    outcome = shown(spec, home, address, retry_failed, size, cost)
    at = "" if home == type(home).find() else f" --home {shlex.quote(str(home.root))}"
    _conclude(
        outcome, f"fierce resume {spec.name}{at}", f"report: fierce report {spec.name}{at}", f"browse: fierce ui{at}"
    )


def shown(
    spec: StudySpec,
    home: Home,
    address: str | None = None,
    retry_failed: bool = False,
    size: str | None = None,
    cost: Cost | None = None,
) -> Outcome:
    """Train what the study lacks, with its progress on the terminal, and describe it in MLflow; the rest as above."""
    # Ray takes seconds to import
    from study.launch.sweep import run as sweep

    with StudyProgress(spec, Console(), cost) as progress:
        if size:
            Guarded(progress).message(size)
        outcome = sweep(spec, home, observer=progress, address=address, retry_failed=retry_failed)
    describe(home.tracking_uri(spec), spec.name)
    return outcome


def _conclude(outcome: Outcome, again: str, *hints: str) -> None:
    """Say how the study ended, and end with its exit code; ``again`` goes on with it, and ``hints`` with the user."""
    typer.echo(f"{outcome.done} done, {outcome.failed} failed, {outcome.missing} missing")
    if outcome.interrupted:
        typer.echo(f"interrupted; go on with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
    for hint in hints:
        typer.echo(hint)
    if outcome.failed or outcome.missing:
        typer.echo(f"try again with: {again}", err=True)
        raise typer.Exit(FAILED)


def _exit_code(outcome: Outcome) -> int:
    return INTERRUPTED if outcome.interrupted else FAILED if outcome.failed or outcome.missing else 0


def follow(cluster: Cluster, name: str, job: str, address: str | None) -> None:
    """Show the job's study until it ends, and end with its exit code; Ctrl-C leaves it running."""
    try:
        begun = cluster.info(job)
        with StudyProgress(StudySpec.from_yaml(begun.metadata[jobs.STUDY_FILE]), Console()) as progress:
            replay = Replay(progress)
            ended = cluster.follow(job, replay, progress.message)
    except KeyboardInterrupt:
        print_detached(name, address)
        raise typer.Exit(INTERRUPTED) from None
    if replay.outcome is not None:
        _conclude(replay.outcome, "the same fierce submit", f"report: fierce report {name}")
    elif replay.error is not None and ended.driver_exit_code == REFUSED:
        raise UserError(replay.error)
    else:
        typer.echo(f"{job}: {jobs.why_ended(ended)}; go on with the same fierce submit", err=True)
        raise typer.Exit(INTERRUPTED if ended.status == "STOPPED" else FAILED)


def print_detached(name: str, address: str | None) -> None:
    """Say that the study goes on, and how to follow and to end it."""
    at = f" --address {shlex.quote(address)}" if address else ""
    typer.echo(f"the study goes on in the cluster; follow it with: fierce attach {name}{at}", err=True)
    typer.echo(f"end it with: fierce stop {name}{at}", err=True)


def describe(uri: str, name: str, page: Path | None = None) -> None:
    """Bring the description of the study's run in MLflow up to date, and attach the report ``page`` to it.

    What stands elsewhere stands where that fails.
    """
    # figures and frames, which take seconds to import
    from analysis.runs import StoreError
    from study.record import publish

    try:
        if page is not None:
            publish.attach_report(uri, name, page)
        publish.describe(uri, name)
    except (UserError, StoreError) as error:
        typer.echo(f"warning: not attached to the study's run: {masked(str(error))}", err=True)
