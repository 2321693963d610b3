"""How a study is laid over a cluster: shares of its CPUs and GPUs, and a trial's seeds in shards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.file.plan import fixed_points
from study.launch import groups
from trainables.assignment import Share

if TYPE_CHECKING:
    from study.file.spec import Resources, StudySpec

#: what a trial may take beyond what was measured, before its share is too small
MARGIN = 1.1


@dataclass(frozen=True)
class Capacity:
    """What the cluster has in all, and the CPU cores of its largest node."""

    cpus: float
    gpus: float
    largest_node: float

    @classmethod
    def read(cls) -> Capacity:
        """The capacity of the cluster that this process is connected to."""
        import ray

        whole = ray.cluster_resources()
        nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        return cls(whole.get("CPU", 0.0), whole.get("GPU", 0.0), max(nodes, default=0.0))

    def slots(self, share: Share) -> int:
        """How many Tune trials fit at the same time, one at least."""
        fits = self.cpus / share.cpus
        if share.gpus:
            # a GPU is shared, but a trial never spans two; a third of one must fit three times in floating point too
            fits = min(fits, self.gpus * int(1 / share.gpus + 1e-6))
        return max(1, int(fits))


def first_share(resources: Resources, memory: float | None) -> Share:
    """What a trial gets that did not fail; ``memory`` is the share of a GPU's that trials were seen to take."""
    if resources.gpus != "auto":
        return Share(resources.cpus, resources.gpus)
    if memory is None:
        return Share(resources.cpus, 1.0)
    return Share(resources.cpus, 1 / max(1, math.floor(1 / (memory * MARGIN))))


def larger(share: Share, capacity: Capacity) -> Share | None:
    """Twice the share, for a trial that ran out of memory; None where it has the whole of a GPU or of a node's cores.

    Of a GPU, else of the cores, by which it has fewer neighbours.
    """
    if share.gpus:
        return Share(share.cpus, min(1.0, 2 * share.gpus)) if share.gpus < 1 else None
    most = math.floor(capacity.largest_node)
    return Share(min(2 * share.cpus, most), 0.0) if share.cpus < most else None


def shards(spec: StudySpec, capacity: Capacity) -> int:
    """Into how many shards each trial's seeds are split.

    ``auto``: as many as fit beside those of the other trials, so that nothing idles; one where trials enough wait.
    A search keeps whole trials: its next point needs the last one's result.
    """
    seeds = len(spec.seeds)
    if spec.search is not None:
        return 1
    if spec.seeds_per_shard != "auto":
        return math.ceil(seeds / spec.seeds_per_shard)
    slots = capacity.slots(first_share(spec.resources, None))
    if spec.concurrency != "auto":
        slots = min(slots, spec.concurrency)
    together = groups.of_trials([point.trial for point in fixed_points(spec)], groups.most(spec))
    return min(seeds, max(1, slots // len(together)))


def split(seeds: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """``seeds`` in ``count`` parts in order, whose lengths differ by one at most."""
    bounds = [round(len(seeds) * part / count) for part in range(count + 1)]
    return [tuple(seeds[bounds[part] : bounds[part + 1]]) for part in range(count)]
