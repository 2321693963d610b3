"""The image cache against PIL, on sources that are whole, damaged, hostile or interrupted."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.benchmarks import DataError
from trainables.benchmarks.decoding import Rejected, decode
from trainables.benchmarks.duplicates import CONFLICTING, REPEATED, Target
from trainables.benchmarks.images import open_cache, prepare
from trainables.benchmarks.sources import entries, read_first


def jpeg(seed: int, width: int = 16, height: int = 16) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


GOOD = {f"set/{letter}/{number}.jpg": jpeg(10 * ord(letter) + number) for letter in "ab" for number in range(3)}
BAD = {
    "set/a/broken.jpg": (jpeg(1, 64, 64)[:900], "truncated or damaged image"),
    "set/a/notes.txt": (b"not an image at all", "not an image"),
    "set/b/empty.jpg": (b"", "empty file"),
}
FILES = GOOD | {name: data for name, (data, _) in BAD.items()}


def as_folder(root: Path) -> Path:
    for name, data in FILES.items():
        path = root / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root / "folder"


def as_zip(root: Path) -> Path:
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        archive.mkdir("set")
        for name, data in FILES.items():
            archive.writestr(name, data)
    return root / "images.zip"


def add_to_tar(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def as_tar(root: Path, suffix: str = "tar") -> Path:
    path = root / f"images.{suffix}"
    with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as archive:
        for name, data in FILES.items():
            add_to_tar(archive, name, data)
    return path


def as_tar_gz(root: Path) -> Path:
    return as_tar(root, "tar.gz")


@pytest.mark.parametrize("make", [as_folder, as_zip, as_tar, as_tar_gz])
def test_every_kind_of_source_gives_the_same_images(make: Callable[[Path], Path], tmp_path: Path) -> None:
    counts: list[tuple[int, int | None]] = []
    source = make(tmp_path)
    images = prepare(
        source,
        16,
        tmp_path / "cache",
        label=lambda name: name.split("/")[-2],
        progress=lambda done, total: counts.append((done, total)),
    )
    assert images.pixels.shape == (6, 3, 16, 16)
    assert images.pixels.dtype == torch.uint8
    for name, label, pixels in zip(images.names, images.labels, images.pixels, strict=True):
        assert label == name.split("/")[1]
        np.testing.assert_array_equal(pixels.permute(1, 2, 0), np.asarray(Image.open(io.BytesIO(GOOD[name]))))
    assert {problem.name: problem.reason for problem in images.problems} == {n: why for n, (_, why) in BAD.items()}
    assert counts[-1][0] == 9
    assert counts[-1][1] in (9, None)
    again = prepare(source, 16, tmp_path / "cache", label=lambda name: pytest.fail("decoded twice"))
    assert again.sha256 == images.sha256
    assert again.names == images.names


def test_a_list_of_bytes_and_paths(tmp_path: Path) -> None:
    (tmp_path / "second.jpg").write_bytes(jpeg(2))
    images = prepare([("first", jpeg(1)), ("second", tmp_path / "second.jpg")], 16, tmp_path / "cache")
    assert images.names == ("first", "second")
    np.testing.assert_array_equal(images.pixels[1], decode(jpeg(2), 16))
    other = prepare([("first", jpeg(3)), ("second", tmp_path / "second.jpg")], 16, tmp_path / "cache")
    assert other.sha256 != images.sha256


def test_crop_takes_the_centre_and_stretch_takes_all() -> None:
    stripes = np.zeros((8, 24, 3), np.uint8)
    stripes[:, :8, 0], stripes[:, 8:16, 1], stripes[:, 16:, 2] = 255, 255, 255
    file = io.BytesIO()
    Image.fromarray(stripes).save(file, "PNG")
    cropped = decode(file.getvalue(), 8, "crop")
    assert cropped[1].min() == 255
    assert cropped[[0, 2]].max() == 0
    stretched = decode(file.getvalue(), 24, "stretch")
    assert (stretched[0, :, 0] == 255).all()
    assert (stretched[2, :, -1] == 255).all()


def test_nothing_leads_outside(tmp_path: Path) -> None:
    outside = tmp_path / "secret.jpg"
    outside.write_bytes(jpeg(5))
    hostile = ["../evil.jpg", "/tmp/evil.jpg", "a/../../evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"]
    with tarfile.open(tmp_path / "hostile.tar", "w") as archive:
        for name in [*hostile, "good.jpg"]:
            add_to_tar(archive, name, jpeg(1))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"special-{kind.decode()}.jpg")
            member.type, member.linkname = kind, str(outside)
            archive.addfile(member)
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as packed:
        for name in [*hostile, "good.jpg"]:
            packed.writestr(name, jpeg(1))
        link = zipfile.ZipInfo("special-link.jpg")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, str(outside))
    folder = tmp_path / "hostile"
    (folder / "sub").mkdir(parents=True)
    (folder / "good.jpg").write_bytes(jpeg(1))
    (folder / "special.jpg").symlink_to(outside)
    (folder / "special-folder").symlink_to(tmp_path)
    os.mkfifo(folder / "special-pipe.jpg")
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    for source, expected in ((folder, 3), (tmp_path / "hostile.zip", 6), (tmp_path / "hostile.tar", 9)):
        images = prepare(source, 16, tmp_path / "cache")
        assert images.names == ("good.jpg",)
        assert len(images.problems) == expected
        assert all("outside" in problem.reason or problem.name.startswith("special") for problem in images.problems), (
            images.problems
        )
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
    assert not Path("/tmp/evil.jpg").exists()


def test_a_second_file_of_one_name_is_reported(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        add_to_tar(archive, "a.jpg", jpeg(1))
        add_to_tar(archive, "a.jpg", jpeg(2))
    images = prepare(tmp_path / "twice.tar", 16, tmp_path / "cache")
    np.testing.assert_array_equal(images.pixels[0], decode(jpeg(1), 16))
    assert [(p.name, p.reason) for p in images.problems] == [("a.jpg#2", "another file of the same name")]


def test_a_rejected_file_is_never_read(tmp_path: Path) -> None:
    def label(name: str) -> str:
        if "/b/" in name:
            raise Rejected("not wanted")
        return name

    images = prepare(as_zip(tmp_path), 16, tmp_path / "cache", label=label)
    assert len(images.names) == 3
    assert images.reasons()["not wanted"] == 4


def test_a_damaged_member_of_a_zip_is_left_out(tmp_path: Path) -> None:
    path = as_zip(tmp_path)
    content = bytearray(path.read_bytes())
    start = content.index(GOOD["set/a/1.jpg"])
    content[start + 100] ^= 0xFF
    path.write_bytes(content)
    images = prepare(path, 16, tmp_path / "cache")
    assert "set/a/1.jpg" not in images.names
    assert len(images.names) == 5
    assert images.reasons()["damaged in the archive"] == 1


@pytest.mark.parametrize("make", [as_zip, as_tar, as_tar_gz])
def test_a_truncated_archive_is_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"{path.name}.*truncated"):
        prepare(path, 16, tmp_path / "cache")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist: give a folder, a tar or a zip"),
        (b"nothing of the kind", "neither a folder nor a tar or zip"),
        ({"a.txt": b"text", "b.txt": b"more"}, "holds no usable image: 2 × not an image"),
        ({}, "holds no usable image"),
    ],
)
def test_a_source_without_images_is_one_sentence(
    content: bytes | dict[str, bytes] | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "source"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
        for name, data in content.items():
            (path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        prepare(path, 16, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the folder's place", encoding="utf-8")
    with pytest.raises(DataError, match=r"image cache .* cannot be written"):
        prepare(as_zip(tmp_path), 16, tmp_path / "cache")


def test_a_damaged_cache_is_refused_and_made_anew(tmp_path: Path) -> None:
    source = as_zip(tmp_path)
    images = prepare(source, 16, tmp_path / "cache")
    pixels = images.folder / "pixels.u8"
    content = bytearray(pixels.read_bytes())
    content[77] ^= 1
    pixels.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        open_cache(images.folder)
    assert prepare(source, 16, tmp_path / "cache").sha256 == images.sha256
    assert open_cache(images.folder).sha256 == images.sha256
    # a finished cache is a source too, at its own size
    assert prepare(images.folder, 16).sha256 == images.sha256
    with pytest.raises(DataError, match="images of 16 pixels, not 32"):
        prepare(images.folder, 32)


def test_a_changed_source_is_decoded_again(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    first = prepare(folder, 16, tmp_path / "cache")
    (folder / "set/a/0.jpg").write_bytes(jpeg(99))
    assert prepare(folder, 16, tmp_path / "cache").sha256 != first.sha256


KILLED = """
import os, signal, sys
from trainables.benchmarks import images
images._CHUNK = 2
kill = lambda done, total: done >= 4 and os.kill(os.getpid(), signal.SIGKILL)
images.prepare(sys.argv[1], 16, sys.argv[2], progress=kill)
"""


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_preparation_goes_on_where_it_stopped(torn: bool, tmp_path: Path) -> None:
    source = as_tar(tmp_path)
    run = subprocess.run([sys.executable, "-c", KILLED, source, tmp_path / "cache"], timeout=120)
    assert run.returncode == -signal.SIGKILL
    (partial,) = (tmp_path / "cache").glob("*.partial")
    lines = (partial / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    if torn:
        # a power cut may leave half a line, and pixels that no line stands for
        (partial / "log.jsonl").write_text("\n".join(lines) + '\n["set/b/1.j', encoding="utf-8")
        with (partial / "pixels.u8").open("ab") as pixels:
            pixels.write(b"\xff" * 1000)
    asked: list[str] = []
    resumed = prepare(source, 16, tmp_path / "cache", label=asked.append)
    assert set(asked) == set(FILES) - {json.loads(line)[0] for line in lines}
    assert resumed.sha256 == prepare(source, 16, tmp_path / "other").sha256
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_entries_are_found_by_name(tmp_path: Path) -> None:
    for make in (as_folder, as_zip, as_tar):
        assert read_first(make(tmp_path), lambda name: name.endswith("notes.txt")) == (
            "set/a/notes.txt",
            b"not an image at all",
        )
    assert read_first(as_tar(tmp_path), lambda name: False) is None
    assert {entry.name for entry in entries(as_tar(tmp_path))} == set(FILES)


def test_what_systems_leave_behind_is_left_out(tmp_path: Path) -> None:
    left = [
        "set/a/.ipynb_checkpoints/0-checkpoint.jpg",
        "__MACOSX/set/a/._0.jpg",
        "set/a/.DS_Store",
        "set/a/Thumbs.db",
        "set/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
        "set/.hidden/0.jpg",
        "set/a/._0.jpg",
        "$RECYCLE.BIN/0.jpg",
    ]
    files = {"./set/a/0.jpg": jpeg(0)} | {name: jpeg(i + 1) for i, name in enumerate(left)}
    for name, data in files.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with tarfile.open(tmp_path / "images.tar", "w") as tar, zipfile.ZipFile(tmp_path / "images.zip", "w") as packed:
        for name, data in files.items():
            add_to_tar(tar, name, data)
            packed.writestr(name, data)
    for source in (tmp_path / "folder", tmp_path / "images.tar", tmp_path / "images.zip"):
        images = prepare(source, 16, tmp_path / "cache", label=lambda name: name)
        assert len(images.names) == 1
        assert {problem.name for problem in images.problems} == set(left)
        assert images.reasons() == {"hidden or system file": len(left)}


def test_a_hidden_source_is_the_users_own(tmp_path: Path) -> None:
    assert len(prepare(as_folder(tmp_path / ".data"), 16, tmp_path / "cache").names) == len(GOOD)


def test_names_with_the_separator_of_windows(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("set\\a\\0.jpg", jpeg(0))
    assert prepare(tmp_path / "images.zip", 16, tmp_path / "cache").names == ("set/a/0.jpg",)


@pytest.mark.parametrize("make", [as_zip, as_tar, as_tar_gz])
def test_an_archive_in_a_folder_is_read(make: Callable[[Path], Path], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = make(tmp_path / "folder")
    (tmp_path / "folder" / "readme.txt").write_text("see the archive", encoding="utf-8")
    (tmp_path / "folder" / "cut.zip").write_bytes(b"PK and no more")
    images = prepare(tmp_path / "folder", 16, tmp_path / "cache")
    assert images.names == tuple(f"{path.name}/{name}" for name in GOOD)
    assert ("cut.zip", "archive that is not read here: unpack it") in [(p.name, p.reason) for p in images.problems]


def test_an_archive_beside_images_or_in_an_archive_is_listed(tmp_path: Path) -> None:
    as_zip(tmp_path)
    content = (tmp_path / "images.zip").read_bytes()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "copy.zip").write_bytes(content)
    (tmp_path / "folder" / "one.jpg").write_bytes(jpeg(1))
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.writestr("copy.zip", content)
        outer.writestr("copy.7z", b"7z")
        outer.writestr("one.jpg", jpeg(1))
    for source, names in ((tmp_path / "folder", ["copy.zip"]), (tmp_path / "outer.zip", ["copy.zip", "copy.7z"])):
        images = prepare(source, 16, tmp_path / "cache")
        assert images.names == ("one.jpg",)
        assert [p.name for p in images.problems] == names
        assert set(images.reasons()) == {"archive that is not read here: unpack it"}


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(jpeg(seed))).save(file, "PNG")
    return file.getvalue()


#: (name, content, why it is left out), the label being the folder and a name with "test" being for testing
REPEATS: list[tuple[str, bytes, str | None]] = [
    ("a/1.jpg", jpeg(1), None),
    ("a/again.jpg", jpeg(1), REPEATED),
    # the same pixels in another format
    ("a/again.png", png(1), REPEATED),
    ("a/2.jpg", jpeg(2), REPEATED),
    ("a/2-test.jpg", jpeg(2), None),
    ("a/2-test-again.jpg", jpeg(2), REPEATED),
    ("a/3.jpg", jpeg(3), CONFLICTING),
    ("b/3.jpg", jpeg(3), CONFLICTING),
    ("b/3-test.jpg", jpeg(3), CONFLICTING),
    ("b/4.jpg", jpeg(4), None),
    ("b/broken.jpg", b"", "empty file"),
]


def folder_and_part(name: str) -> list[object]:
    return [name.split("/")[0], "test" in name]


def by_folder(label: list[object]) -> Target:
    return Target(label[0], bool(label[1]))


def test_the_same_image_is_taken_once(tmp_path: Path) -> None:
    source = [(name, data) for name, data, _ in REPEATS]
    images = prepare(source, 16, tmp_path / "cache", label=folder_and_part, target=by_folder)
    kept = [(name, data) for name, data, reason in REPEATS if reason is None]
    assert images.names == tuple(name for name, _ in kept)
    assert images.labels == tuple(folder_and_part(name) for name in images.names)
    for (_, data), pixels in zip(kept, images.pixels, strict=True):
        np.testing.assert_array_equal(pixels, decode(data, 16))
    assert [(p.name, p.reason) for p in images.problems] == [(n, why) for n, _, why in REPEATS if why is not None]
    # the checksum is the kept images'
    assert open_cache(images.folder).sha256 == images.sha256


def test_files_of_one_identity_are_one_image(tmp_path: Path) -> None:
    source = [("x/1", jpeg(1)), ("y/1", jpeg(2)), ("y/2", jpeg(3))]
    images = prepare(source, 16, tmp_path / "cache", identity=lambda name: name[-1])
    assert images.names == ("x/1", "y/2")
    assert images.reasons() == {REPEATED: 1}


def test_a_source_of_contradictions_only_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no usable image: 2 × the same image with different labels"):
        prepare([("a/1", jpeg(1)), ("b/1", jpeg(1))], 16, tmp_path / "cache", label=lambda name: name[0])


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from trainables.benchmarks import images
target, place = sys.argv[3].split(":")
kept = getattr(Path, place)
def killed(self, *arguments, **options):
    if self.name.startswith(target):
        os.kill(os.getpid(), signal.SIGKILL)
    return kept(self, *arguments, **options)
setattr(Path, place, killed)
images.prepare(sys.argv[1], 16, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "at", ["pixels.u8.kept:replace", "log.jsonl:unlink", "images.json:write_text", "images-:rename"]
)
def test_a_preparation_killed_while_it_drops_repeats_ends_the_same(at: str, tmp_path: Path) -> None:
    source = tmp_path / "images.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for name, data, _ in REPEATS:
            archive.writestr(name, data)
    run = subprocess.run([sys.executable, "-c", KILLED_AT, source, tmp_path / "cache", at], timeout=120)
    assert run.returncode == -signal.SIGKILL
    resumed, whole = prepare(source, 16, tmp_path / "cache"), prepare(source, 16, tmp_path / "other")
    assert (resumed.sha256, resumed.names, resumed.problems) == (whole.sha256, whole.names, whole.problems)
    assert len(whole.names) == 4
