"""The kernel of a trial by measurement: timed once for a network, shape and device, and kept from then on.

A trial takes the kernel of its checkpoint; else what its study's folder holds, so that all trials of a study, and a
launch that resumes it, take the same; else what this machine's cache holds from another study; else it is timed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainables import kernels
from trainables.benchmarks.images import default_cache
from trainables.kernels import Kernel
from trainables.replicas import streams

if TYPE_CHECKING:
    from trainables.storage import Folder
    from trainables.training import Training

log = logging.getLogger(__name__)

#: a trial of fewer steps takes the usual kernel: timing costs some twenty-five of them
FEW_STEPS = 200
#: seconds of computing that timing may take, more by the wall on a busy machine; where they would not do for the
#: whole batch, fewer samples are timed
SECONDS = 20.0
#: the fewest samples of each replica that are timed
FEWEST_SAMPLES = 8
#: folder of kept choices, in the user's cache and in a study's folder
KERNELS = "kernels"
#: how long a trial waits for one beside it that is timing the same, on a machine that is busy say
WAIT_SECONDS = 600.0
#: raised whenever a kernel is computed in another way, so that older choices are timed anew
_RELEASE = 1


def settle(training: Training, study: Folder | None = None) -> None:
    """Let a ``training`` that begins compute by the fastest kernel; ``study`` is the folder that its trials share.

    What is named by an option stays, and so does the usual kernel of a trial of fewer than `FEW_STEPS`, or of one that
    is compiled, which each kernel would be anew.
    """
    ways = kernels.ways(training.network, training.device)
    if len(ways) < 2 or training.recipe.compile or steps(training) < FEW_STEPS:
        return
    wanted = key(training)
    kernel = _of_machine(wanted, training) if study is None else _of_study(study, wanted, training)
    if kernel not in ways:
        kernel = ways[0]
    log.info("%s: computed by %s", training.trial.criterion, kernel)
    training.compute_by(kernel)


def key(training: Training) -> dict[str, Any]:
    """What a measurement holds for: the device with its threads, torch's version, network, shapes and precision."""
    replicas, samples = len(training.trial.seeds), min(training.recipe.batch_size, training.parts["train"].shape[1])
    shapes = [[name, list(p.shape)] for name, p in training.network.named_parameters()]
    inputs = training._prepared(training.parts["train"][:, :1], False, [])
    return {
        "device": device_name(training.device),
        "torch": torch.__version__,
        "network": digest([type(training.network).__name__, shapes]),
        "inputs": [replicas, samples * training.criterion.views, *inputs.shape[2:]],
        "precision": "bfloat16" if training.mixed_precision else training.recipe.dtype,
        "ways": [str(way) for way in kernels.ways(training.network, training.device)],
        "release": _RELEASE,
    }


def device_name(device: torch.device) -> str:
    """The GPU, or the processor with what torch uses of it and the threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def measured(training: Training, seconds: float = SECONDS) -> dict[Kernel, float]:
    """Seconds of a step, forward and backward, by each kernel for which there is memory, the usual one first.

    Takes a copy of the network through the first training samples, and leaves the training as it is.
    """
    ways = kernels.ways(training.network, training.device)
    network = copy.deepcopy(training.network).train()
    clock = kernels.stopwatch(training.device)

    def step(kernel: Kernel, inputs: Tensor) -> float:
        kernels.use(network, kernel)
        network.zero_grad(set_to_none=True)
        started = clock()
        _, features, logits = training._answers(inputs, network)
        torch.autograd.backward(logits.logsumexp(-1).sum() + features.sum())
        return clock() - started

    inputs = _inputs(training, ways, step, seconds)
    steps = {kernel: _unless_full(step, kernel, inputs) for kernel in ways}
    found = {kernel: taken for kernel, taken in kernels.timed(steps, seconds).items() if taken < float("inf")}
    if training.device.type == "cuda":
        # what the slower ones took is not what the trial will take
        del network, inputs
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return found


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or in the process; the CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def steps(training: Training) -> int:
    """Steps of the whole trial."""
    return training.recipe.epochs * training.batches


def _inputs(
    training: Training, ways: Sequence[Kernel], step: Callable[[Kernel, Tensor], float], seconds: float
) -> Tensor:
    """A batch as the training's, or so many samples of it that all steps take about ``seconds``."""
    indices = training.parts["train"][:, : training.recipe.batch_size]
    count = indices.shape[1]

    def prepared(samples: int) -> Tensor:
        inputs = training._prepared(indices[:, :samples], True, streams(training.trial.seeds, "augmentation"))
        return torch.cat([inputs] * training.criterion.views, 1)

    few = max(FEWEST_SAMPLES, count // 8)
    if few >= count:
        return prepared(count)
    small = prepared(few)
    trial_step = _unless_full(step, ways[0], small)
    trial_step()
    # fewer rounds before fewer samples: which kernel is ahead depends on the size of the batch
    whole = trial_step() * count / few * len(ways) * (1 + kernels.LEAST_ROUNDS)
    return prepared(min(count, max(FEWEST_SAMPLES, int(count * min(1.0, seconds / whole)))))


def _unless_full(step: Callable[[Kernel, Tensor], float], kernel: Kernel, inputs: Tensor) -> Callable[[], float]:
    """The ``step`` by ``kernel``; where memory runs out in it, it takes for ever."""

    def guarded() -> float:
        try:
            return step(kernel, inputs)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return float("inf")

    return guarded


def _of_study(study: Folder, wanted: dict[str, Any], training: Training) -> Kernel:
    """What the ``study`` holds, else this machine's, which it holds from then on."""
    folder, name = study / KERNELS, digest(wanted)
    kept = _read(folder.read(f"{name}.json"))
    if kept is not None:
        return kept
    try:
        # trials that begin together time it once, and take the same
        with folder.lock(f"{name}.lock", WAIT_SECONDS):
            kept = _read(folder.read(f"{name}.json"))
            if kept is None:
                kept = _of_machine(wanted, training)
                folder.write(f"{name}.json", json.dumps({"kernel": kept.to_dict(), "key": wanted}).encode())
        return kept
    except OSError as error:
        log.warning("the kernel cannot be kept in %s (%s); the usual one computes", folder, error)
        return kernels.ways(training.network, training.device)[0]


def _of_machine(wanted: dict[str, Any], training: Training) -> Kernel:
    """What the user's cache holds, else what is the fastest now."""
    path = default_cache() / KERNELS / f"{digest(wanted)}.json"
    with suppress(OSError):
        kept = _read(path.read_bytes())
        if kept is not None:
            return kept
    seconds = measured(training)
    chosen = kernels.fastest(seconds, kernels.ways(training.network, training.device)[0])
    told = {str(kernel): taken for kernel, taken in seconds.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        aside.write_text(json.dumps({"kernel": chosen.to_dict(), "key": wanted, "seconds": told}), encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        log.warning("the kernel cannot be kept in %s (%s); the next study times it again", path.parent, error)
    return chosen


def _read(content: bytes | None) -> Kernel | None:
    """The kernel in a file's ``content``; None where there is none, or what cannot be read, and it is timed again."""
    if content is None:
        return None
    with suppress(ValueError, KeyError, TypeError):
        return Kernel.from_dict(json.loads(content)["kernel"])
    return None


def digest(value: object) -> str:
    """What tells ``value``, of plain types, from others, in a file's name."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
