"""The runs of one trial in MLflow: trajectories that arrive once, whatever is killed in between.

Runs are found by their tags, never by an id kept elsewhere, so that a restart continues the same ones. Names are
those of `analysis.schema`.
"""

from __future__ import annotations

import gc
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Any

from analysis import schema
from study.file.plan import label
from study.record import facts, runs
from study.servers.mlflow import TrackingError, open_client, tracking_errors, writing

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from torch import Tensor

    from trainables.assignment import Assignment, Facts
    from trainables.training import Record, Training

log = logging.getLogger(__name__)

#: metrics in one request: MLflow's limit
METRICS_PER_REQUEST = 1000
#: seconds between two flushes: at least the first, at most the second, in between in proportion to their cost
FLUSH_SECONDS = (10.0, 60.0)
FLUSH_SHARE = 150.0


@dataclass(frozen=True)
class Tracking:
    """Where one study is tracked: what a worker needs to find and write its runs. Can be pickled."""

    uri: str
    study: str
    experiment: str
    #: id of the study's run
    run: str
    #: tags of every trial's and seed's run: source commit, versions, user
    source: Mapping[str, str] = field(default_factory=dict)
    #: how long the end of a trial waits for a server that does not answer, in seconds
    patience: float = 300.0

    def open_trial(self, assignment: Assignment, *, renewed: bool = False) -> TrialTracker:
        """The tracker of a trial or of a part of one; ``renewed``: of one whose means are others with its new seeds."""
        return TrialTracker(self, assignment, renewed=renewed)

    def open_shards(self, whole: Assignment) -> None:
        """Make the runs of a trial before its parts, which could not agree on who makes the trial's own."""
        self.open_trial(whole).begin()


@dataclass
class _Line:
    """One MLflow run of a trial: a replica's, or (column None) the means over the replicas."""

    run: Run
    column: int | None
    status: str
    #: (metric, epoch) -> last value, and params, that the run held when it was reopened
    held: dict[tuple[str, int], float]
    params: set[str]
    #: how many of the trial's records it holds
    sent: int = 0
    #: whether it holds the facts of `TrialTracker.describe`
    told: bool = False

    @property
    def run_id(self) -> str:
        return str(self.run.info.run_id)


class TrialTracker:
    """The runs of one trial, from the process that trains it (see `trainables.trainable.Tracker`).

    The tracker of a part writes to the runs of its seeds, and the facts to the trial's own; the means over all seeds
    are that of the whole trial's tracker, which is opened once more when all parts have finished.
    """

    def __init__(self, tracking: Tracking, assignment: Assignment, *, renewed: bool = False) -> None:
        self.tracking = tracking
        self.number, self.role, self.trial = assignment.number, assignment.role, assignment.trial
        self._share, self._repeats, self._is_part = assignment.share, assignment.repeats, assignment.is_part
        self._weights = schema.weights_file(*assignment.shard, assignment.addition)
        self._renewed = renewed
        #: what tells the trial from others of the study
        self._values = {**assignment.trial.hyperparameters, **assignment.settings}
        self._client: MlflowClient | None = None
        self._lines: list[_Line] | None = None
        self._records: list[Record] = []
        self._facts: Facts | None = None
        self._dataset: Any = None
        self._next_flush = 0.0

    def describe(self, training: Training) -> Facts:
        """Data, recipe and device, as tags and params of the runs; what `recall` takes."""
        known = facts.describe(training, self._share)
        self.recall(known)
        return known

    def recall(self, told: Facts) -> None:
        """Take what an earlier `describe` of the trial returned: runs made anew hold it too."""
        self._facts = told
        self._dataset = facts.dataset_input(told)

    def begin(self) -> None:
        """Make the runs that are not there yet; the trial's own is opened again where its seeds are more by now."""
        self._insist(self._begin)

    def _begin(self) -> None:
        with tracking_errors(self.tracking.uri):
            client, lines = self._open()
            own = lines[-1]
            if own.run.data.tags.get(schema.SEEDS) != self._seeds:
                with writing(self.tracking.uri):
                    # the tag last: it tells a launch after a kill that all of this is done
                    client.update_run(own.run_id, status="RUNNING")
                    client.set_tag(own.run_id, schema.SEEDS, self._seeds)

    @property
    def _seeds(self) -> str:
        return ",".join(map(str, self.trial.seeds))

    def add(self, records: Sequence[Record]) -> None:
        """Take records; the next flush that is due sends them."""
        self._records.extend(records)

    def flush(self, now: bool = False) -> None:
        """Send what has gathered, every 10 to 60 s; a server that is away is tried again at the next one.

        ``now``: whether it is due or not.
        """
        if not now and time.monotonic() < self._next_flush:
            return
        started = time.monotonic()
        try:
            self._send()
        except TrackingError as error:
            log.warning("%s; the records are kept and sent later", error)
        took = time.monotonic() - started
        self._next_flush = time.monotonic() + min(max(FLUSH_SECONDS[0], FLUSH_SHARE * took), FLUSH_SECONDS[1])

    def complete(self, arrays: Mapping[str, np.ndarray], weights: Mapping[str, Tensor]) -> None:
        """Send all records, each replica's ``arrays`` and the trial's ``weights``.

        Raises `TrackingError` where the server does not answer within the study's patience.
        """
        self._insist(lambda: self._send(arrays, weights))

    def finish(self) -> None:
        """End all runs as FINISHED, the trial's last."""
        self._insist(self._terminate)

    def _insist(self, act: Callable[[], None]) -> None:
        deadline = time.monotonic() + self.tracking.patience
        wait = 0.5
        while True:
            try:
                return act()
            except TrackingError as error:
                if time.monotonic() + wait > deadline:
                    raise TrackingError(
                        f"{error}; it was tried for {self.tracking.patience:.0f} s, and the trajectories are kept in "
                        "the trial's checkpoint"
                    ) from error
                log.warning("%s; trying again in %.1f s", error, wait)
                time.sleep(wait)
                wait = min(2 * wait, 10.0)

    def _send(
        self, arrays: Mapping[str, np.ndarray] | None = None, weights: Mapping[str, Tensor] | None = None
    ) -> None:
        with tracking_errors(self.tracking.uri):
            client, lines = self._open()
            for line in lines:
                # a run is ended once it holds everything, so it needs nothing, even where the checkpoint was lost
                if line.status == "FINISHED":
                    continue
                for records in _requests([] if self._is_partial(line) else self._records[line.sent :]):
                    metrics = self._metrics(line, records)
                    tags, params = self._take_facts(line)
                    if metrics or tags or params:
                        with writing(self.tracking.uri), _uncollected():
                            client.log_batch(line.run_id, metrics, _params(params), tag_entities(tags))
                    line.sent += len(records)
                    line.told = self._facts is not None
            if self._dataset is not None:
                with writing(self.tracking.uri):
                    client.log_inputs(lines[-1].run_id, datasets=[self._dataset])
                self._dataset = None
            if arrays or weights:
                self._upload(client, lines, arrays or {}, weights or {})

    def _is_partial(self, line: _Line) -> bool:
        """Whether the run is of more seeds than this tracker's."""
        return self._is_part and line.column is None

    def _take_facts(self, line: _Line) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Tags and params that the next request of a run carries; the recipe stands on the trial's run alone."""
        if self._facts is None or line.told:
            return {}, {}
        params = self._facts.recipe if line.column is None else self._hyperparameters()
        tags = dict(self._facts.tags)
        if line.column is not None and len(self._facts.splits) == len(self.trial.seeds):
            tags[schema.SPLIT] = self._facts.splits[line.column]
        return tags, {name: value for name, value in params.items() if name not in line.params}

    def _hyperparameters(self) -> dict[str, str]:
        own = {name: str(value) for name, value in self._values.items()}
        return {schema.CRITERION_PARAM: self.trial.criterion, **own}

    def _metrics(self, line: _Line, records: Sequence[Record]) -> list[Any]:
        from mlflow.entities import Metric

        def is_held(name: str, epoch: int, value: float) -> bool:
            held = line.held.get((name, epoch))
            return held is not None and (not self._renewed or held == value or (held != held and value != value))

        return [
            # the record's own time: a request that is repeated after a lost answer adds no second row
            Metric(name, value, record.time, record.epoch)
            for record in records
            for name, value in _values(record, line.column).items()
            if not is_held(name, record.epoch, value)
        ]

    def _open(self) -> tuple[MlflowClient, list[_Line]]:
        """The client and the runs: one for each replica, the trial's own last; found or made on the first call."""
        if self._client is None:
            self._client = open_client(self.tracking.uri)
        if self._lines is None:
            with writing(self.tracking.uri):
                self._lines = self._find_or_make(self._client)
        return self._client, self._lines

    def _find_or_make(self, client: MlflowClient) -> list[_Line]:
        existing = runs.found_or_restored(
            client, self.tracking.experiment, {schema.TRIAL: str(self.number)}, parent=self.tracking.run
        )
        # for people to read, so rounded: the params hold the exact values
        name = label(self.trial.criterion, self._values, digits=4)
        common = {
            schema.STUDY: self.tracking.study,
            schema.TRIAL: str(self.number),
            schema.CRITERION: self.trial.criterion,
            schema.PROTOCOL: self.trial.protocol,
            schema.BENCHMARK: self.trial.benchmark,
            **self.tracking.source,
        }
        own = {
            schema.LEVEL: "trial",
            schema.ROLE: self.role,
            schema.SEEDS: self._seeds,
            "mlflow.parentRunId": self.tracking.run,
        }
        if self._repeats is not None:
            own[schema.REPEATS] = str(self._repeats)
        trial = self._line(client, existing.get(("trial", None)), None, name, common | own)
        lines = []
        for column, seed in enumerate(self.trial.seeds):
            own = {schema.LEVEL: "seed", schema.SEED: str(seed), "mlflow.parentRunId": trial.run_id}
            lines.append(self._line(client, existing.get(("seed", str(seed))), column, f"seed {seed}", common | own))
        return [*lines, trial]

    def _line(
        self, client: MlflowClient, run: Run | None, column: int | None, name: str, tags: Mapping[str, str]
    ) -> _Line:
        if run is None:
            run = client.create_run(self.tracking.experiment, tags=dict(tags), run_name=name)
        line = _Line(run, column, run.info.status, {}, set(run.data.params))
        runs.adopt(client, tags["mlflow.parentRunId"], [run])
        if line.status == "FINISHED":
            return line
        line.held = _held(client, run)
        # MLflow's list of runs shows a trial's params at once; a seed's go with its first records and cost no request
        own = self._hyperparameters() if column is None else {}
        # a kill between a run's creation and its params leaves a run without them
        if missing := {name: value for name, value in own.items() if name not in line.params}:
            client.log_batch(line.run_id, params=_params(missing))
        if line.status != "RUNNING":
            client.update_run(line.run_id, status="RUNNING")
        for tag in (schema.REASON, schema.TRACEBACK):
            if tag in run.data.tags:
                client.delete_tag(line.run_id, tag)
        return line

    def _upload(
        self,
        client: MlflowClient,
        lines: Sequence[_Line],
        arrays: Mapping[str, np.ndarray],
        weights: Mapping[str, Tensor],
    ) -> None:
        import numpy as np
        import torch

        from analysis import artifacts

        with tempfile.TemporaryDirectory() as scratch:
            for line in lines:
                # a run that has finished is only given what it has lost
                if line.status == "FINISHED" and not artifacts.lacking(self.tracking.uri, [line.run]):
                    continue
                if line.column is None and not weights:
                    log.warning(
                        "trial %d has weights that were deleted with its run and are kept nowhere else", self.number
                    )
                elif line.column is None:
                    file = Path(scratch) / self._weights
                    torch.save(dict(weights), file)
                    artifacts.write(self.tracking.uri, line.run, file)
                elif arrays:
                    file = Path(scratch) / schema.ARRAYS
                    np.savez(file, **{name: values[line.column] for name, values in arrays.items()})
                    artifacts.write(self.tracking.uri, line.run, file)
                    with writing(self.tracking.uri):
                        client.set_tag(line.run_id, schema.KEPT, schema.ARRAYS)

    def _terminate(self) -> None:
        with tracking_errors(self.tracking.uri):
            client, lines = self._open()
            for line in lines:
                if line.status != "FINISHED" and not self._is_partial(line):
                    with writing(self.tracking.uri):
                        client.set_terminated(line.run_id, "FINISHED")
                    line.status = "FINISHED"


def _requests(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """``records`` in parts of at most 1,000 metrics, whole records each; one empty part where there are none."""
    start = size = 0
    for position, record in enumerate(records):
        # a trial's run holds a standard error beside each mean
        if size + 2 * len(record.metrics) > METRICS_PER_REQUEST:
            yield records[start:position]
            start, size = position, 0
        size += 2 * len(record.metrics)
    yield records[start:]


def _values(record: Record, column: int | None) -> dict[str, float]:
    """What a run holds of a record: a replica's values, or the means over all replicas with their standard errors."""
    if column is not None:
        return {name: float(values[column]) for name, values in record.metrics.items()}
    means = {name: float(sum(values) / len(values)) for name, values in record.metrics.items()}
    return means | {
        f"{schema.STANDARD_ERROR}{name}": stdev(values) / math.sqrt(len(values))
        for name, values in record.metrics.items()
        if len(values) > 1 and all(map(math.isfinite, values))
    }


def _held(client: MlflowClient, run: Run) -> dict[tuple[str, int], float]:
    """(metric, epoch) -> the last value of it that a run holds."""
    rows = [
        (metric.timestamp, name, metric.step, metric.value)
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    ]
    return {(name, step): value for _, name, step, value in sorted(rows, key=lambda row: row[0])}


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pauses the cyclic collector: MLflow makes an object a row, and each collection walks over all of torch's too."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def tag_entities(tags: Mapping[str, str]) -> list[Any]:
    """Tags as MLflow takes many at once."""
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in tags.items()]


def _params(params: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(name, value) for name, value in params.items()]
