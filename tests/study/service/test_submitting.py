"""Studies as jobs of a real Ray cluster, tracked by a real MLflow server, over a connection that breaks."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import forked
import pytest
from servers import PASSWORD, TOKEN, USER, Proxy, free_port, mlflow_server, ray_head
from typer.testing import CliRunner

from study.cli import app

pytestmark = [pytest.mark.thorough, pytest.mark.ray]

TINY = Path(__file__).resolve().parents[2] / "tiny.py"
STUDY = """
benchmark: {name: tiny:Tiny, pause: %s}
criteria: [ce, {name: fierce, lambda: 2}]
seeds: [3, 5]
training: {epochs: %d}
concurrency: 1
"""
STARTED = ["2 trials planned", "trial 0 started: ce (baseline)", "trial 1 started: fierce λ=2 e=10 (baseline)"]
DONE = "2 done, 0 failed, 0 missing"


@dataclass(frozen=True)
class Service:
    """A cluster with its MLflow server, and the folder of its nodes' files."""

    address: str
    tracking_uri: str
    folder: Path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with mlflow_server(folder) as tracking_uri:
        names = {
            "MLFLOW_TRACKING_URI": tracking_uri,
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
            "FIERCE_HOME": str(folder / "home"),
        }
        with ray_head(names) as address:
            yield Service(address, tracking_uri, folder)


class User:
    """Someone with a working directory, who knows the service's addresses, token and login and sees no file of it."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder = folder
        ours = ("RAY_", "MLFLOW_", "OPTUNA_", "FIERCE_")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
            "RAY_API_SERVER_ADDRESS": service.address,
            "RAY_AUTH_TOKEN": TOKEN,
            "MLFLOW_TRACKING_URI": service.tracking_uri,
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
            "OMP_NUM_THREADS": "1",
        }
        shutil.copy(TINY, folder)

    def study(self, name: str, pause: float = 0.0, epochs: int = 3) -> str:
        (self.folder / f"{name}.yaml").write_text(STUDY % (pause, epochs), encoding="utf-8")
        return f"{name}.yaml"

    def fierce(
        self, *arguments: str, expect: int = 0, without: tuple[str, ...] = (), **changed: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in self.environment.items() if name not in without} | changed
        result = forked.run(arguments, environment, self.folder)
        assert result.returncode == expect, result.stdout + result.stderr
        assert "Traceback" not in result.stderr
        return result

    def refused(self, *arguments: str, without: tuple[str, ...] = (), **changed: str) -> str:
        """The one sentence of a command that is refused."""
        result = self.fierce(*arguments, expect=2, without=without, **changed)
        [line] = result.stderr.strip().splitlines()
        assert line.startswith("error: ")
        return line

    def start(self, *arguments: str, **changed: str) -> forked.Program:
        return forked.Program(arguments, self.environment | changed, self.folder)


@pytest.fixture
def user(tmp_path: Path, service: Service) -> User:
    return User(tmp_path, service)


def read_until(program: forked.Program, start: str) -> list[str]:
    """The lines that the program prints, up to the first one that begins so."""
    lines = []
    for line in program.output:
        lines.append(line.rstrip("\n"))
        if line.startswith(start):
            return lines
    raise AssertionError(f"no line {start!r} in {lines}")


def rows(service: Service, name: str, monkeypatch: pytest.MonkeyPatch) -> Mapping[tuple[int, int], list[int]]:
    """(trial, seed) -> the epochs of its training loss, as MLflow holds them."""
    from analysis.runs import load

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    frame = load(service.tracking_uri, name)
    loss = frame[frame["metric"] == "loss/train"]
    return {key: list(part["epoch"]) for key, part in loss.groupby(["trial", "seed"])}


@pytest.fixture(scope="module")
def first(service: Service, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What was printed while the study ``first`` was submitted and followed to its end."""
    user = User(tmp_path_factory.mktemp("first"), service)
    return user.fierce("submit", user.study("first")).stdout.splitlines()


def test_a_submitted_study_is_followed_and_read_back_from_mlflow(
    first: list[str], user: User, service: Service
) -> None:
    lines = first
    assert lines[0].startswith("submitted: first-20")
    assert set(STARTED) <= set(lines)
    assert lines[-2:] == [DONE, "report: fierce report first"]

    # nothing of the study is on the user's machine, and Optuna's database is the cluster's own
    status = user.fierce("status", "first").stdout.splitlines()
    # with what is known of their objective so far
    means = [float(line.split("\t")[-2]) for line in status[1:3]]
    assert all(0 <= mean <= 1 for mean in means)
    assert status[1:] == [
        f"0\tce\tbaseline\tdone\t3/3\t2 done\t{means[0]:.4g}\t",
        f"1\tfierce λ=2 e=10\tbaseline\tdone\t3/3\t2 done\t{means[1]:.4g}\t",
        "trials: 2 done, 0 running, 0 failed, 0 missing",
        "replicas: 4 done, 0 running, 0 failed, 0 missing",
    ]
    page = Path(user.fierce("report", "first", "--out", "page").stdout.removeprefix("report: ").strip())
    attached = sorted(path.name for path in (service.folder / "artifacts").glob("*/*/artifacts/report/*"))
    assert "report.html" in attached
    assert any(name.endswith(".png") for name in attached)
    [kept] = (service.folder / "artifacts").glob("*/*/artifacts/report/report.html")
    assert kept.read_text(encoding="utf-8") == (user.folder / page).read_text(encoding="utf-8")
    user.fierce("export", "first", "--out", "table.csv")
    # header, 2 trials × 2 seeds × 3 epochs of the training loss at least
    assert len((user.folder / "table.csv").read_text(encoding="utf-8").splitlines()) > 12


def test_a_lost_connection_is_made_again(user: User, service: Service) -> None:
    port = urlsplit(service.address).port
    assert port is not None
    with Proxy(port) as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        with user.start("submit", user.study("lossy", pause=0.5, epochs=6), "--address", address) as process:
            lines = read_until(process, "trial 0 started")
            proxy.cut()
            lines += read_until(process, "lost the connection")
            proxy.mend()
            lines += read_until(process, "connected to")
            code, output, errors = process.ended(120)
    lines += output.splitlines()
    assert code == 0, errors
    for line in (*STARTED, DONE):
        assert lines.count(line) == 1, lines


def test_ctrl_c_detaches_and_attach_shows_it_all(user: User) -> None:
    with user.start("submit", user.study("long", pause=0.5, epochs=8)) as process:
        read_until(process, "trial 0 started")
        process.interrupt()
        code, _, errors = process.ended(60)
    assert code == 130
    assert "fierce attach long" in errors
    assert "fierce stop long" in errors
    assert "Traceback" not in errors
    assert "under way" in user.refused("submit", "long.yaml")
    lines = user.fierce("attach", "long").stdout.splitlines()
    assert [line for line in lines if line in STARTED] == STARTED
    assert DONE in lines
    # a study that has ended is shown the same way
    assert DONE in user.fierce("attach", "long").stdout


def test_a_stopped_study_goes_on_when_it_is_submitted_again(
    user: User, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with user.start("submit", user.study("halted", pause=0.5, epochs=12)) as process:
        read_until(process, "trial 0 started")
        assert "stopped: halted-" in user.fierce("stop", "halted").stdout
        code, output, errors = process.ended(60)
    assert code == 130, output
    assert "0 done, 0 failed, 2 missing" in output
    assert "interrupted" in errors
    assert "halted" in user.refused("stop", "halted")
    status = json.loads(user.fierce("status", "halted", "--json").stdout)
    assert not status["running"]
    assert [trial["state"] for trial in status["trials"]] == ["missing", "missing"]
    user.fierce("submit", "halted.yaml", "--detach")
    assert DONE in user.fierce("attach", "halted").stdout
    every = list(range(1, 13))
    assert rows(service, "halted", monkeypatch) == {(trial, seed): every for trial in (0, 1) for seed in (3, 5)}


@pytest.mark.usefixtures("first")
def test_failed_trials_and_refused_studies_end_as_they_do_here(user: User) -> None:
    trouble = user.folder / "trouble"
    trouble.write_text("1 raise", encoding="utf-8")
    (user.folder / "bad.yaml").write_text(
        f"benchmark: {{name: tiny:Tiny, trouble: {trouble}}}\ncriteria: [ce]\nseeds: 1\nmax_failures: 0\n",
        encoding="utf-8",
    )
    result = user.fierce("submit", "bad.yaml", expect=1)
    assert "0 done, 1 failed, 0 missing" in result.stdout
    assert "told to fail" in result.stdout
    # a path that only the cluster might have, and has not
    scene = "benchmark.data=/no/such/scene.mat"
    result = user.fierce("submit", "hyperspectral-table", "--set", scene, "--name", "absent", expect=2)
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "/no/such/scene.mat" in line
    # the study stands there with other epochs
    assert "training" in user.fierce("submit", user.study("first", epochs=9), expect=2).stderr


def test_the_token_and_the_address(user: User) -> None:
    study, port = user.study("mine"), free_port()
    assert "RAY_AUTH_TOKEN" in user.refused("submit", study, without=("RAY_AUTH_TOKEN",))
    assert "Invalid" in user.refused("submit", study, RAY_AUTH_TOKEN="0" * 32)
    missing = user.refused("attach", "mine", without=("RAY_AUTH_TOKEN",), RAY_AUTH_TOKEN_PATH="/no/token")
    assert "/no/token" in missing
    assert str(port) in user.refused("submit", study, "--address", f"http://127.0.0.1:{port}")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{other.server_address[1]}"
        assert "not Ray's dashboard" in user.refused("submit", study, "--address", address)
        other.shutdown()
    assert "'127.0.0.1:6379'" in user.refused("submit", study, "--address", "127.0.0.1:6379")


@pytest.mark.parametrize("command", ["attach", "stop"])
def test_a_study_that_was_never_submitted(user: User, command: str) -> None:
    assert "'unheard-of'" in user.refused(command, "unheard-of")


@pytest.mark.parametrize("command", ["status", "report", "export"])
def test_the_login_of_the_tracking_server(user: User, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [command, "any", *(["--out", "a.csv"] if command == "export" else [])]
    monkeypatch.chdir(user.folder)
    for name in ("FIERCE_HOME", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    known: dict[str, str | None] = {name: user.environment[name] for name in (*names, "MLFLOW_TRACKING_URI")}
    nobody, without = known | {names[0]: "nobody"}, known | dict.fromkeys(names)
    for environment, word in ((without, names[0]), (nobody, "'nobody'"), (known, "'any'")):
        # in this process, as no cluster is asked; None takes a variable away
        done = CliRunner().invoke(app, arguments, env=environment)
        [line] = done.stderr.strip().splitlines()
        assert done.exit_code == 2 and line.startswith("error: ") and word in line


def test_the_doctor_looks_at_the_cluster(user: User) -> None:
    dashboard = free_port()
    port = free_port()

    def examined(**changed: str) -> Mapping[str, Any]:
        checks = json.loads(user.fierce("doctor", "--cluster", "--json", expect=1, **changed).stdout)
        return {check["name"]: check for check in checks}

    by_name = examined(OPTUNA_STORAGE=f"postgresql+psycopg://u:secret@127.0.0.1:{dashboard}/optuna")
    assert {name for name, check in by_name.items() if check["ok"]} >= {"ray", "nodes", "jobs", "tracking"}
    assert by_name["nodes"]["detail"] == "1 up: 2 CPU, 0 GPU"
    assert not by_name["optuna"]["ok"]
    assert "secret" not in str(by_name)
    by_name = examined(RAY_API_SERVER_ADDRESS=f"http://127.0.0.1:{port}", MLFLOW_TRACKING_PASSWORD="wrong")
    assert str(port) in by_name["ray"]["detail"]
    assert "login" in by_name["tracking"]["detail"]
    assert not by_name["ray"]["ok"]
    assert not by_name["tracking"]["ok"]
