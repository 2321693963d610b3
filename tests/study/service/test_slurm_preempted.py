"""A study on a real Slurm, told to stop by a job that goes before it, queued anew, and finished."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
from faults.backends import MLflow, free_port
from faults.checks import check_study
from faults.hosts import ROOT, TESTS, Network, until
from mlflow import MlflowClient
from slurm_nodes import PROGRAMS, Slurm

from study.file.spec import StudySpec
from study.home import Home
from study.service.slurm import prepare
from trainables.storage import Folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.server,
    pytest.mark.skipif(
        not os.environ.get("FIERCE_TEST_SLURM") or os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)),
        reason=f"needs FIERCE_TEST_SLURM=1, root, and {', '.join(PROGRAMS)} (Debian: slurm-wlm, munge, iproute2)",
    ),
]


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def slurm(network: Network) -> Iterator[Slurm]:
    with Slurm(network) as slurm:
        yield slurm


@pytest.fixture
def tracking(network: Network, tmp_path: Path) -> Iterator[str]:
    server = MLflow(network.GATEWAY, free_port(network.GATEWAY), f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    yield server.uri
    server.kill()


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_preempted_study_is_queued_anew_and_ends_as_if_undisturbed(
    slurm: Slurm, tracking: str, tmp_path: Path, nodes: int
) -> None:
    home = Home(tmp_path / "home")
    spec = StudySpec.model_validate(
        {
            "name": "preempted",
            "benchmark": {"name": "tiny:Tiny", "pause": 2.0},
            "criteria": ["ce", "ls"],
            "seeds": [1, 4],
            "training": {"epochs": 60},
            "concurrency": 2,
            "machines": {"nodes": nodes, "slurm": {"partition": "usual"}},
            "storage": str(home.root / "studies"),
            "tracking_uri": tracking,
        }
    )
    file = tmp_path / "preempted.yaml"
    file.write_text(spec.to_yaml(), encoding="utf-8")
    hidden = {name: "" for name in os.environ if name.startswith(("RAY_", "MLFLOW_", "OPTUNA_", "FIERCE_"))}
    environment = hidden | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)]), "OMP_NUM_THREADS": "1"}
    fierce = (sys.executable, "-c", forked.FIERCE)
    submit = ("submit", str(file), "--slurm", "--home", str(home.root))
    submitted = slurm.run(*fierce, *submit, environment=environment)
    job = submitted.partition("job ")[2].partition(";")[0]
    log = home.root / "slurm" / spec.name / f"{job}.log"

    def said() -> str:
        return log.read_text(encoding="utf-8") if log.exists() else ""

    def under_way() -> bool:
        assert slurm.state(job).split()[0] in ("PENDING", "CONFIGURING", "RUNNING"), said()
        return _epochs(tracking, spec.name) >= 3

    until(under_way, "both trials train", 900)
    # the job that goes before it wants the very nodes
    named = slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
    options = ("--partition=urgent", f"--nodelist={named}", f"--nodes={nodes}", "--exclusive", "--output=/dev/null")
    slurm.run("sbatch", *options, "--wrap", "true")

    def ended() -> bool:
        state = slurm.state(job).split()[0]
        before = ("PENDING", "CONFIGURING", "RUNNING", "SIGNALING", "COMPLETING", "PREEMPTED")
        assert state in (*before, "COMPLETED"), said()
        return state == "COMPLETED"

    until(ended, "the study ends", 1200)
    assert slurm.state(job) == "COMPLETED 1", said()
    assert "interrupted; go on with" in said()
    assert check_study(spec, tracking, home.optuna_uri(), Folder(spec.storage or "")).startswith("2 done")
    assert "token" not in said() and (home.root / "slurm" / spec.name / "token").stat().st_mode & 0o077 == 0


#: stands for ``fierce run``: its first start waits until it is told to stop, its second one finds all done
_STAND_IN = """#!/bin/bash
echo begun >> {told}
[ "$(wc -l < {told})" -gt 1 ] && exit 0
trap 'exit 130' TERM
while :; do sleep 0.1; done
"""


@pytest.mark.parametrize("cancelled", [False, True])
def test_slurm_queues_a_job_anew_that_was_preempted_and_none_that_was_cancelled(
    slurm: Slurm, tmp_path: Path, cancelled: bool
) -> None:
    told, programs = tmp_path / "told", tmp_path / "programs"
    programs.mkdir()
    (programs / "fierce").write_text(_STAND_IN.format(told=told), encoding="utf-8")
    (programs / "fierce").chmod(0o755)
    spec = StudySpec.model_validate({"name": "stand-in", "benchmark": "tiny:Tiny", "criteria": ["ce"]})
    prepared = prepare(spec, Home(tmp_path / "home"))
    path = prepared.write()
    path.write_text(prepared.script.replace("export PATH=", f"export PATH={programs}:"), encoding="utf-8")
    job = slurm.run("sbatch", "--parsable", str(path)).strip()
    until(told.exists, "the job runs", 120)
    if cancelled:
        slurm.run("scancel", job)
        until(lambda: slurm.state(job).startswith("CANCELLED"), "the job is cancelled", 120)
        until(lambda: not slurm.run("squeue", "--noheader"), "nothing is queued", 120)
        assert slurm.state(job) == "CANCELLED 0"
        assert told.read_text(encoding="utf-8") == "begun\n"
        return
    named = slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
    slurm.run(
        "sbatch", "--partition=urgent", f"--nodelist={named}", "--exclusive", "--output=/dev/null", "--wrap", "true"
    )
    until(lambda: slurm.state(job) == "COMPLETED 1", f"it ends in its second start ({slurm.state(job)})", 400)
    assert told.read_text(encoding="utf-8") == "begun\nbegun\n"


def _epochs(uri: str, study: str) -> int:
    """The epochs that MLflow has of the trial that is least far."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        return 0
    runs = client.search_runs([experiment.experiment_id], "tags.`fierce.seed` = '1'")
    done = [len(client.get_metric_history(run.info.run_id, "accuracy/coarse")) for run in runs]
    return min(done) if len(done) == 2 else 0
