"""An address that is mistyped, or not this user's: one sentence within seconds that names which of the two."""

from __future__ import annotations

import http.server
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import forked
import pytest
from servers import START_SECONDS, TOKEN, ray_head, ray_ports

from study.errors import UserError
from study.file.spec import Resources, StudySpec
from study.home import Home
from study.launch import preflight
from study.launch.cluster import connect
from study.record import files
from study.servers import checks, reach
from study.service import jobs

# it waits for servers that say nothing
pytestmark = pytest.mark.server

#: seconds within which each address is judged, on a machine that has other things to do
PROMPT = 2 * reach.DEADLINE
#: seconds that a test grants a server that says nothing, in place of `reach.TIMEOUT` and `reach.DEADLINE`
SHORT_TIMEOUT, SHORT_DEADLINE = 1.0, 2.0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """The ports of a real Ray head that asks for `TOKEN`."""
    numbers = ray_ports()
    with ray_head({}, numbers):
        # the port of Ray's client is taken a while after the others
        deadline = time.monotonic() + START_SECONDS
        while not _listens(numbers["client"]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield numbers


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    # put back afterwards what is set for Ray's client
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token of `ports`' cluster; not for tests that bring Ray into this process, which would keep it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for servers gives up early."""
    for module in (reach, checks):
        monkeypatch.setattr(module, "TIMEOUT", SHORT_TIMEOUT)
    for module in (reach, checks, jobs):
        monkeypatch.setattr(module, "DEADLINE", SHORT_DEADLINE)


@pytest.fixture
def silent(impatient: None) -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def web() -> Iterator[int]:
    """A web server that answers everything with the same page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _page(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            page = b"<html>hello</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _page

        def log_message(self, format: str, *arguments: Any) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def dripping(impatient: None) -> Iterator[int]:
    """A server that sends a header without end, a byte now and then: no single read of it takes long."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not over.wait(0.2):
                    connection.sendall(b"x")
            except OSError:
                return

    def accept(server: socket.socket) -> None:
        while True:
            try:
                threading.Thread(target=drip, args=(server.accept()[0],), daemon=True).start()
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield int(server.getsockname()[1])
        over.set()
        server.shutdown(socket.SHUT_RDWR)


def refused(ask: Callable[[], object], *words: str) -> None:
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        ask()
    assert time.monotonic() - started < PROMPT
    message = str(caught.value)
    assert "\n" not in message and "hush" not in message
    for word in words:
        assert word in message, f"{word!r} not in {message!r}"


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{client}"])
def test_the_right_cluster(address: str, ports: dict[str, int]) -> None:
    assert "answers" in checks.check_ray(address.format(**ports))


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{client}"])
@pytest.mark.parametrize("other", ["f" * 32, None])
def test_another_clusters_token(
    address: str, other: str | None, ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if other is None:
        monkeypatch.delenv("RAY_AUTH_TOKEN")
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    else:
        monkeypatch.setenv("RAY_AUTH_TOKEN", other)
    address = address.format(**ports)
    refused(lambda: checks.check_ray(address), "the token does not match", address, "RAY_AUTH_TOKEN_PATH")


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    "address", ["127.0.0.1:{dashboard}", "127.0.0.1:{client}", "ray://127.0.0.1:{port}", "ray://127.0.0.1:{dashboard}"]
)
def test_another_port_of_the_cluster(address: str, ports: dict[str, int]) -> None:
    address = address.format(**ports)
    refused(lambda: checks.check_ray(address), f"a server answers at {address}, and it is not", "port")


@pytest.mark.parametrize("server", ["silent", "web", "dripping"])
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_port_that_is_not_rays(server: str, scheme: str, request: pytest.FixtureRequest) -> None:
    address = f"{scheme}127.0.0.1:{request.getfixturevalue(server)}"
    refused(lambda: checks.check_ray(address), f"a server answers at {address}, and it is not", "--address")
    if not scheme:

        def join() -> None:
            with connect(Resources(cpus=1), address):
                pass

        refused(join, f"a server answers at {address}")


@pytest.mark.parametrize("address", ["nowhere", "http://127.0.0.1:8265", "ray://nowhere", "127.0.0.1:port", "a:1/b"])
def test_no_address_of_a_cluster(address: str) -> None:
    refused(lambda: checks.check_ray(address), address)


def test_ctrl_c_while_a_port_stays_silent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        words = ["fierce", "run", "quickstart", "--address", address, "--home", str(tmp_path)]
        code = f"import sys; sys.argv = {words!r}; {forked.FIERCE}"
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )
        server.settimeout(60)
        # the look at the address has begun once its connection is there
        connection, _ = server.accept()
        with connection:
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            started = time.monotonic()
            output, _ = process.communicate(timeout=60)
    assert time.monotonic() - started < reach.TIMEOUT
    assert (process.returncode, output.strip()) == (130, "interrupted")


@pytest.mark.parametrize("server", ["silent", "web", "dripping"])
def test_a_dashboard_that_is_none(server: str, request: pytest.FixtureRequest) -> None:
    address = f"http://127.0.0.1:{request.getfixturevalue(server)}"
    refused(lambda: jobs.open_cluster(address), f"a server listens at {address}", "--address")


def test_a_dashboard_on_the_heads_port(ports: dict[str, int]) -> None:
    head = f"http://127.0.0.1:{ports['port']}"
    refused(lambda: jobs.open_cluster(head), f"a server listens at {head}", "--address")


@pytest.mark.parametrize("server", ["silent", "web", "dripping"])
def test_a_tracking_server_that_is_none(server: str, request: pytest.FixtureRequest) -> None:
    uri = f"http://127.0.0.1:{request.getfixturevalue(server)}"
    refused(lambda: checks.check_tracking(uri), uri, "tracking_uri or MLFLOW_TRACKING_URI")


def test_a_tracking_server_on_rays_port(ports: dict[str, int]) -> None:
    uri = f"http://127.0.0.1:{ports['port']}"
    refused(lambda: checks.check_tracking(uri), uri, "MLflow tracking server", "tracking_uri or MLFLOW_TRACKING_URI")


@pytest.mark.parametrize("server", ["silent", "web", "dripping"])
def test_a_database_that_is_none(server: str, request: pytest.FixtureRequest) -> None:
    uri = f"postgresql+psycopg://me:hush@127.0.0.1:{request.getfixturevalue(server)}/optuna"
    refused(lambda: checks.check_database(uri, "optuna_uri"), "optuna_uri", "me@127.0.0.1")


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("postgresql+psycopg://me:hu@sh@127.0.0.1:1/optuna", "%40"),
        ("postgresql+psycopg://127.0.0.1:port/optuna", "no database address"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_a_database_address_that_cannot_be_meant(uri: str, word: str) -> None:
    refused(lambda: checks.check_database(uri, "optuna_uri"), "optuna_uri", word)


@pytest.mark.parametrize("uri", ["./mlruns", "file:mlruns"])
def test_a_folder_to_track_in(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    corrected = Home(tmp_path / "home").tracking_uri()
    refused(lambda: checks.check_tracking(corrected), f"sqlite:///{tmp_path}/mlruns/mlflow.db")


@pytest.mark.parametrize("address", ["127.0.0.1:5000", "localhost:5000", "mlflow.my-lab.org:5000/"])
def test_a_tracking_server_without_a_scheme(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    corrected = Home(tmp_path / "home").tracking_uri()
    refused(lambda: checks.check_tracking(corrected), f"write http://{address}")


@pytest.mark.parametrize("server", ["silent", "web", "closed"])
def test_an_object_store_that_is_none(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = 1 if server == "closed" else request.getfixturevalue(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    spec = StudySpec.model_validate(
        {"name": "s", "benchmark": "tiny:Tiny", "criteria": ["ce"], "storage": "s3://bucket/prefix"}
    )
    home = Home(tmp_path)
    named = home.tracking_uri(), home.optuna_uri(), home.storage(spec)
    data = {"name": "hyperspectral", "data": "s3://bucket/scene.mat"}
    studied = StudySpec.model_validate({"name": "s", "benchmark": data, "criteria": ["ce"]})
    monkeypatch.setenv("FIERCE_STORAGE", "s3://bucket/prefix")
    looks: list[tuple[Callable[[], object], str, str]] = [
        (lambda: checks.check_servers(*named), "storage: ", "s3://bucket")
    ]
    if server != "web":
        looks += [
            (lambda: files.load_spec(home, "s"), "storage: ", "s3://bucket"),
            (lambda: preflight.check_data(studied), "benchmark.data", "s3://bucket/scene.mat"),
        ]
    # side by side, as each waits
    with ThreadPoolExecutor() as pool:
        for judged in [pool.submit(refused, *look, "AWS_ENDPOINT_URL") for look in looks]:
            judged.result()


def test_an_object_store_that_is_one(bucket: str) -> None:
    reach.object_store(f"s3://{bucket}/prefix")
    refused(lambda: reach.object_store("s3://none/prefix"), "storage: s3://none/prefix")


@pytest.mark.ray
def test_a_path_too_long_for_rays_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in bytes, as the system does: the folder's name is of 60 characters and 120 bytes."""
    long = tmp_path / ("ü" * 60)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    code = (
        "from study.launch.cluster import connect\nfrom study.file.spec import Resources\n"
        "with connect(Resources(cpus=1)):\n    import ray; print(ray.get(ray.remote(lambda: 7).remote()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.stdout == "7\n", done.stderr


def test_no_short_folder_for_rays_sockets_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 30)))
    monkeypatch.setattr("study.launch.cluster.SHORT_FOLDER", str(tmp_path / "none"))

    def start() -> None:
        with connect(Resources(cpus=1)):
            pass

    refused(start, "107 bytes", "RAY_TMPDIR")
