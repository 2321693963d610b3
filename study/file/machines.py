"""What a study asks of a scheduler: nodes, what each of them has, and what a site wants to be told beside."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PlainValidator, model_validator

from study.file.parts import Model, Number, Text, Whole, number
from study.file.sentences import problem

if TYPE_CHECKING:
    from typing import Self

    from study.file.spec import StudySpec

#: what `study.service.slurm` writes itself
OWN_OPTIONS = (
    *("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "mem", "time", "exclusive"),
    *("requeue", "no-requeue", "open-mode", "signal", "output", "chdir", "export", "array", "wrap"),
)
#: a name of Kubernetes (RFC 1123): what its objects are called
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")


class Kubernetes(Model):
    """What the manifest of ``fierce kube`` names in the cluster."""

    #: image with fierce-study, such as the one that docker/Dockerfile builds
    image: Text | None = None
    #: namespace of the job; else kubectl's own
    namespace: Text | None = None
    #: secret of your own that holds Ray's token under the key ``auth_token``; else KubeRay makes one
    token: Text | None = None
    #: secret whose keys are variables of each pod: logins of MLflow and of the object store, OPTUNA_STORAGE
    secret: Text | None = None
    #: persistent volume claim, ReadWriteMany, that every pod mounts: study home, storage and data
    claim: Text | None = None
    #: where it is mounted
    mount: Text = "/var/lib/fierce"

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in ("namespace", "token", "secret", "claim"):
            name = getattr(self, key)
            if name is not None and not _NAME.fullmatch(name):
                raise problem((key,), f"{name!r}: a name in Kubernetes is lower-case letters, digits, '-' and '.'")
        if not self.mount.startswith("/"):
            raise problem(("mount",), f"{self.mount!r} is no absolute path")
        return self


class Machines(Model):
    """What ``fierce submit --slurm`` and ``fierce kube`` ask for; nothing else reads it.

    What is not given follows from the study: as much as its ``concurrency`` trials take, or one trial where that is
    ``auto``.
    """

    #: machines that train together
    nodes: Whole = Field(default=1, ge=1)
    #: cores of each node
    cpus: Annotated[Whole, Field(ge=1)] | None = None
    #: GPUs of each node
    gpus: Annotated[Whole, Field(ge=0)] | None = None
    #: memory of each node in GiB; else the scheduler's own choice
    memory: Annotated[Whole, Field(ge=1)] | None = None
    #: after so many hours a Slurm job is requeued, and goes on where it stopped; else the partition's limit
    hours: Annotated[Number, PlainValidator(number), Field(gt=0)] | None = None
    #: options of ``sbatch`` by their long names, such as ``{partition: gpu, account: lab}``
    slurm: dict[str, Text | Whole] = Field(default_factory=dict)
    #: names in Kubernetes
    kubernetes: Kubernetes = Kubernetes()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for option, value in self.slurm.items():
            if option in OWN_OPTIONS:
                raise problem(("slurm", option), "is written by fierce itself; leave it out")
            if not re.fullmatch(r"[a-z][a-z-]*", option):
                raise problem(("slurm", option), "is no long option of sbatch, such as partition or account")
            if "\n" in str(value):
                raise problem(("slurm", option), "has more than one line")
        return self


@dataclass(frozen=True)
class Asked:
    """So many nodes, and what each has: whole cores and GPUs, GiB (None: the scheduler's choice), hours in all."""

    nodes: int
    cpus: int
    gpus: int
    memory: int | None
    hours: float | None


def asked(spec: StudySpec) -> Asked:
    """What the study asks for: ``machines`` as given, the rest as much as its trials at the same time take.

    `PydanticCustomError` at its keys where a node would have too little for one trial.
    """
    given, trial = spec.machines, spec.resources
    share = 1.0 if trial.gpus == "auto" else trial.gpus
    # a GPU is shared, but a trial never spans two
    on_one = int(1 / share + 1e-6) if share else 0
    trials = 1 if spec.concurrency == "auto" else math.ceil(spec.concurrency / given.nodes)
    gpus = given.gpus if given.gpus is not None else math.ceil(trials / on_one) if on_one else 0
    if on_one:
        trials = gpus * on_one if given.gpus is not None and spec.concurrency == "auto" else trials
    cpus = given.cpus if given.cpus is not None else max(1, math.ceil(trials * trial.cpus))
    if share > gpus:
        raise problem(("machines", "gpus"), "is 0, and resources.gpus gives each trial some; give nodes at least 1")
    if trial.cpus > cpus:
        raise problem(("machines", "cpus"), f"is {cpus}, and a trial asks for {trial.cpus:g}; give nodes as many")
    return Asked(given.nodes, cpus, gpus, given.memory, given.hours)
