"""The fault table: each fault is done to a study at work, which must end as one that was never disturbed.

`make test-faults` runs it as root. Each row stands alone; where all have run the table goes to docs/faults.md.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from faults.hosts import Host
from faults.service import EPOCHS, Launch, Service, serve
from mlflow import MlflowClient
from object_store import BUCKET
from object_store import serve as serve_objects

from study.file.spec import StudySpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("FIERCE_TEST_FAULTS") != "1", reason="needs root; make test-faults runs it"),
    pytest.mark.timeout(1800),
]

#: of a row of the table: the fault, how the study went on, what was compared
Row = Callable[[str, str, str], None]
#: size of the disk that gets full
SMALL_DISK = 4 * 2**20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("faults")
    disk = folder / "disk"
    disk.mkdir()
    # mounted before the hosts are made: they see what is mounted when they boot
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", disk], check=True)
    try:
        with serve(folder) as service:
            yield service
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def service(running: Service) -> Service:
    """The service with all its hosts up."""
    running.cluster.up()
    return running


def host_of(service: Service, process: int) -> Host:
    (host,) = [host for host in service.cluster.workers if host.has(process)]
    return host


def strike(launch: Launch, service: Service) -> tuple[int, Host]:
    """Wait until trials are well under way; the process of one of them, and its host."""
    launch.until_epochs(EPOCHS // 2)
    process = max(launch.workers().items())[1]
    return process, host_of(service, process)


def open_runs(service: Service, spec: StudySpec) -> int:
    """How many of the study's runs are RUNNING in MLflow."""
    client = MlflowClient(service.mlflow.uri)
    experiment = client.get_experiment_by_name(spec.name)
    assert experiment is not None
    return len(client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'"))


def said(launch: Launch) -> str:
    """The messages of a launch, for the table, which has no room for where in the user's own code a trial failed."""
    return "; ".join(f"“{text}”" for text in launch.messages if not text.startswith("  File "))


def test_worker_process_killed(service: Service, row: Row) -> None:
    spec = service.study("process")
    launch = service.launch(spec)
    process, _ = strike(launch, service)
    os.kill(process, signal.SIGKILL)
    launch.ends_well()
    (message,) = launch.messages
    assert message.endswith("the trial's process died: killed, or out of memory; tried again")
    row("a trial's process killed (`kill -9`)", said(launch), service.check(spec))


def test_worker_node_killed(service: Service, row: Row) -> None:
    # a node that is lost is none of the trial's failures
    spec = service.study("node", max_failures=0)
    launch = service.launch(spec)
    _, host = strike(launch, service)
    host.kill()
    launch.ends_well()
    (message,) = launch.messages
    assert "its node" in message
    row("a worker node killed", said(launch), service.check(spec))


def test_network_cut(service: Service, row: Row) -> None:
    spec = service.study("cut", max_failures=0)
    launch = service.launch(spec)
    _, host = strike(launch, service)
    host.cut()
    try:
        began = time.monotonic()
        launch.until(lambda: bool(launch.messages), "the loss is noticed")
        noticed = time.monotonic() - began
        launch.ends_well()
    finally:
        host.heal()
    (message,) = launch.messages
    assert "its node" in message
    row("a worker node's network cut for good", f"after {noticed:.0f} s: {said(launch)}", service.check(spec))


def test_network_cut_and_healed(service: Service, row: Row) -> None:
    """A break that is shorter than Ray's patience costs nothing but time."""
    spec = service.study("healed", max_failures=0)
    launch = service.launch(spec)
    _, host = strike(launch, service)
    host.cut()
    time.sleep(15)
    host.heal()
    launch.ends_well()
    told = said(launch) or "the trial went on where it was"
    row("a worker node's network cut for 15 s", told, service.check(spec))


def test_head_killed(service: Service, row: Row) -> None:
    """With it the driver, as in the service; the workers' Ray ends a minute later and joins the new head."""
    spec = service.study("head")
    launch = service.launch(spec)
    strike(launch, service)
    service.cluster.head.kill()
    assert launch.end() != 0
    service.cluster.up()
    again = service.launch(spec)
    again.ends_well()
    row(
        "the head killed, brought back, the study resumed",
        said(again) or "went on from its checkpoints",
        service.check(spec),
    )


def test_head_lost_to_a_driver_elsewhere(service: Service, row: Row) -> None:
    spec = service.study("elsewhere")
    launch = service.launch(spec, service.cluster.workers[0])
    strike(launch, service)
    service.cluster.head.kill()
    assert launch.end() == 2
    sentence = launch.error()
    assert sentence.endswith("was lost; bring it back and resume the study")
    assert open_runs(service, spec) == 0
    service.cluster.up()
    again = service.launch(spec)
    again.ends_well()
    row("the head killed, the driver on another node", f"exit code 2: “{sentence}”; resumed", service.check(spec))


def test_mlflow_away(service: Service, row: Row) -> None:
    """For a minute, in which trials come to their ends."""
    spec = service.study("mlflow")
    launch = service.launch(spec)
    strike(launch, service)
    service.mlflow.kill()
    time.sleep(60)
    reached = max(event["epoch"] for event in launch.events("epoch"))
    service.mlflow.start()
    launch.ends_well()
    assert not launch.messages
    row(
        "MLflow killed for 60 s",
        f"trained on to epoch {reached} of {EPOCHS}; sent what was missing, and ended, once it was back",
        service.check(spec),
    )


def test_postgres_restarted(service: Service, row: Row) -> None:
    """Both Optuna's database and MLflow's are gone, and their connections cut, when a trial is to be told."""
    spec = service.study("postgres")
    launch = service.launch(spec)
    strike(launch, service)
    service.postgres.stop()
    time.sleep(20)
    service.postgres.start()
    launch.ends_well()
    row("PostgreSQL stopped at once, started after 20 s", said(launch) or "waited for it", service.check(spec))


def test_disk_full(service: Service, row: Row) -> None:
    disk = service.folder / "disk"
    spec = service.study("disk", storage=str(disk))
    launch = service.launch(spec)
    strike(launch, service)
    with (disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space left"):
        while True:
            ballast.write(bytes(4096))
    code = launch.end()
    assert code != 0
    sentence = launch.error()
    assert open_runs(service, spec) == 0
    (disk / "ballast").unlink()
    again = service.launch(spec)
    again.ends_well()
    told = sentence.replace(str(service.folder), "…")
    row("the storage's disk full, room made, resumed", f"exit code {code}: “{told}”; resumed", service.check(spec))


def test_a_trial_that_always_fails(service: Service, row: Row) -> None:
    """The first of three; the others find nothing wrong."""
    (trouble := service.folder / "trouble").write_text("20 raise", encoding="utf-8")
    criteria = ["ls", "ce", {"name": "fierce", "lambda": 1, "e": 20}]
    spec = service.study("fails", benchmark={"trouble": str(trouble)}, criteria=criteria, search=None, concurrency=1)
    launch = service.launch(spec)
    launch.until(lambda: bool(launch.events("trial_ended")), "it has failed")
    trouble.unlink()
    assert launch.end() == 1, launch.log.read_text(encoding="utf-8")
    (outcome,) = launch.events("outcome")
    assert (outcome["done"], outcome["failed"], outcome["missing"]) == (2, 1, 0)
    ended = launch.events("trial_ended")[0]
    assert (ended["number"], ended["state"]) == (0, "failed")
    reason = ended["reason"]
    assert reason.startswith("RuntimeError: the tiny benchmark was told to fail (tiny.py, line ")
    row("a trial that always fails", f"{said(launch)}, then failed: “{reason}”", service.check(spec, {0: reason}))


def test_out_of_memory(service: Service, row: Row) -> None:
    (trouble := service.folder / "trouble-once").write_text("20 memory", encoding="utf-8")
    spec = service.study("memory", benchmark={"trouble": str(trouble)}, resources={"cpus": 0.5})
    launch = service.launch(spec)
    launch.ends_well()
    (message,) = launch.messages
    assert message.endswith("out of memory; tried again with 1 CPU in place of 0.5 CPU")
    row("a trial out of memory", said(launch), service.check(spec))


def test_storage_in_an_object_store(service: Service, row: Row) -> None:
    """A node is killed and the other goes on with what the store holds; then the driver's, and a third one resumes."""
    with serve_objects(service.network.GATEWAY, service.s3_port):
        spec = service.study("objects", storage=f"s3://{BUCKET}/prefix", max_failures=0)
        launch = service.launch(spec)
        launch.until(lambda: len(launch.events("epoch")) >= EPOCHS // 2, "trials are well under way")
        service.cluster.workers[0].kill()
        launch.until(lambda: bool(launch.messages), "the loss is noticed")
        before = len(launch.events("epoch"))
        launch.until(lambda: len(launch.events("epoch")) > before + 5, "the other node goes on")
        service.cluster.head.kill()
        launch.end()
        service.cluster.up()
        again = service.launch(spec, service.cluster.workers[1])
        again.ends_well()
        told = f"{said(launch)}; then resumed by a driver on another node"
        row("storage `s3://…`: a node killed, then the head", told, service.check(spec))
