"""The manifest of a study: as KubeRay's and Kubernetes' schemas have it, and with what the study asks for."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from study.cli import app
from study.errors import UserError
from study.file.spec import StudySpec
from study.service.kubernetes import STUDY_FILE, manifest, object_name

CRD = Path(__file__).parents[2] / "golden" / "rayjob-crd.yaml"
STUDY: dict[str, Any] = {
    "name": "Jasper_2",
    "benchmark": "hyperspectral",
    "criteria": ["ce"],
    "resources": {"cpus": 2, "gpus": 0.25},
    "concurrency": 16,
    "tracking_uri": "http://mlflow:5000",
    "machines": {"nodes": 2, "memory": 64, "kubernetes": {"image": "registry/fierce-study:1", "claim": "studies"}},
}


@pytest.fixture(autouse=True)
def _no_servers_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "FIERCE_STORAGE", "FIERCE_HOME"):
        monkeypatch.delenv(name, raising=False)


def documents(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    study, job = yaml.safe_load_all(manifest(StudySpec.model_validate(STUDY | changes)))
    return study, job


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with what it does not name refused: an API server drops it without a word."""
    schema = copy.deepcopy(schema)

    def close(part: Any) -> None:
        if not isinstance(part, dict):
            return
        if "properties" in part and not part.get("x-kubernetes-preserve-unknown-fields"):
            part["additionalProperties"] = False
        for each in [*part.get("properties", {}).values(), part.get("items")]:
            close(each)

    close(schema)
    return schema


def problems(job: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(closed(yaml.safe_load(CRD.read_text(encoding="utf-8"))))
    return [error.message for error in validator.iter_errors(job)]


def test_the_job_is_one_of_kuberays_schema() -> None:
    _, job = documents()
    assert problems(job) == []
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replica"] = 3
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    assert len(problems(job)) == 2


def test_what_kubernetes_itself_defines_is_as_its_schema_has_it() -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    study, job = documents(machines=STUDY["machines"] | {"kubernetes": {**_named(), "secret": "logins"}})
    validate(study, "1.31", strict=True)
    for template in templates(job):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, **template}
        validate(pod, "1.31", strict=True)
        pod["spec"]["containers"][0]["volumeMount"] = []
        with pytest.raises(Exception, match="volumeMount"):
            validate(pod, "1.31", strict=True)


def _named() -> dict[str, Any]:
    named: dict[str, Any] = STUDY["machines"]["kubernetes"]
    return named


def templates(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    yield cluster["headGroupSpec"]["template"]
    yield from (group["template"] for group in cluster["workerGroupSpecs"])


def test_nodes_have_what_the_study_asks_for() -> None:
    study, job = documents()
    cluster = job["spec"]["rayClusterSpec"]
    # eight trials on each node at a time: two GPUs by four trials, sixteen cores
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 2)
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "2"}
    assert (group["rayStartParams"]["num-cpus"], group["rayStartParams"]["num-gpus"]) == ("16", "2")
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}
    assert study["metadata"]["name"] == job["metadata"]["name"] == object_name("Jasper_2")
    assert job["spec"]["entrypoint"].split()[2] == "/etc/fierce/study.yaml"
    kept = StudySpec.from_yaml(study["data"][STUDY_FILE])
    assert kept == StudySpec.model_validate(STUDY)


def test_a_token_of_ones_own_and_logins_are_named_and_never_written() -> None:
    study, job = documents(
        machines={"kubernetes": {**_named(), "token": "mine", "secret": "logins", "namespace": "lab"}}
    )
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token", "secretName": "mine"}
    for template in templates(job):
        (container,) = template["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "logins"}}]
    assert study["metadata"]["namespace"] == job["metadata"]["namespace"] == "lab"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machines": {}}, "machines.kubernetes.image: name the image"),
        ({"tracking_uri": None}, "tracking_uri: name the MLflow server"),
        ({"tracking_uri": "http://me:word@mlflow:5000"}, "tracking_uri: .*holds a password"),
        ({"machines": {"kubernetes": {"image": "x"}}}, "storage: pods share no disk"),
        ({"machines": {"kubernetes": {"image": "x"}}, "storage": "s3://bucket/studies"}, "optuna_uri: the head's own"),
        (
            {"benchmark": {"name": "hyperspectral", "data": "/home/me/jasper.mat"}},
            "benchmark.data: /home/me/jasper.mat",
        ),
    ],
)
def test_what_cannot_run_there_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        documents(**changes)


def test_the_command_prints_it_and_reads_the_servers_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.lab:5000")
    words = ["kube", "quickstart", "--name", "first", "--set", "machines.kubernetes={image: x, claim: studies}"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    study, job = yaml.safe_load_all(result.stdout)
    assert job["metadata"]["name"] == "fierce-first"
    assert StudySpec.from_yaml(study["data"][STUDY_FILE]).tracking_uri == "http://mlflow.lab:5000"


def test_a_name_is_one_that_kubernetes_takes_and_no_other_studys() -> None:
    names = ["a", "A", "a.b", "a_b", "x" * 100, "x" * 99 + "y"]
    made = [object_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert all(len(name) <= 40 and name.replace("-", "").isalnum() and name.islower() for name in made)
