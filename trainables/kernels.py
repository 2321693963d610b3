"""How convolutions of S replicas are computed: the ways there are, and which of them is the fastest as measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

#: ``grouped``: one convolution in S groups; ``looped``: one replica after another; ``bmm``: matrix products over
#: patches (`trainables.patches`); ``auto``: the fastest of these
Mode = Literal["auto", "grouped", "looped", "bmm"]
MODES: tuple[str, ...] = get_args(Mode)
#: the usual kernel stays unless another is faster by so much: which of two equals wins would be chance
SLACK = 1.03
#: kernels that take so many times the fastest's step are not timed again
HOPELESS = 3.0
#: each kernel's time is its fastest of so many steps: neighbours on the machine only ever slow a step
ROUNDS = 4
#: of which so many are taken however long they are
LEAST_ROUNDS = 2


@dataclass(frozen=True)
class Kernel:
    """One way: its ``mode``, and whether maps have their channels last in memory; ``bmm`` has a layout of its own."""

    mode: str
    channels_last: bool = False

    def __str__(self) -> str:
        return self.mode + (", channels last" if self.channels_last else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for a checkpoint and for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Kernel:
        """The kernel of `to_dict`; ``ValueError`` where it is of another release, which has others."""
        if set(values) != {"mode", "channels_last"} or values["mode"] not in MODES[1:]:
            raise ValueError(f"unknown kernel {dict(values)!r}")
        return cls(str(values["mode"]), bool(values["channels_last"]))


class Computed(nn.Module):
    """A network that can be computed by several kernels, at numbers that agree up to floating-point reassociation."""

    def __init__(self) -> None:
        super().__init__()
        #: by which it computes, None for the usual one of the device
        self.kernel: Kernel | None = None

    def kernels(self, device: torch.device) -> Sequence[Kernel]:
        """Those it may be computed by, the usual one first; one alone where its options say which."""
        raise NotImplementedError


def ways(network: nn.Module, device: torch.device) -> Sequence[Kernel]:
    """The kernels of ``network``, or of the one within it, the usual first; none where it has no such choice."""
    return next((module.kernels(device) for module in _computed(network)), ())


def in_use(network: nn.Module, device: torch.device) -> Kernel | None:
    """The kernel by which ``network`` computes on ``device``; None where it has no such choice."""
    return next((module.kernel or module.kernels(device)[0] for module in _computed(network)), None)


def use(network: nn.Module, kernel: Kernel | None) -> None:
    """Compute ``network`` by ``kernel`` from now on, by its usual one where that is None."""
    for module in _computed(network):
        module.kernel = kernel


def fastest(seconds: Mapping[Kernel, float], usual: Kernel) -> Kernel:
    """The kernel of the fewest ``seconds``; the ``usual`` one where it is not slower than that by `SLACK`."""
    best = min(seconds, key=lambda kernel: seconds[kernel], default=usual)
    return usual if seconds.get(usual, float("inf")) <= SLACK * seconds.get(best, float("inf")) else best


def timed(steps: Mapping[Kernel, Callable[[], float]], budget: float) -> dict[Kernel, float]:
    """Seconds of each kernel's step, which says how long it took; they take turns, within about ``budget`` of these.

    The first step of each does not count: it allocates, and a library compiles or chooses its own algorithm there.
    """
    first = [step() for step in steps.values()]
    found = {kernel: step() for kernel, step in steps.items()}
    # one for which there is no memory takes for ever
    spent = sum(taken for taken in (*first, *found.values()) if taken < float("inf"))
    near = [kernel for kernel, taken in found.items() if float("inf") > taken <= HOPELESS * min(found.values())]
    for turn in range(1, ROUNDS):
        # a time of one step alone would be chance
        if turn >= LEAST_ROUNDS and spent > budget:
            break
        for kernel in near:
            taken = steps[kernel]()
            spent += taken
            found[kernel] = min(found[kernel], taken)
    return found


def stopwatch(device: torch.device) -> Callable[[], float]:
    """A clock in seconds for steps on ``device``, which waits for a GPU to be done.

    On one thread of a CPU it is that thread's own time, so that a busy machine does not count.
    """
    if device.type == "cuda":

        def read() -> float:
            torch.cuda.synchronize(device)
            return time.perf_counter()

        return read
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def _computed(network: nn.Module) -> Iterator[Computed]:
    return (module for module in network.modules() if isinstance(module, Computed))
