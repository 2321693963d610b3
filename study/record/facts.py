"""What is known of a trial once it runs: data, recipe, device and code, as MLflow's tags and params."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
import subprocess
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import schema
from study import PROGRAM
from trainables.assignment import Facts

if TYPE_CHECKING:
    from trainables.assignment import Share
    from trainables.training import Training

#: characters of a tag, MLflow's limit
TAG_LENGTH = 8000
#: characters of a split's digest
SPLIT_LENGTH = 16
#: tags beyond `analysis.schema`
DEVICE = "fierce.device"
#: how its convolutions are computed, where that is a choice
KERNEL = "fierce.kernel"
#: what the trial ran on: host, GPU with its driver, and the share that it was given
NODE, GPU, SHARE = "fierce.node", "fierce.gpu", "fierce.share"


def describe(training: Training, share: Share | None, seeds: int | None = None) -> Facts:
    """Data, recipe and device of a trial, with its ``share`` of the cluster.

    The training may be of several points, each of the same so many ``seeds``; None where it is of the trial alone.
    """
    data = training.data
    tags = {
        schema.DATA_NAME: data.name,
        schema.DATA_PROVENANCE: data.provenance,
        schema.DATA_FINGERPRINT: data.fingerprint,
        schema.DATA_DESCRIPTION: data.description,
        schema.PARTS: json.dumps(
            {
                "sizes": {part: indices.shape[1] for part, indices in training.parts.items()},
                "redrawn": training.redraws,
            }
        ),
        schema.DATA_CLASSES: json.dumps(data.coarse_names, ensure_ascii=False)[:TAG_LENGTH],
        DEVICE: _device(training.device.type),
        NODE: platform.node(),
        SHARE: "" if share is None else f"{share.cpus:.3g} cpus, {share.gpus:.3g} gpus",
    }
    if training.kernel is not None:
        tags[KERNEL] = str(training.kernel)
    if training.device.type == "cuda":
        tags[GPU] = _gpu()
    recipe = {f"training.{name}": str(value) for name, value in asdict(training.recipe).items()}
    recipe.pop("training.hyperparameters")
    return Facts(tags, recipe, len(data.inputs), data.classes, _splits(training)[:seeds])


def _splits(training: Training) -> list[str]:
    """By seed, a digest of the samples of each part, in their order: SHA-256, shortened."""
    from trainables.evaluators import shared

    parts = {name: indices.cpu().numpy() for name, indices in sorted(training.parts.items()) if name != shared.SAMPLE}
    found = []
    for place in range(len(training.trial.seeds)):
        digest = hashlib.sha256()
        for name, indices in parts.items():
            digest.update(f"{name} {indices.shape[1]} ".encode())
            digest.update(indices[place].astype("<i8").tobytes())
        found.append(digest.hexdigest()[:SPLIT_LENGTH])
    return found


def dataset_input(facts: Facts) -> Any:
    """The data set as MLflow's own record of it; the digest there holds 36 characters at most."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    tags = facts.tags
    name = tags[schema.DATA_NAME]
    profile = json.dumps({"samples": facts.samples, "classes": facts.classes})
    source = json.dumps({"name": name, "description": tags[schema.DATA_DESCRIPTION]})
    dataset = Dataset(name, tags[schema.DATA_FINGERPRINT][:36], "code", source, profile=profile)
    return DatasetInput(dataset, [InputTag("provenance", tags[schema.DATA_PROVENANCE])])


def _gpu() -> str:
    """The GPU and its driver, as ``nvidia-smi`` tells them."""
    import torch

    name = torch.cuda.get_device_name()
    # torch numbers the visible ones, nvidia-smi all of them
    uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
    asked = ["nvidia-smi", f"--id={uuid}", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, encoding="utf-8", timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"{name} ({uuid})"
    return f"{name} ({uuid}), driver {driver}"


def _device(kind: str) -> str:
    import torch

    return torch.cuda.get_device_name() if kind == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def source() -> dict[str, str]:
    """The commit of this code where it runs from a checkout, versions, and who runs it."""
    versions = " ".join(f"{name} {version(name)}" for name in ("torch", "ray", "optuna", "mlflow"))
    tags = {
        schema.VERSIONS: f"fierce-study {version('fierce-study')} python {platform.python_version()} {versions}",
        "mlflow.source.name": PROGRAM,
        "mlflow.source.type": "LOCAL",
    }
    # a container may run under a user id without a name
    with suppress(KeyError, OSError):
        tags["mlflow.user"] = getpass.getuser()
    folder = Path(__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["mlflow.source.git.dirty"] = str(bool(_git(folder, "status", "--porcelain", "--untracked-files=no")))
    return tags


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, encoding="utf-8", errors="replace", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
