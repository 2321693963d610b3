"""Steps that are recorded and replayed against the same steps as they come, on a CPU, where a replay runs them anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.small import SMALL
from trainables import criteria, recording, replay
from trainables.recording import Repeated
from trainables.replay import Replays, Tally, is_recordable
from trainables.replicas import drawn, stream, streams
from trainables.training import Training
from trainables.trial import Trial

CPU = torch.device("cpu")


class Recorder:
    """In place of a CUDA graph: counts, and runs what was recorded, which reads the same memory as a graph would."""

    def __init__(self) -> None:
        self.recordings = self.replays = 0

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        self.recordings += 1

        def replayed() -> None:
            self.replays += 1
            run()

        return replayed


@pytest.fixture(autouse=True)
def worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay here is no faster, and is taken nonetheless; threads draw however little it is."""
    monkeypatch.setattr(replay, "SLACK", 0.0)
    monkeypatch.setattr(replay, "WORTH", float("-inf"))
    monkeypatch.setattr(replay, "FEW_BYTES", 0)


class Replaying(Training):
    """A training on a CPU that records as on a GPU."""

    recorder: Recorder

    def _make_replays(self) -> Replays:
        self.recorder = Recorder()
        assert is_recordable(self.benchmark, self.criterion, self.network)
        tally = Tally.of(len(self.trial.seeds), self.dtype, self.device)
        return Replays(self._measured_step, tally, [self.network, self.criterion], record=self.recorder)

    def _another(self, trial: Trial, data: Any) -> Training:
        return Replaying(trial, self.device, data)


def trial(criterion: str = "ce", benchmark: str = "hyperspectral", **training: Any) -> Trial:
    settings = {"epochs": 3, "milestones": [2], "batch_size": 9, **training}
    return Trial(benchmark, criterion, (3, 1), options=SMALL[benchmark], training=settings)


def assert_same(ours: Training, theirs: Training) -> None:
    for one, other in zip(ours.run(), theirs.run(), strict=True):
        assert one.metrics.keys() == other.metrics.keys()
        for name, values in one.metrics.items():
            assert values == pytest.approx(other.metrics[name], rel=0, abs=0, nan_ok=True), name
    weights = theirs.weights()
    assert all(torch.equal(value, weights[name]) for name, value in ours.weights().items())


@pytest.mark.slow
@pytest.mark.parametrize("criterion", criteria.names())
def test_replayed_steps_are_those_that_were_recorded(criterion: str) -> None:
    """To the bit, over epochs that end with a smaller batch, and with a second learning rate."""
    ours = Replaying(trial(criterion))
    assert_same(ours, Training(trial(criterion)))
    # 112 samples are 12 whole batches and one of 4; the third epoch's learning rate is another
    assert ours.recorder.recordings == 2
    assert ours.recorder.replays == (12 - replay.WARM) + 12 + 11


@pytest.mark.slow
def test_augmentation_is_drawn_as_it_would_be() -> None:
    options = {"samples": 200, "size": 16, "width": 2, "augment": True, "evaluation": 10}
    wanted = replace(trial("supcon", "age"), options=options)
    ours = Replaying(wanted)
    assert_same(ours, Training(wanted))
    assert ours.recorder.replays


@pytest.mark.slow
def test_a_resumed_training_records_anew_and_ends_the_same() -> None:
    wanted = trial("fierce-learned", milestones=[])
    undisturbed, begun = Training(wanted), Replaying(wanted)
    list(islice(begun.run(), 1))
    resumed = Replaying(wanted)
    resumed.load(begun.state())
    list(islice(undisturbed.run(), 1))
    assert_same(resumed, undisturbed)
    assert resumed.recorder.recordings == 1
    # what was recorded before a state is loaded would go on with other memory
    resumed.load(begun.state())
    assert resumed._replays is not None and not resumed._replays.is_recorded


def batches(count: int, size: int = 2) -> list[Tensor]:
    return [torch.full((2, size), place) for place in range(count)]


def made(step: Any, **options: Any) -> tuple[Replays, Recorder]:
    recorder = Recorder()
    return Replays(step, Tally.of(2, torch.float32, CPU), [], record=recorder, **options), recorder


def summed(indices: Tensor, *given: object) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    values = indices.sum(1).float()
    return values, values, {"sum": values}


def run(replays: Replays, count: int, key: object = 1, step_streams: Any = None) -> None:
    named = partial(streams, (0, 1)) if step_streams is None else step_streams
    replays.run(batches(count), named("augmentation"), named, key)


def test_sums_are_of_one_epoch() -> None:
    replays, recorder = made(summed)
    for _ in range(2):
        run(replays, 20)
        # each batch says 2·place twice over: Σ 2·place·2 samples
        assert replays.tally.losses.tolist() == [4 * 190, 4 * 190] == replays.tally.measured["sum"].tolist()
        assert replays.tally.hits.tolist() == [2 * 190, 2 * 190]
    assert (recorder.recordings, recorder.replays) == (1, 20 - replay.WARM + 20)


def test_few_steps_are_not_recorded() -> None:
    replays, recorder = made(summed)
    run(replays, replay.WARM + replay.LEAST - 1)
    assert not recorder.recordings and replays.reason is None
    run(replays, replay.WARM + replay.LEAST)
    assert recorder.recordings


def test_a_recording_that_gains_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "SLACK", float("inf"))
    replays, recorder = made(summed)
    run(replays, 20)
    assert replays.reason is not None and not replays.is_recorded
    run(replays, 20)
    assert recorder.recordings == 1 and recorder.replays == 20 - replay.WARM
    assert replays.tally.losses.tolist() == [4 * 190, 4 * 190]


def test_what_changes_often_is_recorded_again_where_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    replays, recorder = made(summed)
    run(replays, 20, 1)
    monkeypatch.setattr(replay, "WORTH", 2.0)
    # by a step 1 ms is gained, and a recording takes 30 ms
    replays._gain, replays._cost = 1e-3, 30e-3
    run(replays, 20, 2)
    assert not replays.is_recorded
    replays.run(batches(20), streams((0, 1), "augmentation"), partial(streams, (0, 1)), 2, epochs=4)
    assert replays.is_recorded and recorder.recordings == 2
    assert replays.tally.losses.tolist() == [4 * 190, 4 * 190]


@pytest.mark.parametrize("fault", ["another draw", "own generator", "device"])
def test_a_step_that_cannot_be_recorded_is_taken_as_it_comes(fault: str) -> None:
    seen = 0

    def step(indices: Tensor, augmentation: Any, named: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        nonlocal seen
        seen += 1
        width = seen if fault == "another draw" else 1
        generators = [stream(9, "own")] * 2 if fault == "own generator" else named("noise")
        drawn(lambda values, g: values.normal_(generator=g), (width,), generators)
        return summed(indices)

    replays, recorder = made(step)
    if fault == "device":

        def failing(recorded: Callable[[], None]) -> Callable[[], None]:
            raise RuntimeError("operation not permitted when stream is capturing")

        replays._record = failing
    elif fault == "another draw":
        # a graph is made by running the step
        replays._record = lambda recorded: [recorded(), recorder(recorded)][1]
    run(replays, 20)
    assert replays.reason is not None and not recorder.replays
    assert replays.tally.hits.tolist()[0] == 2 * 190 or fault == "another draw"


def test_a_failure_while_drawing_ahead_is_told() -> None:
    calls = 0

    def fill(values: Tensor, generator: torch.Generator) -> None:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise ValueError("no more numbers")
        values.normal_(generator=generator)

    def step(indices: Tensor, augmentation: Any, named: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        drawn(fill, (5,), named("noise"))
        return summed(indices)

    replays, _ = made(step)
    with pytest.raises(ValueError, match="no more numbers"):
        run(replays, 40)


def test_what_is_repeated_is_recorded_after_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, calls = Recorder(), 0

    def count() -> None:
        nonlocal calls
        calls += 1

    monkeypatch.setattr(recording, "cuda_graph", recorder)
    here = Repeated(count, CPU)
    monkeypatch.setattr(recording, "DEVICES", {"cpu"})
    there = Repeated(count, CPU)
    for repeated in (here, there):
        for _ in range(5):
            repeated()
    assert calls == 10 and (recorder.recordings, recorder.replays) == (1, 3)


def test_code_of_ones_own_is_not_recorded() -> None:
    ours = Training(trial())
    assert is_recordable(ours.benchmark, ours.criterion, ours.network)
    own = Training(Trial("tests.tiny:Tiny", "ce", (0,)))
    assert not is_recordable(own.benchmark)
    losses = Training(Trial("hyperspectral", "tests.own_losses:Focal", (0,), options=SMALL["hyperspectral"]))
    assert is_recordable(losses.benchmark, losses.network) and not is_recordable(losses.criterion)
    vision = {**SMALL["images"], "backbone": "resnet18", "size": 32}
    assert not is_recordable(Training(Trial("images", "ce", (0,), options=vision)).network)
