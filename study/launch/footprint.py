"""What a study will keep on disk, known before it starts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from study.file.plan import planned, recipe
from study.file.spec import StudySpec

#: values that an optimizer keeps for each parameter
SLOTS = {"adam": 2, "adamw": 2, "sgd": 0}
#: bytes of one metric's value of one replica in a checkpoint's records, and how many metrics a benchmark measures
VALUE_BYTES, METRICS = 9, 30


@dataclass(frozen=True)
class Footprint:
    """Bytes: the checkpoint of a trial that runs, what one that is done leaves (records and weights), and trials.

    ``samples`` are the data's; ``operations`` are a replica's for one of them, forwards: the multiply-adds that torch's
    counter knows of (matrix products and convolutions; not an LSTM's), up to where a network fails that does.
    """

    checkpoint: int
    kept: int
    trials: int
    samples: int = 0
    operations: int = 0

    @property
    def total(self) -> int:
        """What all trials keep at the most, if all of them stand unfinished."""
        return self.trials * max(self.checkpoint, self.kept)

    def __str__(self) -> str:
        running, kept, total = (readable(size) for size in (self.checkpoint, self.kept, self.total))
        return (
            f"a trial's checkpoint takes {running} while it runs, a finished trial {kept}; {total} at the most in all"
        )


def estimate(spec: StudySpec) -> Footprint:
    """The footprint of the study, from one replica of its network.

    Loads the data, whose size may shape the network; raises what that raises.
    """
    import torch
    from pydantic import TypeAdapter
    from torch.utils.flop_counter import FlopCounterMode

    from trainables.benchmarks import find
    from trainables.remote_data import fetched
    from trainables.replicas import streams

    benchmark, training = find(spec.benchmark.name), recipe(spec)
    options: Any = TypeAdapter(benchmark.Options).validate_python(fetched(benchmark.Options, spec.benchmark.options))
    data = benchmark.load(options)
    network = benchmark.backbone(data, options, streams(spec.seeds[:1], "init"))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    buffers = sum(buffer.numel() for buffer in network.buffers())
    slots = SLOTS[training.optimizer] + (training.optimizer == "sgd" and training.momentum > 0)
    width = {"float32": 4, "float64": 8}[training.dtype] * len(spec.seeds)
    records = training.epochs * METRICS * VALUE_BYTES * len(spec.seeds)
    weights = (parameters + buffers) * width
    with FlopCounterMode(display=False) as counter, torch.no_grad(), suppress(Exception):
        # two samples, since a network may normalise over its batch; what is wrong with it is said before it is trained
        inputs = benchmark.batch(data.inputs[None, :2], options, False, [])
        network(inputs.to(next(network.parameters()).dtype))
    return Footprint(
        weights + slots * parameters * width + records,
        weights + records,
        planned(spec),
        len(data.inputs),
        counter.get_total_flops() // 4,
    )


def readable(size: float) -> str:
    """``950 bytes``, ``3 MB`` or ``6.2 GB``."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
