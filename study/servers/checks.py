"""Whether the servers that a study names answer, each judged within seconds and in one sentence."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from urllib.parse import unquote, urlsplit

from analysis.addresses import lacks_scheme, masked, sqlite_path, without_login, without_password
from study.errors import UserError
from study.servers.mlflow import open_client
from study.servers.reach import DEADLINE, TIMEOUT, is_local, object_store, ray_cluster, reason, use_token, within
from study.servers.versions import server_fault
from trainables.storage import Folder

#: SQLAlchemy's databases that are reached over the network, by driver -> how each names the time it may take
_CONNECT_TIMEOUT = {"psycopg2": "connect_timeout", "psycopg": "connect_timeout", "pymysql": "connect_timeout"}


def check_servers(tracking_uri: str, optuna_uri: str, storage: Folder | None = None) -> None:
    """Refuse to start a study whose results could not be kept."""
    check_tracking(tracking_uri)
    check_database(optuna_uri, "optuna_uri")
    if storage is not None and not storage.on_disk:
        object_store(storage.address)


def check_ray(address: str | None) -> str:
    """The cluster at ``address`` answers and takes this user, or a study brings up its own Ray."""
    if is_local(address):
        return "embedded: a study starts its own and ends it"
    assert address is not None
    use_token()
    return ray_cluster(address)


def check_tracking(uri: str) -> str:
    """MLflow's server, or the database of an embedded store, answers within `DEADLINE`."""
    shown = without_password(uri)
    if lacks_scheme(uri):
        raise UserError(f"tracking_uri or MLFLOW_TRACKING_URI: {shown} has no scheme; write http://{shown}")
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        check_answers(
            f"{without_login(uri).rstrip('/')}/health", "MLflow tracking server", "tracking_uri or MLFLOW_TRACKING_URI"
        )
        _check_login(uri)
        _check_release(uri)
        return f"{shown} answers"
    if scheme in ("", "file"):
        raise UserError(
            f"tracking_uri: {shown} is a folder, which MLflow keeps no runs in any more; name a database by "
            f"tracking_uri or MLFLOW_TRACKING_URI, sqlite:///{unquote(urlsplit(uri).path)}/mlflow.db say"
        )
    return check_database(uri, "tracking_uri")


def check_answers(url: str, what: str, field: str = "its address") -> str:
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

    shown = without_password(uri)
    field = "tracking_uri or MLFLOW_TRACKING_URI"
    try:
        client = open_client(uri)
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


def _check_release(uri: str) -> None:
    """The MLflow server is not older than this machine's may be: known weaknesses let in whoever reaches such a one."""
    from mlflow import MlflowClient
    from mlflow.utils.rest_utils import http_request

    credentials = MlflowClient(uri)._tracking_client.store.get_host_creds()
    try:
        answer = within(DEADLINE, lambda: http_request(credentials, "/version", "GET", max_retries=0, timeout=TIMEOUT))
    except Exception:
        # a proxy may keep it to itself
        return
    if answer.status_code == 200 and (why := server_fault("mlflow", answer.content)):
        raise UserError(
            f"the MLflow server at {without_password(uri)} is of an older release than is safe: {why}; upgrade it there"
        )


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
    if not folder.is_dir() and field == "optuna_uri":
        raise UserError(f"{field}: {shown}: the folder {folder} does not exist; make it or correct the address")
    return shown
