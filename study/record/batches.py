"""What a run of MLflow takes of a trial's records, and in which requests."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import stdev
from typing import TYPE_CHECKING, Any

from analysis import schema

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from trainables.training import Record

#: metrics in one request: MLflow's limit
METRICS_PER_REQUEST = 1000


def values(record: Record, column: int | None) -> dict[str, float]:
    """What a run holds of a record: a replica's values, or the means over all replicas with their standard errors."""
    if column is not None:
        return {name: float(values[column]) for name, values in record.metrics.items()}
    means = {name: float(sum(values) / len(values)) for name, values in record.metrics.items()}
    return means | {
        f"{schema.STANDARD_ERROR}{name}": stdev(values) / math.sqrt(len(values))
        for name, values in record.metrics.items()
        if len(values) > 1 and all(map(math.isfinite, values))
    }


def held(client: MlflowClient, run: Run) -> dict[tuple[str, int], float]:
    """(metric, epoch) -> the last value of it that a run holds."""
    rows = [
        (metric.timestamp, name, metric.step, metric.value)
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    ]
    return {(name, step): value for _, name, step, value in sorted(rows, key=lambda row: row[0])}


def requests(told: Sequence[Sequence[Metric]]) -> Iterator[tuple[int, list[Metric]]]:
    """The metrics of each record in parts of at most 1,000, whole records each, and of how many; one part of none."""
    count, part = 0, list["Metric"]()
    for metrics in told:
        if len(part) + len(metrics) > METRICS_PER_REQUEST:
            yield count, part
            count, part = 0, []
        count += 1
        part.extend(metrics)
    yield count, part


def log(
    client: MlflowClient, run_id: str, metrics: Sequence[Metric], params: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    """Send all of it in one request; none where there is nothing."""
    if metrics or params or tags:
        with _uncollected():
            client.log_batch(run_id, metrics, _params(params), tag_entities(tags))


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
