"""Options that name files: by their type, and never by what lies on the disk."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny, TinyOptions

from study.errors import UserError
from study.file.spec import StudySpec
from study.home import Home
from study.launch.preflight import check_data
from study.service.storage import import_data
from trainables.benchmarks import BENCHMARKS, Data, DataPath, find, make_options, path_options
from trainables.remote_data import fetched


@dataclass(frozen=True)
class FileOptions(TinyOptions):
    """Options of a benchmark of one's own, of every kind that names files, and text."""

    data: Path | None = None
    kept: Path = Path("kept.csv")
    word: DataPath = "simulated"
    maybe: DataPath | None = None
    several: tuple[Path, ...] = ()
    listed: list[DataPath] | None = None
    note: str = ""
    sizes: tuple[int, ...] = (1, 5)


class Files(Tiny):
    Options = FileOptions

    def load(self, options: TinyOptions) -> Data:
        assert isinstance(options, FileOptions)
        # as a benchmark of one's own would: a path is a Path
        text = options.data.read_text(encoding="utf-8") if options.data else ""
        return dataclasses.replace(super().load(options), description=text + options.note)


def load(folder: Path, benchmark: dict[str, Any], *overrides: str) -> StudySpec:
    path = folder / "mine.yaml"
    values = {"benchmark": {"name": "test_paths:Files", **benchmark}, "criteria": ["ce"], "seeds": 1}
    path.write_text(json.dumps(values), encoding="utf-8")
    return StudySpec.load(path, overrides)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for name in ("a.csv", "b.csv", "lake", "real", "simulated"):
        (tmp_path / name).write_text(f"of {name}", encoding="utf-8")


def test_options_say_that_they_are_paths() -> None:
    assert path_options(FileOptions) == {"data", "kept", "word", "maybe", "several", "listed", "trouble"}
    declared = {name: path_options(find(name).Options) for name in BENCHMARKS}
    assert declared == {
        "hyperspectral": {"data", "abundances"},
        "age": {"data", "metadata", "cache"},
        **{name: {"data", "cache"} for name in ("cifar-fs", "cub", "cifar10-few-shot", "cifar10", "coarse-cifar10")},
        "table": {"data"},
        "images": {"data", "folder", "weights", "cache"},
    }


def test_paths_become_absolute_and_text_stays(tmp_path: Path) -> None:
    given = {
        **{
            "data": "a.csv",
            "word": "b.csv",
            "maybe": "missing/x.csv",
            "several": ["a.csv", "b.csv"],
            "listed": ["a.csv"],
        },
        **{"note": "lake", "sizes": [2]},
    }
    spec = load(tmp_path, given)
    at = {name: str(tmp_path / name) for name in ("a.csv", "b.csv")}
    assert spec.benchmark.options == {
        **{"data": at["a.csv"], "word": at["b.csv"], "maybe": str(tmp_path / "missing/x.csv")},
        **{"several": [at["a.csv"], at["b.csv"]], "listed": [at["a.csv"]]},
        # a path among the defaults lies where the study was started
        **{"note": "lake", "sizes": [2], "kept": str(tmp_path / "kept.csv")},
    }
    assert StudySpec.from_yaml(spec.to_yaml()) == spec


def test_words_and_addresses_are_no_paths(tmp_path: Path) -> None:
    options = load(tmp_path, {"word": "simulated", "maybe": "s3://bucket/x.csv", "listed": ["s3://bucket/y"]}).benchmark
    assert (options.options["word"], options.options["maybe"]) == ("simulated", "s3://bucket/x.csv")
    assert options.options["listed"] == ["s3://bucket/y"]


@pytest.mark.parametrize("text", ["x" * 311, "lake", "real", "s3://bucket/x", "~", "~nobody/x", "a\0b", "/etc/passwd"])
def test_text_is_never_looked_for_on_the_disk(tmp_path: Path, text: str) -> None:
    spec = load(tmp_path, {"note": text})
    check_data(spec)
    kept = import_data(spec, Home(tmp_path / "home"))
    assert kept.benchmark.options["note"] == text
    assert fetched(FileOptions, {"note": text}) == {"note": text}


def test_a_built_in_benchmark_s_text_beside_such_files(tmp_path: Path) -> None:
    (tmp_path / "real").unlink()
    (tmp_path / "real").mkdir()
    given = {"name": "hyperspectral", "description": "lake", "data": "simulated"}
    spec = load(tmp_path, given)
    assert spec.benchmark.options == {"description": "lake", "data": "simulated"}
    given = {"name": "hyperspectral", "description": "x" * 311, "data": "lake", "provenance": "real"}
    assert load(tmp_path, given).benchmark.options == {
        "description": "x" * 311,
        "data": str(tmp_path / "lake"),
        "provenance": "real",
    }


@pytest.mark.parametrize("path", ["x" * 311, "~nobody-of-that-name/x", "a\0b"])
def test_a_path_that_cannot_be_is_one_sentence(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml line 1, benchmark\.data: .* is no path") as caught:
        load(tmp_path, {"data": path})
    assert "\n" not in str(caught.value)


def test_a_trial_gets_the_types_that_are_declared(tmp_path: Path) -> None:
    spec = load(tmp_path, {"data": "a.csv", "several": ["a.csv"], "listed": ["b.csv"], "sizes": [2]})
    options = make_options(FileOptions, StudySpec.from_yaml(spec.to_yaml()).benchmark.options)
    assert options == FileOptions(
        data=tmp_path / "a.csv",
        kept=tmp_path / "kept.csv",
        several=(tmp_path / "a.csv",),
        listed=[str(tmp_path / "b.csv")],
        sizes=(2,),
    )
    assert Files().load(options).description == "of a.csv"


def test_files_of_path_options_travel_with_the_study(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    kept = import_data(load(tmp_path, {"data": "a.csv", "several": ["b.csv", "missing"], "note": "lake"}), home)
    options = make_options(FileOptions, kept.benchmark.options)
    assert options.data.is_relative_to(home.root) and options.data.read_text(encoding="utf-8") == "of a.csv"
    assert options.several[0].is_relative_to(home.root) and options.several[1] == tmp_path / "missing"
    assert options.note == "lake"


def test_an_option_that_is_none_is_not_its_default_again(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Options:
        noise: float | None = 40.0

    spec = StudySpec.model_validate({"name": "s", "benchmark": {"name": "a:B", "noise": None}, "criteria": ["ce"]})
    again = StudySpec.from_yaml(spec.to_yaml())
    assert make_options(Options, again.benchmark.options).noise is None
