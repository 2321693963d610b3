"""Tables of one's own, against pandas and scikit-learn: read, labelled, split, standardized, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.datasets import load_diabetes, load_digits
from sklearn.preprocessing import StandardScaler

from trainables.benchmarks import Data, DataError, make_options
from trainables.benchmarks.table import Scaling, TableBenchmark, TableOptions
from trainables.benchmarks.table_files import MISSING, read_table
from trainables.replicas import stream, streams
from trainables.training import Training
from trainables.trial import Trial

TABLE = TableBenchmark()
EXAMPLE = Path(__file__).parents[2] / "examples" / "table.yaml"
generator = np.random.default_rng(0)
ROWS = 60
FRAME = pd.DataFrame(
    {
        "width": generator.normal(5, 3, ROWS),
        "year": 2_000_000_000 + generator.integers(0, 9, ROWS),
        "soil": generator.choice(["clay", "loam", "sand"], ROWS),
        "kind": np.resize(["iris", "lily", "rose", "tulip"], ROWS),
        "colour": np.resize(["blue", "blue", "red", "red"], ROWS),
        "price": generator.normal(0, 1, ROWS).round(3),
        "garden": np.arange(ROWS) // 5,
    }
)


def written(folder: Path, frame: pd.DataFrame = FRAME, name: str = "flowers.csv") -> str:
    path = folder / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return str(path)


def loaded(data: str, **options: Any) -> tuple[Data, TableOptions]:
    made = make_options(TableOptions, {"data": data, "coarse": "colour", "fine": "kind", **options})
    return TABLE.load(made), made


def parts(data: Data, options: TableOptions, seed: int = 0) -> dict[str, torch.Tensor]:
    return TABLE.split(data, options, stream(seed, "split"))


def test_csv_parquet_and_npz_give_the_same_data(tmp_path: Path) -> None:
    frame = FRAME.drop(columns="garden")
    arrays = {name: values.to_numpy(str if values.dtype == object else None) for name, values in frame.items()}
    np.savez(tmp_path / "flowers.npz", **{name: np.array(array.tolist()) for name, array in arrays.items()})
    paths = [written(tmp_path, frame), written(tmp_path, frame, "flowers.parquet"), str(tmp_path / "flowers.npz")]
    first, *others = [loaded(path)[0] for path in paths]
    assert first.extra["columns"] == ["width", "year", "soil_clay", "soil_loam", "soil_sand", "price"]
    assert [data.fingerprint for data in others] == [first.fingerprint] * 2


def test_cells_are_read_as_pandas_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    cells = ["1", " 2.5", "1e3", "-.5", "NA", "", "3"]
    words = ["a", "b,c", 'd "e"', "NULL", "", "f", "1_000"]
    lines = [f'{cell};"{word.replace(chr(34), 2 * chr(34))}"' for cell, word in zip(cells, words, strict=True)]
    path.write_text("\ufeffx;y\n" + "\n".join(lines) + "\n", encoding="utf-8")
    read, expected = read_table(path), pd.read_csv(path, sep=";")
    np.testing.assert_array_equal(read.columns["x"], expected["x"].to_numpy())
    assert list(read.columns["y"]) == [None if pd.isna(word) else word for word in expected["y"]]


@pytest.mark.parametrize("cell", sorted(MISSING))
def test_pandas_takes_the_same_cells_for_missing(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text(f'x,y\n1,"{cell}"\n2,3\n', encoding="utf-8")
    assert pd.read_csv(path)["y"].isna().tolist() == np.isnan(read_table(path).columns["y"]).tolist() == [True, False]


def test_pandas_row_numbers_are_no_input(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "indexed.csv")
    FRAME.iloc[::-1].to_parquet(tmp_path / "indexed.parquet")
    for name in ("indexed.csv", "indexed.parquet"):
        assert list(read_table(tmp_path / name).columns) == list(FRAME.columns)


def test_one_hot_is_that_of_pandas(tmp_path: Path) -> None:
    data, _ = loaded(written(tmp_path), leave_out=["year", "price", "garden"])
    expected = pd.get_dummies(FRAME[["width", "soil"]]).astype(float)
    assert data.extra["columns"] == list(expected.columns)
    np.testing.assert_array_equal(data.inputs[:, 1:], expected.to_numpy()[:, 1:])
    assert data.extra["numeric"].tolist() == [True, False, False, False]


def test_inputs_are_standardized_by_each_seeds_training_rows(tmp_path: Path) -> None:
    path = written(tmp_path)
    options = {"data": path, "coarse": "colour", "fine": "kind", "leave_out": ["garden"]}
    training = Training(Trial("table", "ce", (0, 1), options=options))
    data = training.data
    names = [*FRAME[["width", "year", "price"]]]
    columns = [data.extra["columns"].index(name) for name in names]
    scaled = training.network.scaling(data.inputs.expand(2, -1, -1))
    for replica, rows in enumerate(training.parts["train"]):
        expected = StandardScaler().fit(FRAME[names].iloc[rows]).transform(FRAME[names])
        np.testing.assert_allclose(scaled[replica][:, columns], expected, atol=1e-4)
        assert torch.equal(scaled[replica][:, 2:5], data.inputs[:, 2:5])
    assert not torch.equal(scaled[0], scaled[1])
    again = Training(Trial("table", "ce", (0, 1), options=options))
    again.network.scaling.mean.zero_()
    again.load(training.state())
    assert torch.equal(again.network.scaling.mean, training.network.scaling.mean)


def test_a_missing_value_is_the_training_mean_and_marked(tmp_path: Path) -> None:
    frame = FRAME.copy()
    frame.loc[[3, 8, 20], "width"] = np.nan
    frame.loc[4, "soil"] = None
    data, options = loaded(written(tmp_path, frame), missing="mean", leave_out=["garden", "year"])
    train = parts(data, options)["train"]
    scaling = TABLE.backbone(data, options, streams((0,), "init")).scaling
    scaling.fit_inputs([data.inputs[train]])
    scaled = scaling(data.inputs.unsqueeze(0))[0]
    expected = StandardScaler().fit(frame[["width"]].iloc[train]).transform(frame[["width"]])
    np.testing.assert_allclose(scaled[:, :1], np.nan_to_num(expected), atol=1e-5)
    assert data.inputs[:, data.extra["columns"].index("width missing")].nonzero().flatten().tolist() == [3, 8, 20]
    assert not data.inputs[4, 1:4].any()


def test_a_column_that_does_not_vary_in_training_is_only_shifted() -> None:
    scaling = Scaling(1, torch.tensor([True]), torch.tensor([-1]))
    scaling.fit_inputs([torch.full((7, 1), 0.1)])
    torch.testing.assert_close(scaling(torch.tensor([[[0.1], [1.1]]])), torch.tensor([[[0.0], [1.0]]]))


def test_rows_with_missing_values_are_dropped(tmp_path: Path) -> None:
    frame = FRAME.copy()
    frame.loc[3, "width"] = np.nan
    frame.loc[9, "kind"] = None
    whole, _ = loaded(written(tmp_path, frame.dropna(), "whole.csv"))
    data, _ = loaded(written(tmp_path, frame), missing="drop")
    assert data.fingerprint == whole.fingerprint and len(data.inputs) == ROWS - 2


def test_a_median_and_bins_cut_as_by_hand(tmp_path: Path) -> None:
    path = written(tmp_path)
    data, _ = loaded(path, coarse={"column": "price", "above": "median"})
    assert data.coarse.tolist() == [int(price > FRAME["price"].median()) for price in FRAME["price"]]
    assert "price" not in data.extra["columns"]
    data, _ = loaded(path, coarse={"column": "price", "above": 0.5})
    assert data.coarse.tolist() == [int(price > 0.5) for price in FRAME["price"]]
    data, _ = loaded(path, coarse={"column": "price", "bins": 3})
    assert data.coarse.tolist() == pd.qcut(FRAME["price"], 3, labels=False).tolist()


def test_fine_labels_are_classes_or_numbers_by_type(tmp_path: Path) -> None:
    path = written(tmp_path)
    data, _ = loaded(path)
    assert data.fine.tolist() == FRAME["kind"].factorize(sort=True)[0].tolist()
    data, _ = loaded(path, fine="price")
    torch.testing.assert_close(data.fine, torch.tensor(FRAME["price"].to_numpy(np.float32)))
    data, _ = loaded(path, fine=["price", "width"])
    assert data.fine.shape == (ROWS, 2) and data.fine.is_floating_point()
    data, _ = loaded(path, fine="garden", fine_kind="numbers")
    assert data.fine.tolist() == FRAME["garden"].astype(float).tolist()
    data, _ = loaded(path, fine=["kind", "colour"])
    assert data.fine.tolist() == FRAME.groupby(["kind", "colour"]).ngroup().tolist()


def test_parts_have_the_shares_of_the_coarse_classes_and_groups_stay_together(tmp_path: Path) -> None:
    path = written(tmp_path)
    data, options = loaded(path, leave_out=["garden"])
    for seed in range(3):
        split = parts(data, options, seed)
        assert {part: len(rows) for part, rows in split.items()} == {"heldout": 18, "validation": 12, "train": 30}
        assert sorted(torch.cat([*split.values()]).tolist()) == list(range(ROWS))
        assert all(data.coarse[rows].double().mean() == 0.5 for rows in split.values())
    data, options = loaded(path, group="garden")
    for seed in range(3):
        gardens = [set(FRAME["garden"].iloc[rows]) for rows in parts(data, options, seed).values()]
        assert not (gardens[0] & gardens[1] or gardens[0] & gardens[2] or gardens[1] & gardens[2])


def test_each_class_is_in_each_part_however_few_its_rows(tmp_path: Path) -> None:
    frame = FRAME.assign(colour=["rare"] * 3 + ["few"] * 4 + ["many"] * 53)
    data, options = loaded(written(tmp_path, frame), validation=0.4, heldout=0.5)
    assert all(set(data.coarse[rows].tolist()) == {0, 1, 2} for rows in parts(data, options).values())


def changed(**columns: Any) -> pd.DataFrame:
    return FRAME.assign(**columns)


SLIPS: dict[str, tuple[pd.DataFrame, dict[str, Any], str]] = {
    "unknown": (FRAME, {"fine": "kinds"}, "has no column 'kinds', which fine names; it has 'kind' among 7"),
    "unique": (FRAME, {"fine": "price", "fine_kind": "classes"}, None),
    "names": (changed(kind=[f"n{i}" for i in range(ROWS)]), {}, "as many values as rows, 60.*fine_kind: numbers"),
    "one class": (changed(colour="blue"), {}, "coarse column 'colour' holds one class alone, 'blue'"),
    "continuous": (
        FRAME,
        {"coarse": "price"},
        r"different numbers: cut it by coarse: \{column: price, above: median\}",
    ),
    "small": (changed(colour=["rare"] * 2 + ["many"] * 58), {}, "class 'rare' has 2 samples, fewer than the 3 parts"),
    "small fine": (changed(kind=["rare"] + ["many"] * 59), {}, "fine class 'rare' has 1 sample, fewer"),
    "no numbers": (FRAME[["soil", "kind", "colour"]], {}, "no column of numbers is left"),
    "missing": (
        changed(width=[np.nan] + [1.0] * 59),
        {},
        r"row 1 \(the header not counted\), column 'width'; 1 is mis",
    ),
    "label": (changed(kind=[None] + ["a", "b", "c"] * 19 + ["a"] * 2), {"missing": "mean"}, "a label has no mean"),
    "empty": (changed(width=np.nan), {"missing": "mean"}, "'width' holds no value: list it under leave_out"),
    "mixed": (changed(width=["x", *range(59)]), {}, "column 'width' holds numbers, but 'x' in row 1"),
    "words": (changed(soil=[f"w{i}" for i in range(ROWS)]), {}, "text column 'soil' holds 60 different words"),
    "text cut": (FRAME, {"coarse": {"column": "soil", "bins": 2}}, "holds text, such as '.*', and cannot be cut"),
    "ties": (changed(price=[0.0] * 59 + [1.0]), {"coarse": {"column": "price", "bins": 4}}, "fewer bins"),
    "groups": (changed(garden=[0, 1] * 30), {"group": "garden"}, "has 2 groups, fewer than the 3 parts"),
    "together": (FRAME, {"fine": ["soil", "price"]}, "'soil' holds text, and 'price' numbers of many kinds"),
    "as numbers": (FRAME, {"fine": "soil", "fine_kind": "numbers"}, "fine column 'soil' holds text"),
}
SLIPS["unique"] = (changed(price=np.arange(ROWS) / 7), SLIPS["unique"][1], "as many values as rows, 60")


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_one_sentence(slip: str, tmp_path: Path) -> None:
    frame, options, expected = SLIPS[slip]
    with pytest.raises(DataError, match=expected) as error:
        loaded(written(tmp_path, frame), **options)
    assert "flowers.csv" in str(error.value) and "\n" not in str(error.value)


def objects(path: Path) -> None:
    np.savez(path, x=np.array([{}, 1], object))


def lengths(path: Path) -> None:
    np.savez(path, x=np.zeros(3), y=np.zeros(2))


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "objects.npz": (objects, "'x' is an array of objects, which is not read"),
    "lengths.npz": (lengths, "'y' has 2 rows, and 'x' 3"),
    "text.npz": (lambda path: path.write_text("no zip", encoding="utf-8"), "is not an .npz file"),
    "text.parquet": (lambda path: path.write_text("none", encoding="utf-8"), "is not Parquet"),
    "dates.parquet": (
        lambda path: FRAME.assign(soil=pd.Timestamp("2020-01-01")).to_parquet(path),
        "column 'soil' is of type timestamp",
    ),
    "ragged.csv": (
        lambda path: path.write_text("a,b\n1,2\n3\n", encoding="utf-8"),
        "line 3: 1 cells where the header names 2 columns",
    ),
    "twice.csv": (lambda path: path.write_text("a,a\n1,2\n", encoding="utf-8"), "two columns 'a'"),
    "latin.csv": (lambda path: path.write_bytes(b"a,b\n\xe9,1\n"), "is not UTF-8"),
    "header.csv": (lambda path: path.write_text("a,b\n", encoding="utf-8"), "has no rows"),
    "nameless.csv": (lambda path: path.write_text("a,\n1,5\n", encoding="utf-8"), "has no name"),
    "book.xlsx": (lambda path: path.write_bytes(b""), "give a .csv, .parquet or .npz file"),
    "absent.csv": (lambda path: None, "is not there"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_table_is_one_sentence(name: str, tmp_path: Path) -> None:
    make, expected = FILES[name]
    make(tmp_path / name)
    with pytest.raises(DataError, match=expected) as error:
        loaded(str(tmp_path / name))
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_column_that_cannot_be_read_does_no_harm_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, changed(soil=pd.Timestamp("2020-01-01")), "dates.parquet")
    assert "soil" not in loaded(path, leave_out=["soil"])[0].extra["columns"]


def test_an_array_of_two_dimensions_is_named_as_one(tmp_path: Path) -> None:
    labels = {"kind": FRAME["kind"].to_numpy(str), "colour": FRAME["colour"].to_numpy(str)}
    np.savez(tmp_path / "wide.npz", x=FRAME[["width", "price"]], y=np.ones((ROWS, 3)), **labels)
    data, _ = loaded(str(tmp_path / "wide.npz"), leave_out=["y"])
    assert data.extra["columns"] == ["x.0", "x.1"]
    data, _ = loaded(str(tmp_path / "wide.npz"), fine="x")
    assert data.fine.shape == (ROWS, 2)
    with pytest.raises(DataError, match="group must be one column, and 'y' has 3"):
        loaded(str(tmp_path / "wide.npz"), group="y")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"coarse": {"column": "price"}}, "coarse takes a column and one of above and bins"),
        ({"coarse": {"column": "price", "above": "mean"}}, "above of coarse must be a number or median, not 'mean'"),
        ({"coarse": {"column": "price", "bins": 1}}, "bins of coarse must be a whole number of at least 2, not 1"),
        ({"coarse": {"above": 1}}, "coarse must be a column's name"),
        ({"fine": "colour"}, "fine and coarse are both 'colour'"),
        ({"fine": []}, "fine must be a column's name"),
        ({"hidden": [0]}, "hidden must be a list of layers' sizes"),
        ({"heldout": 0}, "heldout"),
        ({"heldout": 0.5, "validation": 0.5}, "must leave a tenth"),
        ({"missing": "zero"}, "missing must be one of drop, mean"),
        ({"fine_kind": "words"}, "fine_kind must be one of classes, numbers"),
    ],
)
def test_options_are_checked(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        make_options(TableOptions, {"data": "x.csv", "coarse": "colour", "fine": "kind", **options})


class Own(torch.nn.Module):
    """A network of one's own."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(data.inputs.shape[1], data.classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, self.layer(x)


def test_a_network_of_ones_own_sees_standardized_inputs(tmp_path: Path) -> None:
    options = {"data": written(tmp_path), "coarse": "colour", "fine": "kind", "leave_out": ["garden", "soil"]}
    training = Training(Trial("table", "ce", (0, 1), options={**options, "backbone": f"{__name__}:Own"}))
    features, _ = training._predict(training.parts["train"])
    torch.testing.assert_close(features.mean(1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.square().mean(1), torch.ones(2, 3))


@pytest.mark.parametrize("source", ["digits", "diabetes"])
def test_the_example_trains_on_tables_of_scikit_learn(source: str, tmp_path: Path) -> None:
    study = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    options = study["benchmark"]
    if source == "digits":
        frame = load_digits(as_frame=True).frame.rename(columns={"target": "fine"})
        frame["coarse"] = frame["fine"].map(lambda digit: "odd" if digit % 2 else "even")
        probe, floor = "accuracy/fine-linear", 0.3
    else:
        frame = load_diabetes(as_frame=True, scaled=False).frame
        options |= {"coarse": {"column": "target", "above": "median"}, "fine": "target"}
        probe, floor = "r2/fine-linear", 0.1
    options |= {"data": written(tmp_path, frame, f"{source}.csv")}
    trial = Trial(options.pop("name"), "fierce", (0, 1), options=options, training={"epochs": 2, "learning_rate": 0.01})
    *_, last = Training(trial).run()
    # better than a guess, and on both parts
    assert min(last.metrics["accuracy/coarse"]) > 0.6 and min(last.metrics["accuracy/validation"]) > 0.6
    assert min(last.metrics[probe]) > floor and min(last.metrics[f"{probe}-validation"]) > floor
