"""What listens while a study runs on one machine: nothing that another machine can reach."""

from __future__ import annotations

import ipaddress
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.file.spec import StudySpec
from study.home import Home
from tests.launches import Launch

#: the state of a listening socket in /proc/net/tcp
LISTENING = "0A"

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads the sockets of processes from Linux's /proc"),
]


def tree(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text(encoding="ascii").split():
            yield from tree(int(child))


def address(column: str) -> str:
    """Of ``0100007F:1F90``: 127.0.0.1; words of four bytes, each in the machine's order."""
    raw = bytes.fromhex(column.split(":")[0])
    ip = ipaddress.ip_address(b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4)))
    mapped = getattr(ip, "ipv4_mapped", None)
    return str(mapped or ip)


def listening(pids: list[int]) -> list[tuple[str, str]]:
    """(name of the process, address) of each socket on which one of these processes listens."""
    sockets = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]:
            columns = line.split()
            if columns[3] == LISTENING:
                sockets[f"socket:[{columns[9]}]"] = address(columns[1])
    seen = []
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            # a descriptor may be closed meanwhile
            target = str(descriptor.readlink()) if descriptor.is_symlink() else ""
            if target in sockets:
                seen.append((Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip(), sockets[target]))
    return seen


def test_addresses_are_read() -> None:
    assert address("0100007F:1F90") == "127.0.0.1"
    assert address("00000000000000000000000001000000:1F90") == "::1"
    assert address("0000000000000000FFFF00000100007F:1F90") == "127.0.0.1"
    assert address("00000000:1F90") == "0.0.0.0"


def test_a_study_on_one_machine_listens_on_the_loopback_alone(tmp_path: Path) -> None:
    home = Home.find(tmp_path)
    values = {"name": "s", "benchmark": {"name": "tiny:Tiny", "pause": 0.5}, "criteria": ["ce"], "seeds": 1}
    launch = Launch(home, StudySpec.model_validate(values | {"training": {"epochs": 200}}))
    try:
        # the trial's worker listens too, once its first epoch is kept
        launch.until(lambda: any((home.study("s") / "trials" / "0").rglob("checkpoint*")))
        sockets = listening(list(tree(launch.program.pid)))
    finally:
        os.kill(launch.program.pid, signal.SIGTERM)
        launch.program.ended(60)
    assert {name for name, _ in sockets} >= {"gcs_server", "raylet"}
    assert len(sockets) >= 6
    assert {where for _, where in sockets} == {"127.0.0.1"}, sockets
