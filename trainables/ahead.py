"""Random numbers of recorded steps: noted as one step draws them, and drawn ahead for the steps to come."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import torch
from torch import Tensor

from trainables.replicas import Fill, draw

Generators = Sequence[torch.Generator]
#: stream name -> the replicas' generators of that name in an epoch, the same list each time
Streams = Callable[[str], Generators]

#: steps that threads draw at a time, and how many threads at most
AHEAD = 4
MOST_THREADS = 8
#: fewer bytes than these a step are drawn sooner than a thread is told to
FEW_BYTES = 2**14
_ALIGNED = 256


class Unrecordable(Exception):
    """A step that cannot be recorded; it says why."""


@dataclass(frozen=True)
class Draw:
    """Random values (S, *shape) that a step asks for, ``stream`` being None for augmentation's generators."""

    fill: Fill
    shape: tuple[int, ...]
    dtype: torch.dtype
    stream: str | None
    #: place in the memory of all draws, in bytes
    start: int

    def end(self, replicas: int) -> int:
        """Where its place ends."""
        return self.start + replicas * math.prod(self.shape) * self.dtype.itemsize

    def within(self, memory: Tensor, replicas: int) -> Tensor:
        """Its values (S, *shape) in ``memory``, (bytes,)."""
        return memory[self.start : self.end(replicas)].view(self.dtype).view(replicas, *self.shape)


class Noted:
    """An epoch's random streams, and what one step drew from them."""

    def __init__(self, augmentation: Generators, streams: Streams) -> None:
        self.augmentation, self._of = augmentation, streams
        self._names: dict[int, str | None] = {id(augmentation): None}
        self._draws: list[Draw] | None = []
        self._end = 0

    def of(self, name: str) -> Generators:
        """The replicas' generators of the stream of that name."""
        found = self._of(name)
        self._names[id(found)] = name
        return found

    def name(self, generators: Generators) -> str | None:
        """Of the stream that ``generators`` are; `Unrecordable` where they are none."""
        if id(generators) not in self._names:
            raise Unrecordable("a step draws from generators of its own")
        return self._names[id(generators)]

    def note(
        self,
        fill: Fill,
        shape: tuple[int, ...],
        generators: Generators,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Tensor:
        """Draw, and note what."""
        if self._draws is not None and id(generators) in self._names:
            made = Draw(fill, shape, dtype, self._names[id(generators)], self._end)
            self._draws.append(made)
            self._end = -(-made.end(len(generators)) // _ALIGNED) * _ALIGNED
        else:
            self._draws = None
        return draw(fill, shape, generators, dtype, device)

    def draws(self) -> list[Draw]:
        """What was noted; `Unrecordable` where some of it came from elsewhere."""
        if self._draws is None:
            raise Unrecordable("a step draws from generators of its own")
        return self._draws

    def sources(self, draws: Sequence[Draw]) -> dict[str | None, Generators]:
        """The generators of ``draws`` by their stream."""
        return {each.stream: self.augmentation if each.stream is None else self.of(each.stream) for each in draws}


class Ahead:
    """Draws what so many ``steps`` need into ``blocks`` of memory, which serve one after another, in threads.

    Each thread draws for some of the replicas, in the order of the steps, so that every stream goes on as it would, and
    for `AHEAD` steps at a time: threads that hand over each step do little else where a step takes half a millisecond.
    """

    def __init__(
        self,
        draws: Sequence[Draw],
        sources: Mapping[str | None, Generators],
        blocks: Sequence[Tensor],
        steps: int,
    ) -> None:
        self._blocks, self._steps = blocks, steps
        replicas = max((len(generators) for generators in sources.values()), default=0)
        #: of each block and replica, what is filled
        self._tasks = [
            [
                [(each.fill, each.within(block, replicas)[s], sources[each.stream][s]) for each in draws]
                for s in range(replicas)
            ]
            for block in blocks
        ]
        few = not blocks or blocks[0].numel() < FEW_BYTES
        count = 0 if few else min(torch.get_num_threads(), replicas, MOST_THREADS)
        self._shares = [range(replicas)] if few else [range(first, replicas, count) for first in range(count)]
        self._is_pinned = bool(blocks) and blocks[0].is_pinned()
        self._events: list[torch.cuda.Event | None] = [None] * len(blocks)
        #: of each thread, for how many stretches of steps there is room, and how many it has drawn
        self._free: list[SimpleQueue[None]] = [SimpleQueue() for _ in range(count)]
        self._ready: list[SimpleQueue[None]] = [SimpleQueue() for _ in range(count)]
        self._error: BaseException | None = None
        self._is_over = False
        self._threads = [threading.Thread(target=self._work, args=(each,), daemon=True) for each in range(count)]

    def __enter__(self) -> Ahead:
        for _ in range(len(self._blocks) // AHEAD):
            self._release()
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over = True
        self._release()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def filled(self, step: int) -> Tensor:
        """The block of ``step``, once it is drawn."""
        if not self._threads:
            self._fill(step, self._shares[0])
        elif step % AHEAD == 0:
            for ready in self._ready:
                ready.get()
            if self._error is not None:
                raise self._error
        return self._blocks[step % len(self._blocks)]

    def sent(self, step: int) -> None:
        """The block of ``step`` is on its way to the device: when it has arrived, it may be drawn into again."""
        if self._is_pinned:
            # a thread that waits for it leaves its core to others
            event = torch.cuda.Event(blocking=True)
            event.record()
            self._events[step % len(self._blocks)] = event
        if step % AHEAD == AHEAD - 1:
            self._release()

    def _release(self) -> None:
        for free in self._free:
            free.put(None)

    def _work(self, number: int) -> None:
        try:
            for start in range(0, self._steps, AHEAD):
                self._free[number].get()
                for step in range(start, min(start + AHEAD, self._steps)):
                    if self._is_over:
                        return
                    self._fill(step, self._shares[number])
                self._ready[number].put(None)
        except BaseException as error:
            self._error = error
            self._ready[number].put(None)

    def _fill(self, step: int, replicas: Sequence[int]) -> None:
        place = step % len(self._blocks)
        event = self._events[place]
        if event is not None:
            event.synchronize()
        for replica in replicas:
            for fill, values, generator in self._tasks[place][replica]:
                fill(values, generator)
