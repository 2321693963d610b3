"""Steps that are recorded and replayed against the same steps as they come, on a CPU, where a replay runs them anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache as cache_of
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.small import SMALL
from trainables import ahead, criteria, points, recording, replay
from trainables.ahead import Ahead, Draw
from trainables.points import Points
from trainables.recording import Repeated
from trainables.replay import Replays, Tally, is_recordable
from trainables.replicas import drawn, stream, streams
from trainables.training import Record, Training, _recorded
from trainables.trial import Trial

CPU = torch.device("cpu")


class Recorder:
    """In place of a CUDA graph: counts, and runs what was recorded, if it would read the memory that a graph reads."""

    def __init__(self) -> None:
        self.recordings = self.replays = 0
        self.watched: list[nn.Module] = []

    def places(self) -> list[int]:
        """Where parameters and buffers of the watched modules lie."""
        return [tensor.data_ptr() for module in self.watched for tensor in (*module.parameters(), *module.buffers())]

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        self.recordings += 1
        places = self.places()

        def replayed() -> None:
            assert self.places() == places
            self.replays += 1
            run()

        return replayed


@pytest.fixture(autouse=True)
def worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay here is no faster, and is taken nonetheless; threads draw however little it is."""
    monkeypatch.setattr(replay, "SLACK", 0.0)
    monkeypatch.setattr(replay, "WORTH", -1e9)
    monkeypatch.setattr(ahead, "FEW_BYTES", 0)


class Replaying(Training):
    """A training on a CPU that records as on a GPU."""

    recorder: Recorder

    def _make_replays(self) -> Replays:
        self.recorder = Recorder()
        assert is_recordable(self.benchmark, self.criterion, self.network)
        tally = Tally.of(len(self.trial.seeds), self.dtype, self.device)
        modules = [self.network, self.criterion]
        self.recorder.watched = modules
        return Replays(tally, modules, record=self.recorder)

    def _another(self, trial: Trial, data: Any) -> Training:
        return Replaying(trial, self.device, data)


def trial(criterion: str = "ce", benchmark: str = "hyperspectral", **training: Any) -> Trial:
    settings = {"epochs": 3, "milestones": [2], "batch_size": 9, **training}
    return Trial(benchmark, criterion, (3, 1), options=SMALL[benchmark], training=settings)


def same_metrics(one: Record, other: Record) -> None:
    assert one.metrics.keys() == other.metrics.keys()
    for name, values in one.metrics.items():
        assert values == pytest.approx(other.metrics[name], rel=0, abs=0, nan_ok=True), name


def assert_same(ours: Training, theirs: Training) -> None:
    for one, other in zip(ours.run(), theirs.run(), strict=True):
        same_metrics(one, other)
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
@pytest.mark.parametrize("criterion", ["supcon", "distillation"])
def test_augmentation_is_drawn_as_it_would_be(criterion: str) -> None:
    options = {"samples": 200, "size": 16, "width": 2, "augment": True, "evaluation": 10}
    wanted = replace(trial(criterion, "age"), options=options)
    ours = Replaying(wanted)
    assert_same(ours, Training(wanted))
    assert ours.recorder.replays


@pytest.mark.slow
def test_points_are_replayed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    together = [replace(trial("fierce"), hyperparameters={"lambda": strength}) for strength in (0.1, 3.0)]
    plain = Points(together)
    monkeypatch.setattr(points, "Training", Replaying)
    replayed = Points(together)
    for ours, theirs in zip(replayed.run(), plain.run(), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            same_metrics(one, other)
    assert isinstance(replayed.training, Replaying) and replayed.training.recorder.replays


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


def made(**options: Any) -> tuple[Replays, Recorder]:
    recorder = Recorder()
    return Replays(Tally.of(2, torch.float32, CPU), [], record=recorder, **options), recorder


def summed(indices: Tensor, *given: object) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    values = indices.sum(1).float()
    return values, values, {"sum": values}


def run(replays: Replays, count: int, key: Any = 1, step: Any = summed, **options: Any) -> None:
    named = cache_of(lambda name: streams((0, 1), name))
    replays.run(step, batches(count), named("augmentation"), named, key, **options)


def test_sums_are_of_one_epoch() -> None:
    replays, recorder = made()
    for _ in range(2):
        run(replays, 20)
        # each batch says 2·place twice over: Σ 2·place·2 samples
        assert replays.tally.losses.tolist() == [4 * 190, 4 * 190] == replays.tally.measured["sum"].tolist()
        assert replays.tally.hits.tolist() == [2 * 190, 2 * 190]
    assert (recorder.recordings, recorder.replays) == (1, 20 - replay.WARM + 20)


def test_few_steps_are_not_recorded() -> None:
    replays, recorder = made()
    run(replays, replay.WARM + replay.LEAST - 1)
    assert not recorder.recordings and replays.reason is None
    run(replays, replay.WARM + replay.LEAST)
    assert recorder.recordings


def test_a_recording_that_gains_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "SLACK", float("inf"))
    replays, recorder = made()
    run(replays, 20)
    assert replays.reason is not None and not replays.is_recorded
    run(replays, 20)
    assert recorder.recordings == 1 and recorder.replays == 20 - replay.WARM
    assert replays.tally.losses.tolist() == [4 * 190, 4 * 190]


def test_what_changes_often_is_recorded_again_where_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    replays, recorder = made()
    run(replays, 20, 1)
    monkeypatch.setattr(replay, "WORTH", 2.0)
    # by a step 1 ms is gained, and a recording takes 30 ms
    replays._gain, replays._cost = 1e-3, 30e-3
    run(replays, 20, 2)
    assert not replays.is_recorded
    run(replays, 20, 2, epochs=4)
    assert replays.is_recorded and recorder.recordings == 2
    assert replays.tally.losses.tolist() == [4 * 190, 4 * 190]


def test_a_replay_is_held_against_the_step_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def step(*given: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        nonlocal now
        now += 10.0
        return summed(*given)

    def record(recorded: Callable[[], None]) -> Callable[[], None]:
        nonlocal now
        now += 25.0

        def replayed() -> None:
            nonlocal now
            recorded()
            # of the ten seconds that the step tells
            now -= 9.0

        return replayed

    for slack, is_kept in ((1.03, True), (20.0, False)):
        monkeypatch.setattr(replay, "SLACK", slack)
        replays, _ = made()
        replays._record, replays._clock = record, lambda: now
        run(replays, 20, step=step)
        assert replays.is_recorded is is_kept
        assert replays._gain == 9.0 and replays._cost == 25.0
        replays.reset()
        assert replays._gain is None and replays.reason is None


def test_a_recording_is_for_one_size_of_batches() -> None:
    replays, recorder = made()
    run(replays, 20)
    small = [batch[:, :1] for batch in batches(20)]
    replays.run(summed, small, streams((0, 1), "augmentation"), cache_of(lambda name: streams((0, 1), name)), 1)
    assert recorder.recordings == 2
    assert replays.tally.losses.tolist() == [190, 190]


def test_what_surrounds_a_recording_is_entered_and_left() -> None:
    seen = []

    @contextmanager
    def around() -> Iterator[None]:
        seen.append("in")
        yield
        seen.append("out")

    replays, recorder = made(recording=around)
    replays._record = lambda recorded: [seen.append("recorded"), recorder(recorded)][1]
    run(replays, 20)
    assert seen == ["in", "recorded", "out"]


def test_an_optimizer_is_told_of_a_recording_and_is_as_before() -> None:
    parameter = nn.Parameter(torch.ones(1))
    for optimizer in (torch.optim.Adam([parameter]), torch.optim.SGD([parameter])):
        before = optimizer.state_dict()
        with _recorded(optimizer):
            assert all(group.get("capturable", True) for group in optimizer.param_groups)
        assert optimizer.state_dict() == before


@pytest.mark.parametrize("failing", [0, 3, 4, 8, 18])
def test_no_thread_outlives_an_epoch_that_is_broken_off(failing: int) -> None:
    threads, place = threading.active_count(), 0

    def step(indices: Tensor, augmentation: Any, named: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        drawn(lambda values, g: values.normal_(generator=g), (3,), named("noise"))
        return summed(indices)

    def record(recorded: Callable[[], None]) -> Callable[[], None]:
        def replayed() -> None:
            nonlocal place
            place += 1
            if place > failing:
                raise KeyboardInterrupt
            recorded()

        recorded()
        return replayed

    replays, _ = made()
    replays._record = record
    with pytest.raises(KeyboardInterrupt):
        run(replays, 30, step=step)
    assert threading.active_count() == threads


def test_memory_is_drawn_into_again_once_it_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refill of a block waits for the event of its last copy, which was recorded after that."""
    log: list[tuple[str, int]] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)

    class Arrival:
        def __init__(self, blocking: bool) -> None:
            self.block = -1

        def record(self) -> None:
            self.block = copied
            log.append(("sent", copied))

        def synchronize(self) -> None:
            log.append(("arrived", self.block))

    blocks = [torch.empty(512, dtype=torch.uint8) for _ in range(8)]

    def fill(values: Tensor, generator: torch.Generator) -> None:
        log.append(("filled", next(place for place, each in enumerate(blocks) if each.data_ptr() == values.data_ptr())))

    monkeypatch.setattr(torch.cuda, "Event", Arrival)
    draws = [Draw(fill, (128,), torch.float32, None, 0)]
    with Ahead(draws, {None: streams((0,), "noise")}, blocks, 30) as drawing:
        drawing._is_pinned = True
        for step in range(30):
            assert drawing.filled(step) is blocks[step % 8]
            copied = step % 8
            drawing.sent(step)
    for block in range(8):
        own = [event for event, of in log if of == block]
        count = len(range(block, 30, 8))
        assert own == ["filled", "sent", *["arrived", "filled", "sent"] * (count - 1)]


@pytest.mark.parametrize("fault", ["another draw", "own generator", "device", "fewer draws"])
def test_a_step_that_cannot_be_recorded_is_taken_as_it_comes(fault: str) -> None:
    seen = 0

    def step(indices: Tensor, augmentation: Any, named: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        nonlocal seen
        seen += 1
        width = seen if fault == "another draw" else 1
        if fault == "fewer draws" and seen > replay.WARM:
            return summed(indices)
        generators = [stream(9, "own")] * 2 if fault == "own generator" else named("noise")
        drawn(lambda values, g: values.normal_(generator=g), (width,), generators)
        return summed(indices)

    replays, recorder = made()
    if fault == "device":

        def failing(recorded: Callable[[], None]) -> Callable[[], None]:
            raise RuntimeError("operation not permitted when stream is capturing")

        replays._record = failing
    elif fault in ("another draw", "fewer draws"):
        # a graph is made by running the step
        replays._record = lambda recorded: [recorded(), recorder(recorded)][1]
    run(replays, 20, step=step)
    assert replays.reason is not None and not recorder.replays
    assert replays.tally.hits.tolist()[0] == 2 * 190 or fault in ("another draw", "fewer draws")


def test_a_failure_while_drawing_ahead_is_told() -> None:
    calls, threads = 0, threading.active_count()

    def fill(values: Tensor, generator: torch.Generator) -> None:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise ValueError("no more numbers")
        values.normal_(generator=generator)

    def step(indices: Tensor, augmentation: Any, named: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        drawn(fill, (5,), named("noise"))
        return summed(indices)

    replays, _ = made()
    with pytest.raises(ValueError, match="no more numbers"):
        run(replays, 40, step=step)
    assert threading.active_count() == threads


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
