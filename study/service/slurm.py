"""A study as a job of Slurm: one script, that goes on by itself after a preemption or the time limit.

On one node the job is ``fierce run`` with a Ray of its own, which listens on that node alone. On several, ``ray
symmetric-run`` brings up a cluster on the job's nodes, for which it needs whole ones, and runs the command on the
first. Either way the script passes Slurm's signal on to the command, which lets its trials save themselves and ends,
and then has Slurm queue the job anew.
"""

from __future__ import annotations

import math
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.addresses import absolute, sqlite_path
from study import PROGRAM
from study.errors import UserError
from study.file.machines import Asked, asked
from study.file.spec import StudySpec
from study.home import Home
from study.launch.cluster import OBJECT_STORE_BYTES
from study.servers.logins import require_no_secrets, servers, write_private

#: seconds before the time limit, and within a preemption's grace, that trials have to finish their epochs
SIGNAL_SECONDS = 300
#: seconds that the nodes of a job have to find each other
GATHER_SECONDS = 600
#: Ray's own port of a head
PORT = 6379

#: before the command is started: the signal may come at any moment
_BEGIN = """\
stopped=
job=
stop() {{ stopped=1; [ -z "$job" ] || {stop}; }}
trap stop TERM
"""
#: waits for what was begun to end, and how it ended
_WAIT = """\
job=$!
[ -z "$stopped" ] || stop
# a signal ends the waiting, not what is waited for
while kill -0 "$job" 2>/dev/null; do wait "$job"; done
wait "$job"
code=$?"""
#: on several nodes Ray's parts may end badly once the study has ended: what counts is how that did
_ENDED = 'code=$(cat "$driver-ended" 2>/dev/null || echo "$code")'
#: asks Slurm to queue the job anew where it was told to stop and nobody has ended it otherwise
_END = """\
state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
if [ -n "$stopped" ] && [ "$code" -ne 0 ] && [[ $state = RUNNING || $state = SIGNALING ]]; then
  scontrol requeue "$SLURM_JOB_ID" && sleep 600
fi
exit "$code"
"""


@dataclass(frozen=True)
class Job:
    """A checked study, and the script of its job; ``folder`` is where both are put."""

    spec: StudySpec
    folder: Path
    script: str

    @property
    def name(self) -> str:
        """What the job is called in Slurm."""
        return _name(self.spec)

    def write(self) -> Path:
        """Put the script, the study and the cluster's token into the folder; the script's path."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_private(self.folder / "study.yaml", self.spec.to_yaml())
            if not (self.folder / "token").is_file():
                write_private(self.folder / "token", secrets.token_hex(32))
            path = self.folder / "job.sh"
            write_private(path, self.script)
        except OSError as error:
            raise UserError(f"the study home's folder {self.folder} cannot be written to ({error.strerror})") from None
        return path

    def submit(self) -> str:
        """Queue the job; its id. `UserError` where the study is queued already, or Slurm refuses it."""
        if not shutil.which("sbatch"):
            raise UserError("--slurm: there is no command sbatch here; call it where jobs are submitted")
        queued = _slurm("squeue", "--me", "--noheader", f"--name={self.name}", "--format=%i")
        if queued:
            raise UserError(
                f"study {self.spec.name!r} is job {queued.splitlines()[0]} of Slurm already; end it first by: scancel "
                f"{queued.splitlines()[0]}"
            )
        return _slurm("sbatch", "--parsable", str(self.write())).partition(";")[0]


def prepare(spec: StudySpec, home: Home) -> Job:
    """The job that trains ``spec``, checked; it works in the present folder. `UserError` or `DataError`."""
    from study.launch.preflight import check_data
    from study.servers import versions

    versions.require()
    require_no_secrets(spec)
    spec = spec.model_copy(update={key: absolute(uri) for key, uri in servers(spec).items()})
    spec = spec.model_copy(update={"storage": home.storage(spec).address})
    nodes = asked(spec)
    _require_lines(home.root, Path.cwd())
    database = sqlite_path(home.tracking_uri(spec))
    if nodes.nodes > 1 and database:
        raise UserError(
            f"tracking_uri: {database} is a file, which {nodes.nodes} nodes cannot write to; name an MLflow server by "
            "tracking_uri or MLFLOW_TRACKING_URI, or set machines.nodes to 1"
        )
    check_data(spec)
    folder = home.root / "slurm" / spec.name
    return Job(spec, folder, "\n".join(_script(spec, nodes, home, folder)))


def _script(spec: StudySpec, nodes: Asked, home: Home, folder: Path) -> Iterator[str]:
    yield "#!/bin/bash"
    yield from (f"#SBATCH --{option}" for option in _options(spec, nodes, folder))
    yield ""
    yield f"# fierce-study: study {spec.name}; written by fierce submit --slurm"
    yield "set -u"
    yield f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    yield "unset RAY_ADDRESS RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH RAY_AUTH_MODE"
    # a study that was begun goes on where it stopped, and its failed trials are tried again
    run = [PROGRAM, "run", str(folder / "study.yaml"), "--name", spec.name, "--home", str(home.root), "--retry-failed"]
    command = shlex.join(run)
    if nodes.nodes == 1:
        # other jobs may be on the node: Ray goes by what this one was given
        yield f"export RAY_OVERRIDE_RESOURCES='{{\"CPU\": {nodes.cpus}}}'"
        yield ""
        yield _BEGIN.format(stop='kill -TERM "$job"')
        yield f"{command} --address local &"
        yield _WAIT
        yield _END
        return
    yield f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={shlex.quote(str(folder / 'token'))}"
    yield f"export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT={GATHER_SECONDS} RAY_USAGE_STATS_ENABLED=0"
    yield "# the address by which Slurm reaches this node, the job's first"
    yield 'head=$(scontrol show node "$SLURMD_NODENAME" | sed -n "s/.*NodeAddr=\\([^ ]*\\).*/\\1/p")'
    yield f"driver={shlex.quote(str(folder))}/driver-$SLURM_JOB_ID"
    yield 'rm -f "$driver" "$driver-ended"'
    yield ""
    # no command yet while the nodes find each other: then it is the gathering that ends
    yield _BEGIN.format(stop='kill -TERM "$(cat "$driver" 2>/dev/null || echo "$job")"')
    yield f"srun --kill-on-bad-exit=1 --wait=60 {shlex.join(_shares(nodes))} \\"
    yield f'  ray symmetric-run --address "$head:{PORT}" --min-nodes {nodes.nodes} --num-cpus {nodes.cpus} \\'
    yield f"  --num-gpus {nodes.gpus} --object-store-memory {OBJECT_STORE_BYTES} -- \\"
    ending = 'wait $!; code=$?; echo "$code" > "$0-ended"; exit "$code"'
    yield f'  bash -c \'"$@" & echo $! > "$0"; {ending}\' "$driver" {command} --address "$head:{PORT}" &'
    yield _WAIT
    yield _ENDED
    yield _END


def _shares(nodes: Asked) -> list[str]:
    """What each node has, in options that ``sbatch`` and ``srun`` share."""
    shares = [f"--nodes={nodes.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={nodes.cpus}"]
    return [*shares, f"--gpus-per-node={nodes.gpus}"] if nodes.gpus else shares


def _options(spec: StudySpec, nodes: Asked, folder: Path) -> Iterator[str]:
    yield f"job-name={_name(spec)}"
    yield from (share.removeprefix("--") for share in _shares(nodes))
    if nodes.nodes > 1:
        # symmetric-run takes a node that runs another Ray for its own, and stops all of them at its end
        yield "exclusive"
    if nodes.memory is not None:
        yield f"mem={nodes.memory}G"
    if nodes.hours is not None:
        yield f"time={math.ceil(nodes.hours * 60)}"
    yield "requeue"
    yield "open-mode=append"
    yield f"signal=B:TERM@{SIGNAL_SECONDS}"
    yield f"output={folder}/%j.log"
    yield f"chdir={Path.cwd()}"
    yield "export=ALL"
    for option, value in spec.machines.slurm.items():
        yield f"{option}={value}"


def _name(spec: StudySpec) -> str:
    return f"fierce-{spec.name}"


def _require_lines(*paths: Path) -> None:
    """A line of options ends at a space, and Slurm reads '%' and backslashes in a log's path."""
    for path in paths:
        if bad := next((letter for letter in str(path) if letter in " \t\n%\\'\""), None):
            raise UserError(f"--slurm: the path {path} has {bad!r} in it, which Slurm reads otherwise; choose another")


def _slurm(*command: str) -> str:
    """What a command of Slurm prints; `UserError` with what it said where it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"--slurm: {command[0]} does not answer within 120 s; see whether Slurm is up") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[:300] or f"exit code {done.returncode}"
        raise UserError(f"--slurm: {command[0]} refuses the job: {said}")
    return done.stdout.strip()
