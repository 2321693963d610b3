"""The plan and the state of a study, as the command prints them: tables on a terminal, else lines with tabs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.addresses import without_password
from analysis.numbers import short_labels
from study.file.plan import fixed_points, most_epochs, name_of, planned, seeds_of
from study.file.settings import text
from study.launch import groups

if TYPE_CHECKING:
    from study.file.plan import Point
    from study.file.search import Range
    from study.file.spec import StudySpec
    from study.home import Home
    from study.launch.continuing import Outlook
    from study.record.listing import Summary
    from study.record.status import StudyStatus


def print_plan(spec: StudySpec, home: Home, outlook: Outlook | None = None) -> None:
    """The trials, replicas and resources of ``spec``; with the ``outlook`` of a study that stands, what it keeps."""
    points = fixed_points(spec)
    fixed = [(point.role, name_of(spec, point.trial)) for point in points]
    short = short_labels(what for _, what in fixed)
    rows: list[tuple[str, str, int]] = [(role, short[what], 1) for role, what in fixed]
    becomes = _becomes(spec, points, outlook)
    if spec.search is not None:
        for criterion in spec.search.criteria:
            ranges = ", ".join(_range(name, interval) for name, interval in spec.search.space(criterion).items())
            rows.append(("search", f"{criterion}: {ranges}, by {spec.search.sampler}", spec.search.trials))
        if spec.search.confirm is not None:
            fresh = seeds_of(spec, "confirm")
            what = f"the choice of the search and the baselines, on seeds {fresh[0]} to {fresh[-1]}"
            rows.append(("confirm", what, planned(spec) - planned(spec, 0)))
    replicas = [trials * len(seeds_of(spec, role)) for role, _, trials in rows]
    console = Console()
    becomes += [""] * (len(rows) - len(becomes))
    if console.is_terminal:
        table = Table("role", "criterion", "trials", "replicas", *(["now"] if outlook else []), title=spec.name)
        for (role, what, trials), trained, now in zip(rows, replicas, becomes, strict=True):
            table.add_row(role, what, str(trials), str(trained), *([now] if outlook else []))
        console.print(table)
    else:
        for (role, what, trials), trained, now in zip(rows, replicas, becomes, strict=True):
            line = f"{role}\t{what}\t{_count(trials, 'trial')}\t{_count(trained, 'replica')}"
            typer.echo(f"{line}\t{now}" if outlook else line)
    if outlook:
        typer.echo(f"study {spec.name} stands: {outlook}")
    trials = planned(spec)
    typer.echo(f"benchmark {spec.benchmark.name}, protocol {spec.protocol}, {most_epochs(spec)} epochs")
    counted = f"{_count(trials, 'trial')}, {_count(sum(replicas), 'replica')}"
    typer.echo(f"{counted} (seeds {', '.join(map(str, spec.seeds))})")
    if spec.points_per_trial == "auto":
        typer.echo("together: as many as the first trial of each criterion finds worth it")
    elif spec.points_per_trial > 1:
        programs = sum(count for _, _, count in groups.planned(spec))
        typer.echo(f"together: up to {spec.points_per_trial} trials, so that they are {_count(programs, 'program')}")
    gpus = spec.resources.gpus if spec.resources.gpus == "auto" else f"{spec.resources.gpus:g}"
    typer.echo(
        f"each trial: {spec.resources.cpus:g} CPU, {gpus} GPU; concurrency {spec.concurrency}; "
        f"failures allowed {spec.max_failures}"
    )
    typer.echo(
        f"tracked at {without_password(home.tracking_uri(spec))}, searched in {without_password(home.optuna_uri(spec))}"
    )


def _becomes(spec: StudySpec, points: Sequence[Point], outlook: Outlook | None) -> list[str]:
    """What becomes of each fixed point, and then of each criterion's search."""
    if outlook is None:
        return []
    from study.record.trials import key

    words = [outlook.points.get(key(spec, point), "new") for point in points]
    if spec.search is not None:
        for criterion in spec.search.criteria:
            held = outlook.searched.get(criterion, 0)
            words.append(f"{held} there, {max(0, spec.search.trials - held)} new")
    return words


def _range(name: str, interval: Range) -> str:
    if interval.choices is not None:
        return f"{name} one of {', '.join(map(text, interval.choices))}"
    return f"{name} {interval.low:g}..{interval.high:g}{' (log)' if interval.log else ''}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def print_status(state: StudyStatus) -> None:
    """A row for each trial, with the seeds that are not as the trial is, and the counts."""
    short = short_labels(trial.label for trial in state.trials)
    columns = ("trial", "criterion", "role", "state", "epoch", "seeds", state.metric or "metric", "reason")
    rows: list[tuple[str, ...]] = [
        (
            "–" if trial.number is None else str(trial.number),
            short[trial.label],
            trial.role,
            trial.state,
            f"{trial.epoch}/{trial.epochs}",
            _seeds(trial.seeds),
            f"{trial.means[state.metric]:.4g}" if state.metric in trial.means else "–",
            trial.reason or "",
        )
        for trial in state.trials
    ]
    _print_rows(columns, rows, state.name)
    if state.note:
        typer.echo(f"note: {state.note}")
    for what, count in (("trials", state.count), ("replicas", state.count_replicas)):
        typer.echo(
            f"{what}: " + ", ".join(f"{count(kind)} {kind}" for kind in ("done", "running", "failed", "missing"))
        )


def print_studies(summaries: Sequence[Summary]) -> None:
    """A row for each study."""
    columns = ("study", "state", "date", "trials", "best")
    rows = [
        (
            summary.name,
            summary.state,
            f"{summary.date:%Y-%m-%d %H:%M}",
            f"{summary.done}/{'?' if summary.planned is None else summary.planned}",
            summary.best or "–",
        )
        for summary in summaries
    ]
    _print_rows(columns, rows)


def _print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table on a terminal, else lines with tabs."""
    console = Console()
    if console.is_terminal:
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    else:
        for row in [columns, *rows]:
            typer.echo("\t".join(row))


def _seeds(seeds: Mapping[int, str]) -> str:
    """``10 done``, or ``8 done, 2 missing (3, 7)``."""
    words = []
    for kind in dict.fromkeys(seeds.values()):
        of = [str(seed) for seed, state in seeds.items() if state == kind]
        words.append(f"{len(of)} {kind}" + ("" if kind == "done" else f" ({', '.join(of)})"))
    return ", ".join(words)
