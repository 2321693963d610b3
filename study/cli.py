"""The command ``fierce``."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from study.errors import UserError

# Ray, MLflow and torch take seconds to import, so each command imports what it needs and --help nothing
if TYPE_CHECKING:
    from study.home import Home
    from study.spec import StudySpec
    from study.status import StudyStatus

#: exit codes: 1 where trials failed or a check did, 2 for what the user can correct, 130 after Ctrl-C
FAILED, REFUSED, INTERRUPTED = 1, 2, 130

#: columns of an exported frame, in order
COLUMNS = ("study", "trial", "criterion", "lambda", "e", "sigma", "beta", "seed", "metric", "epoch", "value")

#: errors of the parts that don't know `UserError`, by module; each message is one sentence
_SENTENCES: Mapping[str, str] = {
    "trainables.benchmarks": "DataError",
    "analysis.runs": "StoreError",
}


class _Commands(TyperGroup):
    """Says a user's error in one line on stderr, without a traceback."""

    def invoke(self, context: Any) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            # such an error can only have been raised where its module is loaded
            known = [getattr(sys.modules[name], kind) for name, kind in _SENTENCES.items() if name in sys.modules]
            if not isinstance(error, (UserError, *known)):
                raise
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(REFUSED) from None


app = typer.Typer(
    cls=_Commands,
    help="Train, search, track and report studies of coarse-to-fine classification.",
    epilog="Example: fierce run quickstart && fierce report quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

data = typer.Typer(help="Prepare data sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Folder of the studies; else FIERCE_HOME, else ./fierce-home.")
]
NameArgument = Annotated[str, typer.Argument(help="Name of the study.", metavar="NAME")]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to run on; else RAY_ADDRESS, else Ray is started here.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog="Example: fierce run hyperspectral-table --set benchmark.data=jasper_ridge.mat --name jasper")
def run(
    spec: Annotated[str, typer.Argument(help="A study file, or the name of a ready-made study.", metavar="SPEC")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: key.path=value, the value in YAML.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the study; else the file's.")] = None,
    home: HomeOption = None,
    address: AddressOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run, and run nothing.")] = False,
) -> None:
    """Run a study; a study that was begun before goes on where it stopped."""
    from study.doctor import preflight
    from study.spec import StudySpec

    loaded = StudySpec.load(spec, overrides or (), name)
    preflight(loaded, address or os.environ.get("RAY_ADDRESS"))
    if dry_run:
        _print_plan(loaded, _home(home))
        return
    _execute(loaded, _home(home), address)


@app.command(epilog="Example: fierce resume jasper")
def resume(name: NameArgument, home: HomeOption = None, address: AddressOption = None) -> None:
    """Finish a study that was interrupted, and try its failed trials again."""
    at = _home(home)
    _execute(_stored(at, name), at, address, retry_failed=True)


@app.command(epilog="Example: fierce status jasper --json")
def status(name: NameArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """What is done, running, failed or missing, by trial and seed."""
    at = _home(home)
    _stored(at, name)
    from study.status import read

    state = read(at, name)
    if as_json:
        _print_json(asdict(state))
        return
    _print_status(state)


@app.command(epilog="Example: fierce report jasper --out report-of-jasper")
def report(
    name: NameArgument,
    home: HomeOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to; else the study's own.")] = None,
) -> None:
    """Write the study's figures, tables and one self-contained page."""
    at = _home(home)
    spec = _stored(at, name)
    from analysis.report import write

    folder = out or at.study(name) / "report"
    _require_folder(folder, "--out")
    page = write(at.tracking_uri(spec), name, folder)
    typer.echo(f"report: {page}")


@app.command(epilog="Example: fierce export jasper --out jasper.parquet")
def export(
    name: NameArgument,
    out: Annotated[Path, typer.Option("--out", help="File to write: .csv or .parquet.")],
    home: HomeOption = None,
) -> None:
    """Write every trajectory as one tidy table."""
    if out.suffix not in (".csv", ".parquet"):
        raise UserError(
            f"--out {out}: the suffix says the format, and {out.suffix or 'none'!r} is not .csv or .parquet"
        )
    if not out.resolve().parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.resolve().parent} does not exist")
    at = _home(home)
    spec = _stored(at, name)
    from analysis.runs import load

    frame = load(at.tracking_uri(spec), name)[list(COLUMNS)]
    # written aside, so that a table that stands there is whole at any moment
    aside = out.with_name(f".{out.name}.part")
    if out.suffix == ".csv":
        frame.to_csv(aside, index=False)
    else:
        frame.to_parquet(aside, index=False)
    aside.replace(out)
    typer.echo(f"{out}: {len(frame):,} rows")


@app.command(epilog="Example: fierce studies")
def studies(home: HomeOption = None) -> None:
    """List the studies in the study home, and the ready-made ones."""
    from study.spec import ready_made

    at = _home(home)
    for name in _names(at):
        typer.echo(name)
    typer.echo(f"ready-made: {', '.join(ready_made())}", err=True)


@app.command(epilog="Example: fierce ui --port 5000")
def ui(
    name: Annotated[
        str | None, typer.Argument(help="A study whose file names its own servers; else the home's.", metavar="NAME")
    ] = None,
    home: HomeOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of MLflow's interface.")] = 5000,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of optuna-dashboard.")] = 8080,
) -> None:
    """Browse the studies in MLflow and optuna-dashboard, on this machine alone, until Ctrl-C."""
    from study.search import open_storage
    from study.ui import require_free, serve, servers

    at = _home(home)
    if not at.root.is_dir():
        raise UserError(f"no study home at {at.root}: run a study first, or name it by --home")
    spec = _stored(at, name) if name else None
    tracking = at.tracking_uri(spec)
    started = servers(tracking, at.optuna_uri(spec), at.root / "artifacts", port, dashboard_port)
    require_free(started)
    # the dashboard needs a database with Optuna's tables, which a home without a study has not yet
    open_storage(at, spec)

    def ready() -> None:
        if not any(server.name == "MLflow" for server in started):
            typer.echo(f"MLflow: {tracking}")
        for server in started:
            typer.echo(f"{server.name}: {server.url}")
        typer.echo("Ctrl-C ends both")

    serve(started, at.root / "logs", ready)


@data.command("prepare", epilog="Example: fierce data prepare age --source UTKFace.zip --size 32")
def data_prepare(
    benchmark: Annotated[str, typer.Argument(help="Name of a benchmark of images.", metavar="BENCHMARK")],
    source: Annotated[Path, typer.Option("--source", help="Folder, tar or zip in a layout that the benchmark reads.")],
    size: Annotated[int | None, typer.Option("--size", help="Edge in pixels; else the benchmark's default.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder for decoded images; else FIERCE_CACHE, else the user's cache."),
    ] = None,
    metadata: Annotated[
        Path | None, typer.Option("--metadata", help="imdb.mat or wiki.mat, where it is not in the source.")
    ] = None,
) -> None:
    """Decode images once, for all later studies; an interrupted run goes on where it stopped."""
    from rich.console import Console

    from study.data import DecodingProgress, prepare

    try:
        with DecodingProgress(Console(stderr=True)) as progress:
            prepared = prepare(benchmark, source, size, cache, metadata, progress)
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on where it stopped", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(prepared.description)
    reasons: dict[str, list[str]] = {}
    for problem in prepared.problems:
        reasons.setdefault(problem.reason, []).append(problem.name)
    for reason, names in reasons.items():
        typer.echo(f"left out: {len(names):,} × {reason} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})")
    settings = " ".join(f"--set {shlex.quote(f'benchmark.{key}={value}')}" for key, value in prepared.options.items())
    typer.echo(f"give a study of {benchmark}: {settings}")


@app.command(epilog="Example: fierce doctor --json")
def doctor(home: HomeOption = None, address: AddressOption = None, as_json: JsonOption = False) -> None:
    """Look at versions, devices, Ray, the tracking server, the study home and the disk."""
    from study.doctor import examine

    at = _home(home)
    checks = examine(at.root, at.tracking_uri(None), at.optuna_uri(None), address or os.environ.get("RAY_ADDRESS"))
    if as_json:
        _print_json([asdict(check) for check in checks])
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            typer.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<{width}}  {check.detail}")
    if not all(check.ok for check in checks):
        raise typer.Exit(FAILED)


def main() -> None:
    """Entry point of the command ``fierce``."""
    # a benchmark of one's own, package.module:name, is looked for in the working directory too
    sys.path.append(str(Path.cwd()))
    app()


def _home(option: Path | None) -> Home:
    from study.home import Home

    return Home.find(option)


def _names(home: Home) -> list[str]:
    return sorted(path.parent.name for path in (home.root / "studies").glob("*/study.yaml"))


def _stored(home: Home, name: str) -> StudySpec:
    """The study of that name in ``home``, as it was resolved when it was first run."""
    import difflib

    from study.spec import StudySpec

    names = _names(home)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there: {', '.join(names) or 'none'}"
        raise UserError(f"no study {name!r} in {home.root}; {hint}")
    path = home.study(name) / "study.yaml"
    return StudySpec.from_yaml(path.read_text(encoding="utf-8"), str(path))


def _execute(spec: StudySpec, home: Home, address: str | None, retry_failed: bool = False) -> None:
    from rich.console import Console

    from study.doctor import check_ray, check_servers
    from study.progress import StudyProgress

    home.prepare()
    check_ray(address or os.environ.get("RAY_ADDRESS"))
    check_servers(home.tracking_uri(spec), home.optuna_uri(spec))
    from study.sweep import run as sweep

    with StudyProgress(spec, Console()) as progress:
        outcome = sweep(spec, home, observer=progress, address=address, retry_failed=retry_failed)
    typer.echo(f"{outcome.done} done, {outcome.failed} failed, {outcome.missing} missing")
    at = "" if home == type(home).find() else f" --home {home.root}"
    if outcome.interrupted:
        typer.echo(f"interrupted; go on with: fierce resume {spec.name}{at}", err=True)
        raise typer.Exit(INTERRUPTED)
    typer.echo(f"report: fierce report {spec.name}{at}")
    typer.echo(f"browse: fierce ui{at}")
    if outcome.failed or outcome.missing:
        typer.echo(f"try again with: fierce resume {spec.name}{at}", err=True)
        raise typer.Exit(FAILED)


def _print_plan(spec: StudySpec, home: Home) -> None:
    """The trials, replicas and resources of ``spec``."""
    from rich.console import Console
    from rich.table import Table

    from study.doctor import without_password
    from study.plan import fixed_points, label, planned, recipe

    replicas = len(spec.seeds)
    rows = [(point.role, label(point.trial.criterion, point.trial.hyperparameters), 1) for point in fixed_points(spec)]
    if spec.search is not None:
        for criterion, space in spec.search.criteria.items():
            ranges = ", ".join(
                f"{name} {interval.low:g}..{interval.high:g}{' (log)' if interval.log else ''}"
                for name, interval in space.items()
            )
            rows.append(("search", f"{criterion}: {ranges}, by {spec.search.sampler}", spec.search.trials))
    console = Console()
    if console.is_terminal:
        table = Table("role", "criterion", "trials", "replicas", title=spec.name)
        for role, what, trials in rows:
            table.add_row(role, what, str(trials), str(trials * replicas))
        console.print(table)
    else:
        for role, what, trials in rows:
            typer.echo(f"{role}\t{what}\t{_count(trials, 'trial')}\t{_count(trials * replicas, 'replica')}")
    trials = planned(spec)
    typer.echo(f"benchmark {spec.benchmark.name}, protocol {spec.protocol}, {recipe(spec).epochs} epochs")
    counted = f"{_count(trials, 'trial')}, {_count(trials * replicas, 'replica')}"
    typer.echo(f"{counted} (seeds {', '.join(map(str, spec.seeds))})")
    typer.echo(
        f"each trial: {spec.resources.cpus:g} CPU, {spec.resources.gpus:g} GPU; concurrency {spec.concurrency}; "
        f"failures allowed {spec.max_failures}"
    )
    typer.echo(
        f"tracked at {without_password(home.tracking_uri(spec))}, searched in {without_password(home.optuna_uri(spec))}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _print_status(state: StudyStatus) -> None:
    """A row for each trial, with the seeds that are not as the trial is, and the counts."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = ("trial", "criterion", "role", "state", "epoch", "seeds", "reason")
    rows: list[tuple[str, ...]] = [
        (
            "–" if trial.number is None else str(trial.number),
            trial.label,
            trial.role,
            trial.state,
            f"{trial.epoch}/{state.epochs}",
            _seeds(trial.seeds),
            trial.reason or "",
        )
        for trial in state.trials
    ]
    console = Console()
    if console.is_terminal:
        table = Table(*columns, title=state.name)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    else:
        for row in [columns, *rows]:
            typer.echo("\t".join(row))
    for what, count in (("trials", state.count), ("replicas", state.count_replicas)):
        typer.echo(
            f"{what}: " + ", ".join(f"{count(each)} {each}" for each in ("done", "running", "failed", "missing"))
        )


def _seeds(seeds: Mapping[int, str]) -> str:
    """``10 done``, or ``8 done, 2 missing (3, 7)``."""
    words = []
    for each in dict.fromkeys(seeds.values()):
        of = [str(seed) for seed, state in seeds.items() if state == each]
        words.append(f"{len(of)} {each}" + ("" if each == "done" else f" ({', '.join(of)})"))
    return ", ".join(words)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=str))


def _require_folder(folder: Path, flag: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be made a folder ({error.strerror})") from None
