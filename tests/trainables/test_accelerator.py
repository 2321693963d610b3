"""Every benchmark and criterion on a device that is not the CPU: where tensors lie, what waits, what is drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerator import DEVICE, on_the_accelerator, within

from tests.small import SMALL
from trainables import criteria
from trainables.benchmarks import BENCHMARKS
from trainables.kernels import MODES
from trainables.replicas import drawn, streams
from trainables.training import Record, Training
from trainables.trial import Trial

STEP = within("_step", "training.py")
pytestmark = pytest.mark.thorough


def trial(benchmark: str, criterion: str = "ce", **training: object) -> Trial:
    options = SMALL.get(benchmark, {})
    return Trial(benchmark, criterion, (0, 1), options=options, training={"epochs": 1, "milestones": [], **training})


def test_tensors_of_two_devices_do_not_meet_and_each_wait_is_seen() -> None:
    def place(frame: object) -> str:
        return "here"

    with on_the_accelerator(place) as watch:
        far, near = torch.ones(3, device=DEVICE), torch.arange(3.0)
        with pytest.raises(RuntimeError, match="same device"):
            far + near
        assert float((far + 2.0 * far).sum()) == 9 and watch.waits["here", "_local_scalar_dense"] == 1
        far.new_tensor([1.0, 2.0])
        assert watch.waits["here", "_to_copy"] == 1
        pinned = torch.ones(3, pin_memory=True)
        assert (far + pinned.to(DEVICE, non_blocking=True)).tolist() == [2, 2, 2]
        assert watch.waits["here", "_to_copy"] == 2
        chosen = far[far > 0]
        assert chosen.device == DEVICE and watch.waits["here", "index"] == 1
        near.requires_grad_()
        (near.to(DEVICE) * far).sum().backward()
        assert near.grad is not None and near.grad.tolist() == [1, 1, 1]


def trained(wanted: Trial) -> tuple[Record, Record]:
    """What its one epoch gives on a CPU and there, where no step of it, and no evaluator, may wait."""
    (here,) = Training(wanted).run()
    with on_the_accelerator(STEP) as watch:
        training = Training(wanted, DEVICE)
        # constants are sent at their first use, and never again
        training._prepared(training.parts["train"][:, :2], True, streams(wanted.seeds, "another"))
        watch.waits.clear()
        (there,) = training.run()
        training.arrays()
    assert watch.waits == {}
    assert watch.kernels
    return here, there


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_benchmark_trains_and_is_measured_there_as_on_a_cpu(benchmark: str) -> None:
    """Its whole epoch, evaluators and arrays among it; no step of it waits."""
    here, there = trained(trial(benchmark, dtype="float64"))
    assert there.metrics.keys() == here.metrics.keys()
    # its kernels are others than a CPU's, which sum in another order
    for name in ("loss/train", "accuracy/train"):
        assert there.metrics[name] == pytest.approx(here.metrics[name], rel=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_no_way_of_convolving_waits(mode: str) -> None:
    wanted = trial("age", dtype="float64", batch_size=16)
    here, there = trained(replace(wanted, options={**wanted.options, "mode": mode}))
    assert there.metrics["loss/train"] == pytest.approx(here.metrics["loss/train"], rel=1e-6)


@pytest.mark.parametrize("criterion", criteria.names())
def test_no_step_of_a_criterion_waits_and_its_numbers_are_a_cpus(criterion: str) -> None:
    wanted = trial("tests.tiny:Tiny", criterion)
    (here,) = Training(wanted).run()
    with on_the_accelerator(STEP) as watch:
        # constants are sent at their first use, and never again
        tuple(Training(wanted, DEVICE).run())
        watch.waits.clear()
        (there,) = Training(wanted, DEVICE).run()
    assert watch.waits == {}
    assert there.metrics.keys() == here.metrics.keys()
    for name, values in here.metrics.items():
        assert there.metrics[name] == pytest.approx(values, nan_ok=True, rel=1e-5, abs=1e-7), name


def test_draws_do_not_depend_on_the_device() -> None:
    def draw(device: torch.device | str) -> torch.Tensor:
        return drawn(lambda values, g: values.normal_(generator=g), (2, 3), streams((1, 4), "noise"), device=device)

    here = draw("cpu")
    with on_the_accelerator(lambda frame: "here") as watch:
        there = draw(DEVICE)
        assert there.device == DEVICE and there.tolist() == here.tolist()
        # copied from pinned memory, for which nothing waits; reading it above does
        assert watch.waits == {("here", "_to_copy"): 1}
    alone = drawn(lambda values, g: values.normal_(generator=g), (2, 3), streams((4,), "noise"))
    assert torch.equal(here[1:], alone)
