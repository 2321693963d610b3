"""Slurm from its Debian packages: a controller here, and nodes that are hosts on network namespaces. Needs root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from faults.hosts import Network, until

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "ip")
#: jobs of the partition ``urgent`` preempt those of ``usual``: these are told, have a while to end, and are queued anew
_CONFIGURATION = """
ClusterName=fierce-test
SlurmctldHost={name}({gateway})
MailProg=/bin/true
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait=30
SchedulerParameters=sched_interval=2,bf_interval=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{nodes}
PartitionName=usual Nodes=ALL Default=YES PriorityTier=1 GraceTime=300
PartitionName=urgent Nodes=ALL PriorityTier=10
"""


class Slurm:
    """A cluster of two nodes with two cores each. A context manager; `run` calls one of Slurm's commands."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._ended = ExitStack()
        self.nodes = [network.add(), network.add()]

    def __enter__(self) -> Slurm:
        with ExitStack() as stack:
            # its socket stands in a folder that others cannot write to
            self.folder = Path(tempfile.mkdtemp(prefix="fierce-slurm-", dir="/run"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.folder.chmod(0o755)
            for name in ("munge", "state"):
                (self.folder / name).mkdir(mode=0o755)
            nodes = "\n".join(
                f"NodeName=node{host.number} NodeAddr={host.address} CPUs=2 State=UNKNOWN" for host in self.nodes
            )
            configuration = self.folder / "slurm.conf"
            configuration.write_text(
                _CONFIGURATION.format(
                    name=socket.gethostname().partition(".")[0],
                    gateway=Network.GATEWAY,
                    folder=self.folder,
                    nodes=nodes,
                ),
                encoding="utf-8",
            )
            # a namespace's /sys has no control groups, and nothing here asks for them
            (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n", encoding="utf-8")
            self.environment = {**os.environ, "SLURM_CONF": str(configuration)}
            key = self.folder / "munge" / "key"
            key.touch(mode=0o600)
            key.write_bytes(os.urandom(1024))
            own = self.folder / "munge"
            files = [f"--{kind}-file={own / kind}" for kind in ("key", "pid", "log", "seed")]
            self._start(stack, "munged", "--foreground", f"--socket={own / 'socket'}", *files)
            until((own / "socket").exists, "munged is up", 60)
            self._start(stack, "slurmctld", "-D")
            for host in self.nodes:
                host.boot()
                (self.folder / f"spool-node{host.number}").mkdir()
                host.run(
                    ["slurmd", "-D", "-N", f"node{host.number}"], self.folder / f"{host.address}.log", self.environment
                )
            until(self._idle, "both nodes are idle", 120)
            self._ended = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.close()

    def _start(self, stack: ExitStack, *command: str) -> None:
        log = stack.enter_context((self.folder / f"{command[0]}.out").open("wb"))
        process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)

    def _idle(self) -> bool:
        command = ("sinfo", "--noheader", "--Node", "--states=idle", "--partition=usual")
        # the controller takes a moment to listen
        done = subprocess.run(command, env=self.environment, capture_output=True, encoding="utf-8", check=False)
        return done.stdout.count("\n") == len(self.nodes)

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """What a command prints; it fails where the command does."""
        done = subprocess.run(
            command, env={**self.environment, **(environment or {})}, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def state(self, job: str) -> str:
        """What Slurm says of a job: its state, and how often it was begun anew."""
        said = self.run("scontrol", "show", "job", job)
        words = dict(word.split("=", 1) for word in said.split() if "=" in word)
        return f"{words['JobState']} {words['Restarts']}"
