"""The kernel of a trial: which there are, which is the fastest, and that one choice holds for a study and a resume."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from study.record import facts
from trainables import kernel_choice, kernels
from trainables.kernels import Kernel
from trainables.replicas import streams
from trainables.resnet import ReplicatedResNet18
from trainables.storage import Folder
from trainables.training import Training
from trainables.trial import Trial

GROUPED, LOOPED, BMM = Kernel("grouped", True), Kernel("looped", True), Kernel("bmm")
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing was timed yet, and trials that are worth it however short they are."""
    monkeypatch.setenv("FIERCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_choice, "FEW_STEPS", 1)
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch) -> dict[Kernel, float]:
    """What timing finds, as the test says it: a clock would say something else each time."""
    found: dict[Kernel, float] = {}

    def measured(training: Training, seconds: float = 0) -> Mapping[Kernel, float]:
        assert found, "nothing was to be timed"
        return dict(found)

    monkeypatch.setattr(kernel_choice, "measured", measured)
    return found


def training(criterion: str = "ce", options: Mapping[str, Any] | None = None, **settings: Any) -> Training:
    options = {"samples": 40, "size": 8, "width": 2, "evaluation": 10, **(options or {})}
    settings = {"epochs": 3, "batch_size": 10, "anchors": "centred-grid", **settings}
    return Training(Trial("age", criterion, (0, 1), options=options, training=settings))


def settled(study: Path | None = None, criterion: str = "ce", **settings: Any) -> Kernel | None:
    made = training(criterion, **settings)
    kernel_choice.settle(made, None if study is None else Folder(str(study)))
    return made.kernel


def test_the_usual_kernel_stays_unless_another_is_clearly_faster() -> None:
    assert kernels.fastest({GROUPED: 1.0, LOOPED: 0.98}, GROUPED) == GROUPED
    assert kernels.fastest({GROUPED: 1.0, LOOPED: 0.9, BMM: 0.91}, GROUPED) == LOOPED
    # there was no memory for it, or for any
    assert kernels.fastest({LOOPED: 3.0}, GROUPED) == LOOPED
    assert kernels.fastest({}, GROUPED) == GROUPED
    # what stays is never more than 5% behind
    assert kernels.SLACK < 1.05


def test_kernels_take_turns_and_the_fastest_step_counts() -> None:
    taken: list[str] = []

    def steps(kernel: Kernel, *seconds: float) -> Callable[[], float]:
        left = list(seconds)

        def step() -> float:
            taken.append(kernel.mode)
            return left.pop(0)

        return step

    given = {
        GROUPED: steps(GROUPED, 9.0, 2.0, 1.0, 3.0, 2.0),
        LOOPED: steps(LOOPED, 8.0, 1.5, 1.6, 1.7, 1.2),
        # a first step may compile, and the next one is so slow that it is left alone
        BMM: steps(BMM, 90.0, 6.0),
    }
    assert kernels.timed(given, 600.0) == {GROUPED: 1.0, LOOPED: 1.2, BMM: 6.0}
    assert taken == [*["grouped", "looped", "bmm"] * 2, *["grouped", "looped"] * 3]
    # however little time there is, each is timed twice after its first step
    assert kernels.timed({GROUPED: steps(GROUPED, 9.0, 2.0, 3.0)}, 1.0) == {GROUPED: 2.0}


def test_what_a_network_may_be_computed_by() -> None:
    def ways(device: torch.device = CPU, **options: Any) -> list[str]:
        made = ReplicatedResNet18(8, 2, streams((0,), "init"), **options)
        return [str(kernel) for kernel in kernels.ways(torch.nn.Sequential(made), device)]

    everything = {"grouped", "grouped, channels last", "looped", "looped, channels last", "bmm"}
    assert set(ways()) == set(ways(GPU)) == everything
    assert (ways()[0], ways(GPU)[0]) == ("looped, channels last", "grouped")
    assert ways(mode="grouped") == ["grouped, channels last"]
    assert ways(mode="grouped", channels_last=False) == ways(GPU, mode="grouped") == ["grouped"]
    assert ways(mode="bmm") == ways(mode="bmm", channels_last=True) == ["bmm"]
    assert ways(channels_last=True) == ["looped, channels last", "grouped, channels last"]
    assert kernels.ways(torch.nn.Linear(1, 1), CPU) == ()


@pytest.mark.parametrize("kernel", [Kernel("grouped"), GROUPED, Kernel("looped"), LOOPED, BMM], ids=str)
def test_every_kernel_repeats_itself_to_the_bit(kernel: Kernel) -> None:
    """And where replicas are computed one after another, one alone is to the bit what it is among three.

    That the others agree with it up to reassociation is held in 64 bits by the ResNet's own tests.
    """
    seeds = (3, 1, 4)
    images = torch.randn(2, 3, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def trained(chosen: slice) -> dict[str, Tensor]:
        network = ReplicatedResNet18(4, 2, streams(seeds[chosen], "init"))
        network.kernel = kernel
        optimizer = torch.optim.SGD(network.parameters(), 0.01)
        for batch in images:
            features, _ = network(batch[chosen])
            optimizer.zero_grad()
            features.square().sum().backward()
            optimizer.step()
        return network.state_dict()

    whole, again = trained(slice(None)), trained(slice(None))
    assert all(torch.equal(values, again[name]) for name, values in whole.items())
    if kernel.mode == "looped":
        alone = trained(slice(1, 2))
        assert all(torch.equal(values[1:2], alone[name]) for name, values in whole.items())


def test_timing_tries_every_kernel_and_leaves_the_training_as_it_was() -> None:
    timed, untouched = (training("supcon", epochs=1) for _ in range(2))
    found = kernel_choice.measured(timed, seconds=0.2)
    assert next(iter(found)) == kernels.ways(timed.network, CPU)[0]
    assert set(found) <= set(kernels.ways(timed.network, CPU)) and all(taken > 0 for taken in found.values())
    assert [record.metrics for record in timed.run()] == [record.metrics for record in untouched.run()]


def test_a_kernel_without_memory_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    made = training()
    answers = made._answers

    def answer(inputs: Tensor, network: ReplicatedResNet18) -> Any:
        if network.kernel != BMM:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answers(inputs, network)

    monkeypatch.setattr(made, "_answers", answer)
    assert list(kernel_choice.measured(made, seconds=0.1)) == [BMM]


def test_one_choice_for_all_trials_of_a_study_whatever_a_clock_says_later(
    tmp_path: Path, timings: dict[Kernel, float], cache: Path
) -> None:
    timings |= {GROUPED: 2.0, LOOPED: 1.0, BMM: 1.5}
    assert settled(tmp_path / "one") == LOOPED
    assert settled(criterion="fierce") == LOOPED, "the machine knows it now"
    timings.clear()
    for criterion in ("ce", "fierce", "ls"):
        assert settled(tmp_path / "one", criterion) == LOOPED
    # another study on this machine takes it over, and keeps it where the cache is emptied
    assert settled(tmp_path / "two") == LOOPED
    for kept in cache.iterdir():
        kept.unlink()
    assert settled(tmp_path / "two") == LOOPED
    # what is not the same network and shape is timed for itself
    timings |= {GROUPED: 1.0, LOOPED: 2.0, BMM: 0.5}
    assert settled(tmp_path / "two", batch_size=7) == settled(tmp_path / "two", dtype="float64") == BMM
    assert settled(tmp_path / "two", options={"width": 3}) == BMM
    # two views are twice the batch
    assert settled(tmp_path / "two", "supcon") == BMM
    assert settled(tmp_path / "two") == LOOPED


def test_what_is_kept_can_be_read_and_says_what_was_timed(
    tmp_path: Path, timings: dict[Kernel, float], cache: Path
) -> None:
    timings |= {GROUPED: 2.0, BMM: 1.0}
    assert settled(tmp_path) == BMM
    (machine,) = cache.glob("*.json")
    kept = json.loads(machine.read_text(encoding="utf-8"))
    assert kept["kernel"] == {"mode": "bmm", "channels_last": False}
    assert kept["seconds"] == {"grouped, channels last": 2.0, "bmm": 1.0}
    assert kept["key"]["torch"] == torch.__version__
    assert kept["key"]["inputs"] == [2, 10, 3, 8, 8]
    (study,) = (tmp_path / "kernels").glob("*.json")
    # one that is cut short, and one of a release that knows another
    for content in ('{"kernel"', '{"kernel": {"mode": "graphs", "channels_last": false}}'):
        for path in (machine, study):
            path.write_text(content, encoding="utf-8")
        assert settled(tmp_path) == BMM
        assert json.loads(study.read_text(encoding="utf-8"))["kernel"]["mode"] == "bmm"


def test_a_resumed_trial_goes_on_by_its_own_kernel_to_the_bit(tmp_path: Path, timings: dict[Kernel, float]) -> None:
    timings |= {GROUPED: 2.0, BMM: 1.0}
    begun = training("distillation", epochs=2)
    kernel_choice.settle(begun, Folder(str(tmp_path)))
    assert begun.teacher is not None and begun.teacher.kernel == begun.kernel == BMM
    wanted = [record.metrics for record in begun.run()]
    stopped = training("distillation", epochs=2)
    kernel_choice.settle(stopped, Folder(str(tmp_path)))
    first = [record.metrics for record in islice(stopped.run(), 1)]
    torch.save(stopped.state(), tmp_path / "state")
    resumed = training("distillation", epochs=2)
    resumed.load(torch.load(tmp_path / "state", weights_only=True))
    assert resumed.kernel == BMM
    assert first + [record.metrics for record in resumed.run()] == wanted
    # a checkpoint of before computed by the usual one
    old = {name: value for name, value in stopped.state().items() if name != "kernel"}
    resumed.load(old)
    assert resumed.kernel == GROUPED


def test_what_an_option_names_is_not_timed(tmp_path: Path, timings: dict[Kernel, float]) -> None:
    assert settled(tmp_path, options={"mode": "bmm"}) == BMM
    assert settled(tmp_path, options={"mode": "looped"}) == LOOPED
    assert settled(tmp_path, options={"mode": "looped", "channels_last": False}) == Kernel("looped")
    assert not (tmp_path / "kernels").exists()


def test_a_short_trial_takes_the_usual_kernel(timings: dict[Kernel, float], monkeypatch: pytest.MonkeyPatch) -> None:
    # 30 images of each seed, 3 batches an epoch
    monkeypatch.setattr(kernel_choice, "FEW_STEPS", 10)
    assert settled(epochs=3) == GROUPED
    timings |= {GROUPED: 2.0, BMM: 1.0}
    assert settled(epochs=4) == BMM


def test_a_cache_that_cannot_be_written_costs_no_trial(
    tmp_path: Path, timings: dict[Kernel, float], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    timings |= {GROUPED: 2.0, BMM: 1.0}
    cache.parent.write_text("in its place", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert settled(tmp_path / "study") == BMM
    assert f"the kernel cannot be kept in {cache}" in caplog.text
    timings.clear()
    assert settled(tmp_path / "study") == BMM


def test_a_trial_that_waits_in_vain_for_another_one_s_timing_begins_all_the_same(
    tmp_path: Path, timings: dict[Kernel, float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    timings |= {GROUPED: 2.0, BMM: 1.0}
    monkeypatch.setattr(kernel_choice, "WAIT_SECONDS", 0.1)
    folder = Folder(str(tmp_path / "kernels"))
    name = kernel_choice.digest(kernel_choice.key(training()))
    with folder.lock(f"{name}.lock", 0), caplog.at_level(logging.WARNING):
        assert settled(tmp_path) == GROUPED
    assert "is held by another process" in caplog.text
    assert settled(tmp_path) == BMM


def test_a_trial_says_what_computed_it(timings: dict[Kernel, float]) -> None:
    timings |= {GROUPED: 2.0, BMM: 1.0}
    made = training()
    assert facts.describe(made, None).tags[facts.KERNEL] == "grouped, channels last"
    kernel_choice.settle(made)
    assert facts.describe(made, None).tags[facts.KERNEL] == "bmm"
