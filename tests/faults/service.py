"""A whole service to do harm to: Ray on three hosts, MLflow and PostgreSQL beside them, studies run by the command."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from faults.backends import MLflow, Postgres, free_port
from faults.checks import check_study
from faults.hosts import ROOT, TESTS, Cluster, Host, Network, until

from study.file.spec import StudySpec
from trainables.storage import Folder

DRIVER = Path(__file__).with_name("driver.py")
#: two baselines and two searched trials, on two workers; an epoch waits, so that a fault finds a trial at work
EPOCHS, PAUSE = 60, 0.1
STUDY: dict[str, Any] = {
    "criteria": ["ce", "ls"],
    "search": {
        "criteria": {"fierce": {"lambda": {"low": 0.01, "high": 10, "log": True}}},
        "trials": 2,
        "objective": {"label_free": True},
    },
    "seeds": [1, 4],
    "training": {"epochs": EPOCHS},
    "max_failures": 1,
}


@dataclass(frozen=True)
class Service:
    """The parts, each of which can be taken down."""

    folder: Path
    network: Network
    cluster: Cluster
    postgres: Postgres
    mlflow: MLflow
    #: where the nodes look for an S3-compatible store
    s3_port: int

    def study(self, name: str, **changes: Any) -> StudySpec:
        """A study tracked and searched here, with its storage on the disk that all hosts share."""
        benchmark = {"name": "tiny:Tiny", "pause": PAUSE} | changes.pop("benchmark", {})
        values = {
            "name": name,
            "benchmark": benchmark,
            "storage": str(self.folder / "storage"),
            "tracking_uri": self.mlflow.uri,
            "optuna_uri": self.postgres.uri("optuna"),
        }
        return StudySpec.model_validate(STUDY | values | changes)

    def launch(self, spec: StudySpec, host: Host | None = None, address: str | None = "auto") -> Launch:
        """Run the study, or go on with it; the driver stands on the head or another host."""
        file = self.folder / f"{spec.name}.yaml"
        file.write_text(spec.to_yaml(), encoding="utf-8")
        log = self.folder / f"{spec.name}-{len(list(self.folder.glob(f'{spec.name}-*.log')))}.log"
        command = [str(DRIVER), "run", str(file), "--events"]
        # a home of its own for each launch: what a study needs is in its storage
        command += ["--home", str(log.with_suffix("")), *(["--address", address] if address else [])]
        return Launch(spec, self.cluster.run(command, log, host), log)

    def check(self, spec: StudySpec, failed: dict[int, str] | None = None) -> str:
        storage = Folder(spec.storage or "")
        return check_study(spec, self.mlflow.uri, self.postgres.uri("optuna"), storage, failed)


class Launch:
    """A driver at work."""

    def __init__(self, spec: StudySpec, process: subprocess.Popen[bytes], log: Path) -> None:
        self.spec, self.process, self.log = spec, process, log

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = [line for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    @property
    def messages(self) -> list[str]:
        return [event["text"] for event in self.events("message")]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def met() -> bool:
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            return condition()

        until(met, what)

    def until_epochs(self, number: int) -> None:
        """Until the checkpoints hold so many epochs in all, and two trials are at work."""
        folder = Folder(self.spec.storage or "") / self.spec.name / "trials"

        def saved() -> bool:
            held = [folder.path / trial / "checkpoint.pt" for trial in folder.names()]
            total = sum(len(torch.load(path, weights_only=True)["records"]) for path in held if path.exists())
            return total >= number and len(self.workers()) == 2

        self.until(saved, f"{number} epochs are saved")

    def workers(self) -> dict[int, int]:
        """Trial -> the process that holds its lock, wherever it runs."""
        holding = {}
        trials = Path(self.spec.storage or "") / self.spec.name / "trials"
        for folder in Path("/proc").glob("[0-9]*/fd"):
            # processes and their files come and go while one looks
            try:
                targets = [entry.readlink() for entry in folder.iterdir()]
            except OSError:
                continue
            for path in targets:
                if path.name == "lock" and path.parent.parent == trials:
                    holding[int(path.parent.name)] = int(folder.parent.name)
        return holding

    def end(self, seconds: float = 900.0) -> int:
        """The exit code, once the driver has ended by itself."""
        return self.process.wait(seconds)

    def ends_well(self) -> None:
        assert self.end() == 0, self.log.read_text(encoding="utf-8")
        (outcome,) = self.events("outcome")
        assert (outcome["failed"], outcome["missing"]) == (0, 0)

    def error(self) -> str:
        """The one sentence with which it ended; ``AssertionError`` where there is none, or a traceback."""
        text = self.log.read_text(encoding="utf-8")
        assert "Traceback" not in text, text
        (sentence,) = [line for line in text.splitlines() if line.startswith("error: ")]
        return sentence.removeprefix("error: ")


@contextmanager
def serve(folder: Path) -> Iterator[Service]:
    """The service, up; at the end nothing of it is left but what lies in ``folder``."""
    with Network() as network, ExitStack() as ending:
        gateway = network.GATEWAY
        postgres = Postgres(gateway, free_port(gateway))
        ending.callback(postgres.remove)
        mlflow = MLflow(gateway, free_port(gateway), postgres.uri("mlflow"), folder)
        ending.callback(mlflow.kill)
        s3_port = free_port(gateway)
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "MLFLOW_", "OPTUNA_", "FIERCE_"))
        }
        environment = ours | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": os.urandom(32).hex(),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "AWS_ENDPOINT_URL": f"http://{gateway}:{s3_port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield Service(folder, network, Cluster(network, environment, folder), postgres, mlflow, s3_port)
