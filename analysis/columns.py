"""Trajectories in columns: all values of a trial's seeds in one Parquet file among the artifacts of the trial's run.

A row a value, sorted by metric, seed and epoch. A trial that was trained in parts has a file for each. MLflow's own
rows are for its interface: they are thinned, and so are read only of seeds that were trained before these files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as arrow
from mlflow.entities import Run
from pyarrow import parquet

from analysis import artifacts, schema, store
from analysis.store import StoreError

#: files that are fetched at a time
FETCHED = 8
#: times that a file is read while its trial writes it anew
READS = 3

_SCHEMA = arrow.schema(
    [
        ("metric", arrow.dictionary(arrow.int32(), arrow.string())),
        ("seed", arrow.int32()),
        ("epoch", arrow.int32()),
        ("value", arrow.float64()),
    ]
)
#: neighbours differ by one step, and the bytes of one place of the values resemble each other
_ENCODINGS = {"seed": "DELTA_BINARY_PACKED", "epoch": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"}


def write(file: Path, trajectories: Mapping[str, tuple[Sequence[int], np.ndarray]], seeds: Sequence[int]) -> None:
    """Write the ``trajectories``: metric -> its epochs and its (epochs, seeds) values."""
    metrics = sorted(trajectories)
    counts = [trajectories[name][1].size for name in metrics]
    epochs = [np.tile(np.asarray(trajectories[name][0], np.int32), len(seeds)) for name in metrics]
    by_seed = [np.repeat(np.asarray(seeds, np.int32), len(trajectories[name][0])) for name in metrics]
    values = [np.asarray(trajectories[name][1], np.float64).T.ravel() for name in metrics]
    codes = np.repeat(np.arange(len(metrics), dtype=np.int32), counts)
    columns = [
        arrow.DictionaryArray.from_arrays(arrow.array(codes), arrow.array(metrics, arrow.string())),
        *(arrow.array(np.concatenate(parts) if parts else []) for parts in (by_seed, epochs, values)),
    ]
    table = arrow.table([column.cast(field.type) for column, field in zip(columns, _SCHEMA, strict=True)], _SCHEMA)
    parquet.write_table(
        table,
        file,
        compression="zstd",
        use_dictionary=["metric"],
        column_encoding=_ENCODINGS,
        write_statistics=False,
    )


def read(content: bytes) -> pd.DataFrame:
    """The columns metric (categorical), seed, epoch and value of a file that `write` wrote.

    ``ValueError`` or ``OSError`` where it is none, or was cut off.
    """
    table = parquet.read_table(BytesIO(content), schema=_SCHEMA)
    columns = {name: table[name].to_numpy() for name in ("seed", "epoch", "value")}
    coded = table["metric"].unify_dictionaries().combine_chunks()
    metric = pd.Categorical.from_codes(coded.indices.to_numpy(), pd.Index(coded.dictionary.to_pylist()))
    return pd.DataFrame({"metric": metric, **columns})


def history_of(tracking_uri: str, experiment_id: str, trials: Sequence[Run], seeds: Sequence[Run]) -> pd.DataFrame:
    """All values of the runs ``seeds``: columns run (position among them), metric (categorical), epoch, value.

    Those of a seed that is in a file of its trial are the file's, others MLflow's rows: a trial of before there were
    files may have been given further seeds since. Raises `StoreError` where a file that was there is gone or damaged.
    """
    places: dict[str, dict[int, list[int]]] = {}
    for place, run in enumerate(seeds):
        tags = run.data.tags
        # a replica that is there twice is told of later, as it stands
        places.setdefault(tags[schema.TRIAL], {}).setdefault(int(tags[schema.SEED]), []).append(place)
    wanted = [(run, name) for run in trials if run.data.tags[schema.TRIAL] in places for name in names(run)]
    parts, filed = [], set[int]()
    with ThreadPoolExecutor(FETCHED) as pool:
        for (run, _), values in zip(wanted, pool.map(lambda file: _fetch(tracking_uri, *file), wanted), strict=True):
            of_trial = places[run.data.tags[schema.TRIAL]]
            parts += _of_seeds(values, of_trial)
            filed.update(place for seed in values["seed"].unique() for place in of_trial.get(seed, ()))
    # of a run whose trial was deleted, or has sent no file yet, there are rows but not all of them
    rows = [place for place, run in enumerate(seeds) if place not in filed and schema.SEED_POINTS not in run.data.tags]
    old = store.history(tracking_uri, experiment_id, [seeds[place] for place in rows])
    return _joined([old.assign(run=np.array(rows, np.intp)[old["run"].to_numpy()]), *parts])


def names(run: Run) -> list[str]:
    """Names of the files that a trial's run was given."""
    stem = schema.TRAJECTORIES.split(".")[0]
    return sorted(name for name in artifacts.kept(run) if name.startswith(stem))


def _fetch(tracking_uri: str, run: Run, name: str) -> pd.DataFrame:
    for attempt in range(READS):
        content = artifacts.fetch(tracking_uri, run, name)
        if content is None:
            raise _lost(run, "no longer there")
        try:
            return read(content)
        # a server puts an artifact in its place by copying
        except (ValueError, OSError, KeyError) as error:
            if attempt == READS - 1:
                raise _lost(run, "damaged") from error
    raise AssertionError


def _lost(run: Run, how: str) -> StoreError:
    tags = run.data.tags
    return StoreError(
        f"the trajectories of trial {tags[schema.TRIAL]} of study {tags.get(schema.STUDY)!r}, an artifact of MLflow's "
        f"run {run.info.run_id}, are {how}: resume the study, which sends them again; where that cannot be, delete the "
        "run and those of its seeds"
    )


def _of_seeds(values: pd.DataFrame, places: Mapping[int, Sequence[int]]) -> list[pd.DataFrame]:
    """The values of the seeds that have a run, by its place; those of a run that was deleted are left out."""
    parts = []
    for again in range(max(map(len, places.values()))):
        known = {seed: held[again] for seed, held in places.items() if len(held) > again}
        run = values["seed"].map(known)
        part = values[["metric", "epoch", "value"]][run.notna()]
        parts.append(part.assign(run=run[run.notna()].astype(np.intp)))
    return parts


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    # names that are none have no type of their own
    parts = [part for part in parts if len(part)] or parts[:1]
    metric = pd.api.types.union_categoricals(
        [part["metric"].astype("category") for part in parts], sort_categories=True
    )
    columns: dict[str, object] = {"run": np.concatenate([part["run"].to_numpy(np.intp) for part in parts])}
    columns["metric"] = metric
    columns["epoch"] = np.concatenate([part["epoch"].to_numpy(np.int64) for part in parts])
    columns["value"] = np.concatenate([part["value"].to_numpy(np.float64) for part in parts])
    return pd.DataFrame(columns)
