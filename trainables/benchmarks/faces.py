"""Faces with ages, in the layouts of IMDB-WIKI (Rothe et al. 2018) and UTKFace, as a folder, a tar or a zip."""

from __future__ import annotations

import datetime
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.io import loadmat

from trainables.benchmarks import DataError
from trainables.benchmarks.decoding import Rejected
from trainables.benchmarks.images import Images, Progress, prepare
from trainables.benchmarks.sources import read_first

#: metadata file of IMDB-WIKI -> the struct in it
METADATA = {"imdb.mat": "imdb", "wiki.mat": "wiki"}
#: [age]_[gender]_[race]_[date&time].jpg, or .jpg.chip.jpg for the aligned faces
UTKFACE_NAME = re.compile(r"(\d{1,3})_[01]_[0-4]_\d+\.jpg(\.chip\.jpg)?", re.IGNORECASE)
#: IMDB's nm0000001_rm124825600_1899-5-10_1968.jpg and WIKI's 10000217_1981-05-05_2009.jpg: who is shown stands first
PERSON = re.compile(r"(nm\d+|\d+)_")
MAX_AGE = {"IMDB-WIKI": 100, "UTKFace": 116}

#: MATLAB counts days from year 0, Python from year 1
_MATLAB_DAYS = 366


@dataclass(frozen=True)
class Faces:
    """Prepared faces: ``ages`` (N,) float32 in years, in the order of the images.

    ``people`` (N,) int64 numbers who is shown, None where the layout does not tell.
    """

    images: Images
    ages: np.ndarray
    #: "IMDB-WIKI" or "UTKFace"
    layout: str
    people: np.ndarray | None = None


def read_faces(
    source: str | Path,
    size: int,
    cache: str | Path | None = None,
    metadata: str | Path | None = None,
    progress: Progress | None = None,
) -> Faces:
    """The faces of ``source`` at ``size`` × ``size`` pixels, with their ages.

    ``metadata`` is the ``imdb.mat`` or ``wiki.mat`` where it does not stand in the source. With such a file the
    source is read as IMDB-WIKI and filtered as the paper does: face_score ≥ 1, no second face, a known gender, 0 to
    100 years. Otherwise it is read as UTKFace, whose file names tell the age. A photo that stands there several times,
    by its pixels or by its name in another folder, is taken once. Files left out are among the images' ``problems``
    with their reason. ``source`` may also be the folder of a finished cache.

    Raises `DataError` where no face is left, or the metadata cannot be read.
    """
    label = _Label(Path(source).expanduser(), None if metadata is None else Path(metadata).expanduser())
    kind = "faces"
    if metadata is not None:
        kind += "-" + hashlib.sha256(_read_metadata(Path(metadata).expanduser())).hexdigest()[:8]
    images = prepare(source, size, cache, kind=kind, label=label, progress=progress, identity=_photo)
    if not all(isinstance(value, list) and len(value) == 2 for value in images.labels):
        raise DataError(f"{images.folder} is an image cache without ages: prepare it again for the age benchmark")
    layout = images.labels[0][1]
    people = _people(images.names) if layout == "IMDB-WIKI" else None
    return Faces(images, np.array([age for age, _ in images.labels], np.float32), layout, people)


def _people(names: Sequence[str]) -> np.ndarray | None:
    """Who is shown (N,), numbered by the file names of IMDB-WIKI; None where one has another name."""
    matches = [PERSON.match(PurePosixPath(name).name) for name in names]
    if not all(matches):
        return None
    return np.unique([match[1] for match in matches if match], return_inverse=True)[1].astype(np.int64)


class _Label:
    """Age and layout of a file by its name; the metadata is looked for when the first file is asked for."""

    def __init__(self, source: Path, metadata: Path | None) -> None:
        self.source, self.metadata = source, metadata

    def __call__(self, name: str) -> list[int | str]:
        if self.table is None:
            return [utkface_age(name), "UTKFace"]
        parts = PurePosixPath(name).parts
        # full_path is "01/nm0000001_….jpg", under imdb_crop/ or whatever the folder is called
        outcome = self.table.get("/".join(parts[-2:]))
        if outcome is None:
            raise Rejected("metadata file" if parts[-1] in METADATA else "not in the metadata")
        if isinstance(outcome, str):
            raise Rejected(outcome)
        return [outcome, "IMDB-WIKI"]

    @cached_property
    def table(self) -> dict[str, int | str] | None:
        if self.metadata is not None:
            return imdb_wiki_ages(_read_metadata(self.metadata), str(self.metadata))
        metadata = read_first(self.source, lambda name: PurePosixPath(name).name in METADATA)
        return None if metadata is None else imdb_wiki_ages(metadata[1], f"{metadata[0]} in {self.source}")


def _photo(name: str) -> str:
    """What names a photo in either layout, whatever folder it is in, and aligned or not."""
    path = PurePosixPath(name)
    if UTKFACE_NAME.fullmatch(path.name):
        return path.name.lower().removesuffix(".jpg").removesuffix(".jpg.chip")
    return "/".join(path.parts[-2:])


def utkface_age(name: str) -> int:
    """The age in a UTKFace file name; `Rejected` for another name or an age above 116."""
    match = UTKFACE_NAME.fullmatch(PurePosixPath(name).name)
    if match is None:
        raise Rejected("file name is not [age]_[gender]_[race]_[date&time].jpg")
    age = int(match[1])
    if age > MAX_AGE["UTKFace"]:
        raise Rejected(f"age outside 0..{MAX_AGE['UTKFace']}")
    return age


def imdb_wiki_ages(data: bytes, described: str) -> dict[str, int | str]:
    """``full_path`` -> age in years, or the reason why the paper's filters drop the photo.

    The filters apply in this order, and the first that fails is the reason: face_score ≥ 1 (−∞ is no face), no second
    face (NaN), known gender, date of birth and year of the photo that make sense, 0 ≤ age ≤ 100. The age is in
    completed years on 1 July of the photo's year, as the data set's authors reckon.

    Raises `DataError` for a file that is not such metadata; ``described`` names it.
    """
    try:
        content = loadmat(io.BytesIO(data), squeeze_me=True, struct_as_record=True)
    except Exception as error:
        # the reader raises whatever it comes upon in damaged bytes
        raise DataError(f"{described} is not a MATLAB 5 file that can be read: {error}") from error
    struct = next((content[name] for name in METADATA.values() if name in content), None)
    if struct is None:
        raise DataError(f"{described} holds neither a struct 'imdb' nor 'wiki'")
    fields = ("full_path", "dob", "photo_taken", "gender", "face_score", "second_face_score")
    missing = [name for name in fields if name not in (struct.dtype.names or ())]
    if missing:
        raise DataError(f"{described} has no field {missing[0]!r}")
    columns = [np.atleast_1d(struct[name].item()) for name in fields]
    if len({len(column) for column in columns}) > 1:
        raise DataError(f"{described} has fields of different lengths")
    return {str(row[0]): _age(*(float(value) for value in row[1:])) for row in zip(*columns, strict=True)}


def _age(born: float, taken: float, gender: float, score: float, second: float) -> int | str:
    """Age in completed years, or the reason to drop the photo; ``born`` is a MATLAB date number, ``taken`` a year."""
    if not score >= 1:
        return "face_score below 1"
    if not np.isnan(second):
        return "second face"
    if np.isnan(gender):
        return "unknown gender"
    try:
        birth = datetime.date.fromordinal(int(born) - _MATLAB_DAYS)
        age = int(taken) - birth.year - ((birth.month, birth.day) > (7, 1))
    except (ValueError, OverflowError):
        return "no date of birth or year of the photo"
    return age if 0 <= age <= MAX_AGE["IMDB-WIKI"] else f"age outside 0..{MAX_AGE['IMDB-WIKI']}"


def _read_metadata(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"metadata {path} cannot be read: {error.strerror}") from error
