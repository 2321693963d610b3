"""What ``fierce paper`` does: plan or go on, run, and say where the page is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from study.errors import INTERRUPTED
from study.home import Home
from study.launch.preflight import preflight
from study.launch.progress import StudyProgress
from study.servers.checks import check_ray, check_servers
from study.service.paper import running

if TYPE_CHECKING:
    from study.file.spec import StudySpec
    from study.launch.sweep import Outcome


def execute(home: Home, file: Path | None, crate: Path | None, dry_run: bool) -> None:
    """Plan or take up the paper of ``file`` or ``crate``, run what is left, and end with an exit code."""
    home.prepare()
    if crate is not None:
        plan = running.from_crate(crate, home)
        command = f"fierce paper --from {shlex.quote(str(crate))}"
    else:
        assert file is not None
        plan = running.plan_of(file, home)
        command = f"fierce paper {shlex.quote(str(file))}"
    for line in running.told(plan):
        typer.echo(line)
    if dry_run:
        return
    page, is_whole = running.run(plan, home, lambda spec: _trained(spec, home), typer.echo, command)
    typer.echo(f"page: {page}")
    if not is_whole:
        typer.echo(f"interrupted; go on with: {command}", err=True)
        raise typer.Exit(INTERRUPTED)


def _trained(spec: StudySpec, home: Home) -> Outcome:
    """Train what the study lacks."""
    # Ray takes seconds to import
    from study.launch.sweep import run as sweep
    from study.service.running import describe

    for warning in preflight(spec).splitlines():
        typer.echo(f"warning: {warning}", err=True)
    check_ray(None)
    check_servers(home.tracking_uri(spec), home.optuna_uri(spec), home.storage(spec))
    with StudyProgress(spec, Console()) as progress:
        outcome = sweep(spec, home, observer=progress, retry_failed=True)
    describe(home.tracking_uri(spec), spec.name)
    return outcome
