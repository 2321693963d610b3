"""The whole service on a fresh checkout and an engine of its own project: up, used, looked at, down and up again.

The tests build on one another in the order of this file. `make test-docker` runs them; each prints what it checked.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(
        os.environ.get("FIERCE_TEST_DOCKER") != "1", reason="builds an image of 7 GB; make test-docker runs it"
    ),
    pytest.mark.timeout(3600),
]

ROOT = Path(__file__).resolve().parents[2]
FIERCE = Path(sys.executable).with_name("fierce")
SERVICES = {"postgres", "mlflow", "dashboard", "head", "worker"}
UID = 10001
STUDY = """
benchmark: {name: hyperspectral, data: simulated, probe_epochs: 2}
protocol: released
criteria: [ce, ls, {name: fierce, lambda: 1, e: 20}]
search:
  criteria: {fierce: {lambda: {low: 0.1, high: 10, log: true}}}
  trials: 1
  objective: {metric: mse/transfer-least-squares, direction: minimize}
seeds: 2
training: {epochs: 2}
resources: {cpus: 1, gpus: 0}
"""


def say(what: str) -> None:
    print(f"\n  checked: {what}", flush=True)


@dataclass(frozen=True)
class Service:
    """A checkout, the environment of its commands, and the folder of a user beside it."""

    checkout: Path
    user: Path
    environment: Mapping[str, str]

    @property
    def secrets(self) -> dict[str, str]:
        folder = self.checkout / "secrets"
        return {
            file.name: file.read_text(encoding="utf-8")
            for file in folder.iterdir()
            if file.name not in ("client.env", "aws_credentials")
        }

    def run(self, *command: str, ok: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"cwd": self.checkout, "env": self.environment, "timeout": 3000, **options}
        done = subprocess.run(command, capture_output=True, text=True, **options)
        assert done.returncode == 0 or not ok, f"{command}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
        return done

    def compose(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("docker", "compose", *arguments, cwd=self.checkout / "docker", ok=ok)

    def python(self, service: str, program: str) -> subprocess.CompletedProcess[str]:
        return self.compose("exec", "-T", service, "python", "-c", program, ok=False)

    def fierce(self, *arguments: str) -> str:
        """The user's own command, with what `make up` wrote for it."""
        line = f'. "{self.checkout}/secrets/client.env" && exec "$0" "$@"'
        return self.run("sh", "-c", line, str(FIERCE), *arguments, cwd=self.user).stdout

    def runs(self) -> list[Any]:
        """Id, state and last metrics of every MLflow run, as the cluster's own client reads them."""
        program = (
            "import json, mlflow; c = mlflow.MlflowClient(); e = [x.experiment_id for x in c.search_experiments()]\n"
            "print(json.dumps(sorted([r.info.run_id, r.info.status, sorted(r.data.metrics.items())] "
            "for r in c.search_runs(e, max_results=1000))))"
        )
        listed: list[Any] = json.loads(self.python("head", program).stdout.splitlines()[-1])
        return listed

    def containers(self) -> list[dict[str, Any]]:
        ids = self.compose("ps", "--all", "--quiet").stdout.split()
        described: list[dict[str, Any]] = json.loads(self.run("docker", "inspect", *ids).stdout)
        return described

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.environment[f'FIERCE_{name}_PORT']}"


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service, up from a copy of the checkout as git would clone it, beside any other and with nothing of it."""
    checkout, user = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("user")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    (user / "small.yaml").write_text(STUDY, encoding="utf-8")
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("FIERCE_", "COMPOSE_", "MLFLOW_"))
    }
    environment = {
        **kept,
        "COMPOSE_PROJECT_NAME": f"fierce-test-{os.getpid()}",
        "FIERCE_IMAGE": f"fierce-study:test-{os.getpid()}",
        "FIERCE_HOME": str(user / "fierce-home"),
        **{f"FIERCE_{name}_PORT": free_port() for name in ("MLFLOW", "DASHBOARD", "RAY")},
    }
    service = Service(checkout, user, environment)
    try:
        print(service.run("make", "up").stdout[-800:])
        yield service
    finally:
        service.compose("down", "--volumes", "--remove-orphans", ok=False)
        service.run("docker", "image", "rm", environment["FIERCE_IMAGE"], ok=False)


def request(
    address: str, method: str, path: str, login: tuple[str, str] | str | None = None, host: str | None = None
) -> int:
    """The status of the answer; ``login`` is user and password, or a token."""
    headers = {"Content-Type": "application/json", **({"Host": host} if host else {})}
    if isinstance(login, str):
        headers["Authorization"] = f"Bearer {login}"
    elif login:
        headers["Authorization"] = f"Basic {base64.b64encode(':'.join(login).encode()).decode()}"
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request(method, path, body=b"{}" if method != "GET" else None, headers=headers)
    return connection.getresponse().status


def test_everything_is_healthy_with_two_workers(service: Service) -> None:
    containers = service.containers()
    names = [container["Config"]["Labels"]["com.docker.compose.service"] for container in containers]
    assert sorted(names) == sorted([*SERVICES, "worker"])
    assert {container["State"]["Health"]["Status"] for container in containers} == {"healthy"}
    say(f"{len(names)} containers are healthy: {', '.join(sorted(names))}")


def test_a_study_runs_on_two_workers_and_is_reported_here(service: Service) -> None:
    output = service.fierce("submit", "small.yaml", "--name", "small")
    assert "4 done, 0 failed, 0 missing" in output
    nodes = service.python(
        "head", "import ray; ray.init('auto', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
    )
    assert nodes.stdout.split()[-1] == "3"
    say("fierce submit: 4 trials of 2 seeds done in a cluster of a head and two workers")
    service.fierce("report", "small")
    page = service.user / "fierce-home" / "studies" / "small" / "report" / "report.html"
    assert page.stat().st_size > 10_000
    say(f"fierce report on this machine, from MLflow alone: {page.stat().st_size:,} bytes")
    say("fierce doctor --cluster: " + " | ".join(service.fierce("doctor", "--cluster").splitlines()))


def test_published_ports_listen_on_this_machine_alone(service: Service) -> None:
    bound = {
        (binding["HostIp"], binding["HostPort"])
        for container in service.containers()
        for bindings in container["NetworkSettings"]["Ports"].values()
        for binding in bindings or []
    }
    ports = {service.environment[f"FIERCE_{name}_PORT"] for name in ("MLFLOW", "DASHBOARD", "RAY")}
    assert bound == {("127.0.0.1", port) for port in ports}
    # as the kernel has it: local address and state 0A, listening, in hexadecimal
    listening = [
        line.split()[1].split(":")
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text(encoding="utf-8").splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    seen = {(address, port) for address, port in listening if str(int(port, 16)) in ports}
    assert seen == {("0100007F", f"{int(port):04X}") for port in ports}
    say(f"ports {', '.join(sorted(ports))} listen on 127.0.0.1, and no other is published")


def test_whoever_has_not_logged_in_is_refused(service: Service) -> None:
    secrets = service.secrets
    mlflow, dashboard, ray = (service.address(name) for name in ("MLFLOW", "DASHBOARD", "RAY"))
    requests = [
        *((mlflow, "GET", path) for path in ("/", "/version", "/graphql", "/metrics", "/openapi.json")),
        *(
            (mlflow, "GET", f"/api/2.0/mlflow/{path}")
            for path in ("users/get?username=admin", "experiments/get?experiment_id=0")
        ),
        *((mlflow, "GET", path) for path in ("/get-artifact", "/api/2.0/mlflow-artifacts/artifacts")),
        *(
            (mlflow, "POST", f"/api/2.0/mlflow/{path}")
            for path in ("experiments/search", "runs/create", "users/create")
        ),
        (mlflow, "PUT", "/api/2.0/mlflow-artifacts/artifacts/x"),
        *((dashboard, "GET", path) for path in ("/", "/dashboard", "/api/studies", "/static/bundle.js")),
        (dashboard, "DELETE", "/api/studies/1"),
        *(
            (ray, "GET", path)
            for path in ("/api/jobs/", "/api/version", "/nodes", "/logs", "/api/v0/tasks", "/api/cluster_status")
        ),
        (ray, "POST", "/api/jobs/"),
        (ray, "PUT", "/api/packages/gcs/x.zip"),
    ]
    for address, method, path in requests:
        assert request(address, method, path) == 401, (address, method, path)
        wrong: tuple[str, str] | str = "0" * 64 if address == ray else ("admin", "0" * 64)
        assert request(address, method, path, wrong) in (401, 403), (address, method, path)
    say(f"{len(requests)} requests to MLflow, optuna-dashboard and Ray, without a login and with a wrong one: refused")
    assert request(mlflow, "GET", "/version", ("admin", secrets["mlflow_admin_password"])) == 200
    assert request(dashboard, "GET", "/api/studies", ("admin", secrets["dashboard_password"])) == 200
    assert request(ray, "GET", "/api/jobs/", secrets["ray_auth_token"]) == 200
    assert request(mlflow, "GET", "/", ("admin", secrets["mlflow_admin_password"]), host="mlflow.example") == 403
    say("the right logins are let in; MLflow refuses another host's name")


def test_inside_too(service: Service) -> None:
    reach = "import socket; socket.create_connection(('postgres', 5432), 5)"
    assert service.python("head", reach).returncode == 0
    assert "socket.gaierror" in service.python("worker", reach).stderr
    say("PostgreSQL can be reached by its clients alone, and not from a worker")
    connect = "import psycopg; psycopg.connect('host=postgres dbname={} user={} passfile={}')"
    refused = [
        ("optuna", "optuna", "/dev/null"),
        ("optuna", "postgres", "/dev/null"),
        ("mlflow", "optuna", "/tmp/.pgpass"),
    ]
    for arguments in refused:
        assert "OperationalError" in service.python("head", connect.format(*arguments)).stderr
    assert service.python("head", connect.format("optuna", "optuna", "/tmp/.pgpass")).returncode == 0
    say("PostgreSQL refuses clients without a password, and Optuna's in MLflow's database")
    join = "import ray; ray.init('head:6379', log_to_driver=False)"
    without = ("exec", "-T", "--env", "RAY_AUTH_MODE=disabled", "--env", "RAY_AUTH_TOKEN_PATH=/dev/null", "worker")
    assert "InvalidAuthToken" in service.compose(*without, "python", "-c", join, ok=False).stderr
    say("Ray refuses a driver without the token")


def test_containers_have_the_rights_they_need_and_no_more(service: Service) -> None:
    for container in service.containers():
        host, name = container["HostConfig"], container["Config"]["Labels"]["com.docker.compose.service"]
        assert (
            host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
        ), name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert host["Memory"] > 0 and host["NanoCpus"] > 0, name
        assert host["RestartPolicy"]["Name"] == "unless-stopped", name
        status = service.compose("exec", "-T", name, "cat", "/proc/1/status").stdout
        lines = dict(line.split(":", 1) for line in status.splitlines())
        uid, effective = int(lines["Uid"].split()[0]), int(lines["CapEff"], 16)
        assert uid == UID if name != "postgres" else uid != 0
        assert effective == 0 and lines["NoNewPrivs"].strip() == "1", name
        assert service.compose("exec", "-T", name, "touch", "/etc/x", ok=False).returncode != 0
    say("no container runs as root, has a capability, can gain one or writes to its root; each has its limits")


def test_no_secret_is_in_the_image_or_can_be_inspected(service: Service) -> None:
    secrets, image = service.secrets, service.environment["FIERCE_IMAGE"]
    assert len(secrets) == 7
    ids = service.compose("ps", "--all", "--quiet").stdout.split()
    places = {
        "docker inspect of every container": service.run("docker", "inspect", *ids).stdout,
        "docker inspect of the image": service.run("docker", "image", "inspect", image).stdout,
        "docker history": service.run("docker", "history", "--no-trunc", image).stdout,
        "docker compose config": service.compose("config").stdout,
        "docker compose logs": service.compose("logs", "--no-color").stdout,
        "the environment of any process of Ray and the dashboard": "".join(
            service.compose(
                "exec", "-T", name, "sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'", ok=False
            ).stdout
            for name in ("head", "worker", "dashboard")
        ),
    }
    for place, text in places.items():
        assert text.strip(), place
        assert not [name for name, value in secrets.items() if value in text], place
        say(f"no secret in {place}")
    folders = ("/bin", "/etc", "/home", "/opt", "/root", "/srv", "/tmp", "/usr", "/var")
    grep = ("docker", "run", "--rm", "--interactive", "--user=0", "--entrypoint=grep", image, "-rlFf", "-", *folders)
    search = service.run(*grep, input="\n".join(secrets.values()), ok=False)
    # 1: nothing was found
    assert (search.returncode, search.stdout) == (1, ""), search.stderr
    say("no secret in any file of the image")


def test_all_is_there_after_down_and_up(service: Service) -> None:
    # one run of the study, four of its trials, two seeds each
    before, status = service.runs(), service.fierce("status", "small")
    assert len(before) == 1 + 4 + 4 * 2
    assert {state for _, state, _ in before} == {"FINISHED"}
    assert service.compose("ps", "--quiet").stdout.split()
    service.run("make", "down")
    assert not service.compose("ps", "--all", "--quiet").stdout.split()
    say("make down: no container is left")
    service.run("make", "up")
    assert service.runs() == before
    assert service.fierce("status", "small") == status
    say(f"make up again: the same {len(before)} MLflow runs, and fierce status says the same")
    assert "4 done, 0 failed, 0 missing" in service.fierce("submit", "small.yaml", "--name", "small")
    assert service.runs() == before
    say("submitting the study again finds it done and adds nothing")


def test_a_backup_is_restored_where_nothing_is(service: Service) -> None:
    before, status = service.runs(), service.fierce("status", "small")
    service.run("docker/backup.sh", str(service.user / "backup"))
    service.compose("down", "--volumes")
    shutil.rmtree(service.checkout / "secrets")
    service.run("docker/restore.sh", str(service.user / "backup"))
    service.run("make", "up")
    assert service.fierce("status", "small") == status
    assert "4 done, 0 failed, 0 missing" in service.fierce("submit", "small.yaml", "--name", "small")
    assert service.runs() == before
    say("volumes and secrets removed, the backup restored: the study is done as before")


@pytest.mark.parametrize(
    ("files", "settings", "devices"),
    [
        ("compose.yaml:compose.gpu.yaml", {}, {"count": -1}),
        ("compose.yaml:compose.gpu.yaml", {"FIERCE_GPUS": "2"}, {"count": 2}),
        ("compose.yaml:compose.gpu-ids.yaml", {}, {"device_ids": ["0", "1"]}),
        ("worker.yaml:compose.gpu.yaml", {"FIERCE_WORKER_ADDRESS": "192.0.2.2"}, {"count": -1}),
    ],
)
def test_compose_reads_the_gpu_stanzas(
    service: Service, files: str, settings: dict[str, str], devices: dict[str, Any]
) -> None:
    environment = {**service.environment, "COMPOSE_FILE": files, "FIERCE_HEAD_ADDRESS": "192.0.2.1", **settings}
    done = service.run("docker", "compose", "config", "--format=json", cwd=service.checkout / "docker", env=environment)
    worker = json.loads(done.stdout)["services"]["worker"]
    reserved = worker["deploy"]["resources"]["reservations"]["devices"]
    assert reserved == [{"capabilities": ["gpu"], "driver": "nvidia", **devices}]
    say(f"docker compose config with {files} {settings}: the worker reserves {devices}")


def test_the_head_of_several_hosts_names_mlflow_as_they_reach_it(service: Service) -> None:
    """The driver there hands the tracking server's address to trials on other hosts."""
    files = {"COMPOSE_FILE": "compose.yaml:compose.hosts.yaml", "FIERCE_HEAD_ADDRESS": "192.0.2.1"}
    environment = {**service.environment, **files, "FIERCE_MLFLOW_PORT": "5001"}
    done = service.run("docker", "compose", "config", "--format=json", cwd=service.checkout / "docker", env=environment)
    services = json.loads(done.stdout)["services"]
    address = services["head"]["environment"]["MLFLOW_TRACKING_URI"]
    assert address == "http://192.0.2.1:5001"
    published = {(port["host_ip"], port["published"]) for port in services["mlflow"]["ports"]}
    assert ("192.0.2.1", "5001") in published
    assert "192.0.2.1:5001" in services["mlflow"]["environment"]["FIERCE_MLFLOW_HOSTS"].split(",")
    say(f"docker compose config of several hosts: trials write to {address}, which MLflow publishes and answers to")
