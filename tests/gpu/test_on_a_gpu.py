"""Trainings on a real GPU: the numbers of a CPU, the same each time, and no step that waits."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.small import SMALL
from trainables import ahead, arithmetic, criteria, floors, kernel_choice, kernels, replay, timing
from trainables.benchmarks import BENCHMARKS
from trainables.evaluators.unmixing import Probe, probe_mse
from trainables.kernels import MODES
from trainables.points import Points
from trainables.replicas import drawn, streams
from trainables.resnet import ReplicatedResNet18
from trainables.training import Record, Training
from trainables.trial import Trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; make test-gpu runs it"),
]
GPU = torch.device("cuda")
#: every benchmark under cross-entropy, and every criterion on a small network
TRAINED = [(benchmark, "ce") for benchmark in BENCHMARKS] + [("tests.tiny:Tiny", name) for name in criteria.names()]

#: samples of a batch, where nine would leave too few batches
SIZES: Mapping[str, int] = {"images": 2, "table": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no kernel was timed yet."""
    monkeypatch.setenv("FIERCE_CACHE", str(tmp_path / "cache"))


def trial(benchmark: str, criterion: str = "ce", epochs: int = 2, **training: Any) -> Trial:
    settings = {"epochs": epochs, "milestones": [], "dtype": "float64", **training}
    return Trial(benchmark, criterion, (0, 1), options=SMALL.get(benchmark, {}), training=settings)


def finished(training: Training) -> list[Record]:
    return list(training.run())


def assert_close(ours: Record, theirs: Record, rtol: float, atol: float) -> None:
    assert ours.metrics.keys() == theirs.metrics.keys()
    for name, values in ours.metrics.items():
        np.testing.assert_allclose(values, theirs.metrics[name], rtol, atol, err_msg=name)


def assert_same(ours: Training, theirs: Training, records: tuple[list[Record], list[Record]]) -> None:
    """To the bit: every metric of every epoch, and the weights."""
    for one, other in zip(*records, strict=True):
        assert (one.epoch, one.metrics.keys()) == (other.epoch, other.metrics.keys())
        for name, values in one.metrics.items():
            np.testing.assert_array_equal(values, other.metrics[name], err_msg=name)
    weights = theirs.weights()
    for name, value in ours.weights().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize(("benchmark", "criterion"), TRAINED)
def test_its_numbers_are_a_cpus(benchmark: str, criterion: str) -> None:
    """Every metric of two steps in 64 bits; of images, which are normalised in 32, the losses.

    Two steps on inputs that a CPU changes by 1e-7 lead it to features that are 1% apart.
    """
    wanted = trial(benchmark, criterion, batch_size=10_000)
    here, there = Training(wanted), Training(wanted, GPU)
    for one, other in zip(finished(here), finished(there), strict=True):
        assert one.metrics.keys() == other.metrics.keys()
        if isinstance(here.network, ReplicatedResNet18):
            np.testing.assert_allclose(other.metrics["loss/train"], one.metrics["loss/train"], rtol=1e-3)
        else:
            assert_close(other, one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("train", [False, True])
def test_batches_are_a_cpus(benchmark: str, train: bool) -> None:
    here, there = (Training(trial(benchmark), device) for device in ("cpu", GPU))
    indices = here.parts["train"]
    batches = [
        each._prepared(indices.to(each.device), train, streams(each.trial.seeds, "augmentation"))
        for each in (here, there)
    ]
    torch.testing.assert_close(batches[1].cpu(), batches[0], rtol=1e-4, atol=1e-4)


def test_principal_axes_are_a_cpus() -> None:
    samples = torch.randn(700, 600, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples *= 2.0 ** -(torch.arange(600) / 20)
    here, there = floors.principal(samples, 0)[1], floors.principal(samples.to(GPU), 0)[1].cpu()
    overlap = (here * there).sum(0).abs()
    torch.testing.assert_close(overlap[:100], torch.ones(100, dtype=torch.float64), rtol=0, atol=1e-6)


def test_a_probe_is_trained_as_on_a_cpu() -> None:
    """Its steps are recorded, of both sizes of batches."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 470, 12, generator=generator, dtype=torch.float64)
    wanted = torch.softmax(torch.rand(2, 470, 3, generator=generator, dtype=torch.float64), -1)
    probes = [Probe(0.1), Probe(0.01, standardized=True)]

    def errors(device: torch.device | str) -> torch.Tensor:
        parts = (value.to(device) for value in (features[:, :450], wanted[:, :450], features[:, 450:], wanted[:, 450:]))
        return probe_mse(*parts, streams((0, 1), "probe"), probes, epochs=40).cpu()

    torch.testing.assert_close(errors(GPU), errors("cpu"), rtol=1e-7, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_32_bits_are_computed_at_their_precision(mode: str) -> None:
    """A step's loss and gradient against 64 bits: rounded to 10 bits of mantissa, as TF32 has, they are 1e-3 off."""
    arithmetic.settle()
    found = {}
    for dtype in (torch.float64, torch.float32):
        network = ReplicatedResNet18(16, 3, streams((0, 1), "init"), mode=mode).to(GPU, dtype)  # type: ignore[arg-type]
        images = drawn(lambda values, g: values.normal_(generator=g), (8, 3, 16, 16), streams((0, 1), "images"))
        features, logits = network(images.to(GPU, dtype))
        (logits.logsumexp(-1).sum() + features.square().sum()).backward()
        gradient = network.trunk.conv1.weight.grad
        assert gradient is not None
        found[dtype] = logits.detach().double(), gradient.double()
    for ours, exact in zip(found[torch.float32], found[torch.float64], strict=True):
        assert float((ours - exact).norm() / exact.norm()) < 2e-5


@pytest.mark.parametrize(("benchmark", "criterion"), TRAINED)
def test_it_can_be_repeated_and_resumed_to_the_bit(benchmark: str, criterion: str) -> None:
    wanted = trial(benchmark, criterion, epochs=3, dtype="float32")
    whole = Training(wanted, GPU)
    undisturbed = finished(whole)
    begun = Training(wanted, GPU)
    records = list(islice(begun.run(), 1))
    file = io.BytesIO()
    torch.save(begun.state(), file)
    file.seek(0)
    resumed = Training(wanted, GPU)
    resumed.load(torch.load(file, weights_only=True))
    assert_same(resumed, whole, ([*records, *finished(resumed)], undisturbed))


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "auto"])
@pytest.mark.parametrize("mixed", [False, True])
def test_each_way_of_convolving_is_repeated_to_the_bit(mode: str, mixed: bool) -> None:
    wanted = trial("age", dtype="float32", mixed_precision=mixed)
    wanted = replace(wanted, options={"samples": 400, "size": 32, "width": 16, "mode": mode})
    one, other = Training(wanted, GPU), Training(wanted, GPU)
    assert_same(one, other, (finished(one), finished(other)))


@pytest.mark.parametrize(
    ("benchmark", "criterion"),
    [("hyperspectral", name) for name in criteria.names()] + [(name, "ce") for name in BENCHMARKS],
)
def test_replayed_steps_are_those_that_come_one_by_one(
    benchmark: str, criterion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, over epochs that end with a smaller batch, with a second learning rate, and a resume in between."""
    monkeypatch.setattr(replay, "QUICK", 0.0)
    monkeypatch.setattr(replay, "SLACK", 0.0)
    monkeypatch.setattr(replay, "LEAST", 2)
    monkeypatch.setattr(replay, "WORTH", -1e9)
    # threads draw however little it is
    monkeypatch.setattr(ahead, "FEW_BYTES", 0)
    wanted = trial(benchmark, criterion, epochs=4, dtype="float32", milestones=[3], batch_size=SIZES.get(benchmark, 9))
    plain = Training(replace(wanted, training={**wanted.training, "cuda_graphs": False}), GPU)
    undisturbed = finished(plain)
    begun = Training(wanted, GPU)
    records = list(islice(begun.run(), 2))
    assert begun._replays is not None and begun._replays.reason is None and begun._replays.is_recorded
    resumed = Training(wanted, GPU)
    resumed.load(begun.state())
    assert_same(resumed, plain, ([*records, *finished(resumed)], undisturbed))


def test_what_cannot_be_recorded_is_taken_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that waits for the GPU while it is recorded: the training goes on, and memory can be given back."""
    monkeypatch.setattr(replay, "QUICK", 0.0)

    def waiting(*given: Any) -> Any:
        if torch.cuda.is_current_stream_capturing():
            torch.ones((), device=GPU).item()
        return measured(*given)

    wanted = trial("hyperspectral", dtype="float32", batch_size=9)
    training, plain = Training(wanted, GPU), Training(wanted, GPU)
    plain._replays = None
    measured = training._measured_step
    monkeypatch.setattr(training, "_measured_step", waiting)
    records = finished(training)
    assert training._replays is not None and training._replays.reason is not None
    torch.cuda.empty_cache()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert_same(training, plain, (records, finished(plain)))


@contextmanager
def no_waiting() -> Iterator[None]:
    """An operation that waits for the GPU is an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_wait_is_an_error_there() -> None:
    value = torch.ones((), device=GPU)
    with no_waiting(), pytest.raises(RuntimeError, match="synchroniz"):
        value.item()


@pytest.mark.parametrize(("benchmark", "criterion"), TRAINED)
def test_no_step_waits(benchmark: str, criterion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0

    class Watched(Training):
        def _step(self, *given: Any) -> Any:
            nonlocal steps
            steps += 1
            # constants are sent at their first use, and never again
            if steps == 1:
                return super()._step(*given)
            with no_waiting():
                return super()._step(*given)

    training = Watched(trial(benchmark, criterion, batch_size=8), GPU)
    for _ in training.prepare():
        pass
    training._train_epoch(1)
    assert steps > 1


def test_draws_are_a_cpus() -> None:
    def draw(device: torch.device | str) -> torch.Tensor:
        return drawn(lambda values, g: values.normal_(generator=g), (200, 300), streams((1, 4), "noise"), device=device)

    there = draw(GPU)
    assert there.device.type == "cuda" and torch.equal(there.cpu(), draw("cpu"))


def test_mixed_precision_trains_as_32_bits_do_up_to_theirs() -> None:
    """Losses of three epochs within 5%, weights and features in 32 bits."""
    options = {"samples": 400, "size": 32, "width": 16}
    losses = {}
    for mixed in (False, True):
        wanted = trial("age", epochs=3, dtype="float32", mixed_precision=mixed, batch_size=64)
        training = Training(replace(wanted, options=options), GPU)
        losses[mixed] = np.array([record.metrics["loss/train"] for record in training.run()])
        features, _ = training._predict(training.parts["train"][:, :4])
        assert {p.dtype for p in training.network.parameters()} == {torch.float32} == {features.dtype}
    np.testing.assert_allclose(losses[True], losses[False], rtol=0.05)
    assert not np.array_equal(losses[True], losses[False])


def test_points_together_are_those_apart() -> None:
    points = [replace(trial("age", "fierce"), hyperparameters={"lambda": strength}) for strength in (0.1, 3.0)]
    for epoch in zip(Points(points, GPU).run(), *(Training(point, GPU).run() for point in points), strict=True):
        together, *apart = epoch
        for one, other in zip(together, apart, strict=True):
            assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_the_fastest_kernel_is_found_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "FEW_STEPS", 1)
    wanted = trial("age", dtype="float32")
    training = Training(wanted, GPU)
    seconds = kernel_choice.measured(training)
    assert set(seconds) == set(kernels.ways(training.network, GPU)) and all(taken > 0 for taken in seconds.values())
    kernel_choice.settle(training)
    kept = training.kernel

    def never(training: Training, seconds: float = 0) -> Mapping[kernels.Kernel, float]:
        raise AssertionError("timed a second time")

    monkeypatch.setattr(kernel_choice, "measured", never)
    second = Training(wanted, GPU)
    kernel_choice.settle(second)
    assert second.kernel == kept


def test_where_no_kernel_has_memory_the_usual_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "FEW_STEPS", 1)
    wanted = trial("age", dtype="float32", batch_size=256)
    training = Training(replace(wanted, options={"samples": 400, "size": 64, "width": 16, "evaluation": 2}), GPU)
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.empty_cache()
    # the maps of the fewest samples that are timed take more
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**21) / total)
    try:
        assert kernel_choice.measured(training) == {}
        kernel_choice.settle(training)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert training.kernel == kernels.ways(training.network, GPU)[0]
    training._train_epoch(1)


def test_a_trial_is_timed_there_with_its_memory() -> None:
    wanted = replace(trial("age", dtype="float32"), options={"samples": 200, "size": 32, "width": 16, "evaluation": 2})
    timed = timing.measure(wanted, "cuda")
    weights = sum(p.numel() * 4 for p in Training(wanted).network.parameters())
    assert timed.seconds > 0
    # weights, gradients and Adam's two moments at the least
    assert 4 * weights < timed.memory < torch.cuda.get_device_properties(GPU).total_memory
