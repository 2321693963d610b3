"""Shared fixtures: where the real data for tests stands, and one Ray for the studies of all tests."""

from __future__ import annotations

import os
import secrets
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

# processes of tests that share the cores wait for each other's threads otherwise; before the first import of torch
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

#: fixtures that start what `make quick` goes without, and the marker of the tests that use them
STARTED_BY = {
    "ray_here": "ray",
    "finished": "ray",
    "bucket": "server",
    "service": "server",
    "ports": "server",
    "mlflow_server": "server",
}


#: files that take longest, in that order: one of them that came last would keep the other workers waiting
LONGEST = (
    "study/service/test_submitting.py",
    "study/launch/test_kill.py",
    "test_own_data.py",
    "study/servers/test_reach.py",
    "study/launch/test_own_criterion.py",
    "study/launch/test_own_benchmark.py",
    "study/launch/test_locales.py",
)
#: the modules whose tests share a Ray
RAY_MODULES = pytest.StashKey[set[Path]]()


def pytest_configure(config: pytest.Config) -> None:
    # a shell's background job ignores Ctrl-C, and so would all that the tests start; a handler is not inherited
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # xdist would hand out the files with most tests first, which are not those that take longest
    config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures they use, first of all, so that ``-m`` finds the markers; then put them in order."""
    shared = config.stash[RAY_MODULES] = set()
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        for fixture, marker in STARTED_BY.items():
            if fixture in fixtures:
                item.add_marker(marker)
        if "ray_here" in fixtures:
            shared.add(item.path)
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(LONGEST)}
    # those that share a Ray come one after another
    items.sort(key=lambda item: places.get(item.path, len(places) + (item.path not in shared)))


@pytest.fixture(scope="session", autouse=True)
def _quick_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """SQLite in this process waits for no disk, and MLflow's tables are made once and copied to each new file.

    Its migrations, which make them, take a second.
    """
    # tests that import no MLflow need not wait for it
    if "mlflow" not in sys.modules:
        yield
        return
    from mlflow.store.db import utils
    from sqlalchemy import Engine, event

    made, empty = utils._initialize_tables, tmp_path_factory.mktemp("tables") / "empty.db"

    def initialize(engine: Any) -> None:
        if engine.dialect.name != "sqlite":
            made(engine)
            return
        if not empty.exists():
            first = utils.create_sqlalchemy_engine(f"sqlite:///{empty}")
            made(first)
            first.dispose()
        with closing(sqlite3.connect(empty)) as source, engine.connect() as connection:
            source.backup(connection.connection.driver_connection)

    def connected(connection: Any, _: Any) -> None:
        # what was written outlives a process that is killed, if not a power cut
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", connected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", initialize)
        yield
    event.remove(Engine, "connect", connected)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data for tests; the test is skipped where it is missing."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FIERCE_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set FIERCE_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def _bucket() -> Iterator[dict[str, str]]:
    import object_store

    with object_store.started() as environment:
        yield environment


@pytest.fixture
def bucket(_bucket: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a bucket in an object store that all tests share, which the environment names."""
    import object_store

    for name, value in _bucket.items():
        monkeypatch.setenv(name, value)
    return object_store.BUCKET


@contextmanager
def _ray_token() -> Iterator[None]:
    from ray._private.authentication_test_utils import reset_auth_token_state

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
        reset_auth_token_state()
        yield
    reset_auth_token_state()


@pytest.fixture(scope="module")
def ray_token() -> Iterator[None]:
    """A token for the Ray that a module starts: Ray keeps the one it read first, perhaps that of a module before."""
    with _ray_token():
        yield


@pytest.fixture(scope="session")
def _shared_ray() -> Iterator[ExitStack]:
    """What ends the Ray that modules share; it is empty while none runs."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module", autouse=True)
def _no_ray_of_others(request: pytest.FixtureRequest, _shared_ray: ExitStack) -> None:
    """Ends the shared Ray before a module that has no use for it, which may start one, or look for none."""
    if request.path not in request.config.stash[RAY_MODULES]:
        _shared_ray.close()


@pytest.fixture(scope="module")
def ray_here(_bucket: dict[str, str], _shared_ray: ExitStack) -> None:
    """One Ray for the studies of the modules that use it; its workers know the object store."""
    import ray

    from study.file.spec import Resources
    from study.launch.cluster import connect

    if ray.is_initialized():
        return
    _shared_ray.enter_context(_ray_token())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _bucket.items():
            patch.setenv(name, value)
        _shared_ray.enter_context(connect(Resources(cpus=1)))


@pytest.fixture
def trained_here() -> Iterator[None]:
    """Studies are trained in this process, for tests whose subject is not Ray."""
    from in_process import without_ray

    with without_ray():
        yield
