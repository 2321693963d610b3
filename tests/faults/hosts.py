"""Hosts on network namespaces: each with processes, a network and a memory of its own, all on one kernel.

They share the disk, as nodes share an NFS volume, and nothing else. This process is beside them in the same network at
`Network.GATEWAY`. Needs root.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
RAY_OPTIONS = ("--object-store-memory", "100000000", "--disable-usage-stats", "--block")
#: waits until the nodes of a cluster are those of these addresses
ALL_UP = """
import sys, time
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
while sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]) != sorted(sys.argv[2:]):
    time.sleep(0.1)
"""
START_SECONDS = 900.0

#: what a host is born with: a name, a place of its own for what Ray keeps, and a first process that waits
_BIRTH = """
hostname $1
mkdir -p /tmp/ray && mount -t tmpfs -o size=1g tmpfs /tmp/ray && mount -t tmpfs -o size=1g tmpfs /dev/shm
echo ready
exec sleep infinity
"""


def until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Wait for ``condition``; ``AssertionError`` naming ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _remove_left_over() -> None:
    """What a run that was killed left behind would be in the way."""
    # a namespace takes its links with it, but not at once
    if Path("/sys/class/net/fierce-gate").exists():
        # it may go by itself meanwhile
        subprocess.run(["ip", "link", "delete", "fierce-gate"], check=False, stderr=subprocess.DEVNULL)
    for namespace in (path.name for path in Path("/run/netns").glob("fierce-*")):
        listed = subprocess.run(["ip", "netns", "pids", namespace], check=True, capture_output=True, encoding="utf-8")
        for process in map(int, listed.stdout.split()):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _ip("netns", "delete", namespace)


class Host:
    """A machine: `boot` it, `run` processes on it, `cut` and `heal` its network, `kill` it with all that it runs."""

    def __init__(self, network: Network, number: int) -> None:
        self.network, self.number = network, number
        self.address = f"{Network.PREFIX}.{number}"
        self._namespace, self._port = f"fierce-host{number}", f"fport{number}"
        self._first: subprocess.Popen[str] | None = None
        _ip("netns", "add", self._namespace)
        _ip("-n", self._namespace, "link", "add", "eth0", "type", "veth", "peer", self._port, "netns", Network.SWITCH)
        _ip("-n", Network.SWITCH, "link", "set", self._port, "master", "switch", "up")
        _ip("-n", self._namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self._namespace, "link", "set", "eth0", "up")
        _ip("-n", self._namespace, "link", "set", "lo", "up")

    @property
    def is_up(self) -> bool:
        return self._first is not None

    def boot(self) -> None:
        apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--mount-proc"]
        command = ["ip", "netns", "exec", self._namespace, *apart, "bash", "-c", _BIRTH, "birth", self._namespace]
        self._first = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
        assert self._first.stdout is not None
        assert self._first.stdout.readline() == "ready\n"

    def run(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a process there; its output is appended to ``log``."""
        assert self._first is not None
        # unshare became `ip`'s process; the host's first process is its child
        inner = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text(encoding="utf-8").split()[0]
        inside = ["nsenter", "--target", inner, "--net", "--mount", "--pid", "--uts", "--ipc", "--"]
        with log.open("ab") as output:
            return subprocess.Popen(
                [*inside, *command], env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def has(self, process: int) -> bool:
        """Whether the process, by the id that it has here, runs there."""
        try:
            return Path(f"/proc/{process}/ns/net").stat().st_ino == Path(f"/run/netns/{self._namespace}").stat().st_ino
        except OSError:
            return False

    def kill(self) -> None:
        """As if its power were cut: not one of its processes runs on."""
        if self._first is not None:
            self._first.kill()
            self._first.wait()
            self._first = None

    def cut(self) -> None:
        """Unplug it from the network; its processes go on."""
        _ip("-n", Network.SWITCH, "link", "set", self._port, "down")

    def heal(self) -> None:
        _ip("-n", Network.SWITCH, "link", "set", self._port, "up")

    def remove(self) -> None:
        self.kill()
        _ip("netns", "delete", self._namespace)


class Network:
    """A switch, to which hosts and this process are plugged. A context manager."""

    PREFIX = "10.77.0"
    GATEWAY = f"{PREFIX}.254"
    #: its bridge stands in a namespace of its own, where no firewall of a container engine looks at what passes
    SWITCH = "fierce-switch"

    def __init__(self) -> None:
        self.hosts: list[Host] = []

    def __enter__(self) -> Network:
        _remove_left_over()
        _ip("netns", "add", self.SWITCH)
        _ip("-n", self.SWITCH, "link", "add", "switch", "type", "bridge")
        _ip("-n", self.SWITCH, "link", "set", "switch", "up")
        _ip("link", "add", "fierce-gate", "type", "veth", "peer", "gate", "netns", self.SWITCH)
        _ip("-n", self.SWITCH, "link", "set", "gate", "master", "switch", "up")
        _ip("address", "add", f"{self.GATEWAY}/24", "dev", "fierce-gate")
        _ip("link", "set", "fierce-gate", "up")
        return self

    def __exit__(self, *raised: object) -> None:
        for host in self.hosts:
            host.remove()
        # takes the other end of fierce-gate with it
        _ip("netns", "delete", self.SWITCH)

    def add(self) -> Host:
        host = Host(self, len(self.hosts) + 1)
        self.hosts.append(host)
        return host


class Cluster:
    """Ray on three hosts: a head that runs drivers and no trial, as the service's has, and two workers.

    A process of Ray's that ends is started again while its host is up, as a restart policy does.
    """

    def __init__(self, network: Network, environment: Mapping[str, str], logs: Path) -> None:
        self.head, *self.workers = (network.add() for _ in range(3))
        self.environment, self.logs = dict(environment), logs
        self.address = f"{self.head.address}:6379"

    def up(self) -> None:
        """Boot each host that is down and wait until Ray knows all three."""
        hosts = (self.head, *self.workers)
        for host in hosts:
            if not host.is_up:
                host.boot()
                head = ["--head", "--port", "6379", "--include-dashboard", "false", "--num-cpus", "0"]
                own = head if host is self.head else ["--address", self.address, "--num-cpus", "1"]
                ray = [str(Path(sys.executable).with_name("ray")), "start", "--node-ip-address", host.address]
                again = 'while :; do "$@"; sleep 1; done'
                command = ["bash", "-c", again, "again", *ray, *own, *RAY_OPTIONS]
                host.run(command, self.logs / f"{host.address}.log", self.environment)
        # the head may need a while before one can ask
        ask = ["-c", ALL_UP, self.address, *(host.address for host in hosts)]
        until(lambda: self.run(ask, self.logs / "up.log").wait(START_SECONDS) == 0, "all nodes are up")

    def run(self, arguments: Sequence[str], log: Path, host: Host | None = None) -> subprocess.Popen[bytes]:
        """``python`` with ``arguments`` on the head, or another host."""
        return (host or self.head).run([sys.executable, *arguments], log, self.environment)
