"""The checks of code of one's own: what is right passes, and each slip is named, with the line of its author's."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

from study.cli import app
from tests.small import SMALL
from tests.tiny import Tiny
from trainables import criteria
from trainables.benchmarks import BENCHMARKS
from trainables.conformance import Examination, Finding, examine
from trainables.criterion import Batch, Criterion, Hyperparameter, Setup
from trainables.evaluators import Evaluator, Snapshot
from trainables.metrics import Metric
from trainables.testing import BenchmarkTests, CriterionTests
from trainables.trial import Trial

HERE = __name__


def examined(benchmark: str = "tests.tiny:Tiny", criterion: str = "ce", **fields: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine([Trial(benchmark, criterion, (0,), **fields)])}


class TestFocal(CriterionTests):
    criterion = "tests.own_losses:Focal"
    hyperparameters = {"gamma": 2}  # noqa: RUF012


class TestTiny(BenchmarkTests):
    benchmark = "tests.tiny:Tiny"


@pytest.mark.slow
@pytest.mark.parametrize("criterion", criteria.names())
def test_the_criteria_conform(criterion: str) -> None:
    assert all(finding.ok for finding in examined(criterion=criterion).values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "names"), [("hyperspectral", criteria.names()), ("age", ("fierce-learned", "vcreg", "supcon"))]
)
def test_the_criteria_conform_at_other_similarities(benchmark: str, names: Sequence[str]) -> None:
    """A dot product, and a distance in one dimension, where the tiny benchmark has a cosine."""
    trials = [Trial(benchmark, name, (0,), options=SMALL[benchmark]) for name in names]
    assert {finding.name: finding.detail for finding in examine(trials) if not finding.ok} == {}


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_the_benchmarks_conform(benchmark: str) -> None:
    findings = examined(benchmark, options=SMALL.get(benchmark, {}))
    assert {finding.name: finding.detail for finding in findings.values() if not finding.ok} == {}
    assert "evaluators" in findings


class Leaning(Criterion):
    """A loss that leans on the other seeds' logits."""

    label = "leaning"

    def forward(self, batch: Batch) -> Tensor:
        ce = functional.cross_entropy(batch.logits.transpose(1, 2), batch.targets, reduction="none").mean(1)
        return ce + 0.1 * batch.logits.square().mean()


class Shared(Leaning):
    """A parameter of all seeds together."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.scale = nn.Parameter(torch.ones(1))


class Idle(Criterion):
    """A parameter that has no part in the loss."""

    label = "idle"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.scale = nn.Parameter(torch.ones(setup.replicas))

    def forward(self, batch: Batch) -> Tensor:
        return batch.logits.square().mean((1, 2))


class Counting(Criterion):
    """Counts its calls where no state holds them."""

    label = "counting"
    calls = 0

    def forward(self, batch: Batch) -> Tensor:
        self.calls += 1
        return self.calls * batch.logits.square().mean((1, 2))


class Quiet(Criterion):
    """Measures what it does not declare."""

    label = "quiet"
    metrics = (Metric("other"),)

    def forward(self, batch: Batch) -> Tensor:
        self.measured = {"size": batch.logits.detach().square().mean((1, 2))}
        return batch.logits.square().mean((1, 2))


class Broadcast(Criterion):
    """Takes its hyperparameter by replica, as it says, but not each replica's samples with it."""

    label = "broadcast"
    hyperparameters = (Hyperparameter("gamma", "γ", 2.0, low=0, by_replica=True),)

    def forward(self, batch: Batch) -> Tensor:
        ce = functional.cross_entropy(batch.logits.transpose(1, 2), batch.targets, reduction="none")
        return ((1 - torch.exp(-ce)) ** self.setup.values["gamma"] * ce).mean(1)


class Averaged(Broadcast):
    """Takes one number for all replicas of those that they have."""

    def forward(self, batch: Batch) -> Tensor:
        gamma = torch.as_tensor(self.setup.values["gamma"]).mean()
        return batch.logits.square().mean((1, 2)) * gamma


class Infinite(Criterion):
    label = "infinite"

    def forward(self, batch: Batch) -> Tensor:
        return batch.logits.square().mean((1, 2)) * torch.inf


def failing(logits: Tensor, features: Tensor, targets: Tensor) -> Tensor:
    """A slip in code of one's own."""
    return functional.cross_entropy(logits, targets.no_such_thing)


def drawing(logits: Tensor, features: Tensor, targets: Tensor) -> Tensor:
    """Random numbers that no seed decides."""
    return functional.cross_entropy(logits, targets) * random.random()


def single(logits: Tensor, features: Tensor, targets: Tensor) -> Tensor:
    """Written for one precision."""
    return functional.cross_entropy(logits @ torch.eye(2), targets)


@pytest.mark.parametrize(
    ("criterion", "check", "words"),
    [
        (Leaning, "seeds apart", "must depend on its own seed alone"),
        (Shared, "one batch", "parameter scale is (1,); give it a leading dimension"),
        (Idle, "one batch", "parameter scale has no part in the loss"),
        (Counting, "goes on from a state", "keep what changes in parameters and buffers"),
        (Averaged, "by replica", "another loss where each replica has a value of its own"),
        (Quiet, "one batch", "measures 'size', which is not declared"),
        (Infinite, "one batch", "gives a loss of inf for the first batch"),
        (drawing, "seeds apart", "in what it computes as in what it draws"),
        (drawing, "goes on from a state", "draw random numbers from the streams"),
    ],
)
def test_a_slip_of_a_criterion_is_named(criterion: Callable[..., Any], check: str, words: str) -> None:
    name = f"{HERE}:{criterion.__name__}"
    finding = examined(criterion=name)[f"{name}: {check}"]
    assert not finding.ok
    assert words in finding.detail
    assert finding.traceback == ""


@pytest.mark.slow
def test_what_is_taken_by_replica_is_tried() -> None:
    wrong = examined(criterion=f"{HERE}:Broadcast")[f"{HERE}:Broadcast: by replica"]
    assert not wrong.ok
    assert '** self.setup.values["gamma"]' in wrong.traceback
    assert examined(criterion="ls")["ls: by replica"].ok
    assert "ce: by replica" not in examined(criterion="ce")


def test_code_for_one_precision_is_compared_in_it() -> None:
    name = f"{HERE}:single"
    findings = examined(criterion=name)
    assert all(finding.ok for finding in findings.values())
    assert "(float32)" in findings[f"{name}: seeds apart"].detail


def test_an_error_comes_with_its_author_s_lines_alone() -> None:
    name = f"{HERE}:failing"
    finding = examined(criterion=name)[f"{name}: one batch"]
    assert finding.detail == "AttributeError: 'Tensor' object has no attribute 'no_such_thing'"
    lines = finding.traceback.splitlines()
    assert lines[0].startswith(f'  File "{__file__}"') and lines[0].endswith("in failing")
    assert "targets.no_such_thing" in lines[1]
    assert lines[-1] == finding.detail
    assert "trainables/" not in finding.traceback.replace(__file__, "")


class Blended(Tiny):
    """An evaluator that compares the seeds with each other."""

    def evaluators(self, data: Any, options: Any) -> Sequence[Evaluator]:
        def measure(snapshot: Snapshot) -> Mapping[str, Tensor]:
            return {"rank": (features := snapshot.outputs("heldout").features.mean((1, 2))) - features.mean()}

        return (Evaluator("rank", measure),)


@pytest.mark.slow
def test_an_evaluator_keeps_seeds_apart_and_measures_what_is_needed() -> None:
    assert "rank of seed 1 is 0 alone" in examined(f"{HERE}:Blended")["evaluators"].detail
    (*_, last) = examine([Trial("tests.tiny:Tiny", "ce", (0, 1))], required=["mse/odd", "mse/even"])
    assert not last.ok
    assert last.detail.startswith("'mse/even', which the study needs, is not measured after the last epoch; measured")


def test_a_hyperparameter_out_of_its_own_range_is_said() -> None:
    class Tests(CriterionTests):
        criterion = f"{HERE}:Beyond"

    with pytest.raises(AssertionError, match="gamma must be 0 or more, not -1"):
        Tests().test_declaration()


class Beyond(Leaning):
    hyperparameters = (Hyperparameter("gamma", "γ", -1.0, low=0),)


def test_the_tests_raise_what_the_code_raises() -> None:
    class Tests(CriterionTests):
        criterion = f"{HERE}:failing"

    with pytest.raises(AttributeError, match="no_such_thing"):
        Tests().test_one_batch_is_trained()


def test_data_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    load = Tiny.load
    monkeypatch.setattr(Tiny, "load", lambda self, options: calls.append(1) or load(self, options))
    examination = Examination(Trial("tests.tiny:Tiny", "ce", (0,)))
    examination.seeds_apart()
    examination.goes_on()
    assert len(calls) == 1


def command(tmp_path: Path, text: str, *more: str) -> Any:
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    return CliRunner().invoke(app, ["check", str(tmp_path / "s.yaml"), *more])


@pytest.mark.slow
def test_the_command_says_a_line_for_each_check(tmp_path: Path) -> None:
    text = (
        "benchmark: {name: 'tests.tiny:Tiny'}\ncriteria: [ce]\n"
        "search: {criteria: {'tests.own_losses:Focal': {gamma: {low: 0.5, high: 4}}}, trials: 2,\n"
        "  objective: {label_free: true}}\n"
    )
    done = command(tmp_path, text)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert all(line.startswith("ok    ") for line in lines)
    assert "ok    Focal γ=0.5: seeds apart: seed 1 alone is as among 3 (float64)" in lines
    assert any(line.startswith("ok    Focal γ=4: one batch") for line in lines)
    assert lines[-1].startswith("ok    search and cadence")


def test_points_that_differ_in_a_setting_are_told_apart(tmp_path: Path) -> None:
    grid = "{ls: {sigma: [0.1], training.learning_rate: [0.1, 0.2]}}"
    done = command(tmp_path, f"benchmark: {{name: 'tests.tiny:Tiny'}}\ngrid: {grid}\n")
    assert done.exit_code == 0, done.output
    for rate in ("0.1", "0.2"):
        assert f"ok    ls σ=0.1 learning_rate={rate}: one batch" in done.output


@pytest.mark.slow
def test_the_command_fails_where_a_check_does(tmp_path: Path) -> None:
    text = f"benchmark: {{name: 'tests.tiny:Tiny'}}\ncriteria: [ce, '{HERE}:failing']\n"
    done = command(tmp_path, text)
    assert done.exit_code == 2
    assert "FAIL" in done.output and "in failing" in done.output
    done = command(tmp_path, text, "--json")
    assert done.exit_code == 2
    (fault,) = [finding for finding in json.loads(done.stdout) if not finding["ok"]]
    assert set(fault) == {"name", "ok", "detail", "traceback"} and "in failing" in fault["traceback"]


def test_a_module_that_cannot_be_imported_is_shown_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slips_of_mine.py").write_text("import torch\n\n1 / 0\n", encoding="utf-8")
    (tmp_path / "unparsed_of_mine.py").write_text("def f(:\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    for benchmark, criterion in (
        ("name: 'tests.tiny:Tiny'", "slips_of_mine:loss"),
        ("name: 'slips_of_mine:Data'", "ce"),
        ("name: hyperspectral, backbone: 'slips_of_mine:Net'", "ce"),
        ("name: 'tests.tiny:Tiny'", "unparsed_of_mine:loss"),
    ):
        done = command(tmp_path, f"benchmark: {{{benchmark}}}\ncriteria: ['{criterion}']\n")
        assert done.exit_code == 2
        assert "FAIL  study file: " in done.output and "cannot be imported" in done.output
        assert "_of_mine.py" in done.output and ", line" in done.output
        assert "importlib" not in done.output


def test_a_slip_in_the_file_is_said_as_ever(tmp_path: Path) -> None:
    done = command(tmp_path, "benchmark: {name: 'tests.tiny:Tiny'}\ncriteria: [cee]\n")
    assert done.exit_code == 2
    assert "error: " in done.output and "did you mean" in done.output
