"""What a function starts on a GPU, recorded once and started again as a whole: CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

import torch

log = logging.getLogger(__name__)

#: records what a function starts on the device, without running it; what is returned runs it
Record = Callable[[Callable[[], None]], Callable[[], None]]

#: kinds of devices on which something is recorded
DEVICES = frozenset({"cuda"})


def cuda_graph(run: Callable[[], None]) -> Callable[[], None]:
    """A `Record`; ``RuntimeError`` where ``run`` waits for the device, or memory runs out."""
    graph, pool, stream = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle(), torch.cuda.current_stream()
    try:
        # other threads may go on using the device: one that sends numbers to a server, say
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            run()
    except BaseException:
        # torch stays on the recording's stream, and before 2.12 in its memory too
        torch.cuda.set_stream(stream)
        with suppress(AttributeError, RuntimeError):
            torch._C._cuda_endAllocateToPool(stream.device_index, pool)
        raise
    replay: Callable[[], None] = graph.replay
    return replay


class Repeated:
    """A function that reads and writes the same memory at each of its many calls: recorded after the first two."""

    def __init__(self, run: Callable[[], None], device: torch.device) -> None:
        self._run, self._calls = run, 0
        self._is_recordable = device.type in DEVICES

    def __call__(self) -> None:
        self._calls += 1
        if self._calls > 2 and self._is_recordable:
            self._is_recordable = False
            try:
                self._run = cuda_graph(self._run)
            except RuntimeError as error:
                log.info("what is repeated is not recorded: %s", error)
        self._run()
