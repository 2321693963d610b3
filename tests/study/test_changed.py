"""What a study was trained with changes under its name: code and data of one's own, another folder, another version."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import forked
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from analysis import schema
from analysis.report import write
from study.cli import app
from study.errors import UserError
from study.file.spec import StudySpec
from study.home import Home
from study.launch import sweep
from study.record import code, files, status
from tests import launches
from tests.in_process import without_ray
from tests.launches import HIDDEN

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

LOSS = '''"""A criterion of one's own."""

from torch.nn import functional


def loss(logits, features, targets, weight=0.5):
    return functional.cross_entropy(logits, targets) + weight * features.square().mean()
'''


class Watcher:
    """An observer that keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: None


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*HIDDEN, "FIERCE_STORAGE"):
        if not name.startswith("RAY_AUTH"):
            monkeypatch.delenv(name, raising=False)


def table(path: Path, spread: float = 0.0) -> Path:
    random = np.random.default_rng(0)
    fine = np.arange(80) % 4
    frame = pd.DataFrame({"x": fine + random.normal(0, 0.3, 80) * (1 + spread), "y": random.normal(0, 1, 80)})
    frame["fine"], frame["coarse"] = [f"f{each}" for each in fine], [f"c{each // 2}" for each in fine]
    frame.to_csv(path, index=False)
    return path


def of_table(data: Path, **changed: object) -> StudySpec:
    values = {
        "name": "t",
        "benchmark": {"name": "table", "data": str(data), "coarse": "coarse", "fine": "fine"},
        "criteria": ["ce"],
        "seeds": [0, 1],
        "training": {"epochs": 2},
    }
    return StudySpec.model_validate(values | changed)


def test_changed_data_is_refused_and_a_version_is_told(trained_here: None, tmp_path: Path) -> None:
    home, data = Home(tmp_path / "home"), table(tmp_path / "data.csv")
    assert sweep.run(of_table(data), home).done == 1
    kept = code.read(home.files("t"))
    assert kept is not None and len(kept.data) == 64 and kept.folder == str(Path.cwd())
    more = of_table(data, criteria=["ce", "ls"])
    table(data, spread=0.5)
    with pytest.raises(UserError, match=r"was trained on other data: .* --name, or anew with --replace"):
        sweep.run(more, home)
    table(data)
    assert sweep.run(more, home).done == 2

    # by `fierce run`, which has looked at the data, even where nothing is left to train
    file = tmp_path / "t.yaml"
    file.write_text(more.to_yaml(), encoding="utf-8")
    arguments = ["run", str(file), "--home", str(home.root)]
    table(data, spread=0.5)
    for extra in ([], ["--dry-run"]):
        refused = CliRunner().invoke(app, [*arguments, *extra])
        assert refused.exit_code == 2 and "was trained on other data" in refused.output
    # nobody can be asked
    asked = CliRunner().invoke(app, [*arguments, "--replace"])
    assert asked.exit_code == 2 and "fierce run --replace asks before it deletes" in asked.output
    replaced = CliRunner().invoke(app, [*arguments, "--replace", "--yes"])
    assert replaced.exit_code == 0, replaced.output
    again = code.read(home.files("t"))
    assert again is not None and again.data != kept.data
    fingerprints = {
        run.data.tags[schema.DATA_FINGERPRINT] for run in runs(home) if run.data.tags[schema.LEVEL] == "trial"
    }
    assert fingerprints == {again.data}

    # one version trained it; then two had
    assert status.read(home, "t").note == ""
    trial = next(run for run in runs(home) if run.data.tags[schema.LEVEL] == "trial")
    MlflowClient(home.tracking_uri()).set_tag(trial.info.run_id, schema.VERSIONS, "fierce-study 0.0.1 python 3.12")
    told = status.read(home, "t").note
    assert "Trained by fierce-study 0.0.1 and " in told
    assert told in write(home.tracking_uri(), "t", tmp_path / "report").read_text(encoding="utf-8")


def test_other_data_on_a_cluster_s_node_fails_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, data = Home(tmp_path / "home"), table(tmp_path / "data.csv")
    # what a cluster's nodes hold cannot be looked at from here
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    with without_ray():
        assert sweep.run(of_table(data), home).done == 1
        table(data, spread=0.5)
        more = sweep.run(of_table(data, criteria=["ce", "ls"]), home)
        assert (more.done, more.failed) == (1, 1)
        told = next(trial.reason for trial in status.read(home, "t").trials if trial.state == "failed")
        assert "the data here is not what the study was trained on: its fingerprint was" in told
        table(data)
        assert sweep.run(of_table(data, criteria=["ce", "ls"]), home, retry_failed=True).done == 2


def test_a_study_of_which_nothing_was_begun_takes_another_file(tmp_path: Path) -> None:
    home, data = Home(tmp_path / "home"), table(tmp_path / "data.csv")
    busy = ConnectionError("the machine was busy")
    with without_ray(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep.cluster, "connect", lambda *arguments: _raise(busy))
        with pytest.raises(ConnectionError):
            sweep.run(of_table(data), home)
    with without_ray():
        assert sweep.run(of_table(data, training={"epochs": 1}), home).done == 1
        with pytest.raises(UserError, match=r"stands with another file: training\.epochs: 1 → 2"):
            sweep.run(of_table(data), home)


def test_a_launch_that_ray_ended_for_memory_says_so(tmp_path: Path) -> None:
    said = "Task was killed due to the node running low on memory.\nRefer to the documentation on how to address the "
    lost = RuntimeError(f"{said}out of memory issue: https://docs.ray.io/. Consider provisioning more memory")
    with without_ray(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "_tuner", lambda *arguments: SimpleNamespace(fit=lambda: _raise(lost)))
        with pytest.raises(UserError, match=r"Ray Tune stopped \(the memory of a node ran out, .*resume the study"):
            sweep.run(of_table(table(tmp_path / "data.csv")), Home(tmp_path / "home"))
    # nothing else is told otherwise
    assert sweep._told(RuntimeError("first\nwhat happened")) == "what happened"


def _raise(error: Exception) -> NoReturn:
    raise error


def runs(home: Home) -> list:  # type: ignore[type-arg]
    client = MlflowClient(home.tracking_uri())
    return list(client.search_runs([client.get_experiment_by_name("t").experiment_id]))


def test_what_was_begun_without_a_record_goes_on_with_a_note(trained_here: None, tmp_path: Path) -> None:
    home, data = Home(tmp_path / "home"), table(tmp_path / "data.csv")
    assert sweep.run(of_table(data), home).done == 1
    (home.study("t") / code.CODE).unlink()
    watcher = Watcher()
    assert sweep.run(of_table(data, criteria=["ce", "ls"]), home, watcher).done == 2
    assert watcher.messages == ["study 't' has no record of its code and data, which are noted from now on"]
    assert code.read(home.files("t")) is not None


def test_dry_run_says_what_is_kept_trained_and_refused(trained_here: None, tmp_path: Path) -> None:
    home, data = Home(tmp_path / "home"), table(tmp_path / "data.csv")
    assert sweep.run(of_table(data, criteria=["ce", "ls"]), home).done == 2
    (file := tmp_path / "t.yaml").write_text(
        of_table(data, criteria=["ce", "ls", "confidence-penalty"], seeds=[0, 1, 2, 3]).to_yaml(), encoding="utf-8"
    )
    arguments = ["run", str(file), "--home", str(home.root), "--dry-run"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    lines = [line.split("\t") for line in shown.stdout.splitlines()]
    assert [line[-1] for line in lines[:3]] == ["kept, and seeds 2, 3", "kept, and seeds 2, 3", "new"]
    assert "0 kept as they are, 2 trained on the further seeds 2, 3" in shown.stdout
    refused = CliRunner().invoke(app, [*arguments, "--set", "training.epochs=3", "--set", "seeds=1"])
    assert refused.exit_code == 2
    assert "training.epochs: 2 → 3" in refused.output and "seeds: 0, 1 → 0" in refused.output
    assert "would be deleted first" in CliRunner().invoke(app, [*arguments, "--replace"]).output
    # nothing was written
    assert files.load_spec(home, "t").seeds == (0, 1)
    assert files.studies_here(home) == ["t"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a criterion of one's own and the study of it, which was run from there."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "own_loss_of_tests.py").write_text(LOSS, encoding="utf-8")
    data = table(folder / "data.csv")
    spec = of_table(data, criteria=["ce", "own_loss_of_tests:loss"])
    (folder / "t.yaml").write_text(spec.to_yaml(), encoding="utf-8")
    fierce(folder, "run", "t.yaml")
    return folder


def fierce(folder: Path, *arguments: str, at: Path | None = None, expect: int = 0) -> str:
    """What the command prints in a folder, by a process that has only the project's own code to import."""
    environment = launches.environment(ROOT) | {"FIERCE_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    done = forked.run(arguments, environment, at or folder, forked.FIERCE_WITHOUT_RAY)
    said = done.stdout + done.stderr
    assert done.returncode == expect and "Traceback" not in said, said
    return said


@pytest.mark.ray
def test_outside_of_the_projects_folder_nothing_is_a_traceback(project: Path, tmp_path: Path) -> None:
    assert "trials: 2 done" in fierce(project, "status", "t", at=tmp_path)
    said = fierce(project, "resume", "t", at=tmp_path, expect=2)
    assert said.startswith("error: criterion 'own_loss_of_tests:loss' cannot be imported")
    assert f"go on with study 't' in {project}" in said and said.count("\n") == 1
    assert "t" in fierce(project, "studies", at=tmp_path)
    assert "2 done" in fierce(project, "resume", "t")


@pytest.mark.ray
def test_changed_code_is_refused(project: Path) -> None:
    loss = project / "own_loss_of_tests.py"
    loss.write_text(LOSS.replace("weight *", "2 * weight *"), encoding="utf-8")
    for command in (("resume", "t"), ("run", "t.yaml"), ("run", "t.yaml", "--dry-run")):
        said = fierce(project, *command, expect=2)
        assert "study 't' was trained with other code: own_loss_of_tests changed since" in said
        assert "--name" in said and "--replace" in said
    loss.write_text(LOSS, encoding="utf-8")
    assert "2 done" in fierce(project, "resume", "t")
    # code that nothing was trained by may change, and where it fails is told
    loss.write_text(LOSS.replace("def loss(", "def other(").replace("return", "return nothing +"), encoding="utf-8")
    fierce(project, "run", "t.yaml", "--set", "criteria=[own_loss_of_tests:other]", "--name", "o", expect=1)
    said = fierce(project, "status", "o")
    assert "NameError: name 'nothing' is not defined (own_loss_of_tests.py, line 7)" in said
    loss.write_text(LOSS.replace("def loss(", "def other("), encoding="utf-8")
    assert "1 done" in fierce(project, "resume", "o")
