"""Table 2 and the claims on natural images, from stores whose trajectories are drawn here and summed up by scipy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from scipy import stats

from analysis import claims, report, schema
from analysis.natural_images import claims as image_claims
from analysis.natural_images import table as few_shot_table
from analysis.natural_images.table import BEST, LAST
from analysis.runs import Study

SEEDS = tuple(range(10))
HYPERPARAMETERS: Mapping[str, Mapping[str, float]] = {"ce": {}, "ls": {"sigma": 0.1}, "fierce": {"lambda": 2, "e": 100}}
TRIALS = {criterion: number for number, criterion in enumerate(HYPERPARAMETERS)}
EPOCHS = (5, 10, 15)
#: mean accuracy of each criterion on novel classes
LEVELS = {"ce": 0.60, "ls": 0.60, "fierce": 0.70}

#: criterion -> metric -> values (seeds, epochs); NaN is not logged
Values = Mapping[str, Mapping[str, np.ndarray]]


def write(
    folder: Path, values: Values, benchmark: str, epochs: Sequence[int] = EPOCHS, keep: Mapping[str, np.ndarray] = {}
) -> Study:
    """A store with a trial per criterion, read again; every replica keeps the arrays ``keep``."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("images", artifact_location=(folder / "artifacts").as_uri())
    common = {schema.STUDY: "images", schema.BENCHMARK: benchmark, schema.DATA_NAME: "birds"}
    common |= {schema.PROTOCOL: "released", schema.DATA_PROVENANCE: "real"}
    study = client.create_run(experiment, tags={**common, schema.LEVEL: "study", schema.PLANNED_TRIALS: "3"})
    client.set_terminated(study.info.run_id)
    for criterion, number in TRIALS.items():
        tags = {**common, schema.TRIAL: str(number), schema.CRITERION: criterion}
        above = {schema.LEVEL: "trial", schema.SEEDS: ",".join(map(str, SEEDS)), schema.ROLE: "baseline"}
        trial = client.create_run(experiment, tags={**tags, **above}).info.run_id
        params = [Param(key, str(value)) for key, value in HYPERPARAMETERS[criterion].items()]
        client.log_batch(trial, params=[*params, Param("training.epochs", str(epochs[-1]))])
        for position, seed in enumerate(SEEDS):
            run = client.create_run(experiment, tags={**tags, schema.LEVEL: "seed", schema.SEED: str(seed)}).info.run_id
            metrics = [
                Metric(metric, float(value), 1, epoch)
                for metric, table in values[criterion].items()
                for epoch, value in zip(epochs, table[position], strict=True)
                if np.isfinite(value)
            ]
            client.log_batch(run, metrics, params)
            if keep:
                np.savez(folder / schema.ARRAYS, **keep)  # type: ignore[arg-type]
                client.log_artifact(run, str(folder / schema.ARRAYS))
            client.set_terminated(run)
        client.set_terminated(trial)
    return Study.open(uri, "images")


def few_shot_values(epochs: Sequence[int] = EPOCHS) -> dict[str, dict[str, np.ndarray]]:
    """Random accuracies around `LEVELS`, for 1 and 5 shots, both kinds of features and both sets of classes."""
    random = np.random.default_rng(0)
    shape = (len(SEEDS), len(epochs))
    values: dict[str, dict[str, np.ndarray]] = {}
    for criterion, level in LEVELS.items():
        values[criterion] = {}
        for k in (1, 5):
            for kind in ("", "-normalized"):
                for part in ("", "-validation"):
                    name = f"accuracy/{k}-shot{kind}{part}"
                    values[criterion][name] = level + 0.02 * random.random(shape)
                    values[criterion][f"{name}-ci"] = 0.001 + 0.001 * random.random(shape)
    # a tie on the validation classes
    values["ce"]["accuracy/1-shot-validation"][0] = (0.6, 0.7, 0.7)
    return values


@pytest.fixture(scope="module")
def values() -> dict[str, dict[str, np.ndarray]]:
    return few_shot_values()


@pytest.fixture(scope="module")
def study(values: Values, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write(tmp_path_factory.mktemp("cub"), values, "cub")


def best(values: Mapping[str, np.ndarray], metric: str, of: str = "") -> np.ndarray:
    """``metric`` (or its half-widths) in per cent where the validation accuracy of each seed is highest, first."""
    return 100 * values[metric + of][np.arange(len(SEEDS)), values[f"{metric}-validation"].argmax(1)]


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy/1-shot", "accuracy/5-shot-normalized"])
@pytest.mark.parametrize("criterion", TRIALS)
def test_an_epoch_is_chosen_by_each_replicas_validation_classes(
    study: Study, values: Values, criterion: str, metric: str
) -> None:
    scored = few_shot_table.scores(study, metric, BEST)
    scored = scored[scored["trial"] == TRIALS[criterion]].sort_values("seed")
    np.testing.assert_allclose(scored["value"], best(values[criterion], metric))
    np.testing.assert_allclose(scored["runs"], best(values[criterion], metric, "-ci"))
    last = few_shot_table.scores(study, metric, LAST)
    last = last[last["trial"] == TRIALS[criterion]].sort_values("seed")
    np.testing.assert_allclose(last["value"], 100 * values[criterion][metric][:, -1])


@pytest.mark.slow
@pytest.mark.parametrize(("epochs", "first"), [((100, 300, 350), 1), ((10, 20, 30), 0)])
def test_cifar_fs_is_chosen_from_epoch_300_on_where_training_reaches_it(
    tmp_path: Path, epochs: tuple[int, ...], first: int
) -> None:
    values = few_shot_values(epochs)
    # the highest of all is too early
    values["ls"]["accuracy/1-shot-validation"] = np.tile([0.9, 0.5, 0.4], (len(SEEDS), 1))
    study = write(tmp_path, values, "cifar-fs", epochs)
    scored = few_shot_table.scores(study, "accuracy/1-shot", BEST, start=300)
    scored = scored[scored["trial"] == TRIALS["ls"]].sort_values("seed")
    assert set(scored["epoch"]) == {epochs[first]}
    np.testing.assert_allclose(scored["value"], 100 * values["ls"]["accuracy/1-shot"][:, first])
    # the benchmark's page knows
    report.write(study.tracking_uri, study.name, tmp_path / "report")
    csv = pd.read_csv(tmp_path / "report" / "few-shot.csv")
    row = csv[(csv["label"] == "LS σ=0.1") & (csv["shots"] == 1) & (csv["epoch"] == BEST)].iloc[0]
    assert row["mean epoch"] == epochs[first]


def test_both_intervals(study: Study, values: Values) -> None:
    table = few_shot_table.numbers(study, {"CE": 0, "FIERCE λ=2 e=100": 2})
    row = table[(table["trial"] == 2) & (table["shots"] == 1) & (table["features"] == "as they are")]
    row = row[row["epoch"] == BEST].iloc[0]
    accuracies = best(values["fierce"], "accuracy/1-shot")
    low, high = stats.t.interval(0.95, len(SEEDS) - 1, accuracies.mean(), stats.sem(accuracies))
    assert (row["mean"], row["low over trainings"], row["high over trainings"]) == pytest.approx(
        (accuracies.mean(), low, high)
    )
    assert row["half over runs"] == pytest.approx(best(values["fierce"], "accuracy/1-shot", "-ci").mean())


@pytest.mark.parametrize("rule", [BEST, LAST])
def test_differences_are_paired(study: Study, values: Values, rule: str) -> None:
    def of(criterion: str) -> np.ndarray:
        if rule == LAST:
            return 100 * values[criterion]["accuracy/1-shot"][:, -1]
        return best(values[criterion], "accuracy/1-shot")

    difference = few_shot_table.difference(study, "accuracy/1-shot", TRIALS["fierce"], TRIALS["ls"], rule)
    assert difference is not None
    expected = stats.ttest_rel(of("fierce"), of("ls"))
    interval = expected.confidence_interval(0.95)
    assert (difference.low, difference.high, difference.p) == pytest.approx(
        (interval.low, interval.high, expected.pvalue)
    )


def test_tables_stand_beside_the_papers(study: Study, tmp_path: Path) -> None:
    report.write(study.tracking_uri, "images", tmp_path)
    table = (tmp_path / "few-shot.md").read_text(encoding="utf-8")
    assert "| paper: FIERCE | as they are | 62.18 ± 0.59 |" in table
    assert "over runs ±" in table
    differences = (tmp_path / "few-shot-differences.md").read_text(encoding="utf-8")
    assert "LS σ=0.1 − CE" in differences
    assert "FIERCE λ=2 e=100 − LS σ=0.1" in differences
    csv = pd.read_csv(tmp_path / "few-shot.csv")
    assert len(csv) == 3 * 2 * 2 * 2
    assert (tmp_path / "trajectories.svg").is_file()


def test_claims_of_table_2(study: Study) -> None:
    verdicts = claims.judge(study, image_claims.few_shot()).groupby("claim")["verdict"].agg(list)
    assert verdicts["FIERCE has a higher accuracy on new classes than CE"] == [claims.HOLDS] * 4
    # the same level, apart from noise
    assert claims.HOLDS not in verdicts["LS improves the accuracy in transfer too"]
    assert verdicts["FIERCE raises the entropy of the feature space"] == [claims.UNTESTED] * 3


def test_a_missing_value_leaves_no_interval(values: Values, tmp_path: Path) -> None:
    short = {criterion: dict(metrics) for criterion, metrics in values.items()}
    short["ls"]["accuracy/1-shot"] = values["ls"]["accuracy/1-shot"].copy()
    short["ls"]["accuracy/1-shot"][3] = np.nan
    study = write(tmp_path, short, "cub")
    table = few_shot_table.numbers(study, {"LS": TRIALS["ls"]})
    row = table[(table["shots"] == 1) & (table["features"] == "as they are")]
    assert list(row["n"]) == [len(SEEDS) - 1] * 2
    assert row["low over trainings"].isna().all()
    difference = few_shot_table.difference(study, "accuracy/1-shot", TRIALS["ls"], TRIALS["ce"])
    assert difference is not None and not difference.complete


@pytest.mark.slow
def test_cifar10_shows_the_geometry_beside_t_sne(tmp_path: Path) -> None:
    noise = 0.01 * np.random.default_rng(0).random((3, len(SEEDS), 2))
    levels = {"ce": (3.0, 0.8), "ls": (4.0, 0.9), "fierce": (2.0, 0.9)}
    values = {
        criterion: {
            "geometry/between-within": noise[i] + level,
            "geometry/cat-dog": noise[i] + near,
            "accuracy/coarse": noise[i] + 0.9,
        }
        for i, (criterion, (level, near)) in enumerate(levels.items())
    }
    classes = np.arange(60) % 10
    features = np.eye(16)[classes] + 0.1 * np.random.default_rng(1).random((60, 16))
    keep = {"features": features, "coarse": classes, "fine": classes}
    study = write(tmp_path, values, "cifar10", (5, 10), keep)
    report.write(study.tracking_uri, "images", tmp_path / "report")
    table = pd.read_csv(tmp_path / "report" / "separation.csv").set_index("trial")
    assert table.loc["CE", "between-class to within-class distance"].startswith("3.0")
    assert table.loc["LS σ=0.1", "cat–dog distance"].startswith("0.9")
    verdicts = claims.judge(study, image_claims.CIFAR10).groupby("claim")["verdict"].agg(list)
    assert verdicts["FIERCE reduces the distances between the classes"] == [claims.HOLDS, claims.HOLDS]
    assert verdicts["FIERCE draws dogs and cats nearer to each other"][0] == claims.FAILS
