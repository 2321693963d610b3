"""The script of a study's job: what it asks Slurm for, and what it does when it is told to stop."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from study.cli import app
from study.errors import UserError
from study.file.spec import StudySpec
from study.home import Home
from study.service import slurm

STUDY: dict[str, Any] = {"name": "few", "benchmark": "tiny:Tiny", "criteria": ["ce"], "seeds": 1}
#: what the job calls, in place of Slurm's own
STATE, REQUEUE, FIERCE = "squeue", "scontrol", "fierce"


@pytest.fixture(autouse=True)
def _no_servers_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "FIERCE_STORAGE", "FIERCE_HOME"):
        monkeypatch.delenv(name, raising=False)


def job(home: Path, **changes: Any) -> slurm.Job:
    return slurm.prepare(StudySpec.model_validate(STUDY | changes), Home(home))


def options(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_it_asks_for_what_the_study_does(tmp_path: Path) -> None:
    asked = {"nodes": 3, "gpus": 4, "memory": 200, "hours": 1.5, "slurm": {"partition": "gpu", "account": "lab"}}
    script = job(
        tmp_path, machines=asked, resources={"cpus": 2, "gpus": 0.5}, tracking_uri="http://mlflow:5000"
    ).script  # fmt: skip
    said = options(script)
    wanted = {"nodes": "3", "gpus-per-node": "4", "cpus-per-task": "16", "mem": "200G", "time": "90"}
    assert wanted.items() <= said.items()
    assert {"partition": "gpu", "account": "lab", "signal": "B:TERM@300"}.items() <= said.items()
    assert {"requeue", "exclusive"} <= set(said)
    assert "--min-nodes 3 --num-cpus 16" in script and "RAY_AUTH_TOKEN_PATH" in script
    assert subprocess.run(["bash", "-n"], input=script, encoding="utf-8").returncode == 0


def test_one_node_needs_no_cluster_and_leaves_the_node_to_others(tmp_path: Path) -> None:
    script = job(tmp_path).script
    assert "exclusive" not in options(script) and "symmetric-run" not in script
    assert "--address local" in script


def test_several_nodes_cannot_write_to_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tracking_uri: .* 2 nodes cannot write to"):
        job(tmp_path, machines={"nodes": 2})


def test_what_is_written_is_for_its_owner_alone(tmp_path: Path) -> None:
    prepared = job(tmp_path, tracking_uri="http://me:word@mlflow:5000")
    assert "word" not in prepared.script
    path = prepared.write()
    assert path.read_text(encoding="utf-8") == prepared.script
    token = (path.parent / "token").read_text(encoding="utf-8")
    assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == dict.fromkeys(
        ("job.sh", "study.yaml", "token"), 0o600
    )
    prepared.write()
    assert (path.parent / "token").read_text(encoding="utf-8") == token
    assert StudySpec.from_yaml((path.parent / "study.yaml").read_text(encoding="utf-8")).tracking_uri == (
        "http://me:word@mlflow:5000"
    )


@pytest.mark.parametrize(
    ("code", "told", "state", "requeued"),
    [
        (130, True, "RUNNING", True),
        # the signal that it was sent is not yet told to all of its nodes
        (130, True, "SIGNALING", True),
        # its head was killed by the same signal
        (1, True, "RUNNING", True),
        (0, True, "RUNNING", False),
        # somebody cancelled it, or Slurm has queued it anew already
        (130, True, "COMPLETING", False),
        (1, False, "RUNNING", False),
        (0, False, "RUNNING", False),
    ],
)
def test_it_is_queued_anew_only_where_it_was_told_to_stop(
    tmp_path: Path, code: int, told: bool, state: str, requeued: bool
) -> None:
    script = job(tmp_path / "home").script
    called = tmp_path / "called"
    programs = {
        STATE: f"echo {state}",
        REQUEUE: f'echo "$@" > {called}; kill $PPID',
        FIERCE: f"trap 'exit {code}' TERM; "
        + ("kill -TERM $PPID; for each in {1..3000}; do sleep 0.01; done" if told else f"exit {code}"),
    }
    path = tmp_path / "programs"
    path.mkdir()
    for name, text in programs.items():
        (path / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (path / name).chmod(0o755)
    lines = [line for line in script.splitlines() if not line.startswith("export PATH")]
    # a job that is queued anew is ended by Slurm while it waits for that
    text = "\n".join(lines).replace("&& sleep 600", "&& exit 99")
    environment = {"PATH": f"{path}:/usr/bin:/bin", "SLURM_JOB_ID": "17"}
    done = subprocess.run(["bash", "-c", text], env=environment, timeout=60, capture_output=True, encoding="utf-8")
    assert called.exists() == requeued, done.stderr
    if requeued:
        assert called.read_text(encoding="utf-8") == "requeue 17\n"
    else:
        assert done.returncode == code, done.stderr


@pytest.mark.parametrize("code", [0, 1])
def test_on_several_nodes_it_ends_as_the_study_did_whatever_becomes_of_ray(tmp_path: Path, code: int) -> None:
    script = job(tmp_path / "home", machines={"nodes": 2}, tracking_uri="http://mlflow:5000").write()
    programs = {
        STATE: "echo RUNNING",
        REQUEUE: "echo NodeAddr=127.0.0.1",
        "srun": 'while [ "$1" != -- ]; do shift; done; shift; "$@"; exit 3',
        FIERCE: f"exit {code}",
    }
    path = tmp_path / "programs"
    path.mkdir()
    for name, text in programs.items():
        (path / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (path / name).chmod(0o755)
    lines = script.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("export PATH"))
    environment = {"PATH": f"{path}:/usr/bin:/bin", "SLURM_JOB_ID": "17", "SLURMD_NODENAME": "node1"}
    done = subprocess.run(["bash", "-c", text], env=environment, timeout=60, capture_output=True, encoding="utf-8")
    assert done.returncode == code, done.stderr


def test_the_command_prints_the_job_and_says_where_slurm_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["submit", "quickstart", "--slurm", "--home", str(tmp_path)]
    printed = CliRunner().invoke(app, [*words, "--dry-run"])
    assert printed.exit_code == 0 and options(printed.stdout)["job-name"] == "fierce-quickstart"
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2 and "no command sbatch here" in refused.stderr
    refused = CliRunner().invoke(app, ["submit", "quickstart", "--dry-run"])
    assert refused.exit_code == 2 and "goes with --slurm alone" in refused.stderr
