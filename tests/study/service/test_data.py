"""``fierce data prepare``: faces in the layouts of UTKFace and IMDB-WIKI, other images, and what users get wrong."""

from __future__ import annotations

import io
import shlex
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from typer.testing import CliRunner, Result

from study.cli import REFUSED, app
from study.file.spec import StudySpec
from study.service.data import prepare
from trainables.benchmarks.age import Age, AgeOptions


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 12), (shade, shade, shade)).save(file, "JPEG")
    return file.getvalue()


def textured(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_zip(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def utkface(ages: range) -> dict[str, bytes]:
    return {f"{age}_0_1_2017{age:04}.jpg.chip.jpg": jpeg(2 * age) for age in ages}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", "prepare", *arguments])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIERCE_CACHE", str(tmp_path / "cache"))


def test_faces_are_counted_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    damaged = {"12_0_0_20170101.jpg": jpeg(9)[:60], "notes.txt": b"hello", "a.txt": b"", "b.txt": b"", "c.txt": b""}
    source = write_zip(tmp_path / "my faces.zip", {**utkface(range(10, 31)), **damaged})
    result = run("age", "--source", str(source), "--size", "16")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "UTKFace: 21 images at 16 pixels, ages 10 to 30, median 20"
    assert "left out: 1 × truncated or damaged image (12_0_0_20170101.jpg)" in lines
    names = "left out: 4 × file name is not [age]_[gender]_[race]_[date&time].jpg (notes.txt, a.txt, b.txt, …)"
    assert names in lines
    # what is printed is what a study is given
    words = shlex.split(lines[-1].split(": ", 1)[1])
    settings = dict(word.removeprefix("benchmark.").split("=", 1) for word in words if word != "--set")
    data = Age().load(AgeOptions(data=settings["data"], size=int(settings["size"])))
    assert data.inputs.shape == (21, 3, 16, 16)
    np.testing.assert_array_equal(sorted(data.fine.tolist()), range(10, 31))


def test_an_interrupted_preparation_goes_on(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    # more than the decoder takes at once
    for i in range(600):
        (tree / f"{i % 100}_0_1_{i:06}.jpg").write_bytes(textured(i))
    seen: list[int] = []

    def interrupt(done: int, total: int | None) -> None:
        seen.append(done)
        assert total == 600
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("age", tree, 8, progress=interrupt)
    assert 0 < seen[0] < 600
    held = [path.stat().st_size for path in (tmp_path / "cache").glob("*.partial/pixels.u8")]
    assert held == [seen[0] * 3 * 8 * 8]
    resumed = prepare("age", tree, 8)
    whole = prepare("age", tree, 8, cache=tmp_path / "other")
    assert resumed.description == whole.description
    digests = [
        Age().load(AgeOptions(size=8, data=str(prepared.options["data"]))).fingerprint for prepared in (resumed, whole)
    ]
    assert digests[0] == digests[1]


def test_metadata_beside_the_photos(tmp_path: Path) -> None:
    photos = {"01/one.jpg": jpeg(10), "01/two.jpg": jpeg(20), "02/three.jpg": jpeg(30)}
    source = write_zip(tmp_path / "imdb_crop.zip", {f"imdb_crop/{name}": data for name, data in photos.items()})
    struct = {
        "full_path": np.array([list(photos)], object),
        # 1 January 1950, in MATLAB's days
        "dob": np.full((1, 3), 712224.0),
        "photo_taken": np.array([[1980.0, 2000.0, 2000.0]]),
        "gender": np.ones((1, 3)),
        "face_score": np.array([[2.0, 2.0, -np.inf]]),
        "second_face_score": np.full((1, 3), np.nan),
    }
    savemat(tmp_path / "imdb.mat", {"imdb": struct})
    result = run("age", "--source", str(source), "--size", "8", "--metadata", str(tmp_path / "imdb.mat"))
    assert result.exit_code == 0, result.output
    assert "IMDB-WIKI: 2 images at 8 pixels, ages 30 to 50, median 40" in result.stdout
    assert "left out: 1 × face_score below 1 (imdb_crop/02/three.jpg)" in result.stdout


def test_other_images(tmp_path: Path) -> None:
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    tree = {f"{name}/{i}.png": textured(5 * c + i) for c, name in enumerate(names) for i in range(5)}
    source = write_zip(tmp_path / "classes.zip", tree)
    result = run("cifar10", "--source", str(source), "--size", "8", "--cache", str(tmp_path / "mine"))
    assert result.exit_code == 0, result.output
    assert f"--set benchmark.data={source}" in result.stdout and "benchmark.size=8" in result.stdout
    assert len(list((tmp_path / "mine").glob("*/pixels.u8"))) == 1


def test_what_is_left_out_of_other_images_is_named(tmp_path: Path) -> None:
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    tree = {f"train/{name}/{i}.png": textured(5 * c + i) for c, name in enumerate(names) for i in range(5)}
    extra = {
        "train/cat/.ipynb_checkpoints/0-checkpoint.png": textured(100),
        "copy/cat/0.png": tree["train/cat/0.png"],
        "copy/dog/1.png": tree["train/cat/1.png"],
        "train/notes.txt": b"hello",
    }
    source = write_zip(tmp_path / "classes.zip", {**tree, **extra})
    result = run("cifar10", "--source", str(source))
    assert result.exit_code == 0, result.output
    conflict = "the same image with different labels, none of which is kept"
    for line in (
        "1 × hidden or system file (train/cat/.ipynb_checkpoints/0-checkpoint.png)",
        "1 × the same image as one that is kept (copy/cat/0.png)",
        f"2 × {conflict} (train/cat/1.png, copy/dog/1.png)",
        "1 × not in a class folder (train/notes.txt)",
    ):
        assert f"left out: {line}" in result.stdout.splitlines()


@pytest.mark.parametrize(
    "folder", ["my #1", "a: b", "it's", "-", "Bäume λ", "two\nlines", " spaces ", "$HOME `x`", "a\\b"]
)
def test_the_settings_that_are_printed_survive_being_pasted(tmp_path: Path, folder: str) -> None:
    (at := tmp_path / folder).mkdir()
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    images = {f"{name}/{i}.jpg": jpeg(5 * (5 * n + i)) for n, name in enumerate(names) for i in range(5)}
    source = write_zip(at / "classes.zip", images)
    result = run("cifar10", "--source", str(source), "--size", "8", "--cache", str(at / "c"))
    assert result.exit_code == 0, result.output
    # the shell's own reading of the line, not ours
    pasted = result.stdout.splitlines()[-1].partition(": ")[2]
    read = subprocess.run(["sh", "-c", f"printf '%s\\0' {pasted}"], capture_output=True, check=True).stdout
    words = read.decode("utf-8").split("\0")[:-1]
    (study := tmp_path / "q.yaml").write_text("benchmark: cifar10\ncriteria: [ce]\nseeds: 1\n", encoding="utf-8")
    spec = StudySpec.load(study, [word for word in words if word != "--set"])
    assert spec.benchmark.options == {"data": str(source), "size": 8, "cache": str(at / "c")}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["age", "--source", "nowhere.zip"], "nowhere.zip does not exist"),
        (["aeg", "--source", "faces.zip"], "unknown benchmark 'aeg'"),
        (["images", "--source", "faces.zip"], "'images' needs groups of a study file, whose first fierce check"),
        (["hyperspectral", "--source", "faces.zip"], "no images to prepare; those that have: age, cifar-fs"),
        (["age", "--source", "faces.zip", "--size", "4"], "size must be a whole number of at least 8"),
        (["cifar10", "--source", "faces.zip", "--metadata", "imdb.mat"], "which benchmark 'cifar10' does not read"),
        (["age", "--source", "faces.zip", "--metadata", "imdb.mat"], "imdb.mat cannot be read"),
        (["age", "--source", "faces.zip", "--cache", "faces.zip"], "faces.zip"),
        (["age", "--source", "empty"], "holds no usable image"),
        (["age", "--source", "cut.zip"], "neither a folder nor a tar or zip"),
    ],
)  # fmt: skip
def test_errors_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content = write_zip(tmp_path / "faces.zip", utkface(range(10, 14))).read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty").mkdir()
    result = run(*arguments)
    assert result.exit_code == REFUSED
    assert result.stdout == ""
    line = result.stderr.strip()
    assert line.startswith("error: ") and "\n" not in line and words in line


@pytest.mark.slow
def test_real_faces(shared_data: Path) -> None:
    result = run("age", "--source", str(shared_data / "utkface" / "UTKFace_64px.zip"), "--size", "16")
    assert result.exit_code == 0, result.output
    assert "UTKFace: 12,000 images at 16 pixels, ages 1 to 116, median 29" in result.stdout
    assert "left out" not in result.stdout
