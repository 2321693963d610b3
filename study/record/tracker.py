"""The runs of one trial in MLflow: trajectories that arrive once, whatever is killed in between.

Runs are found by their tags, never by an id kept elsewhere, so that a restart continues the same ones. Names are
those of `analysis.schema`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from analysis import schema
from study.file.plan import label
from study.record import batches, facts, runs, uploads
from study.record.thinning import Thinning
from study.servers.mlflow import TrackingError, open_client, tracking_errors, writing

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from torch import Tensor

    from trainables.assignment import Assignment, Facts
    from trainables.training import Record, Training

log = logging.getLogger(__name__)

#: points of a metric that a seed's run holds at most, unless the study file says otherwise
SEED_POINTS = 100
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
    #: how many points of a metric a seed's run holds at most, or "all"; the trial's artifact has them all
    seed_points: int | Literal["all"] = SEED_POINTS
    #: whether a pruner may end a trial, whose process then has little time left to send what is missing
    pruned: bool = False

    def open_trial(self, assignment: Assignment, *, merged: bool = False) -> TrialTracker:
        """The tracker of a trial or of a part of one; ``merged``: of a trial whose parts have sent their values.

        Means of a merged one that its run holds may be of fewer seeds, and are renewed.
        """
        return TrialTracker(self, assignment, merged=merged)

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
    #: tags that its next request carries
    tags: dict[str, str] = field(default_factory=dict)
    #: whether this tracker made it, so that it holds no metrics
    fresh: bool = False
    #: how many of the trial's records it holds
    sent: int = 0
    #: whether it holds the facts of `TrialTracker.describe`
    told: bool = False

    @property
    def run_id(self) -> str:
        return str(self.run.info.run_id)


class TrialTracker:
    """The runs of one trial, from the process that trains it (see `trainables.trainable.Tracker`).

    All values are in a Parquet file among the artifacts of the trial's run, written whole at each flush, since the
    records are all here; what seeds' runs hold as metrics is thinned, and for MLflow's interface alone. The tracker of
    a part writes a file of its own, to the runs of its seeds, and the facts to the trial's own; the means over all
    seeds are that of the whole trial's tracker, which is opened once more when all parts have finished.
    """

    def __init__(self, tracking: Tracking, assignment: Assignment, *, merged: bool = False) -> None:
        self.tracking = tracking
        self._merged = merged
        self.number, self.role, self.trial = assignment.number, assignment.role, assignment.trial
        self._share, self._repeats, self._is_part = assignment.share, assignment.repeats, assignment.is_part
        part = (*assignment.shard, assignment.addition)
        self._weights, self._arrays = schema.weights_file(*part), schema.arrays_file(*part)
        #: what tells the trial from others of the study
        self._values = {**assignment.trial.hyperparameters, **assignment.settings}
        self._client: MlflowClient | None = None
        self._lines: list[_Line] | None = None
        self._records: list[Record] = []
        self._file = schema.trajectories_file(*part)
        self._thinning = Thinning(tracking.seed_points)
        #: how many records the file has
        self._written = 0
        self._facts: Facts | None = None
        self._dataset: Any = None
        self._next_flush = 0.0

    def describe(self, training: Training) -> Facts:
        """Data, recipe and device, as tags and params of the runs; what `recall` takes."""
        known = facts.describe(training, self._share, len(self.trial.seeds))
        self.recall(known)
        return known

    def recall(self, told: Facts) -> None:
        """Take what an earlier `describe` of the trial returned: runs made anew hold it too."""
        self._facts = told
        epochs = told.recipe.get("training.epochs")
        self._thinning.epochs = int(epochs) if epochs else None
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
                    if own.status == "FINISHED" and len(lines) == 1:
                        client.set_tag(own.run_id, schema.ENDED, own.run.data.tags[schema.SEEDS])
                    # the tag last: it tells a launch after a kill that all of this is done
                    client.update_run(own.run_id, status="RUNNING")
                    client.set_tag(own.run_id, schema.SEEDS, self._seeds)

    @property
    def _seeds(self) -> str:
        return ",".join(map(str, self.trial.seeds))

    def add(self, records: Sequence[Record]) -> None:
        """Take records; the next flush that is due sends them."""
        self._records.extend(records)
        self._thinning.see(records)

    def flush(self, now: bool = False) -> None:
        """Send what has gathered, every 10 to 60 s; a server that is away is tried again at the next one.

        ``now``: whether it is due or not.
        """
        if not now and time.monotonic() < self._next_flush:
            return
        started = time.monotonic()
        try:
            self._send(seeds=now or self.tracking.pruned)
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
        self,
        arrays: Mapping[str, np.ndarray] | None = None,
        weights: Mapping[str, Tensor] | None = None,
        *,
        seeds: bool = True,
    ) -> None:
        """Send what the runs lack; ``seeds``: also to those of seeds that were only made by this very call."""
        with tracking_errors(self.tracking.uri):
            made = self._lines is None
            client, lines = self._open()
            *of_seeds, own = lines
            self._write_trajectories(own)
            if arrays or weights:
                self._upload(lines, arrays or {}, weights or {})
            # the run says where its values are before those of its seeds are thinned
            self._log(client, own)
            for line in of_seeds:
                if seeds or not (made and line.fresh):
                    self._log(client, line)
            if self._dataset is not None:
                self._log_dataset(client, own.run_id)
                self._dataset = None

    def _log_dataset(self, client: MlflowClient, run: str) -> None:
        # MLflow's import takes a second, which every command would pay
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import BAD_REQUEST, ErrorCode

        with writing(self.tracking.uri):
            try:
                client.log_inputs(run, datasets=[self._dataset])
            except MlflowException as error:
                if error.error_code != ErrorCode.Name(BAD_REQUEST):
                    raise
                # another trial may have written the same data set since MLflow looked for it
                client.log_inputs(run, datasets=[self._dataset])

    def _write_trajectories(self, own: _Line) -> None:
        """Write the values of all records as an artifact of the trial's run, where it lacks some of them."""
        if self._merged or self._written == len(self._records):
            return
        # a run is ended once it has everything, so only what was deleted since is sent again
        if own.status != "FINISHED" or not uploads.is_there(self.tracking.uri, own.run, self._file):
            uploads.send_trajectories(self.tracking.uri, own.run, self._file, self._records, self.trial.seeds)
            if not self._written:
                own.tags[schema.kept_tag(self._file)] = self._file
        self._written = len(self._records)

    def _log(self, client: MlflowClient, line: _Line) -> None:
        """Bring a run's metrics, params and tags up to the records."""
        # a run is ended once it holds everything, so it needs no more, even where the checkpoint was lost
        is_whole = line.status == "FINISHED"
        unsent = [] if is_whole or self._is_partial(line) else self._records[line.sent :]
        for count, metrics in batches.requests([self._metrics(line, record) for record in unsent]):
            tags, params = (line.tags, {}) if is_whole else self._take_facts(line)
            with writing(self.tracking.uri):
                batches.log(client, line.run_id, metrics, params, tags)
            line.params |= params.keys()
            line.tags = {}
            line.sent += count
            line.told = self._facts is not None

    def _is_partial(self, line: _Line) -> bool:
        """Whether the run is of more seeds than this tracker's."""
        return self._is_part and line.column is None

    def _take_facts(self, line: _Line) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Tags and params that the next request of a run carries; the recipe stands on the trial's run alone."""
        params, tags = self._hyperparameters(), dict(line.tags)
        if self._facts is not None and line.column is None:
            params |= self._facts.recipe
        if self._facts is not None and not line.told:
            tags |= self._known(line.column)
        return tags, {name: value for name, value in params.items() if name not in line.params}

    def _known(self, column: int | None) -> dict[str, str]:
        """The facts as tags of a run, that of a seed with its own split; none before they are told."""
        if self._facts is None:
            return {}
        is_of_seed = column is not None and len(self._facts.splits) == len(self.trial.seeds)
        return {**self._facts.tags, **({schema.SPLIT: self._facts.splits[column or 0]} if is_of_seed else {})}

    def _hyperparameters(self) -> dict[str, str]:
        own = {name: str(value) for name, value in self._values.items()}
        return {schema.CRITERION_PARAM: self.trial.criterion, **own}

    def _metrics(self, line: _Line, record: Record) -> list[Any]:
        from mlflow.entities import Metric

        def is_held(name: str, epoch: int, value: float) -> bool:
            held = line.held.get((name, epoch))
            return held is not None and (not self._merged or held == value or (held != held and value != value))

        return [
            # the record's own time: a request that is repeated after a lost answer adds no second row
            Metric(name, value, record.time, record.epoch)
            for name, value in batches.values(record, line.column).items()
            if not is_held(name, record.epoch, value)
            and (line.column is None or self._thinning.keeps(name, record.epoch))
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
            **self._known(None),
        }
        own = {
            schema.LEVEL: "trial",
            schema.ROLE: self.role,
            schema.SEEDS: self._seeds,
            "mlflow.parentRunId": self.tracking.run,
        }
        if self._repeats is not None:
            own[schema.REPEATS] = str(self._repeats)
        if not self.tracking.seed_points and not any(level == "seed" for level, _ in existing):
            own[schema.SEED_POINTS] = "0"
        trial = self._line(client, existing.get(("trial", None)), None, name, common | own)
        # a trial goes on as it was begun
        if trial.run.data.tags.get(schema.SEED_POINTS) == "0":
            return [trial]
        lines = []
        for column, seed in enumerate(self.trial.seeds):
            own = {schema.LEVEL: "seed", schema.SEED: str(seed), "mlflow.parentRunId": trial.run_id}
            own |= {schema.SEED_POINTS: str(self.tracking.seed_points), **self._known(column)}
            lines.append(self._line(client, existing.get(("seed", str(seed))), column, f"seed {seed}", common | own))
        return [*lines, trial]

    def _line(
        self, client: MlflowClient, run: Run | None, column: int | None, name: str, tags: Mapping[str, str]
    ) -> _Line:
        if run is None:
            run = client.create_run(self.tracking.experiment, tags=dict(tags), run_name=name)
            return _Line(run, column, run.info.status, {}, set(), told=self._facts is not None, fresh=True)
        line = _Line(run, column, run.info.status, {}, set(run.data.params))
        runs.adopt(client, tags["mlflow.parentRunId"], [run])
        if line.status == "FINISHED":
            return line
        # the means are sent by another, once all parts are there
        if column is not None or not self._is_part:
            line.held = batches.held(client, run)
        # one of before the metrics of seeds were thinned
        if column is not None and schema.SEED_POINTS not in run.data.tags:
            line.tags[schema.SEED_POINTS] = tags[schema.SEED_POINTS]
        if line.status != "RUNNING":
            client.update_run(line.run_id, status="RUNNING")
        for tag in (schema.REASON, schema.TRACEBACK):
            if tag in run.data.tags:
                client.delete_tag(line.run_id, tag)
        return line

    def _upload(
        self,
        lines: Sequence[_Line],
        arrays: Mapping[str, np.ndarray],
        weights: Mapping[str, Tensor],
    ) -> None:
        uri, *_, own = self.tracking.uri, *lines
        # a run that has finished is only given what it has lost
        for column, line in enumerate(lines[:-1] if arrays else ()):
            if line.status != "FINISHED" or uploads.is_lost(uri, line.run, schema.ARRAYS):
                uploads.send_arrays(uri, line.run, arrays, column)
                # said by the request that sends what else the run lacks
                line.tags[schema.KEPT] = schema.ARRAYS
        if arrays and len(lines) == 1 and (own.status != "FINISHED" or uploads.is_lost(uri, own.run, self._arrays)):
            uploads.send_all_arrays(uri, own.run, self._arrays, arrays, self.trial.seeds)
            own.tags[schema.kept_tag(self._arrays)] = self._arrays
        if weights and own.status != "FINISHED":
            uploads.send_weights(uri, own.run, self._weights, weights)
        elif own.status != "FINISHED":
            log.warning("trial %d has weights that were deleted with its run and are kept nowhere else", self.number)

    def _terminate(self) -> None:
        with tracking_errors(self.tracking.uri):
            client, lines = self._open()
            for line in lines:
                if self._is_partial(line):
                    if len(lines) == 1:
                        with writing(self.tracking.uri):
                            client.set_tag(line.run_id, schema.ended_tag(self._file), self._seeds)
                elif line.status != "FINISHED":
                    with writing(self.tracking.uri):
                        client.set_terminated(line.run_id, "FINISHED")
                    line.status = "FINISHED"
