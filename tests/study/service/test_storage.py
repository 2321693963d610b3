"""Data files that travel with a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.errors import UserError
from study.file.spec import StudySpec
from study.home import Home
from study.service.storage import import_data
from trainables.benchmarks.hyperspectral import HyperspectralOptions
from trainables.remote_data import fetched


def spec(**options: str) -> StudySpec:
    return StudySpec.model_validate(
        {"name": "s", "benchmark": {"name": "hyperspectral", **options}, "criteria": ["ce"], "seeds": 1}
    )


def test_files_are_kept_by_content(tmp_path: Path) -> None:
    scene, home = tmp_path / "scene.npz", Home(tmp_path / "home")
    scene.write_bytes(b"spectra")
    first = import_data(spec(data=str(scene), description="a scene"), home)
    kept = Path(first.benchmark.options["data"])
    assert kept.is_relative_to(home.root / "studies" / "data")
    assert (kept.name, kept.read_bytes()) == ("scene.npz", b"spectra")
    assert first.benchmark.options["description"] == "a scene"
    # what is kept already stays as it is, wherever the same content comes from
    assert import_data(first, home) == first
    (tmp_path / "elsewhere").mkdir()
    again = scene.rename(tmp_path / "elsewhere" / "scene.npz")
    assert import_data(spec(data=str(again), description="a scene"), home) == first
    again.write_bytes(b"others")
    assert import_data(spec(data=str(again)), home).benchmark.options["data"] != str(kept)


def test_a_file_in_an_object_store_reaches_the_trial(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = tmp_path / "scene.npz"
    scene.write_bytes(b"spectra")
    monkeypatch.setenv("FIERCE_STORAGE", f"s3://{bucket}/prefix")
    monkeypatch.setenv("FIERCE_CACHE", str(tmp_path / "cache"))
    data = import_data(spec(data=str(scene)), Home(tmp_path)).benchmark.options["data"]
    assert data.startswith(f"s3://{bucket}/prefix/data/")
    assert Path(fetched(HyperspectralOptions, {"data": data})["data"]).read_bytes() == b"spectra"


def photos(folder: Path) -> Path:
    for name, content in (("cat/1.png", b"one"), ("cat/2.png", b"two"), ("dog/1.png", b"three")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_in_the_working_directory_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, work = Home(tmp_path / "home"), tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    given, elsewhere = photos(work / "photos"), photos(tmp_path / "shared" / "photos")
    kept = Path(import_data(of_images(given), home).benchmark.options["data"])
    assert kept.is_relative_to(home.root / "studies" / "data") and kept.name == "photos"
    assert {path.relative_to(kept): path.read_bytes() for path in kept.rglob("*.png")} == {
        path.relative_to(given): path.read_bytes() for path in given.rglob("*.png")
    }
    # the same content once, another one beside it, and what a shared disk holds stays there
    assert import_data(of_images(photos(work / "again" / "photos")), home).benchmark.options["data"] == str(kept)
    (given / "dog" / "1.png").write_bytes(b"four")
    other = Path(import_data(of_images(given), home).benchmark.options["data"])
    assert other != kept and (kept / "dog" / "1.png").read_bytes() == b"three"
    assert import_data(of_images(elsewhere), home).benchmark.options["data"] == str(elsewhere)


def test_a_folder_for_an_object_store_is_refused(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIERCE_STORAGE", f"s3://{bucket}/prefix")
    with pytest.raises(UserError, match=r"benchmark\.data: .*photos is a folder, .* give it as a zip or tar"):
        import_data(of_images(photos(tmp_path / "photos")), Home(tmp_path))


def of_images(folder: Path) -> StudySpec:
    benchmark = {"name": "images", "data": str(folder), "groups": {"a": ["cat"], "b": ["dog"]}}
    return StudySpec.model_validate({"name": "s", "benchmark": benchmark, "criteria": ["ce"], "seeds": 1})


def test_a_storage_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    scene = tmp_path / "scene.npz"
    scene.write_bytes(b"spectra")
    (tmp_path / "home").write_text("a file", encoding="utf-8")
    with pytest.raises(UserError, match=r"benchmark\.data: .*scene\.npz cannot be copied to the storage"):
        import_data(spec(data=str(scene)), Home(tmp_path / "home"))
