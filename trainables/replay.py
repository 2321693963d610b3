"""Training steps recorded once and replayed from then on, as CUDA graphs.

The kernels of a small network run in less time than a host takes to start them one by one.
A replayed step runs the very kernels of the step that was recorded, on the memory that it had, so that its numbers are
the same to the bit. What changes from step to step is written to that memory beforehand: the samples' indices, and
what is drawn at random, which threads draw ahead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.ahead import AHEAD, Ahead, Draw, Generators, Noted, Streams, Unrecordable
from trainables.backbones import is_looped
from trainables.kernels import SLACK, stopwatch
from trainables.recording import Record, cuda_graph
from trainables.replicas import Fill, drawing

log = logging.getLogger(__name__)

#: trains on samples (S, B) with augmentation's generators and all other streams: loss (S,), hits (S,), measured
Step = Callable[[Tensor, Generators, Streams], tuple[Tensor, Tensor, Mapping[str, Tensor]]]

#: steps that are taken as they come before one is recorded: the first ones allocate, and send constants
WARM = 3
#: a recording is made where it will serve so many steps of an epoch
LEAST = 8
#: and made anew, for another learning rate say, where the steps until the next one gain so many times what it takes
WORTH = 2.0
#: where the host has told the device all of a step in less than this share of its time, it is no hindrance
QUICK = 0.5


@dataclass
class Tally:
    """Sums over an epoch's samples: losses and hits (S,), and what the criterion measures."""

    losses: Tensor
    hits: Tensor
    measured: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, replicas: int, dtype: torch.dtype, device: torch.device) -> Tally:
        zeros = torch.zeros(2, replicas, dtype=dtype, device=device)
        return cls(zeros[0], zeros[1])

    def add(self, loss: Tensor, hits: Tensor, measured: Mapping[str, Tensor], samples: int) -> None:
        """In place: one batch of so many ``samples`` of each replica."""
        self.losses += loss * samples
        self.hits += hits
        for name, value in measured.items():
            if name in self.measured:
                self.measured[name] += value * samples
            else:
                self.measured[name] = value * samples

    def clear(self) -> None:
        for value in (self.losses, self.hits, *self.measured.values()):
            value.zero_()


def is_recordable(*parts: object) -> bool:
    """Whether ``parts``, a benchmark, a criterion, networks, are all of this package and torch, and go together.

    Code of one's own may do one thing at one step and another at the next, which a recording would not.
    """
    for part in parts:
        inner = part.modules() if isinstance(part, nn.Module) else (part,)
        if any(type(each).__module__.partition(".")[0] not in ("trainables", "torch") for each in inner):
            return False
        if isinstance(part, nn.Module) and is_looped(part):
            return False
    return True


@contextmanager
def _unchanged_places(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Buffers that a step replaces by new tensors are written to the old ones, from which a recording reads."""
    held = [(module, dict(module._buffers)) for whole in modules for module in whole.modules()]
    is_over = False
    try:
        yield
        is_over = True
    finally:
        with torch.no_grad():
            for module, before in held:
                for name, buffer in before.items():
                    now = module._buffers.get(name)
                    if buffer is not None and now is not None and now is not buffer:
                        module._buffers[name] = buffer.copy_(now) if is_over else buffer


class _Epoch(NamedTuple):
    """What is run in one epoch, and the streams that it draws from."""

    step: Step
    streams: Noted


class Replays:
    """Runs the steps of a training's epochs, recorded where that gains time, and keeps their `Tally`.

    ``modules`` hold the buffers that a step may replace; ``recording`` surrounds a step that is recorded. Where a step
    cannot be recorded, or that gains nothing, all steps are taken as they come.
    """

    def __init__(
        self,
        tally: Tally,
        modules: Sequence[nn.Module],
        recording: Callable[[], AbstractContextManager[None]] = nullcontext,
        record: Record = cuda_graph,
    ) -> None:
        self.tally = tally
        self._modules, self._recording, self._record = modules, recording, record
        self._device = tally.losses.device
        self._clock = stopwatch(self._device)
        self.reset()

    @property
    def is_recorded(self) -> bool:
        """Whether a recording is at hand."""
        return self._replay is not None

    def reset(self) -> None:
        """Begin as at first: steps are computed in another way from now on."""
        #: why steps are not recorded any more; None while they may be
        self.reason: str | None = None
        self._warm = 0
        #: seconds that a replayed step gains, once that is known, and that recording it takes
        self._gain: float | None = None
        self._cost = 0.0
        self.forget()

    def forget(self) -> None:
        """Let go of what was recorded: whatever it reads and writes is another now."""
        self._replay: Callable[[], None] | None = None
        self._key: Hashable = None
        self._draws: list[Draw] = []
        self._indices = self._memory = torch.empty(0)
        self._blocks: list[Tensor] = []
        #: seconds of a step that was taken as it came, until replayed ones were seen to be faster
        self._unproven: float | None = None

    def run(
        self,
        step: Step,
        batches: Sequence[Tensor],
        augmentation: Generators,
        streams: Streams,
        key: Hashable,
        epochs: int = 1,
    ) -> None:
        """One epoch of ``step`` over ``batches`` (S, B) of indices, of which the last may be smaller, into `tally`.

        A recording holds for one ``key``, the learning rate say, which this and the coming ``epochs`` - 1 have.
        """
        self.tally.clear()
        epoch = _Epoch(step, Noted(augmentation, streams))
        whole = [batch for batch in batches if batch.shape == batches[0].shape]
        place = 0
        if self.is_recorded and (key != self._key or self._indices.shape != batches[0].shape):
            self.forget()
        # of these the last is noted, and recorded
        first = max(1, WARM - self._warm)
        pays = self._gain is None or epochs * len(whole) * self._gain > WORTH * self._cost
        if self.reason is None and not self.is_recorded and len(whole) >= first + LEAST and pays:
            for batch in whole[: first - 1]:
                self._plain(batch, epoch)
            self._warm, place = WARM, first
            self._try_to_record(whole[first - 1], epoch, key)
        if self.is_recorded:
            self._replayed(whole[place:], epoch)
            place = len(whole)
        for batch in batches[place:]:
            self._plain(batch, epoch)

    def _plain(self, indices: Tensor, epoch: _Epoch) -> None:
        streams = epoch.streams
        with _unchanged_places(self._modules):
            self.tally.add(*epoch.step(indices, streams.augmentation, streams.of), indices.shape[1])

    def _try_to_record(self, indices: Tensor, epoch: _Epoch, key: Hashable) -> None:
        """Take a step, noting what it draws; record it where the device has to wait for the host."""
        started = self._clock()
        with drawing(epoch.streams.note):
            self._plain(indices, epoch)
        told = time.perf_counter() - started
        seconds = self._clock() - started
        if self._device.type == "cuda" and told < QUICK * seconds:
            self._stop("the device is busy as it is")
            return
        idle = _idle(self._device)
        started = self._clock()
        reason = None
        try:
            self._make(indices, epoch, key)
            self._cost = self._clock() - started
            self._unproven = seconds
        except (Unrecordable, RuntimeError) as error:
            # without the error, which holds what the recording had allocated
            reason = str(error)
        if reason is None and idle > _left(self._device):
            reason = "memory would be short beside a recording"
        if reason is not None:
            self._stop(reason)

    def _make(self, indices: Tensor, epoch: _Epoch, key: Hashable) -> None:
        draws = epoch.streams.draws()
        on_cuda = self._device.type == "cuda"
        size = max((each.end(len(indices)) for each in draws), default=0)
        self._indices = indices.clone()
        self._memory = torch.zeros(size, dtype=torch.uint8, device=self._device)
        self._blocks = [
            torch.empty(size, dtype=torch.uint8, pin_memory=on_cuda) for _ in range(2 * AHEAD if size else 0)
        ]

        def run() -> None:
            left = iter(draws)

            def given(
                fill: Fill, shape: tuple[int, ...], generators: Generators, dtype: torch.dtype, device: torch.device
            ) -> Tensor:
                wanted, asked = next(left, None), (shape, dtype, epoch.streams.name(generators))
                if wanted is None or (wanted.shape, wanted.dtype, wanted.stream) != asked:
                    raise Unrecordable("a step draws other random numbers than the one before it")
                return wanted.within(self._memory, len(indices))

            with drawing(given):
                self._plain(self._indices, epoch)
            if next(left, None) is not None:
                raise Unrecordable("a step draws fewer random numbers than the one before it")

        with self._recording():
            self._replay = self._record(run)
        self._key, self._draws = key, draws

    def _replayed(self, batches: Sequence[Tensor], epoch: _Epoch) -> None:
        assert self._replay is not None
        trial = LEAST if self._unproven is not None else 0
        started = self._clock() if trial else 0.0
        with Ahead(self._draws, epoch.streams.sources(self._draws), self._blocks, len(batches)) as ahead:
            for place, indices in enumerate(batches):
                self._indices.copy_(indices)
                if self._blocks:
                    self._memory.copy_(ahead.filled(place), non_blocking=True)
                    ahead.sent(place)
                self._replay()
                if place + 1 == trial:
                    assert self._unproven is not None
                    taken, before = (self._clock() - started) / trial, self._unproven
                    log.info("a step takes %.3g ms recorded, and %.3g ms as it comes", 1e3 * taken, 1e3 * before)
                    self._unproven, self._gain = None, before - taken
                    if taken * SLACK > before:
                        # threads have drawn for the steps to come, so that this epoch goes on
                        self.reason = "a replay is no faster"
        if self.reason is not None:
            self._stop(self.reason)

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self.forget()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        log.info("steps are taken as they come: %s", reason)


def _idle(device: torch.device) -> int:
    """Bytes that steps took on the way and that this process holds for the next ones; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _left(device: torch.device) -> float:
    """Bytes that this process may still ask of ``device``; without bound on a CPU."""
    if device.type != "cuda":
        return float("inf")
    free, total = torch.cuda.mem_get_info(device)
    share = torch.cuda.get_per_process_memory_fraction()
    return min(free, int(share * total) - torch.cuda.memory_reserved(device))
