"""`trainables` where nothing is installed but torch, torchvision, numpy, scipy and POT, with what these need."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest

from trainables import criteria

ROOT = Path(__file__).parents[2]
OWN = ("torch", "torchvision", "numpy", "scipy", "pot")
#: hides the packages of sys.argv[1], a JSON list, as if they were not installed
HIDE = """
import json, sys

hidden = frozenset(json.loads(sys.argv[1]))

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Hiding, sys.meta_path)
"""
IMPORT = """
import importlib, pkgutil
import trainables
for module in pkgutil.walk_packages(trainables.__path__, "trainables."):
    if module.name != "trainables.trainable":
        importlib.import_module(module.name)
"""
TRAIN = """
import torch
from trainables import criteria
from trainables.training import Training
from trainables.trial import Trial

torch.set_num_threads(1)
small = {"size": 8, "width": 1}
options = {
    "hyperspectral": {"pixels": 200, "probe_epochs": 1},
    "age": {**small, "samples": 60},
    "cifar10": {**small, "samples": 8},
    "cifar10-few-shot": {**small, "samples": 40, "runs": 2},
}
for benchmark in options:
    for criterion in criteria.names() if benchmark == "hyperspectral" else ["fierce"]:
        trial = Trial(benchmark, criterion, (0, 1), options=options[benchmark], training={"epochs": 1})
        (record,) = Training(trial).run()
        assert len(record.metrics["loss/train"]) == 2
        print(benchmark, criterion)
"""


def needed(names: Iterable[str]) -> set[str]:
    """The distributions ``names`` and all that they need, extras aside."""
    reached: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in reached:
            continue
        reached.add(name)
        try:
            requirements = metadata.requires(name) or []
        # for another platform, or another Python
        except metadata.PackageNotFoundError:
            continue
        waiting += [
            re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
            for requirement in requirements
            if "extra ==" not in requirement
        ]
    return reached


@pytest.fixture(scope="module")
def others() -> list[str]:
    """The top-level modules of all that is installed and not needed."""
    kept = needed(OWN)
    normal = {
        module: {re.sub(r"[-_.]+", "-", name).lower() for name in names}
        for module, names in metadata.packages_distributions().items()
    }
    hidden = sorted(module for module, names in normal.items() if not names & kept and module != "trainables")
    assert {"ray", "optuna", "mlflow", "pydantic", "pandas", "sklearn", "matplotlib", "h5py"} <= set(hidden)
    assert not set(hidden) & {"torch", "torchvision", "numpy", "scipy", "ot", "trainables"}
    return hidden


def alone(others: list[str], script: str) -> str:
    """What ``script`` prints in a process that finds none of the ``others``."""
    command = [sys.executable, "-c", HIDE + script, json.dumps(others)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_hidden_cannot_be_imported(others: list[str]) -> None:
    with pytest.raises(AssertionError, match="No module named 'pydantic'"):
        alone(others, "import pydantic")


@pytest.mark.slow
def test_every_module_is_imported_and_every_kind_of_benchmark_trains(others: list[str]) -> None:
    assert len(alone(others, IMPORT + TRAIN).splitlines()) == len(criteria.names()) + 3
