"""What a user can get wrong: one sentence on stderr that names the thing, exit code 2, nothing lost."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import yaml
from typer.testing import CliRunner

from study.cli import app

VALID: dict[str, Any] = {"benchmark": "tiny:Tiny", "criteria": ["ce"], "seeds": 2, "training": {"epochs": 1}}
SEARCH: dict[str, Any] = {
    "criteria": {"fierce": {"lambda": {"low": 0.1, "high": 10}}},
    "trials": 2,
    "objective": {"metric": "mse/odd", "direction": "minimize"},
}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "RAY_ADDRESS", "FIERCE_HOME"):
        monkeypatch.delenv(variable, raising=False)


def refused(arguments: list[str], *words: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in result.output
    for word in words:
        assert word in lines[0], f"{word!r} not in {lines[0]!r}"


def study_file(values: Any) -> str:
    Path("bad.yaml").write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
    return "bad.yaml"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param({**VALID, "seedz": 3}, ("bad.yaml line", "seedz", "'seeds'"), id="unknown key"),
        pytest.param({**VALID, "seeds": "ten"}, ("bad.yaml line", "seeds", "'ten'"), id="wrong type"),
        pytest.param({**VALID, "seeds": [1, 1]}, ("bad.yaml line", "seed 1"), id="duplicate seeds"),
        pytest.param({**VALID, "seeds": []}, ("bad.yaml line", "seeds"), id="no seeds"),
        pytest.param({**VALID, "grid": {}}, ("bad.yaml line", "grid"), id="empty grid"),
        pytest.param({**VALID, "grid": {"ls": {"sigma": [1.0]}}}, ("grid.ls.sigma.0", "below 1"), id="sigma"),
        pytest.param({**VALID, "grid": {"fierce": {"lambda": [-1]}}}, ("lambda.0", "-1"), id="negative lambda"),
        pytest.param({**VALID, "grid": {"fierce": {"e": [1]}}}, ("grid.fierce.e.0", "at least 2"), id="one anchor"),
        pytest.param({**VALID, "criteria": ["fierse"]}, ("criteria.0", "'fierce'"), id="unknown criterion"),
        pytest.param({**VALID, "protocol": "papers"}, ("protocol", "'paper'"), id="unknown protocol"),
        pytest.param({**VALID, "benchmark": "hyperspektral"}, ("benchmark", "'hyperspectral'"), id="unknown benchmark"),
        pytest.param({**VALID, "benchmark": "no.such:Thing"}, ("benchmark", "no.such"), id="benchmark not importable"),
        pytest.param({**VALID, "benchmark": ":Thing"}, ("benchmark", "package.module:name"), id="benchmark by halves"),
        pytest.param({**VALID, "benchmark": "broken:Thing"}, ("broken:Thing", "boom"), id="benchmark that raises"),
        pytest.param(
            {**VALID, "benchmark": {"name": "broken_data:Broken"}}, ("cannot load its data", "KeyError"), id="its data"
        ),
        pytest.param({**VALID, "training": {"entropy_epsilon": 0}}, ("entropy_epsilon", "1e-30"), id="no epsilon"),
        pytest.param({**VALID, "training": {"epochs": 0}}, ("training.epochs", "at least 1"), id="no epochs"),
        pytest.param({**VALID, "search": {**SEARCH, "sampler": "tp"}}, ("search.sampler", "'tpe'"), id="sampler"),
        pytest.param({**VALID, "evaluation": {"cadence": {"od": 1}}}, ("cadence.od", "odd"), id="unknown evaluator"),
        pytest.param({**VALID, "resources": {"cpus": 10_000}}, ("resources.cpus", "10000"), id="too many cores"),
        pytest.param("- ce\n- ls\n", ("bad.yaml", "a list"), id="not a mapping"),
        pytest.param("seeds: [1\n", ("bad.yaml line", "YAML"), id="not YAML"),
        pytest.param("seeds: 1\nseeds: 2\n", ("bad.yaml line 2", "seeds"), id="repeated key"),
        pytest.param("name: !!python/name:os.system\n", ("bad.yaml line 1", "python"), id="code in YAML"),
    ],
)
def test_study_file(values: Any, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("broken.py").write_text("raise ValueError('boom')\n", encoding="utf-8")
    Path("broken_data.py").write_text(
        "from tiny import Tiny\nclass Broken(Tiny):\n    def load(self, options):\n        return {}['fine']\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(".")
    refused(["run", study_file(values), "--dry-run"], *words)


def test_a_gpu_where_there_is_none() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    refused(["run", study_file({**VALID, "resources": {"gpus": 1}}), "--dry-run"], "resources.gpus", "none")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing.yaml", ("missing.yaml", "no such study file")),
        ("quikstart", ("'quikstart'", "'quickstart'")),
        (".", ("folder",)),
    ],
)
def test_no_study_file(source: str, words: tuple[str, ...]) -> None:
    refused(["run", source], *words)


def test_a_study_file_that_is_no_text() -> None:
    Path("bad.yaml").write_bytes(bytes(range(128, 256)))
    refused(["run", "bad.yaml"], "bad.yaml", "UTF-8")


@pytest.mark.parametrize("assignment", ["seeds", "training.epoch=3", "criteria.5.lambda=1", "benchmark.sample=3"])
def test_set(assignment: str) -> None:
    refused(["run", study_file(VALID), "--set", assignment, "--dry-run"], f"--set {assignment.partition('=')[0]}")


def test_a_name_that_leaves_the_home() -> None:
    refused(["run", study_file(VALID), "--name", "../elsewhere", "--dry-run"], "../elsewhere")


def scene() -> dict[str, Any]:
    """A valid scene of 30 pixels, 5 bands and 2 materials."""
    generator = np.random.default_rng(0)
    shares = generator.dirichlet((1, 1), 30).T
    return {"Y": generator.random((5, 30)), "A": shares, "nRow": 5, "nCol": 6}


def _mat(change: Callable[[dict[str, Any]], Any]) -> Callable[[], str]:
    def make() -> str:
        values = scene()
        change(values)
        scipy.io.savemat("bad.mat", values)
        return "bad.mat"

    return make


def _truncated() -> str:
    scipy.io.savemat("bad.mat", scene())
    content = Path("bad.mat").read_bytes()
    Path("bad.mat").write_bytes(content[: len(content) // 2])
    return "bad.mat"


def _words() -> str:
    Path("bad.mat").write_text("not a MATLAB file", encoding="utf-8")
    return "bad.mat"


def _pickled() -> str:
    np.savez("bad.npz", Y=np.array([{}], dtype=object), A=np.ones((1, 1)))
    return "bad.npz"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda: "missing.mat", ("missing.mat",), id="missing"),
        pytest.param(_truncated, ("bad.mat",), id="truncated"),
        pytest.param(_words, ("bad.mat",), id="another format"),
        pytest.param(_pickled, ("bad.npz", "pickle"), id="pickled"),
        pytest.param(_mat(lambda values: values.pop("A")), ("bad.mat", "A", "Y"), id="no abundances"),
        pytest.param(_mat(lambda values: values["Y"].put(3, np.nan)), ("bad.mat", "NaN"), id="NaN"),
        pytest.param(_mat(lambda values: values.update(A=values["A"] * 2)), ("bad.mat", "A"), id="sums"),
        pytest.param(_mat(lambda values: values.update(A=values["A"][:, :7])), ("bad.mat", "A"), id="other pixels"),
    ],
)
def test_data_file(make: Callable[[], str], words: tuple[str, ...]) -> None:
    values = {**VALID, "benchmark": {"name": "hyperspectral", "data": make()}}
    refused(["run", study_file(values), "--dry-run"], *words)


def test_the_scene_of_these_tests_is_otherwise_good() -> None:
    values = {**VALID, "benchmark": {"name": "hyperspectral", "data": _mat(lambda values: None)()}}
    assert CliRunner().invoke(app, ["run", study_file(values), "--dry-run"]).exit_code == 0


@pytest.fixture
def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def listening() -> Iterator[int]:
    """A port that is in use, by a server that accepts and stays silent."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


@pytest.fixture
def broken_server() -> Iterator[int]:
    """A web server that is not MLflow's: it answers everything with 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *arguments: Any) -> None:
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_no_tracking_server(closed_port: int) -> None:
    uri = f"http://user:secret@127.0.0.1:{closed_port}"
    result = CliRunner().invoke(app, ["run", study_file({**VALID, "tracking_uri": uri})])
    assert "secret" not in result.output
    refused(["run", "bad.yaml"], f"127.0.0.1:{closed_port}", "MLflow", "tracking_uri")


def test_a_silent_tracking_server(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.servers.checks.TIMEOUT", 0.5)
    uri = f"http://127.0.0.1:{listening}"
    refused(["run", study_file({**VALID, "tracking_uri": uri})], uri, "timed out")


def test_another_server_in_place_of_the_tracking_server(broken_server: int) -> None:
    uri = f"http://127.0.0.1:{broken_server}"
    refused(["run", study_file({**VALID, "tracking_uri": uri})], uri, "404")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("sqlite:////no/such/folder/optuna.db", ("optuna_uri", "/no/such/folder")),
        ("postgresql+psycopg://u:secret@127.0.0.1:{port}/optuna", ("optuna_uri", "127.0.0.1")),
        ("optuna.db", ("optuna_uri", "optuna.db")),
        ("nosql://127.0.0.1/optuna", ("optuna_uri", "nosql")),
    ],
)
def test_optuna_database(uri: str, words: tuple[str, ...], closed_port: int) -> None:
    refused(["run", study_file({**VALID, "optuna_uri": uri.format(port=closed_port)})], *words)


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nowhere"])
def test_no_ray_cluster(address: str, closed_port: int) -> None:
    address = address.format(port=closed_port)
    refused(["run", study_file(VALID), "--address", address], address, "Ray")


@pytest.mark.parametrize("arguments", [["submit", "bad.yaml"], ["attach", "jasper"], ["stop", "jasper"]])
@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "127.0.0.1:{port}"])
def test_no_cluster_to_submit_to(
    arguments: list[str], address: str, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_file(VALID)
    address = address.format(port=closed_port)
    # set by the command for Ray's client, and so to be put back
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    refused([*arguments, "--address", address], address, "--address")


def test_a_submitted_job_without_a_lasting_home() -> None:
    refused(["run", study_file(VALID), "--import-data"], "--import-data", "FIERCE_HOME")


@pytest.mark.parametrize("command", ["resume", "status", "report", "export"])
def test_unknown_study(command: str) -> None:
    study = Path("fierce-home/studies/jasper/study.yaml")
    study.parent.mkdir(parents=True)
    study.write_text("name: jasper\nbenchmark: tiny:Tiny\ncriteria: [ce]\n", encoding="utf-8")
    arguments = [command, "jaspr", *(["--out", "a.csv"] if command == "export" else [])]
    refused(arguments, "'jaspr'", "'jasper'")
    assert not Path("a.csv").exists()


def test_a_study_file_in_the_home_that_was_damaged() -> None:
    study = Path("fierce-home/studies/jasper/study.yaml")
    study.parent.mkdir(parents=True)
    study.write_text("name: jasper\nbenchm", encoding="utf-8")
    refused(["status", "jasper"], "study.yaml line 2")


@pytest.mark.parametrize(("out", "words"), [("table.xlsx", ".parquet"), ("table", "none"), ("no/where.csv", "no")])
def test_export_to(out: str, words: str) -> None:
    refused(["export", "jasper", "--out", out], f"--out {out}", words)


def test_a_home_that_is_a_file() -> None:
    Path("home").write_text("", encoding="utf-8")
    refused(["run", study_file(VALID), "--home", "home"], "home")


def test_a_home_that_no_database_address_can_tell() -> None:
    refused(["studies", "--home", "what?/home"], "what?/home", "'?'", "--home")


def test_ui_without_a_home() -> None:
    refused(["ui", "--home", "nowhere"], "nowhere")


@pytest.mark.parametrize(("flag", "name"), [("--port", "MLflow"), ("--dashboard-port", "optuna-dashboard")])
def test_ui_on_a_port_in_use(flag: str, name: str, listening: int, closed_port: int) -> None:
    Path("fierce-home").mkdir()
    # the ports that stand by default may be in use on this machine
    ports = {"--port": str(closed_port), "--dashboard-port": str(closed_port), flag: str(listening)}
    refused(["ui", *(word for pair in ports.items() for word in pair)], str(listening), name, flag)


@pytest.mark.parametrize("arguments", [["rnu", "quickstart"], ["run"], ["ui", "--port", "http"], ["run", "a", "--st"]])
def test_flags_that_do_not_exist(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert result.stderr.startswith("Usage: ")


def test_the_installed_command_says_it_too() -> None:
    command = Path(sys.executable).with_name("fierce")
    result = subprocess.run(
        [command, "run", "missing.yaml"], capture_output=True, encoding="utf-8", check=False, timeout=60
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: missing.yaml: no such study file\n"
