"""The command ``fierce``."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from analysis.addresses import masked
from study.errors import FAILED, INTERRUPTED, REFUSED, UserError

# Ray, MLflow and torch take seconds to import, so each command imports what it needs and --help nothing
if TYPE_CHECKING:
    from study.file.spec import StudySpec
    from study.home import Home

#: errors of the parts that don't know `UserError`, by module; each message is one sentence
_SENTENCES: Mapping[str, str] = {
    "trainables.benchmarks": "DataError",
    "analysis.store": "StoreError",
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
            # an error's module is loaded before it is raised, so modules that are not loaded need not be asked
            known = [getattr(sys.modules[name], kind) for name, kind in _SENTENCES.items() if name in sys.modules]
            if not isinstance(error, (UserError, *known)):
                raise
            typer.echo(f"error: {masked(' '.join(str(error).split()))}", err=True)
            raise typer.Exit(REFUSED) from None


app = typer.Typer(
    cls=_Commands,
    help="Train, search, track and report studies of coarse-to-fine classification.",
    epilog="Example: fierce run quickstart && fierce report quickstart",
    no_args_is_help=True,
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
SpecArgument = Annotated[str, typer.Argument(help="A study file, or the name of a ready-made study.", metavar="SPEC")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: key.path=value, the value in YAML.")
]
NameOption = Annotated[str | None, typer.Option("--name", help="Name of the study; else the file's.")]
ClusterOption = Annotated[
    str | None,
    typer.Option("--address", help="Ray's dashboard; else RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265."),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Don't ask before something is deleted or renamed.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        typer.echo(f"fierce-study {metadata.version('fierce-study')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train, search, track and report studies of coarse-to-fine classification."""


@app.command(epilog="Example: fierce run hyperspectral-table --set benchmark.data=jasper_ridge.mat --name jasper")
def run(
    spec: SpecArgument,
    overrides: SetOption = None,
    name: NameOption = None,
    home: HomeOption = None,
    address: AddressOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run, and run nothing.")] = False,
    events: Annotated[
        bool, typer.Option("--events", help="Write what happens as JSON, an object a line, in place of the display.")
    ] = False,
    import_data: Annotated[
        bool, typer.Option("--import-data", help="Copy the benchmark's data files to the study storage first.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try trials that failed again, as resume does.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete the study of that name first, and train all of it anew.")
    ] = False,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="Of a GPU hour, for the cost that is said before it runs.")
    ] = None,
    yes: YesOption = False,
) -> None:
    """Run a study; one that was begun goes on where it stopped, and what its file has more of is trained beside it."""
    from study.file.spec import StudySpec
    from study.home import HOME_VARIABLE
    from study.launch import continuing, cost, footprint
    from study.launch.preflight import check_data, preflight
    from study.record.files import studies_here
    from study.servers.reach import is_local
    from study.service import running, tables

    loaded = StudySpec.load(spec, overrides or (), name)
    address = address or os.environ.get("RAY_ADDRESS")
    for warning in preflight(loaded, address).splitlines():
        typer.echo(f"warning: {warning}", err=True)
    at = _home(home)
    is_replaced = replace and loaded.name in studies_here(at)
    if dry_run:
        there = None if is_replaced else continuing.outlook(loaded, at, retry_failed=retry_failed)
        tables.print_plan(loaded, at, there)
        if is_replaced:
            typer.echo(f"study {loaded.name} stands, and would be deleted first")
        if is_local(address):
            foot = footprint.estimate(loaded)
            typer.echo(foot)
            cost.told(loaded, address, price, typer.echo, foot=foot)
        return
    if is_replaced and not _deleted(at, loaded.name, yes, "fierce run --replace"):
        return
    if import_data:
        from study.service.storage import import_data as into_storage

        if home is None and HOME_VARIABLE not in os.environ:
            raise UserError(
                "--import-data: a submitted job's working directory does not last, and the study home would lie in it; "
                f"set {HOME_VARIABLE} in the cluster, or give --home"
            )
        loaded = into_storage(loaded, at)
        check_data(loaded)
    # the network's size follows from the data, which only a local study is sure to have here
    here = footprint.estimate(loaded) if import_data or is_local(address) else None
    # of a study that stands some is there already
    predicted = None
    if loaded.name not in studies_here(at):
        predicted = cost.told(loaded, address, price, partial(typer.echo, err=True), cost.PATIENCE, here)
    size = str(here) if here else None
    running.execute(loaded, at, address, retry_failed, events=events, size=size, cost=predicted)


@app.command(epilog="Example: fierce check digits.yaml --set benchmark.data=digits.csv")
def check(spec: SpecArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Try a study's data, network, criteria and evaluators on a few batches here, and say what is wrong."""
    from study.service.check import examine

    findings = []
    for finding in examine(spec, overrides or ()):
        findings.append(finding)
        if not as_json:
            typer.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {masked(finding.detail)}")
            if finding.traceback:
                typer.echo(masked(finding.traceback.rstrip()))
    if as_json:
        _print_json([asdict(finding) for finding in findings])
    if not all(finding.ok for finding in findings):
        raise typer.Exit(REFUSED)


@app.command(epilog="Example: fierce submit hyperspectral-table --set benchmark.data=jasper_ridge.mat --name jasper")
def submit(
    spec: SpecArgument,
    overrides: SetOption = None,
    name: NameOption = None,
    address: ClusterOption = None,
    working_dir: Annotated[
        Path, typer.Option("--working-dir", help="Folder that is sent along, without what .gitignore names.")
    ] = Path(),
    detach: Annotated[bool, typer.Option("--detach", help="Don't follow the study.")] = False,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Write a job of Slurm and queue it, in place of a Ray cluster that is up.")
    ] = False,
    home: HomeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --slurm: print the job, and queue nothing.")] = False,
) -> None:
    """Run a study in a Ray cluster, and follow it, or in Slurm; one that was begun goes on where it stopped."""
    if slurm:
        _submit_to_slurm(spec, overrides or (), name, home, dry_run)
        return
    if dry_run or home is not None:
        raise UserError(
            f"{'--dry-run' if dry_run else '--home'}: goes with --slurm alone; leave it out, or give --slurm"
        )
    from study.service import jobs, running

    submission = jobs.prepare(spec, overrides or (), name, working_dir)
    cluster = jobs.open_cluster(address)
    job = cluster.submit(submission)
    typer.echo(f"submitted: {job}")
    if detach:
        running.print_detached(submission.spec.name, address)
        return
    running.follow(cluster, submission.spec.name, job, address)


def _submit_to_slurm(spec: str, overrides: Sequence[str], name: str | None, home: Path | None, dry_run: bool) -> None:
    from study.file.spec import StudySpec
    from study.service import slurm

    job = slurm.prepare(StudySpec.load(spec, overrides, name), _home(home))
    if dry_run:
        typer.echo(job.script, nl=False)
        return
    number = job.submit()
    typer.echo(f"submitted: job {number}; its log: {job.folder / number}.log")
    typer.echo(f"see how far it is by: fierce status {job.spec.name}; end it by: scancel {number}", err=True)


@app.command(epilog="Example: fierce kube hyperspectral-table --name table | kubectl apply -f -")
def kube(spec: SpecArgument, overrides: SetOption = None, name: NameOption = None) -> None:
    """Print a study as a job of Kubernetes, for KubeRay's operator; applied again, it goes on where it stopped."""
    from study.file.spec import StudySpec
    from study.service.kubernetes import manifest

    typer.echo(manifest(StudySpec.load(spec, overrides or (), name)), nl=False)


@app.command(epilog="Example: fierce attach jasper")
def attach(name: NameArgument, address: ClusterOption = None) -> None:
    """Follow a submitted study, from its start; Ctrl-C leaves it running."""
    from study.service import jobs, running

    cluster = jobs.open_cluster(address)
    running.follow(cluster, name, cluster.newest(name).submission_id, address)


@app.command(epilog="Example: fierce stop jasper")
def stop(name: NameArgument, address: ClusterOption = None) -> None:
    """Let a submitted study's trials save themselves and end it; submitted again, it goes on."""
    from study.service import jobs

    job = jobs.open_cluster(address).stop(name)
    typer.echo(f"stopped: {job}; the same fierce submit goes on with it")


@app.command(epilog="Example: fierce resume jasper")
def resume(name: NameArgument, home: HomeOption = None, address: AddressOption = None) -> None:
    """Finish a study that was interrupted, and try its failed trials again."""
    from study.record.files import load_spec
    from study.service import running

    at = _home(home)
    running.execute(load_spec(at, name), at, address, retry_failed=True)


@app.command(epilog="Example: fierce status jasper --json")
def status(name: NameArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """What is done, running, failed or missing, by trial and seed."""
    from study.record.status import read
    from study.service import tables

    state = read(_home(home), name)
    if as_json:
        _print_json(asdict(state))
        return
    tables.print_status(state)


@app.command(epilog="Example: fierce report jasper --out report-of-jasper")
def report(
    name: NameArgument,
    home: HomeOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to; else the study's own.")] = None,
    page: Annotated[
        str,
        typer.Option("--page", help="Sections from your package.module, not the benchmark's page.", metavar="MODULE"),
    ] = "",
) -> None:
    """Write the study's figures, tables and one self-contained page."""
    at = _home(home)
    uri = at.tracking_uri(_known(at, name))
    _settle(at, uri, [name])
    from analysis.report import write
    from study.service import running

    folder = out or at.study(name) / "report"
    _require_folder(folder, "--out")
    written = write(uri, name, folder, page)
    running.describe(uri, name, written)
    typer.echo(f"report: {written}")


@app.command(epilog="Example: fierce compare jasper-released jasper-paper")
def compare(
    names: Annotated[list[str], typer.Argument(help="Studies; the first is compared with.", metavar="NAME")],
    home: HomeOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; else one below the study home.")
    ] = None,
) -> None:
    """Write one page with studies side by side: what differs, paired differences, the same figures in two colours."""
    at = _home(home)
    stores = [(at.tracking_uri(_known(at, name)), name) for name in names]
    for uri, name in stores:
        _settle(at, uri, [name])
    from analysis.across.comparison import write

    folder = out or at.root / "comparisons" / "-".join(names)
    _require_folder(folder, "--out")
    typer.echo(f"comparison: {write(stores, folder)}")


@app.command(epilog="Example: fierce paper paper.yaml --dry-run")
def paper(
    file: Annotated[Path | None, typer.Argument(help="Where data are, how much time there is.", metavar="FILE")] = None,
    home: HomeOption = None,
    crate: Annotated[
        Path | None, typer.Option("--from", help="Train again what a crate was made of: its folder, and no FILE.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan, say what each study costs, run nothing.")] = False,
) -> None:
    """Rebuild the paper's tables, figures and claims within a budget, on one page; called again, it goes on."""
    from study.service.paper.command import execute

    if (file is None) == (crate is None):
        raise UserError("name a FILE such as paper.yaml, or a crate's folder by --from")
    execute(_home(home), file, crate, dry_run)


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
    uri = at.tracking_uri(_known(at, name))
    from analysis.runs import load

    # one protocol holds for a whole study
    frame = load(uri, name).drop(columns="protocol")
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
    """List the studies in the study home, with state, date, trials and best point, and the ready-made ones."""
    from study.file.spec import ready_made
    from study.record.files import studies_here
    from study.record.listing import summary
    from study.service import tables

    at = _home(home)
    tables.print_studies([summary(at, name) for name in studies_here(at)])
    typer.echo(f"ready-made: {', '.join(ready_made())}", err=True)


@app.command(epilog="Example: fierce delete jasper")
def delete(
    name: NameArgument,
    home: HomeOption = None,
    yes: YesOption = False,
) -> None:
    """Delete a study: its MLflow experiment, its Optuna study and its files."""
    if _deleted(_home(home), name, yes, f"fierce delete {name}"):
        typer.echo(f"deleted: {name}; MLflow keeps its runs as deleted until: mlflow gc")


def _deleted(home: Home, name: str, yes: bool, command: str) -> bool:
    """Delete the study, after asking unless ``yes``; whether it was deleted."""
    from study.record.deleting import delete as delete_study
    from study.record.files import load_spec

    spec = load_spec(home, name)
    if not yes and not _is_meant(f"delete study {name!r}: {_places(home, spec)}?", command, "deletes"):
        typer.echo("nothing was deleted")
        return False
    delete_study(home, name)
    return True


def _places(home: Home, spec: StudySpec) -> str:
    """Where all of a study is."""
    from analysis.addresses import without_password

    return (
        f"its experiment in {without_password(home.tracking_uri(spec))}, its study in "
        f"{without_password(home.optuna_uri(spec))}, and {home.files(spec.name, spec)}"
    )


def _is_meant(question: str, command: str, does: str) -> bool:
    """The user's answer; `UserError` where nobody is there to give one to what ``command`` does."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        raise UserError(f"{command} asks before it {does}; give --yes where nobody can answer") from None


@app.command(epilog="Example: fierce rename jasper jasper-200-epochs")
def rename(
    old: Annotated[str, typer.Argument(help="Name of the study.", metavar="OLD")],
    new: Annotated[str, typer.Argument(help="Its name from then on.", metavar="NEW")],
    home: HomeOption = None,
    yes: YesOption = False,
) -> None:
    """Give a study another name: its MLflow experiment, its Optuna study and its files."""
    from study.record.renaming import rename as rename_study
    from study.service.running import describe

    at = _home(home)

    def is_meant(spec: StudySpec) -> bool:
        return yes or _is_meant(
            f"rename study {old!r} to {new!r}: {_places(at, spec)}?", f"fierce rename {old} {new}", "renames"
        )

    renamed = rename_study(at, old, new, is_meant)
    if renamed is None:
        typer.echo("nothing was renamed")
        return
    describe(at.tracking_uri(renamed), new)
    typer.echo(f"renamed: {old} is {new}; its report is written anew by: fierce report {new}")


@app.command(epilog="Example: fierce schema > study.schema.json")
def schema() -> None:
    """Print the JSON schema of a study file, by which an editor completes and checks it."""
    from study.file.schema import schema as described

    typer.echo(json.dumps(described(), indent=2, ensure_ascii=False))


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
    from analysis.addresses import without_password
    from study.record.files import studies_here
    from study.servers.checks import check_servers
    from study.servers.database import open_storage
    from study.service.ui import require_free, serve, servers

    at = _home(home)
    if not at.root.is_dir():
        raise UserError(f"no study home at {at.root}: run a study first, or name it by --home")
    spec = _known(at, name) if name else None
    tracking = at.tracking_uri(spec)
    started = servers(tracking, at.optuna_uri(spec), at.root / "artifacts", port, dashboard_port)
    require_free(started)
    check_servers(tracking, at.optuna_uri(spec))
    # the dashboard needs a database with Optuna's tables, which a home without a study has not yet
    open_storage(at.optuna_uri(spec))
    _settle(at, tracking, studies_here(at))
    names = [name] if name else studies_here(at)
    from study.record.publish import view

    at_once = view(tracking, names[0]) if len(names) == 1 else ""

    def ready() -> None:
        if not any(server.name == "MLflow" for server in started):
            typer.echo(f"MLflow: {without_password(tracking)}")
        for server in started:
            typer.echo(f"{server.name}: {server.url}")
        if at_once:
            mlflow = next((server.url for server in started if server.name == "MLflow"), without_password(tracking))
            typer.echo(f"study {names[0]}: {mlflow.rstrip('/')}/{at_once}")
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

    from analysis.dialect import inline
    from study.service.data import DecodingProgress, prepare

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
    settings = " ".join(
        f"--set {shlex.quote(f'benchmark.{key}={inline(value)}')}" for key, value in prepared.options.items()
    )
    typer.echo(f"give a study of {benchmark}: {settings}")


@app.command(epilog="Example: fierce doctor --cluster")
def doctor(
    home: HomeOption = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ray cluster; with --cluster that of its dashboard, as for fierce submit."),
    ] = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Look at the cluster and its servers in place of this machine.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at versions, devices, Ray, the tracking server, the study home and the disk; or at a cluster."""
    from study.service.doctor import examine, examine_cluster

    at = _home(home)
    if cluster:
        checks = examine_cluster(address, at.tracking_uri(None), os.environ.get("OPTUNA_STORAGE"))
    else:
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
    from analysis.terminal import plain

    plain()
    # a benchmark of one's own, package.module:name, is looked for in the working directory too
    sys.path.append(str(Path.cwd()))
    app()


def _home(option: Path | None) -> Home:
    from study.home import Home

    return Home.find(option)


def _known(home: Home, name: str) -> StudySpec:
    """The study of that name, as it was resolved when it was first run here, or as MLflow keeps it."""
    from study.record.lookup import find_spec

    return find_spec(home, name)[0]


def _settle(home: Home, uri: str, names: Sequence[str]) -> None:
    """Let MLflow itself find the artifacts of these studies where the home is now."""
    from study.record.files import is_running, load_spec, studies_here
    from study.record.moved import settle

    def runs_here(name: str) -> bool:
        return name in studies_here(home) and is_running(home, name, load_spec(home, name))

    settle(home, uri, names, runs_here)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=str))


def _require_folder(folder: Path, flag: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be made a folder ({error.strerror})") from None
