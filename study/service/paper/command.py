"""What ``fierce paper`` does: plan or go on, run, and say where the page is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from study.errors import INTERRUPTED
from study.home import Home
from study.launch.preflight import preflight
from study.servers.checks import check_ray, check_servers
from study.service.paper import running
from study.service.running import shown

if TYPE_CHECKING:
    from study.file.spec import StudySpec
    from study.launch.sweep import Outcome


def execute(home: Home, file: Path | None, crate: Path | None, dry_run: bool) -> None:
    """Plan or take up the paper of ``file`` or ``crate``, run what is left, and end with an exit code."""
    home.prepare()
    if crate is not None:
        plan = running.from_crate(crate, home)
        running.say(plan, typer.echo)
        command = f"fierce paper --from {shlex.quote(str(crate))}"
    else:
        assert file is not None
        plan = running.plan_of(file, home, typer.echo)
        command = f"fierce paper {shlex.quote(str(file))}"
    if dry_run:
        return
    page, is_whole = running.run(plan, home, lambda spec: _trained(spec, home), typer.echo, command)
    typer.echo(f"page: {page}")
    if not is_whole:
        typer.echo(f"interrupted; go on with: {command}", err=True)
        raise typer.Exit(INTERRUPTED)


def _trained(spec: StudySpec, home: Home) -> Outcome:
    """Train what the study lacks."""
    for warning in preflight(spec).splitlines():
        typer.echo(f"warning: {warning}", err=True)
    check_ray(None)
    check_servers(home.tracking_uri(spec), home.optuna_uri(spec), home.storage(spec))
    return shown(spec, home, retry_failed=True)
