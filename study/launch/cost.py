"""What a study will cost, before it runs: hours, memory, disk and money, from a few steps and evaluations of its own.

Each kind of trial (criterion, options, training settings, seeds in a process) is timed in processes of their own on the
device that it will get, as many at once as will train at once, since neighbours share a machine's memory and caches.
"""

from __future__ import annotations

import heapq
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from study.errors import UserError
from study.file.plan import planned, recipe, seeds_of, short_name
from study.file.spec import StudySpec
from study.launch import footprint, groups, placement
from study.launch.footprint import Footprint
from study.launch.placement import Capacity
from study.servers.reach import is_local
from trainables.trial import Trial

#: what Ray, Tune and MLflow take to start, in the study's process and in trials', and to end, in starts of a process
#: with torch (measured by benchmarks.cost); and seconds of a trial whose process is there
RAY_STARTS, TRIAL_SECONDS = 7.5, 0.2
#: values that MLflow takes in a second, and seconds of a run of its own
TRACKED_VALUES, RUN_SECONDS = 5800.0, 0.06
#: samples seen by all replicas in all epochs below which a study is soon over, and not timed, if its network takes no
#: more than so many operations a sample (the paper's for spectra .15 million, a ResNet of 8 maps, 16 pixels 2 million)
SMALL, SMALL_OPERATIONS = 3_000_000, 250_000
#: seconds after which the start of a study waits no longer for its cost
PATIENCE = 60.0
#: trials that are timed at once at most
MOST_AT_ONCE = 8


@dataclass(frozen=True)
class Kind:
    """A kind of trial and how many Tune trials of it there are, each of so many ``points``.

    One takes ``fixed`` seconds, of which ``setup`` before its first epoch, and ``pace`` for each of its ``epochs``; its
    process takes ``start`` once.
    """

    trial: Trial
    count: int
    points: int = 1
    fixed: float = 0.0
    setup: float = 0.0
    pace: float = 0.0
    epochs: int = 0
    start: float = 0.0
    memory: int = 0

    @property
    def seconds(self) -> float:
        """A whole trial, in a process that has started."""
        return self.fixed + self.pace * self.epochs


@dataclass(frozen=True)
class Cost:
    """What a study takes: ``seconds`` on the clock, of which ``busy`` are trials' own, one after another.

    ``memory`` in bytes: of all trials at once, or of a GPU where they have one; ``disk`` in bytes; ``gpus`` at work.
    """

    seconds: float
    busy: float
    slots: int
    memory: int
    disk: int
    gpus: float
    kinds: Sequence[Kind]
    price: float | None = None

    @property
    def start(self) -> float:
        """Seconds in which no trial trains: starts of Ray and of a process, and Ray's end."""
        return (1 + RAY_STARTS) * max(kind.start for kind in self.kinds)

    def of_epochs(self, epochs: int, share: float = 1.0) -> float:
        """Seconds on the clock where each trial trains so many epochs, with that ``share`` of its seeds."""
        each = [share * (kind.fixed + kind.pace * epochs) for kind in self.kinds for _ in range(kind.count)]
        return self.start + makespan(each, self.slots)

    @property
    def weights(self) -> Mapping[str, float]:
        """Criterion, as labels name it -> how long a trial takes from its first epoch on, against the mean of all.

        Empty where the criterion alone does not tell: several points go together, or trials differ in seeds.
        """
        if len({len(kind.trial.seeds) for kind in self.kinds}) > 1 or any(kind.points > 1 for kind in self.kinds):
            return {}
        found: dict[str, list[float]] = {}
        for kind in self.kinds:
            found.setdefault(short_name(kind.trial.criterion), []).extend([kind.seconds - kind.setup] * kind.count)
        mean = fmean(seconds for each in found.values() for seconds in each)
        return {criterion: fmean(each) / mean for criterion, each in found.items()}

    @property
    def tail(self) -> float:
        """Seconds of a trial after its epochs: what its last one measures beside the others, and sends."""
        return fmean(kind.fixed - kind.setup for kind in self.kinds)

    @property
    def gpu_hours(self) -> float:
        return self.seconds / 3600 * self.gpus

    @property
    def money(self) -> float | None:
        """The price of all GPU hours; None without a price or a GPU."""
        return self.gpu_hours * self.price if self.price is not None and self.gpus else None

    def __str__(self) -> str:
        at_once = f", {self.slots} trials at once" if self.slots > 1 else ""
        where = "of GPU memory" if self.gpus else "of memory"
        text = (
            f"about {duration(self.seconds)}{at_once}, {footprint.readable(self.memory)} {where}, "
            f"{footprint.readable(self.disk)} of disk at the most"
        )
        if self.gpus:
            text += f", {self.gpu_hours:.2g} GPU hours"
        if self.money is not None:
            text += f" = {self.money:,.2f} at {self.price:g} a GPU hour"
        return f"{text} (timed by a few steps and evaluations of {len(self.kinds)} kinds of trials on this machine)"


def predict(
    spec: StudySpec,
    address: str | None = None,
    price: float | None = None,
    small: int = SMALL,
    limit: float | None = None,
    foot: Footprint | None = None,
) -> Cost | None:
    """The study's cost on this machine; None in a cluster, whose devices are not at hand, and for a study of moments.

    ``foot`` is the study's footprint where it is known already. Raises `UserError` where a trial cannot be timed, with
    what it raised, or not within ``limit`` seconds.
    """
    if not is_local(address):
        return None
    foot = foot or footprint.estimate(spec)
    # a GPU takes moments for what a core takes minutes for
    weight = 1.0 if spec.resources.needs_gpu else max(1.0, foot.operations / SMALL_OPERATIONS)
    if foot.samples * recipe(spec).epochs * replicas(spec) * weight < small:
        return None
    capacity = here()
    kinds = kinds_of(spec, capacity)
    share = placement.first_share(spec.resources, None)
    slots = min(capacity.slots(share), sum(kind.count for kind in kinds))
    if spec.concurrency != "auto":
        slots = min(slots, spec.concurrency)
    timed = _timed(spec, kinds, min(slots, MOST_AT_ONCE), limit)
    if spec.resources.gpus == "auto":
        # later trials get the share that the first ones used
        share = placement.first_share(spec.resources, max(kind.memory for kind in timed) / _gpu_bytes())
        slots = min(capacity.slots(share), sum(kind.count for kind in kinds))
    lasting = [kind.seconds for kind in timed for _ in range(kind.count)]
    start = max(kind.start for kind in timed)
    memory = max(kind.memory for kind in timed) * slots
    seconds = (1 + RAY_STARTS) * start + makespan(lasting, slots)
    return Cost(seconds, sum(lasting), slots, memory, foot.total, min(capacity.gpus, slots * share.gpus), timed, price)


def replicas(spec: StudySpec) -> int:
    """How many replicas the study trains at most."""
    confirmed = planned(spec) - planned(spec, 0)
    fresh = len(seeds_of(spec, "confirm")) if confirmed else 0
    return planned(spec, 0) * len(spec.seeds) + confirmed * fresh


def kinds_of(spec: StudySpec, capacity: Capacity) -> list[Kind]:
    """The study's Tune trials by kind, with a trial of each; hyperparameters, e excepted, take no time."""
    found: dict[str, Kind] = {}
    parts = placement.shards(spec, capacity)
    for trial, points, count in groups.planned(spec):
        for seeds in placement.split(trial.seeds, parts) if trial.seeds == spec.seeds else [trial.seeds]:
            # several points together are as many replicas as their seeds
            part = replace(trial, seeds=tuple(seeds) * points)
            key = json.dumps(
                [part.criterion, part.options, part.training, len(part.seeds), part.hyperparameters.get("e")],
                default=str,
            )
            before = found.get(key)
            found[key] = Kind(part, count + (before.count if before else 0), points)
    return list(found.values())


def here() -> Capacity:
    """What this machine has for a study."""
    import torch

    cores = float(os.cpu_count() or 1)
    return Capacity(cores, float(torch.cuda.device_count()), cores)


def makespan(seconds: Sequence[float], slots: int) -> float:
    """Seconds on the clock until all are done, each begun as soon as a slot is free, in their order."""
    ends = [0.0] * slots
    for each in seconds:
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def _timed(spec: StudySpec, kinds: Sequence[Kind], at_once: int, limit: float | None) -> list[Kind]:
    """``kinds`` with what one trial of each takes, timed in so many processes at once; the means of these."""
    device = "cuda" if spec.resources.needs_gpu else "cpu"
    threads = max(1, int(spec.resources.cpus))
    request = {"trials": [kind.trial.to_dict() for kind in kinds], "device": device, "threads": threads}
    answers = _asked(request, at_once, limit)
    return [_of(kind, told) for kind, told in zip(kinds, zip(*answers, strict=True), strict=True)]


def _of(kind: Kind, told: Sequence[Mapping[str, Any]]) -> Kind:
    """The kind as several processes timed it at once: their means."""
    epochs, evaluations = told[0]["count"], [each["evaluations"] for each in told]
    last = fmean(each["last"] for each in evaluations)
    along = fmean(each["epochs"] for each in told) + fmean(each["seconds"] for each in evaluations) - last
    # an epoch's own values are sent as they come, and the runs are made once
    along += evaluations[0]["values"] / TRACKED_VALUES
    setup = fmean(each["setup"] for each in told)
    fixed = setup + last + TRIAL_SECONDS
    fixed += RUN_SECONDS * (len(kind.trial.seeds) + 1)
    return replace(
        kind,
        fixed=fixed,
        setup=setup,
        pace=along / epochs,
        epochs=epochs,
        start=fmean(each["start"] for each in told),
        memory=max(each["memory"] for each in told),
    )


def _asked(request: Mapping[str, Any], at_once: int, limit: float | None) -> list[list[dict[str, Any]]]:
    """The answers of so many processes of `trainables.timing`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "trainables.timing"]
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
            env=environment,
        )
        for _ in range(at_once)
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdin is not None
            # one that failed at once is told of below
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps({**request, "begun": time.time()}))
                process.stdin.close()
            process.stdin = None
        deadline = None if limit is None else time.monotonic() + limit
        return [_answer(process, deadline) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _answer(process: subprocess.Popen[str], deadline: float | None) -> list[dict[str, Any]]:
    try:
        out, said = process.communicate(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise UserError(
            "what the study costs is not known within a minute: fierce run --dry-run takes its time"
        ) from None
    if process.returncode:
        why = (said.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise UserError(f"the study cannot be timed, a trial of it fails: {why[:300]}")
    answer: list[dict[str, Any]] = json.loads(out.strip().splitlines()[-1])
    return answer


def _gpu_bytes() -> int:
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)


def told(
    spec: StudySpec,
    address: str | None,
    price: float | None,
    tell: Callable[[str], object],
    limit: float | None = None,
    foot: Footprint | None = None,
) -> Cost | None:
    """Say what the study will cost, where that can be known, within ``limit`` seconds; else why it cannot, and None."""
    try:
        cost = predict(spec, address, price, limit=limit, foot=foot)
    except UserError as error:
        tell(str(error))
        return None
    if cost is not None:
        tell(f"cost: {cost}")
    return cost


def duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
