"""A study as one manifest for Kubernetes: a RayJob of KubeRay, and the study file that its pods read.

KubeRay brings up a cluster for the job, with a token that it makes, and takes it away at the end. The head runs the
command and no trial; each node of the study is a worker.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from analysis import dialect
from analysis.addresses import absolute, has_secret, without_password
from study.errors import UserError
from study.file.machines import Asked, asked
from study.file.paths import on_disk
from study.file.spec import StudySpec
from study.home import HOME_VARIABLE, STORAGE_VARIABLE, Home
from study.launch.cluster import OBJECT_STORE_BYTES
from study.servers.logins import require_no_secrets, servers

#: where the pods find the study file
STUDY_FOLDER, STUDY_FILE = "/etc/fierce", "study.yaml"
#: how often a cluster that was lost is brought up anew; the study goes on where it stopped
RETRIES = 3
#: whoever owns what an image's processes write: the user of docker/Dockerfile
GROUP = 10001
#: where a head and a worker say that they are well, without a token
HEAD_HEALTH, WORKER_HEALTH = ":8265/api/gcs_healthz", ":52365/api/local_raylet_healthz"
#: the head: a driver, and Ray's own processes
HEAD_CPUS, HEAD_MEMORY = 2, "8Gi"
#: a label's and a volume's value has at most so many letters, and a RayJob's name fewer
MOST_LETTERS = 40


def manifest(spec: StudySpec) -> str:
    """The documents that ``kubectl apply -f -`` takes, in YAML; `UserError` where the study cannot run in a cluster."""
    require_no_secrets(spec)
    named = spec.machines.kubernetes
    if named.image is None:
        raise UserError(
            "machines.kubernetes.image: name the image that the pods run, with fierce-study in it; docker/Dockerfile "
            "builds one"
        )
    spec = _public(spec)
    _require_servers(spec)
    name = object_name(spec.name)
    about = {"name": name, "labels": {"app.kubernetes.io/name": "fierce-study", "app.kubernetes.io/instance": name}}
    if named.namespace:
        about["namespace"] = named.namespace
    study = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {STUDY_FILE: spec.to_yaml()}}
    job = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": about, "spec": _job(spec, name, asked(spec))}
    return "---\n".join(map(dialect.dump, (study, job)))


def object_name(study: str) -> str:
    """What the study's objects are called: its name as Kubernetes takes it, told apart by a digest where it differs.

    >>> object_name("jasper"), object_name("Jasper_2")
    ('fierce-jasper', 'fierce-jasper-2-e6b116')
    """
    plain = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-")
    if plain != study or len(plain) > MOST_LETTERS - len("fierce-"):
        digest = hashlib.sha256(study.encode()).hexdigest()[:6]
        plain = f"{plain[: MOST_LETTERS - len('fierce-') - 7].strip('-')}-{digest}"
    return f"fierce-{plain}"


def _public(spec: StudySpec) -> StudySpec:
    """The study with the servers that pods are told by name; `UserError` where an address holds a password."""
    uri = Home.find().tracking_uri(spec)
    # an MLflow server that the shell names is one to be named to the pods; an embedded store is not
    update = {key: absolute(address) for key, address in servers(spec).items()}
    if urlsplit(uri).scheme in ("http", "https"):
        update["tracking_uri"] = uri
    spec = spec.model_copy(update=update)
    for key, address in {**servers(spec), "storage": spec.storage or ""}.items():
        if has_secret(address):
            raise UserError(
                f"{key}: {without_password(address)} holds a password, which would stand in the manifest; leave it "
                "out there, and give it by the secret that machines.kubernetes.secret names"
            )
    return spec


def _require_servers(spec: StudySpec) -> None:
    """Pods share what the claim holds, what a bucket holds, and servers."""
    from trainables.benchmarks import find

    named = spec.machines.kubernetes
    for option, paths in on_disk(find(spec.benchmark.name).Options, spec.benchmark.options).items():
        for path in paths:
            if not named.claim or not Path(path).is_relative_to(named.mount):
                shared = f"below {named.mount}, where the pods' volume claim is mounted" if named.claim else "at s3://…"
                raise UserError(f"benchmark.{option}: {path} is not seen by the pods; put the file {shared}")
    if urlsplit(spec.tracking_uri or "").scheme not in ("http", "https"):
        raise UserError(
            "tracking_uri: name the MLflow server as the pods reach it, http://mlflow:5000 say, by tracking_uri or "
            "MLFLOW_TRACKING_URI"
        )
    if named.claim:
        return
    if not (spec.storage or "").startswith("s3://"):
        raise UserError(
            "storage: pods share no disk; name s3://bucket/prefix, or a volume claim by machines.kubernetes.claim"
        )
    if spec.optuna_uri is None and named.secret is None:
        raise UserError(
            "optuna_uri: the head's own disk does not last; name a database, or a secret with OPTUNA_STORAGE by "
            "machines.kubernetes.secret, or a volume claim by machines.kubernetes.claim"
        )


def _job(spec: StudySpec, name: str, nodes: Asked) -> dict[str, Any]:
    named = spec.machines.kubernetes
    # a study that was begun goes on where it stopped, and its failed trials are tried again
    command = f"fierce run {STUDY_FOLDER}/{STUDY_FILE} --name {spec.name} --address auto --retry-failed"
    head = {"cpus": HEAD_CPUS, "gpus": 0, "memory": HEAD_MEMORY}
    node = {"cpus": nodes.cpus, "gpus": nodes.gpus, "memory": f"{nodes.memory}Gi" if nodes.memory else None}
    store = {"object-store-memory": str(OBJECT_STORE_BYTES)}
    token = {"mode": "token", **({"secretName": named.token} if named.token else {})}
    return {
        "entrypoint": command,
        "shutdownAfterJobFinishes": True,
        # long enough to read the log of what went wrong
        "ttlSecondsAfterFinished": 600,
        "backoffLimit": RETRIES,
        # submitted once: what is submitted twice would be another job beside the first
        "submitterConfig": {"backoffLimit": 0},
        "rayClusterSpec": {
            "rayVersion": metadata.version("ray"),
            "authOptions": token,
            "headGroupSpec": {
                # no CPU or GPU of its own: trials run on workers, and the driver asks for none
                "rayStartParams": {**store, "num-cpus": "0", "num-gpus": "0"},
                "template": _pod(spec, name, head, HEAD_HEALTH),
            },
            "workerGroupSpecs": [
                {
                    "groupName": "nodes",
                    **dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), nodes.nodes),
                    "rayStartParams": {**store, "num-cpus": str(nodes.cpus), "num-gpus": str(nodes.gpus)},
                    "template": _pod(spec, name, node, WORKER_HEALTH),
                }
            ],
        },
    }


def _pod(spec: StudySpec, name: str, node: Mapping[str, Any], health: str) -> dict[str, Any]:
    """A pod of Ray with ``node``'s cores, GPUs and memory, that sees the study file, the logins and the claim."""
    named = spec.machines.kubernetes
    own = named.mount if named.claim else "/tmp"
    given = {"cpu": str(node["cpus"])}
    if node["memory"]:
        given["memory"] = node["memory"]
    limits = {**given, **({"nvidia.com/gpu": str(node["gpus"])} if node["gpus"] else {})}
    variables = {
        HOME_VARIABLE: f"{own}/home",
        "FIERCE_CACHE": f"{own}/cache",
        "HOME": "/tmp",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # a stopped study has this long to write its last checkpoint
        "RAY_JOB_STOP_WAIT_TIME_S": "300",
    }
    if named.claim and spec.storage is None:
        variables[STORAGE_VARIABLE] = f"{own}/studies"
    volumes: list[dict[str, Any]] = [
        {"name": "study", "configMap": {"name": name}},
        # the default is 64 MB, and Ray's object store and torch's workers share memory there
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "study", "mountPath": STUDY_FOLDER, "readOnly": True},
        {"name": "memory", "mountPath": "/dev/shm"},
    ]
    if named.claim:
        volumes.append({"name": "shared", "persistentVolumeClaim": {"claimName": named.claim}})
        mounts.append({"name": "shared", "mountPath": named.mount})
    look = f"import urllib.request as u; u.urlopen('http://127.0.0.1{health}', timeout=5)"
    # KubeRay's own probes call wget, which a slim image has not
    probe = {"exec": {"command": ["python", "-c", look]}, "timeoutSeconds": 10, "periodSeconds": 10}
    container: dict[str, Any] = {
        "name": "ray",
        "image": named.image,
        "resources": {"requests": given, "limits": limits},
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "volumeMounts": mounts,
        "readinessProbe": {**probe, "failureThreshold": 3},
        # a node that joins takes a while
        "livenessProbe": {**probe, "initialDelaySeconds": 60, "failureThreshold": 12},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if named.secret:
        container["envFrom"] = [{"secretRef": {"name": named.secret}}]
    # KubeRay itself restarts pods, and a study goes on without one that is lost
    pod = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 60}
    return {"spec": {**pod, "securityContext": {"fsGroup": GROUP}}}
