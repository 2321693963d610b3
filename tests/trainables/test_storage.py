"""Files on a disk and in a real S3-compatible server: the same behaviour, and locks that outlive nobody."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainables import remote_data, storage
from trainables.benchmarks import DataError
from trainables.benchmarks.hyperspectral import HyperspectralOptions
from trainables.storage import Folder, Held


@pytest.fixture(params=["disk", pytest.param("object store", marks=pytest.mark.server)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return Folder(str(tmp_path / "studies"))
    bucket = request.getfixturevalue("bucket")
    return Folder(f"s3://{bucket}/{tmp_path.name}")


def test_files(folder: Folder) -> None:
    assert (folder.names(), folder.read("none"), folder.exists("none")) == ([], None, False)
    folder.write("a", b"1")
    (folder / "below").write("deep/b", b"2")
    folder.write("a", b"3")
    assert folder.names() == ["a", "below"]
    assert ((folder / "below") / "deep").names() == ["b"]
    assert (folder.read("a"), folder.read("below/deep/b")) == (b"3", b"2")
    assert (folder.exists("a"), folder.exists("below")) == (True, False)
    with folder.reading("a") as file:
        assert file.seek(1) == 1
        assert file.read() == b""
    assert pickle.loads(pickle.dumps(folder)).read("a") == b"3"
    folder.remove("a")
    folder.remove("a")
    assert folder.names() == ["below"]
    with pytest.raises(FileNotFoundError), folder.reading("a"):
        pass


def test_a_folder_is_moved_whole(folder: Folder) -> None:
    here, there = folder / "here", folder / "there"
    here.write("a", b"1")
    here.write("deep/b", b"2")
    here.move(there)
    assert (there.read("a"), there.read("deep/b"), here.exists("a"), here.exists("deep/b")) == (
        b"1",
        b"2",
        False,
        False,
    )
    # what was moved already is not there any more
    here.move(there)
    assert there.names() == ["a", "deep"]


def test_a_write_that_fails_leaves_what_was_there(folder: Folder) -> None:
    folder.write("a", b"whole")
    with pytest.raises(RuntimeError), folder.writing("a") as file:
        file.write(b"ha")
        raise RuntimeError
    assert (folder.read("a"), folder.names()) == (b"whole", ["a"])


def test_of_several_who_write_a_file_at_once_one_s_is_there_whole(folder: Folder) -> None:
    """As trials that begin together do, which say by it on which data they train."""
    contents = [bytes([writer]) * 1000 for writer in range(8)]
    with ThreadPoolExecutor(len(contents)) as writers:
        list(writers.map(lambda content: [folder.write("a", content) for _ in range(10)], contents))
    assert folder.read("a") in contents
    assert folder.names() == ["a"]


def test_a_lock_is_held_by_one(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "RENEW_SECONDS", 1.0)
    with folder.lock("lock", 0), pytest.raises(Held), folder.lock("lock", 0):
        pass
    assert not (folder / "nowhere").is_locked("lock")
    with folder.lock("lock", 0):
        assert folder.exists("lock") and folder.is_locked("lock")


def test_a_lock_in_a_store_whose_holder_died_is_taken_over(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LEASE_SECONDS", 2.0)
    folder = Folder(f"s3://{bucket}/died")
    # what a killed holder leaves behind
    folder.write("lock", b'{"owner": "gone", "turn": 3}')
    monkeypatch.setattr(storage, "RENEW_SECONDS", 1.0)
    assert not folder.is_locked("lock")
    with folder.lock("lock", 0):
        assert folder.exists("lock")
    assert not folder.exists("lock")


def test_a_holder_that_was_taken_over_learns_of_it(bucket: str) -> None:
    folder = Folder(f"s3://{bucket}/lost")
    with pytest.raises(Held, match="was taken over"), folder.lock("lock", 0):
        folder.write("lock", b'{"owner": "another", "turn": 1}')
    assert folder.read("lock") == b'{"owner": "another", "turn": 1}'


def test_an_address_keeps_its_query() -> None:
    folder = Folder("s3://bucket/prefix?endpoint_override=http://127.0.0.1:9000") / "name"
    assert folder.address == "s3://bucket/prefix/name?endpoint_override=http://127.0.0.1:9000"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"whole")
    # where the file would be written aside, a device that is always full
    (tmp_path / ".a.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=os.strerror(28)), folder.writing("a") as file:
        file.write(bytes(2**20))
    assert folder.read("a") == b"whole"


def test_remote_data_is_fetched_once(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIERCE_CACHE", str(tmp_path))
    Folder(f"s3://{bucket}/data").write("scene.npz", b"spectra")
    options = {"data": f"s3://{bucket}/data/scene.npz", "pixels": 10}
    copy = remote_data.fetched(HyperspectralOptions, options)
    path = Path(copy["data"])
    assert (path.name, path.read_bytes(), path.is_relative_to(tmp_path)) == ("scene.npz", b"spectra", True)
    assert copy["pixels"] == 10
    path.write_bytes(b"kept")
    assert Path(remote_data.fetched(HyperspectralOptions, options)["data"]).read_bytes() == b"kept"
    Folder(f"s3://{bucket}/data").write("scene.npz", b"other spectra")
    assert Path(remote_data.fetched(HyperspectralOptions, options)["data"]).read_bytes() == b"other spectra"
    with pytest.raises(DataError, match=r"s3://studies/data/none\.npz cannot be fetched"):
        remote_data.fetched(HyperspectralOptions, {"data": f"s3://{bucket}/data/none.npz"})
