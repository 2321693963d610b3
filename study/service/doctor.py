"""Is this machine, or a cluster, able to run a study; and the checks before a study starts."""

from __future__ import annotations

import difflib
import http.client
import os
import platform
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from analysis.addresses import lacks_scheme, masked, sqlite_path, without_login, without_password
from study.errors import UserError
from study.file.document import dotted
from study.file.spec import StudySpec
from study.servers.logins import require_no_secrets
from study.servers.reach import (
    DEADLINE,
    TIMEOUT,
    is_local,
    object_store,
    ray_cluster,
    reason,
    stored_file,
    use_token,
    within,
)
from trainables.storage import Folder

if TYPE_CHECKING:
    from trainables.evaluators import Evaluator

#: a study keeps features and weights of every replica: some MB a trial
MIN_FREE_BYTES = 1_000_000_000
PACKAGES = ("fierce-study", "ray", "torch", "torchvision", "optuna", "mlflow", "pot", "numpy", "scipy", "pandas")
#: environment variable: optuna-dashboard's address, else this port on the host of the cluster's head
DASHBOARD_VARIABLE = "FIERCE_DASHBOARD"
DASHBOARD_PORT = 8080
#: SQLAlchemy's databases that are reached over the network, by driver -> how each names the time it may take
_CONNECT_TIMEOUT = {"psycopg2": "connect_timeout", "psycopg": "connect_timeout", "pymysql": "connect_timeout"}


@dataclass(frozen=True)
class Check:
    """One line of ``fierce doctor``; ``detail`` says what was found or what to do."""

    name: str
    ok: bool
    detail: str


def examine(home: Path, tracking_uri: str, optuna_uri: str, address: str | None = None) -> list[Check]:
    """Everything a study needs on this machine, each looked at by itself."""
    return [
        *_versions(),
        _try("devices", devices),
        _try("ray", lambda: check_ray(address)),
        _try("home", lambda: check_home(home)),
        _try("disk", lambda: check_disk(home)),
        _try("tracking", lambda: check_tracking(tracking_uri)),
        _try("optuna", lambda: check_database(optuna_uri, "storage_uri")),
    ]


def examine_cluster(address: str | None, tracking_uri: str, optuna_uri: str | None) -> list[Check]:
    """Everything that a submitted study needs, asked from this machine, each looked at by itself.

    ``address`` is the Jobs API's (else `study.service.jobs.address_of`'s default);
    ``optuna_uri`` None where it is not known.
    """
    from study.service import jobs

    checks = []
    try:
        cluster = jobs.connect(address)
        checks += [
            Check("ray", True, f"{cluster.address} answers; this machine has Ray {metadata.version('ray')}"),
            _try("nodes", cluster.nodes),
            _try("jobs", cluster.under_way),
        ]
        head = urlsplit(cluster.address).hostname
    except UserError as error:
        checks.append(Check("ray", False, str(error)))
        head = urlsplit(address or jobs.DEFAULT_ADDRESS).hostname
    checks.append(_try("tracking", lambda: _check_tracking_server(tracking_uri)))
    if optuna_uri is not None:
        checks.append(_try("optuna", lambda: check_database(optuna_uri, "OPTUNA_STORAGE")))
    dashboard = os.environ.get(DASHBOARD_VARIABLE) or f"http://{head or '127.0.0.1'}:{DASHBOARD_PORT}"
    checks.append(_try("optuna-dashboard", lambda: _check_answers(f"{dashboard}/dashboard/", "optuna-dashboard")))
    return checks


def preflight(spec: StudySpec, address: str | None = None) -> None:
    """Refuse what this machine cannot run, before anything starts; `UserError` with one sentence.

    With ``address`` the trials run elsewhere, and neither devices nor data are looked for here.
    """
    require_no_secrets(spec)
    if is_local(address):
        _check_resources(spec)
        check_data(spec)


def check_servers(tracking_uri: str, optuna_uri: str, storage: Folder | None = None) -> None:
    """Refuse to start a study whose results could not be kept."""
    check_tracking(tracking_uri)
    check_database(optuna_uri, "storage_uri")
    if storage is not None and not storage.on_disk:
        object_store(storage.address)


def _check_resources(spec: StudySpec) -> None:
    cores = os.cpu_count() or 1
    if spec.resources.cpus > cores:
        raise UserError(
            f"resources.cpus: {spec.resources.cpus:g} cores are asked for and this machine has {cores}; lower it"
        )
    if spec.resources.needs_gpu:
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                f"resources.gpus: a GPU ({spec.resources.gpus}) is asked for and torch finds none on this machine; "
                "set it to 0, or give the address of a cluster that has one"
            )


def check_data(spec: StudySpec) -> None:
    """Load the benchmark's data once, and try a network of one's own, so that a fault is known before any trial."""
    import torch
    from pydantic import TypeAdapter

    from study.file.plan import recipe
    from trainables import contract
    from trainables.benchmarks import BENCHMARKS, DataError, find
    from trainables.remote_data import addresses, fetched

    benchmark = find(spec.benchmark.name)
    for name, values in addresses(benchmark.Options, spec.benchmark.options).items():
        for value in values:
            stored_file(f"benchmark.{name}", value)
    options: Any = TypeAdapter(benchmark.Options).validate_python(fetched(benchmark.Options, spec.benchmark.options))
    training = recipe(spec)
    own = contract.own_network(spec.benchmark.name, options)
    try:
        data = contract.load(benchmark, options, getattr(torch, training.dtype))
    except Exception as error:
        # one of the user's own raises whatever it likes
        if spec.benchmark.name in BENCHMARKS or isinstance(error, DataError):
            raise
        raise UserError(
            f"benchmark.name: {spec.benchmark.name} cannot load its data: {type(error).__name__}: {error}"
        ) from error
    try:
        evaluators = contract.examine(benchmark, data, options, training, spec.seeds, network=own)
    except contract.NetworkError:
        # a network for a GPU need not run on this machine's CPU
        if not spec.resources.needs_gpu:
            raise
        evaluators = contract.examine(benchmark, data, options, training, spec.seeds, network=False)
    names = {evaluator.name for evaluator in evaluators}
    for name in spec.evaluation.cadence:
        if name not in names:
            raise UserError(
                f"evaluation.cadence.{name}: {spec.benchmark.name} has no such evaluator; "
                f"known: {', '.join(sorted(names))}"
            )
    _check_search(spec, evaluators)


def _check_search(spec: StudySpec, evaluators: Sequence[Evaluator]) -> None:
    """The search reads metrics that are measured, and no fine label where it promises to do without."""
    from trainables import criteria
    from trainables.training import METRICS

    if spec.search is None:
        return
    own = [metric for name in spec.search.criteria for metric in criteria.find(name).metrics]
    declared = {metric.name: metric for metric in (*METRICS, *own)}
    declared |= {metric.name: metric for evaluator in evaluators for metric in evaluator.metrics}
    # an evaluator that declares nothing may measure anything; what is lacking is said when the first trial ends
    complete = all(evaluator.metrics or evaluator.measure is None for evaluator in evaluators)
    for metric, keys in spec.search.metrics.items():
        where = f"search.{dotted(keys)}"
        if metric not in declared and complete:
            close = difflib.get_close_matches(metric, declared, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"measured are {', '.join(sorted(declared))}"
            raise UserError(f"{where}: {spec.benchmark.name} does not measure {metric!r}; {hint}")
        if spec.search.objective.label_free and metric in declared and declared[metric].reads_fine:
            raise UserError(f"{where}: {metric} reads fine labels, which label_free: true promises to do without")


def devices() -> str:
    """CPU cores and GPUs, in words."""
    import torch

    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    named = ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus)
    return f"{os.cpu_count()} CPU cores; {named or 'no GPU'}"


def check_ray(address: str | None) -> str:
    """The cluster at ``address`` answers and takes this user, or a study brings up its own Ray."""
    if is_local(address):
        return "embedded: a study starts its own and ends it"
    assert address is not None
    use_token()
    return ray_cluster(address)


def check_home(home: Path) -> str:
    """The study home can be written to; it is made where there is none."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise UserError(
            f"the study home {home} cannot be written to ({reason(error)}); choose another by --home or FIERCE_HOME"
        ) from None
    return f"{home.resolve()} can be written to"


def check_disk(home: Path) -> str:
    """There is room for checkpoints and artifacts."""
    folder = next(each for each in (home.resolve(), *home.resolve().parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise UserError(f"only {free / 1e9:.1f} GB are free at {folder}; make room or choose another --home")
    return f"{free / 1e9:.0f} GB free at {folder}"


def check_tracking(uri: str) -> str:
    """MLflow's server, or the database of an embedded store, answers within `DEADLINE`."""
    shown = without_password(uri)
    if lacks_scheme(uri):
        raise UserError(f"tracking_uri or MLFLOW_TRACKING_URI: {shown} has no scheme; write http://{shown}")
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        _check_answers(
            f"{without_login(uri).rstrip('/')}/health", "MLflow tracking server", "tracking_uri or MLFLOW_TRACKING_URI"
        )
        _check_login(uri)
        return f"{shown} answers"
    if scheme in ("", "file"):
        raise UserError(
            f"tracking_uri: {shown} is a folder, which MLflow keeps no runs in any more; name a database by "
            f"tracking_uri or MLFLOW_TRACKING_URI, sqlite:///{unquote(urlsplit(uri).path)}/mlflow.db say"
        )
    return check_database(uri, "tracking_uri")


def _check_tracking_server(uri: str) -> str:
    if urlsplit(uri).scheme not in ("http", "https"):
        raise UserError("no MLflow server is named; set MLFLOW_TRACKING_URI, to http://127.0.0.1:5000 say")
    return check_tracking(uri)


def _check_answers(url: str, what: str, field: str = "its address") -> str:
    """The web server at ``url`` answers within `TIMEOUT`, be it by asking for a login."""
    parts = urlsplit(url)
    at = f"{parts.scheme}://{parts.netloc}"

    def ask() -> None:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            answer.read(1)

    try:
        within(DEADLINE, ask)
        return f"{at} answers"
    except urllib.error.HTTPError as error:
        # a server that asks for a password is up
        if error.code in (401, 403):
            return f"{at} answers, and asks for a login"
        raise UserError(
            f"the server at {at} answers with HTTP {error.code}, as no {what} does; check {field}"
        ) from None
    except http.client.HTTPException:
        raise UserError(f"what answers at {at} is no web server, and so no {what}; check {field}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"no {what} answers at {at} ({reason(error)}); start it, or correct {field}") from None


def _check_login(uri: str) -> None:
    """The MLflow server takes this user's requests, each within `DEADLINE`."""
    from mlflow.exceptions import MlflowException

    from study.record.tracking import connect

    shown = without_password(uri)
    field = "tracking_uri or MLFLOW_TRACKING_URI"
    try:
        client = connect(uri)
        within(DEADLINE, lambda: client.search_experiments(max_results=1))
    except TimeoutError as error:
        raise UserError(f"the server at {shown} accepts requests and gives {error}; check {field}") from None
    except (MlflowException, ValueError, KeyError) as error:
        status = error.get_http_status_code() if isinstance(error, MlflowException) else None
        user = urlsplit(uri).username or os.environ.get("MLFLOW_TRACKING_USERNAME")
        why = masked(" ".join(str(error).split()), uri)[:200]
        if status in (None, 404) or "valid JSON" in why:
            raise UserError(f"the server at {shown} is no MLflow tracking server ({why}); check {field}") from None
        if status != 401:
            raise UserError(f"the MLflow server at {shown} refuses requests ({why})") from None
        if user:
            raise UserError(
                f"the MLflow server at {shown} refuses the login of {user!r}; correct MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD"
            ) from None
        raise UserError(
            f"the MLflow server at {shown} asks for a login; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        ) from None


def check_database(uri: str, field: str) -> str:
    """The database at the SQLAlchemy URL ``uri`` can be opened within `DEADLINE`."""
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    shown = without_password(uri)
    try:
        url = sqlalchemy.make_url(uri)
        if url.get_backend_name() == "sqlite":
            return _check_file(uri, shown, field)
        if "@" in (url.host or ""):
            raise UserError(f"{field}: {shown}: the password holds an @; write it as %40")
        keyword = _CONNECT_TIMEOUT.get(url.get_driver_name())
        engine = sqlalchemy.create_engine(url, connect_args={keyword: int(TIMEOUT)} if keyword else {})
        within(DEADLINE, lambda: engine.connect().close())
        return f"{shown} answers"
    # a port that is no number is a ValueError
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise UserError(f"{field}: {shown!r} is no database address such as postgresql://user@host/name") from None
    except ModuleNotFoundError as error:
        raise UserError(
            f"{field}: {shown} needs the Python package {error.name}; install it, as with fierce-study[service]"
        ) from None
    except (SQLAlchemyError, TimeoutError) as error:
        raise UserError(
            f"{field}: no database answers at {shown} ({masked(reason(error), uri)}); start it or correct the address"
        ) from None


def _check_file(uri: str, shown: str, field: str) -> str:
    """The folder of a SQLite database is there; connecting would leave an empty database behind."""
    path = sqlite_path(uri)
    if path is None:
        raise UserError(f"{field}: {shown} is in memory, which no trial sees; name a file, sqlite:///studies.db say")
    folder = path.resolve().parent
    if not folder.is_dir() and field == "storage_uri":
        raise UserError(f"{field}: {shown}: the folder {folder} does not exist; make it or correct the address")
    return shown


def _versions() -> list[Check]:
    checks = [Check("python", True, f"{platform.python_version()} on {platform.platform()}")]
    for package in PACKAGES:
        try:
            checks.append(Check(package, True, metadata.version(package)))
        except metadata.PackageNotFoundError:
            checks.append(Check(package, False, f"not installed; pip install {package}"))
    return checks


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except UserError as error:
        return Check(name, False, str(error))
