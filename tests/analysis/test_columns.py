"""Trajectories in columns: what is written comes back to the last bit, and each trial is read from one place alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from analysis import artifacts, columns, runs, schema
from tests.analysis.known_study import Store

EPOCHS, SEEDS = 3, (4, 7)
#: NaN, infinity, a denormal and -0: bits that arithmetic would lose
VALUES = np.array([[0.1, np.nan], [np.inf, -np.inf], [5e-324, -0.0]])


def file(folder: Path, name: str, values: np.ndarray = VALUES, seeds: tuple[int, ...] = SEEDS) -> Path:
    path = folder / name
    columns.write(path, {"mse/raw": ([1, 2, 3], values), "accuracy/coarse": ([3], values[2:])}, seeds)
    return path


def write_study(uri: str, name: str, folder: Path) -> tuple[MlflowClient, dict[str, Run]]:
    """A study whose trial 0 has a file beside thinned rows, 1 the rows of before there were files, 2 nothing yet."""
    client = MlflowClient(uri)
    experiment = client.create_experiment(name, artifact_location=(folder / "artifacts" / name).as_uri())
    made: dict[str, Run] = {}
    client.create_run(experiment, tags={schema.STUDY: name, schema.LEVEL: "study"})
    for trial in range(3):
        common = {schema.STUDY: name, schema.TRIAL: str(trial), schema.CRITERION: "ce", schema.PROTOCOL: "paper"}
        own = {schema.LEVEL: "trial", schema.SEEDS: "4,7"}
        made[f"{trial}"] = client.create_run(experiment, tags=common | own)
        for seed in SEEDS:
            own = {schema.LEVEL: "seed", schema.SEED: str(seed)} | ({} if trial == 1 else {schema.SEED_POINTS: "1"})
            made[f"{trial}/{seed}"] = run = client.create_run(experiment, tags=common | own)
            epochs = {0: (3,), 1: (1, 2, 3), 2: ()}[trial]
            client.log_batch(run.info.run_id, [Metric("mse/raw", 99.0 + trial, 1, epoch) for epoch in epochs])
    keep(client, uri, made["0"], file(folder, schema.TRAJECTORIES))
    return client, made


def keep(client: MlflowClient, uri: str, run: Run, path: Path) -> None:
    artifacts.write(uri, run, path)
    client.set_tag(run.info.run_id, schema.kept_tag(path.name), path.name)


def test_a_file_gives_back_every_bit(tmp_path: Path) -> None:
    read = columns.read(file(tmp_path, "x.parquet").read_bytes())
    assert list(zip(read["metric"], read["seed"], read["epoch"], strict=True)) == [
        *(("accuracy/coarse", seed, 3) for seed in SEEDS),
        *(("mse/raw", seed, epoch) for seed in SEEDS for epoch in (1, 2, 3)),
    ]
    bits = np.concatenate([VALUES[2], VALUES[:, 0], VALUES[:, 1]]).view(np.int64)
    np.testing.assert_array_equal(read["value"].to_numpy().view(np.int64), bits)


def test_a_value_takes_less_than_eight_bytes(tmp_path: Path) -> None:
    """Of noise in all 53 bits, that nothing can compress much."""
    noise = np.exp(-np.arange(200) / 50)[:, None] + np.random.default_rng(0).normal(0.5, 0.01, (200, 10))
    path = tmp_path / "x.parquet"
    columns.write(path, {f"m/{index}": (range(1, 201), noise + index) for index in range(8)}, range(10))
    assert path.stat().st_size < 8 * 16_000


def test_each_trial_is_read_from_its_file_or_its_rows_never_both(known: Store, tmp_path: Path) -> None:
    write_study(known.uri, "columns", tmp_path)
    frame = runs.load(known.uri, "columns")
    of_rows = frame[frame["trial"] == 1]
    assert sorted(zip(of_rows["seed"], of_rows["epoch"], of_rows["value"], strict=True)) == [
        (seed, epoch, 100.0) for seed in SEEDS for epoch in (1, 2, 3)
    ]
    of_file = frame[(frame["trial"] == 0) & (frame["metric"] == "mse/raw")]
    np.testing.assert_array_equal(of_file["value"], VALUES.T.ravel())
    assert len(frame) == 6 + 8


def test_seeds_that_were_added_to_a_trial_of_before_stand_beside_its_rows(known: Store, tmp_path: Path) -> None:
    client, made = write_study(known.uri, "columns-added", tmp_path)
    for trial in ("0", "1"):
        run = made[trial]
        common = {name: run.data.tags[name] for name in (schema.STUDY, schema.TRIAL, schema.CRITERION, schema.PROTOCOL)}
        own = {schema.LEVEL: "seed", schema.SEED: "9", schema.SEED_POINTS: "1"}
        seed = client.create_run(run.info.experiment_id, tags=common | own)
        client.log_batch(seed.info.run_id, [Metric("mse/raw", 99.0, 1, 3)])
        name = schema.trajectories_file(0, 1, addition=1)
        assert name == "trajectories-added-1.parquet"
        keep(client, known.uri, run, file(tmp_path, name, VALUES[:, [1]], (9,)))
    frame = runs.load(known.uri, "columns-added")
    of_rows = frame.query("trial == 1 and seed != 9")
    assert sorted(zip(of_rows["seed"], of_rows["epoch"], of_rows["value"], strict=True)) == [
        (seed, epoch, 100.0) for seed in SEEDS for epoch in (1, 2, 3)
    ]
    for trial, count in ((0, 8 + 4), (1, 6 + 4)):
        own = frame[frame["trial"] == trial]
        assert len(own) == count
        added = own[(own["seed"] == 9) & (own["metric"] == "mse/raw")]
        np.testing.assert_array_equal(added["value"], VALUES[:, 1])


def test_a_server_and_a_home_give_the_same(known: Store, mlflow_server: str, tmp_path: Path) -> None:
    write_study(known.uri, "columns-served", tmp_path)
    of_server, of_home = (runs.load(uri, "columns-served") for uri in (mlflow_server, known.uri))
    pd.testing.assert_frame_equal(of_server, of_home, check_categorical=False)
    assert len(of_home) == 14


def test_values_of_a_deleted_run_are_left_out(known: Store, tmp_path: Path) -> None:
    client, made = write_study(known.uri, "columns-deleted", tmp_path)
    client.delete_run(made["0/7"].info.run_id)
    frame = runs.load(known.uri, "columns-deleted").query("trial == 0")
    assert set(frame["seed"]) == {4} and len(frame) == 4
    # thinned rows never stand for the values
    client.delete_run(made["0"].info.run_id)
    assert runs.load(known.uri, "columns-deleted").query("trial == 0").empty


def test_a_trial_in_parts_has_a_file_for_each(known: Store, tmp_path: Path) -> None:
    client, made = write_study(known.uri, "columns-parts", tmp_path)
    for position, seed in enumerate(SEEDS):
        name = schema.trajectories_file(position, 2)
        keep(client, known.uri, made["2"], file(tmp_path, name, VALUES[:, [position]], (seed,)))
    frame = runs.load(known.uri, "columns-parts")
    rows = [frame[frame["trial"] == trial][["seed", "metric", "epoch", "value"]] for trial in (0, 2)]
    pd.testing.assert_frame_equal(*(each.reset_index(drop=True) for each in rows))


def test_a_value_in_two_files_is_refused(known: Store, tmp_path: Path) -> None:
    client, made = write_study(known.uri, "columns-twice", tmp_path)
    keep(client, known.uri, made["0"], file(tmp_path, schema.trajectories_file(1, 2), VALUES[:, [1]], (7,)))
    with pytest.raises(runs.DuplicateRows, match="4 values twice, the first accuracy/coarse of trial 0, seed 7, epoch"):
        runs.load(known.uri, "columns-twice")


@pytest.mark.parametrize("how", ["no longer there", "damaged"])
def test_a_file_that_is_gone_or_damaged_is_said(known: Store, mlflow_server: str, tmp_path: Path, how: str) -> None:
    _, made = write_study(known.uri, f"columns-{how[:2]}", tmp_path)
    place = artifacts.folder(known.uri, made["0"])
    assert place is not None
    path = place / schema.TRAJECTORIES
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.unlink()
    held = artifacts.lacking(known.uri, runs.Study.open(known.uri, f"columns-{how[:2]}").runs)
    assert [run.info.run_id for run in held] == ([made["0"].info.run_id] if how != "damaged" else [])
    for uri in (known.uri, mlflow_server):
        with pytest.raises(runs.StoreError, match=rf"trajectories of trial 0 of study .* are {how}: resume the study"):
            runs.load(uri, f"columns-{how[:2]}")
