"""The documented example of data and a network of one's own, from docs/own-data.md alone, as a new user runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from typer.testing import CliRunner

from study.cli import app
from study.file.spec import StudySpec
from tests.in_process import without_ray
from trainables import backbones
from trainables.benchmarks import Data
from trainables.benchmarks.own_images import OwnImagesOptions
from trainables.benchmarks.table import TableOptions
from trainables.replicas import stream, streams

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "own-data.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.thorough
@pytest.mark.ray
def test_the_example_runs_as_documented(tmp_path: Path) -> None:
    assert len((ROOT / "examples" / "own_data.py").read_text(encoding="utf-8").splitlines()) <= 64
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "digits.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    make, commands = blocks("console")
    program = re.fullmatch(r'\$ python -c "(.*)"\n', make, re.DOTALL)
    assert program
    subprocess.run([sys.executable, "-c", program[1]], cwd=tmp_path, check=True)
    for command in commands.splitlines():
        words = command.removeprefix("$ fierce ").split()
        if words[0] == "run":
            # fewer seeds and epochs; all else as documented
            words += ["--set", "seeds=3", "--set", "training.epochs=8"]
        done = forked.run(words, os.environ, tmp_path, seconds=500)
        assert done.returncode == 0, done.stdout + done.stderr
    report = tmp_path / "fierce-home" / "studies" / "digits" / "report"
    results = pd.read_csv(report / "metrics.csv")
    fine = results[results["metric"] == "accuracy/fine"].set_index("label")
    # every criterion and λ
    assert list(fine["n"]) == [3] * 5
    # ten digits, guessed: .1
    assert (fine.loc[["CE", "LS σ=0.1"], "mean"] > 0.3).all()
    assert "FIERCE" in (report / "metrics-differences.md").read_text(encoding="utf-8")
    assert (report / "trajectories.svg").is_file()


@pytest.mark.parametrize(("place", "name", "options"), [(0, "table", TableOptions), (1, "images", OwnImagesOptions)])
def test_the_studies_without_python_are_study_files(
    place: int, name: str, options: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documented.yaml").write_text(blocks("yml")[place], encoding="utf-8")
    for path in (tmp_path / "documented.yaml", ROOT / "examples" / f"{name}.yaml"):
        assert StudySpec.load(path).benchmark.name == name
    # every option is in the table of the document
    told = DOCUMENT.read_text(encoding="utf-8").split("| option |")[place + 1].partition("\n\n")[0]
    assert {field.name for field in fields(options)} <= set(re.findall(r"`(\w+)`", told))


def pictures(folder: Path) -> None:
    """Twenty noisy pictures of 8 × 8 pixels of each class that the example names, each class of its own shade."""
    groups = StudySpec.load(ROOT / "examples" / "images.yaml").benchmark.options["groups"]
    draw = np.random.default_rng(0)
    for place, name in enumerate(name for classes in groups.values() for name in classes):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = draw.integers(0, 100, (8, 8, 3)) + 15 * place
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table", "images"])
def test_the_examples_without_python_end_with_an_answer(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIERCE_CACHE", str(tmp_path / "cache"))
    smaller = ["seeds=2", "training.epochs=2", "grid.fierce.lambda=[0.1, 0.3, 1]", "grid.fierce.e=[10]"]
    if name == "table":
        table = load_digits(as_frame=True).frame.iloc[:300].rename(columns={"target": "fine"})
        table.assign(coarse=table["fine"] % 2).to_csv("mine.csv", index=False)
        smaller += ["benchmark.data=mine.csv"]
    else:
        pictures(tmp_path / "photos")
        smaller += ["benchmark.data=photos", "benchmark.size=8", "benchmark.width=1", "training.milestones=[1]"]
    file = str(ROOT / "examples" / f"{name}.yaml")
    overrides = [part for value in smaller for part in ("--set", value)]
    with without_ray():
        ran = CliRunner().invoke(app, ["run", file, "--name", "mine", *overrides], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert CliRunner().invoke(app, ["report", "mine"], catch_exceptions=False).exit_code == 0
    folder = tmp_path / "fierce-home" / "studies" / "mine" / "report"
    page = (folder / "report.html").read_text(encoding="utf-8")
    lead = re.search(r'<p class="lead">(.*?)</p>', page, re.DOTALL)
    assert lead and re.match(r"(Use|Stay with|Not settled)", lead[1].strip())
    assert "the same network trained on the fine labels" in page
    assert (folder / "settings-fierce-lambda.svg").is_file()


class Small(nn.Module):
    """Its features are its inputs."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.layer = nn.Linear(data.inputs.shape[1], data.classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, self.layer(x)


class Wrong(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.layer(x)


@pytest.fixture
def data() -> Data:
    inputs, labels = torch.zeros(4, 5), torch.zeros(4, dtype=torch.int64)
    return Data("none", "simulated", "", inputs, labels, labels, ("a", "b", "c"))


def test_a_network_is_made_from_its_own_seed_alone(data: Data) -> None:
    before = torch.random.get_rng_state()
    many = backbones.own(f"{__name__}:Small", data, streams((3, 1, 2), "init"))
    assert torch.equal(before, torch.random.get_rng_state())
    alone = backbones.own(f"{__name__}:Small", data, [stream(1, "init")])
    weights = [network.layer.weight for network in (*many.replicas, *alone.replicas)]
    assert torch.equal(weights[1], weights[3])
    assert not torch.equal(weights[0], weights[1])
    x = torch.randn(3, 7, 5, generator=stream(0, "x"))
    features, logits = many(x)
    assert torch.equal(features, x)
    torch.testing.assert_close(logits[2], many.replicas[2].layer(x[2]))


class Dropping(Small):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        dropped = nn.functional.dropout(x, 0.5, self.training)
        return dropped, self.layer(dropped)


def test_a_seed_alone_drops_what_it_drops_among_others(data: Data) -> None:
    seeds, x = (3, 1, 2), torch.ones(1, 7, 5)
    many = backbones.own(f"{__name__}:Dropping", data, streams(seeds, "init"))
    alone = backbones.own(f"{__name__}:Dropping", data, [stream(1, "init")])
    before = torch.random.get_rng_state()
    many.reseed(seeds)
    alone.reseed([1])
    for _ in range(2):
        assert torch.equal(many(x.expand(3, -1, -1))[0][1], alone(x)[0][0])
    features = many(x.expand(3, -1, -1))[0]
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(features[0], features[1])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Network", "must be one of your own as package.module:name, not 'Network'"),
        ("nowhere.at.all:Network", "cannot be imported: No module named 'nowhere'"),
        ("torch.nn:Resnet", "'torch.nn:Resnet' cannot be imported: module 'torch.nn' has no attribute 'Resnet'"),
        ("torch:pi", "must be a class or function"),
    ],
)
@pytest.mark.parametrize("benchmark", ["hyperspectral", "cifar-fs", "cifar10"])
def test_a_wrong_name_is_refused_before_anything_starts(name: str, sentence: str, benchmark: str) -> None:
    from study.errors import UserError
    from study.file.spec import StudySpec

    source = ROOT / "study" / "specs" / "quickstart.yaml"
    with pytest.raises(UserError) as error:
        StudySpec.load(source, [f"benchmark={{name: {benchmark}, backbone: '{name}'}}", "search=null", "criteria=[ce]"])
    assert "benchmark" in str(error.value)
    assert sentence in str(error.value)


def test_a_network_without_features_says_what_is_wanted(data: Data) -> None:
    network = backbones.own(f"{__name__}:Wrong", data, [stream(0, "init")])
    with pytest.raises(TypeError, match="Wrong must return two tensors, features"):
        network(torch.zeros(1, 2, 5))
