"""The layouts of IMDB-WIKI and UTKFace on miniature trees, whole and damaged, and on real faces where they are."""

from __future__ import annotations

import datetime
import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from trainables.benchmarks import DataError
from trainables.benchmarks.decoding import Rejected
from trainables.benchmarks.duplicates import CONFLICTING, REPEATED
from trainables.benchmarks.faces import imdb_wiki_ages, read_faces, utkface_age


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 12), (shade, shade, shade)).save(file, "JPEG")
    return file.getvalue()


def datenum(year: int, month: int, day: int) -> int:
    """MATLAB's date number: 1 for 1 January of year 0, which was a leap year."""
    return (datetime.date(year, month, day) - datetime.date(1, 1, 1)).days + 367


#: (path, born, photo's year, gender, face_score, second_face_score) -> the age, or why the paper drops the photo
ROWS: list[tuple[tuple[str, float, float, float, float, float], int | str]] = [
    (("01/nm0000001_rm1_1899-5-10_1968.jpg", datenum(1899, 5, 10), 1968, 1, 1.46, np.nan), 69),
    (("01/nm0000101_rm2_1950-7-1_1980.jpg", datenum(1950, 7, 1), 1980, 0, 3.2, np.nan), 30),
    (("02/nm0000002_rm3_1950-7-2_1980.jpg", datenum(1950, 7, 2), 1980, 0, 3.2, np.nan), 29),
    (("02/nm0000102_rm4_1920-1-1_2020.jpg", datenum(1920, 1, 1), 2020, 1, 1.0, np.nan), 100),
    (("02/nm0000202_rm5_1980-1-1_1980.jpg", datenum(1980, 1, 1), 1980, 1, 1.0, np.nan), 0),
    (("03/nm0000003_rm6_1919-1-1_2020.jpg", datenum(1919, 1, 1), 2020, 1, 2.0, np.nan), "age outside 0..100"),
    (("03/nm0000103_rm7_1990-1-1_1980.jpg", datenum(1990, 1, 1), 1980, 1, 2.0, np.nan), "age outside 0..100"),
    (("03/nm0000203_rm8_1950-1-1_1980.jpg", datenum(1950, 1, 1), 1980, 1, -np.inf, np.nan), "face_score below 1"),
    (("04/nm0000004_rm9_1950-1-1_1980.jpg", datenum(1950, 1, 1), 1980, 1, 0.99, np.nan), "face_score below 1"),
    (("04/nm0000104_rm10_1950-1-1_1980.jpg", datenum(1950, 1, 1), 1980, 1, 2.0, 1.5), "second face"),
    (("04/nm0000204_rm11_1950-1-1_1980.jpg", datenum(1950, 1, 1), 1980, np.nan, 2.0, np.nan), "unknown gender"),
    (("05/nm0000005_rm12_0-0-0_1980.jpg", 47, 1980, 1, 2.0, np.nan), "no date of birth or year of the photo"),
    (("05/nm0000105_rm13_none_1980.jpg", np.nan, 1980, 1, 2.0, np.nan), "no date of birth or year of the photo"),
]
KEPT = {row[0]: outcome for row, outcome in ROWS if isinstance(outcome, int)}


def metadata(name: str = "imdb", drop: str = "", shorten: str = "", rows: Sequence[Any] = ROWS) -> bytes:
    """A .mat file as the data set's authors lay it out: a 1 × 1 struct of 1 × N rows, paths in cells."""
    columns = list(zip(*(row for row, _ in rows), strict=True))
    names = ("full_path", "dob", "photo_taken", "gender", "face_score", "second_face_score")
    struct: dict[str, np.ndarray] = {}
    for field, values in zip(names, columns, strict=True):
        cells = np.array(values, object if field == "full_path" else np.float64).reshape(1, -1)
        struct[field] = cells[:, 1:] if field == shorten else cells
    struct["name"] = np.array(["someone"] * len(rows), object).reshape(1, -1)
    struct.pop(drop, None)
    file = io.BytesIO()
    savemat(file, {name: struct})
    return file.getvalue()


IMDB = {
    "imdb_crop/imdb.mat": metadata(),
    **{f"imdb_crop/{row[0]}": jpeg(10 * i) for i, (row, _) in enumerate(ROWS)},
    "imdb_crop/01/nm9999999_rm99_1900-1-1_1950.jpg": jpeg(7),
}
UTKFACE = {
    "UTKFace/1_0_2_20161219140642920.jpg.chip.jpg": jpeg(1),
    "UTKFace/116_1_0_20170112213500903.jpg.chip.jpg": jpeg(2),
    "UTKFace/36_1_3_20170104220702798.jpg": jpeg(3),
    # as three of the published files are named: the race is missing
    "UTKFace/61_1_20170109142408075.jpg.chip.jpg": jpeg(4),
    "UTKFace/24_0_1_20170116220224657.jpg.chip.jpg": jpeg(5)[:300],
    "UTKFace/readme.txt": b"faces",
}


def as_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / "faces" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root / "faces"


def as_zip(root: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(root / "faces.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return root / "faces.zip"


def as_tar(root: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(root / "faces.tar", "w") as archive:
        for name, data in reversed(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return root / "faces.tar"


Make = Callable[[Path, dict[str, bytes]], Path]
SOURCES = pytest.mark.parametrize("make", [as_folder, as_zip, as_tar])


@SOURCES
def test_imdb_wiki(make: Make, tmp_path: Path) -> None:
    source = make(tmp_path, IMDB)
    faces = read_faces(source, 8, tmp_path / "cache")
    assert faces.layout == "IMDB-WIKI"
    ages = {name.removeprefix("imdb_crop/"): age for name, age in zip(faces.images.names, faces.ages, strict=True)}
    assert ages == KEPT
    expected: dict[str, int] = {"not in the metadata": 1, "metadata file": 1}
    for _, outcome in ROWS:
        if isinstance(outcome, str):
            expected[outcome] = expected.get(outcome, 0) + 1
    assert faces.images.reasons() == expected
    # found again, and from the cache's own folder
    assert read_faces(source, 8, tmp_path / "cache").ages.tolist() == faces.ages.tolist()
    assert read_faces(faces.images.folder, 8).layout == "IMDB-WIKI"


def test_metadata_beside_the_images(tmp_path: Path) -> None:
    images = {name: data for name, data in IMDB.items() if not name.endswith(".mat")}
    (tmp_path / "wiki.mat").write_bytes(metadata("wiki"))
    faces = read_faces(as_folder(tmp_path, images) / "imdb_crop", 8, tmp_path / "cache", tmp_path / "wiki.mat")
    assert len(faces.ages) == len(KEPT)
    with pytest.raises(DataError, match=r"metadata .*nowhere\.mat cannot be read"):
        read_faces(tmp_path / "faces", 8, tmp_path / "cache", tmp_path / "nowhere.mat")


@SOURCES
def test_utkface(make: Make, tmp_path: Path) -> None:
    faces = read_faces(make(tmp_path, UTKFACE), 8, tmp_path / "cache")
    assert faces.layout == "UTKFace"
    assert sorted(faces.ages) == [1, 36, 116]
    assert faces.images.pixels.shape == (3, 3, 8, 8)
    reasons = {problem.name.split("/")[1]: problem.reason for problem in faces.images.problems}
    assert reasons == {
        "61_1_20170109142408075.jpg.chip.jpg": "file name is not [age]_[gender]_[race]_[date&time].jpg",
        "readme.txt": "file name is not [age]_[gender]_[race]_[date&time].jpg",
        "24_0_1_20170116220224657.jpg.chip.jpg": "truncated or damaged image",
    }


def test_an_impossible_age_is_rejected() -> None:
    with pytest.raises(Rejected, match=r"age outside 0\.\.116"):
        utkface_age("117_0_0_20170112213500903.jpg")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no MATLAB file", "imdb.mat is not a MATLAB 5 file that can be read"),
        (metadata()[:400], "imdb.mat is not a MATLAB 5 file that can be read"),
        (metadata("faces"), "imdb.mat holds neither a struct 'imdb' nor 'wiki'"),
        (metadata(drop="second_face_score"), "imdb.mat has no field 'second_face_score'"),
        (metadata(shorten="dob"), "imdb.mat has fields of different lengths"),
    ],
)
def test_metadata_that_cannot_be_used_is_one_sentence(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        imdb_wiki_ages(data, "imdb.mat")
    assert "\n" not in str(caught.value)


def test_a_single_photo_is_a_list_of_one() -> None:
    file = io.BytesIO()
    row = ROWS[0][0]
    names = ("full_path", "dob", "photo_taken", "gender", "face_score", "second_face_score")
    savemat(file, {"imdb": dict(zip(names, row, strict=True))})
    assert imdb_wiki_ages(file.getvalue(), "imdb.mat") == {row[0]: 69}


def test_a_cache_without_ages_is_refused(tmp_path: Path) -> None:
    from trainables.benchmarks.images import prepare

    plain = prepare(as_folder(tmp_path, UTKFACE), 8, tmp_path / "cache")
    with pytest.raises(DataError, match="without ages"):
        read_faces(plain.folder, 8)


@SOURCES
def test_faces_held_several_times_are_taken_once(make: Make, tmp_path: Path) -> None:
    """As Kaggle's archive of UTKFace is: the folder, a part of it, and both once more."""
    faces = {f"{age}_0_1_2017{age:04}.jpg.chip.jpg": jpeg(2 * age) for age in range(10, 31)}
    copies = {
        f"{folder}{name}": data
        for folder in ("UTKFace/", "crop_part1/", "utkface_aligned_cropped/UTKFace/", "utkface_aligned_cropped/")
        for name, data in faces.items()
    }
    faces_read = read_faces(make(tmp_path, copies), 8, tmp_path / "cache")
    assert sorted(faces_read.ages) == list(range(10, 31))
    assert len({pixels.numpy().tobytes() for pixels in faces_read.images.pixels}) == len(faces)
    assert faces_read.images.reasons() == {REPEATED: 3 * len(faces)}


def test_a_face_of_one_name_is_one_face(tmp_path: Path) -> None:
    """Saved anew in another size or crop, its pixels differ, its name does not."""
    files = {
        "crops/20_0_1_20170101.jpg.chip.jpg": jpeg(10),
        "in the wild/20_0_1_20170101.jpg": jpeg(11),
        "small/20_0_1_20170101.JPG.CHIP.JPG": jpeg(12),
        "small/20_0_1_20170102.jpg": jpeg(13),
    }
    faces = read_faces(as_folder(tmp_path, files), 8, tmp_path / "cache")
    assert faces.images.names == ("crops/20_0_1_20170101.jpg.chip.jpg", "small/20_0_1_20170102.jpg")
    copies = IMDB | {f"small/{name.split('/', 1)[1]}": jpeg(200 + i) for i, name in enumerate(IMDB) if "/nm" in name}
    photos = read_faces(as_zip(tmp_path, copies), 8, tmp_path / "cache")
    assert len(photos.ages) == len(KEPT)
    assert photos.images.reasons()[REPEATED] == len(KEPT)


def test_one_face_of_two_ages_is_left_out(tmp_path: Path) -> None:
    files = {"20_0_1_1.jpg": jpeg(10), "30_0_1_2.jpg": jpeg(10), "40_0_1_3.jpg": jpeg(90)}
    faces = read_faces(as_folder(tmp_path, files), 8, tmp_path / "cache")
    assert faces.ages.tolist() == [40]
    assert faces.images.reasons() == {CONFLICTING: 2}


@pytest.mark.parametrize("layout", [IMDB, UTKFACE])
def test_faces_in_an_archive_in_a_folder(layout: dict[str, bytes], tmp_path: Path) -> None:
    expected = read_faces(as_folder(tmp_path, layout), 8, tmp_path / "cache")
    (tmp_path / "data").mkdir()
    as_tar(tmp_path / "data", layout)
    faces = read_faces(tmp_path / "data", 8, tmp_path / "cache")
    assert sorted(faces.ages) == sorted(expected.ages)
    assert faces.layout == expected.layout


@pytest.mark.slow
def test_real_faces(shared_data: Path, tmp_path: Path) -> None:
    faces = read_faces(shared_data / "utkface" / "UTKFace_64px.zip", 64, tmp_path)
    assert faces.images.pixels.shape == (12_000, 3, 64, 64)
    assert not faces.images.problems
    assert (faces.ages.min(), np.median(faces.ages), faces.ages.max()) == (1, 29, 116)
    assert faces.ages.mean() == pytest.approx(33.26, abs=0.005)
    assert (faces.ages > 35).mean() == pytest.approx(0.361, abs=0.0005)
    assert (faces.ages > 29).mean() == pytest.approx(0.496, abs=0.0005)
