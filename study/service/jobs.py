"""A study as a job of a Ray cluster: packed and submitted, followed through a connection that may break, stopped.

The cluster is reached by Ray's Jobs API alone, HTTP on the port of the head's dashboard. The job runs ``fierce run``
in a copy of the working directory, and its log, which can be read again from the start at any time, is what its
followers see.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from analysis.addresses import absolute, has_secret, masked, without_password
from study import PROGRAM
from study.errors import UserError
from study.file.document import Document, read
from study.file.paths import is_address, on_disk
from study.file.spec import READY_MADE, StudySpec, ready_made
from study.home import Home
from study.servers.logins import require_no_secrets, without_passwords
from study.servers.reach import DEADLINE, use_token, within

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

log = logging.getLogger(__name__)

#: environment variable: the cluster where ``--address`` is not given; Ray's own
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
#: a job's metadata: the study's name, and its file without the addresses of servers
STUDY, STUDY_FILE = "fierce.study", "fierce.study_file"
#: Ray's dashboard takes no larger request
MAX_BYTES = 100 * 2**20
#: seconds within which the cluster has to answer a request
TIMEOUT = 30.0
#: seconds within which its port takes a connection
LISTEN_SECONDS = 3.0
#: seconds between two attempts to reach a cluster that went away, and how long they are made
RETRY_SECONDS, PATIENCE_SECONDS = 1.0, 600.0
#: seconds without a line after which the log is opened anew: a dead connection is as silent as a long epoch
SILENCE_SECONDS = 60.0
#: exit code of a shell that does not find the command
COMMAND_NOT_FOUND = 127
#: seconds that a stopped job has for its trials to finish their epochs and save themselves
STOP_SECONDS = 300


class Unreachable(UserError):
    """The cluster does not answer, for now at least."""


@dataclass(frozen=True)
class Submission:
    """A checked study, the command that runs it in the cluster, and the working directory that goes with it."""

    spec: StudySpec
    command: Sequence[str]
    folder: Path
    #: patterns of what stays here, beside what ``.gitignore`` and ``.rayignore`` name
    excludes: Sequence[str]


def prepare(source: str, overrides: Sequence[str], name: str | None, folder: Path) -> Submission:
    """The study file ``source`` (or ready-made study), checked as the job will see it: from within ``folder``.

    Data that is named by a relative path has to be a file in ``folder`` that is not ignored; an absolute path that does
    not exist here, and an address such as ``s3://…``, are the cluster's to find. Raises `UserError` or `DataError`.
    """
    from study.launch.preflight import check_data
    from trainables.benchmarks import find

    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"--working-dir {folder}: no such folder")
    path, argument = Path(source).expanduser().resolve(), source
    if source in ready_made():
        path = READY_MADE / f"{source}.yaml"
    elif path.is_file():
        if not path.is_relative_to(folder):
            raise UserError(
                f"{source}: lies outside the working directory {folder}, which is all that the cluster gets; "
                "give the folder that holds it as --working-dir"
            )
        argument = str(path.relative_to(folder))
    # a benchmark of one's own, package.module:name, is imported from there in the cluster
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    with contextlib.chdir(folder):
        spec = StudySpec.load(argument, overrides, name)
        given = _benchmark_options(read(path), overrides)
    require_no_secrets(spec)
    _require_public(overrides)
    _require_lasting(spec)
    home = Home.find().root
    excludes = [f"/{home.relative_to(folder)}"] if home.is_relative_to(folder) else []
    packed = _packed(folder, excludes)
    options = find(spec.benchmark.name).Options
    written = on_disk(options, given)
    for key, paths in on_disk(options, {key: spec.benchmark.options[key] for key in written}).items():
        for value, resolved in zip(written[key], paths, strict=True):
            if value != resolved and Path(resolved).exists():
                _require_packed(f"benchmark.{key}: {value}", Path(resolved), folder, packed)
    _require_small(folder, packed)
    # addresses, and absolute paths that are not on this machine, can only be checked in the cluster
    elsewhere = [path for paths in written.values() for path in map(Path, paths) if path.is_absolute()]
    if not _addresses(options, spec) and all(path.exists() for path in elsewhere):
        check_data(spec)
    settings = [word for assignment in overrides for word in ("--set", assignment)]
    # submitting again is the only way to resume a job's study, so it tries failed trials again
    fixed = ("--name", spec.name, "--address", "auto", "--events", "--import-data", "--retry-failed")
    return Submission(spec, (PROGRAM, "run", argument, *settings, *fixed), folder, excludes)


def _require_public(overrides: Sequence[str]) -> None:
    """A job's command is read by everyone who reaches the cluster."""
    for assignment in overrides:
        if has_secret(assignment.partition("=")[2]):
            raise UserError(
                f"--set {masked(assignment)} holds a password, and would stand in the job's command for all to read; "
                "name the server by the environment of the cluster"
            )


def _require_lasting(spec: StudySpec) -> None:
    """A job's working directory is removed some time after it has ended."""
    named = {"tracking_uri": spec.tracking_uri, "optuna_uri": spec.optuna_uri, "storage": spec.storage}
    for key, address in named.items():
        if address and absolute(address) != absolute(address, Path("/")):
            raise UserError(
                f"{key}: {without_password(address)} is relative to the job's working directory in the cluster, which "
                "does not last; give an absolute path on the cluster's shared storage, or a server"
            )


def _benchmark_options(document: Document, overrides: Sequence[str]) -> Mapping[str, Any]:
    """The benchmark's options as they were written."""
    for assignment in overrides:
        document.override(assignment)
    benchmark = document.values.get("benchmark")
    return benchmark if isinstance(benchmark, dict) else {}


def _addresses(options: type, spec: StudySpec) -> bool:
    """Whether a path option names something in an object store."""
    from trainables.benchmarks import path_options

    given = (spec.benchmark.options.get(name) for name in path_options(options))
    return any(is_address(item) for value in given for item in (value if isinstance(value, list) else [value]))


def _packed(folder: Path, excludes: Sequence[str]) -> Mapping[Path, int]:
    """What Ray packs of ``folder``: path -> bytes, 0 for a folder."""
    use_token()
    # Ray has no public function that tells what it packs, so this is the one that it packs by
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    sizes: dict[Path, int] = {}

    def note(path: Path) -> None:
        sizes[path] = path.stat().st_size if path.is_file() else 0

    ignored = _get_excludes(folder, [*get_runtime_env_default_excludes(), *excludes])
    try:
        _dir_travel(folder, [ignored], note, include_gitignore=True, logger=log)
    except OSError as error:
        raise UserError(f"--working-dir {folder}: {error.filename} cannot be read ({error.strerror})") from None
    return sizes


def _require_packed(what: str, path: Path, folder: Path, packed: Mapping[Path, int]) -> None:
    if not path.is_relative_to(folder):
        raise UserError(
            f"{what} lies outside the working directory {folder}, which is all that the cluster gets; move it there, "
            "or give an absolute path or s3:// address that the cluster sees"
        )
    if path.is_dir():
        raise UserError(
            f"{what} is a folder, and only files go with a study; put it on the cluster's shared storage (images "
            "by fierce data prepare) and give its absolute path"
        )
    if path not in packed:
        raise UserError(
            f"{what} is not sent to the cluster, since .gitignore or .rayignore names it; take it out of there, or put "
            "it on the cluster's shared storage and give its absolute path"
        )


def _require_small(folder: Path, packed: Mapping[Path, int]) -> None:
    total = sum(packed.values())
    if total > MAX_BYTES:
        largest = max(packed, key=lambda path: packed[path]).relative_to(folder)
        raise UserError(
            f"--working-dir {folder}: {total / 2**20:,.0f} MiB would be sent to the cluster, and at most "
            f"{MAX_BYTES / 2**20:.0f} MiB can be (the largest file is {largest}); name what is not needed in "
            ".gitignore, and put data on the cluster's shared storage (images by fierce data prepare)"
        )


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that answered at ``address``."""

    address: str
    client: JobSubmissionClient

    def submit(self, submission: Submission) -> str:
        """Send the working directory and start the job; its id. `UserError` where the study is under way there."""
        spec = submission.spec
        for job in self._jobs().get(spec.name, []):
            if not job.status.is_terminal():
                raise UserError(
                    f"study {spec.name!r} is under way at {self.address} already; follow it with: "
                    f"fierce attach {spec.name}"
                )
        shared = without_passwords(spec.model_copy(update={"tracking_uri": None, "optuna_uri": None}))
        with _cluster_errors(self.address):
            return str(
                self.client.submit_job(
                    # without a shell in between, the signal to stop reaches the command itself
                    entrypoint=f"exec {shlex.join(submission.command)}",
                    submission_id=f"{spec.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}",
                    metadata={STUDY: spec.name, STUDY_FILE: shared.to_yaml()},
                    runtime_env={
                        "working_dir": str(submission.folder),
                        "excludes": list(submission.excludes),
                        # Ray's default of three seconds is shorter than many an epoch
                        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
                    },
                )
            )

    def newest(self, study: str) -> Any:
        """Details of the study's last job (`ray.job_submission.JobDetails`); `UserError` where there is none."""
        jobs = self._jobs()
        if study not in jobs:
            close = difflib.get_close_matches(study, list(jobs), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"studies there: {', '.join(sorted(jobs)) or 'none'}"
            raise UserError(f"no study {study!r} was submitted to {self.address}; {hint}")
        return jobs[study][-1]

    def info(self, job: str) -> Any:
        """Details of ``job`` as it stands."""
        with _cluster_errors(self.address):
            return self.client.get_job_info(job)

    def follow(self, job: str, tell: Callable[[str], None], say: Callable[[str], None]) -> Any:
        """Give each line of the job's log to ``tell``, once and in order, until the job has ended; its details.

        Where the connection breaks it is made again and the log goes on where it was; ``say`` is told of both.
        Raises `Unreachable` where the cluster stays away, and `UserError` where it does not know the job any more.
        """
        reader = _Reader(tell)
        lost: float | None = None
        while True:
            try:
                self.info(job)
                if lost is not None:
                    lost = None
                    say(f"connected to {self.address} again")
                ended = self._read(job, reader)
                details = self.info(job)
                if ended and details.status.is_terminal():
                    return details
                if ended:
                    # the head closed the log of a job that goes on
                    time.sleep(RETRY_SECONDS)
            except Unreachable as error:
                if lost is None:
                    lost = time.monotonic()
                    say(f"lost the connection to {self.address}; the study goes on there, and this tries again")
                elif time.monotonic() - lost > PATIENCE_SECONDS:
                    raise Unreachable(f"{error}; job {job} may have gone on meanwhile") from None
                time.sleep(RETRY_SECONDS)

    def stop(self, study: str) -> str:
        """Ask the study's job to wind up and wait until it has; its id. `UserError` where none is under way."""
        job = self.newest(study)
        if job.status.is_terminal():
            raise UserError(
                f"study {study!r} is not under way at {self.address}: its last job {job.submission_id} has "
                f"{job.status.lower()}"
            )
        with _cluster_errors(self.address):
            self.client.stop_job(job.submission_id)
        deadline = time.monotonic() + STOP_SECONDS + TIMEOUT
        while not self.info(job.submission_id).status.is_terminal():
            if time.monotonic() > deadline:
                raise UserError(f"job {job.submission_id} does not end; see ray job logs {job.submission_id}")
            time.sleep(0.5)
        return str(job.submission_id)

    def nodes(self) -> str:
        """The nodes that are up and what they have, in words."""
        from ray.util.state import list_nodes
        from ray.util.state.exception import RayStateApiException

        try:
            listed = list_nodes(address=self.address, detail=True, timeout=int(TIMEOUT))
        except RayStateApiException as error:
            raise UserError(
                f"{self.address} does not say which nodes are up ({' '.join(str(error).split())[:200]})"
            ) from None
        up = [node for node in listed if node.state == "ALIVE"]
        cpus, gpus = (sum(node.resources_total.get(kind, 0) for node in up) for kind in ("CPU", "GPU"))
        dead = ", ".join(
            f"{node.node_ip} ({node.state_message or 'no reason given'})" for node in listed if node.state == "DEAD"
        )
        text = f"{len(up)} up: {cpus:g} CPU, {gpus:g} GPU" + (f"; gone: {dead}" if dead else "")
        if not cpus:
            raise UserError(f"no node has a CPU to train with ({text}); start a worker, or see why it does not join")
        return text

    def under_way(self) -> str:
        """The submitted studies that are under way, in words."""
        names = sorted(name for name, jobs in self._jobs().items() if not jobs[-1].status.is_terminal())
        return f"studies under way: {', '.join(names) or 'none'}"

    def _jobs(self) -> dict[str, list[Any]]:
        """The submitted studies' jobs by study, oldest first."""
        with _cluster_errors(self.address):
            listed = self.client.list_jobs()
        jobs: dict[str, list[Any]] = {}
        for job in sorted(listed, key=lambda submitted: submitted.start_time or 0):
            study = (job.metadata or {}).get(STUDY)
            if job.submission_id and study:
                jobs.setdefault(study, []).append(job)
        return jobs

    def _read(self, job: str, reader: _Reader) -> bool:
        """Read the log from its start; whether to its end, which is only known once the job has ended."""

        async def tail() -> bool:
            chunks = aiter(self.client.tail_job_logs(job))
            while True:
                with _cluster_errors(self.address):
                    try:
                        chunk = await asyncio.wait_for(anext(chunks, None), SILENCE_SECONDS)
                    except TimeoutError:
                        return False
                if chunk is None:
                    return True
                reader.add(chunk)

        reader.rewind()
        return asyncio.run(tail())


@dataclass
class _Reader:
    """Lines of a log that may be read several times, each given to ``tell`` once."""

    tell: Callable[[str], None]
    #: characters of the lines that were told
    told: int = 0
    _skip: int = field(default=0, init=False)
    _rest: str = field(default="", init=False)

    def rewind(self) -> None:
        """What is added next is the log from its start."""
        self._skip, self._rest = self.told, ""

    def add(self, text: str) -> None:
        fresh = text[self._skip :]
        self._skip = max(0, self._skip - len(text))
        *lines, self._rest = (self._rest + fresh).split("\n")
        for line in lines:
            self.told += len(line) + 1
            self.tell(line)


def address_of(option: str | None) -> str:
    """The Jobs API at ``option``, else at ``RAY_API_SERVER_ADDRESS``, else on this machine; checked for its form."""
    address = (option or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise UserError(
            f"the cluster's address {address!r} is not one of Ray's dashboard, such as {DEFAULT_ADDRESS}; correct "
            f"--address or {ADDRESS_VARIABLE}"
        )
    return address


def open_cluster(option: str | None = None) -> Cluster:
    """The cluster at `address_of` ``option``; `UserError` where it does not answer or refuses the token."""
    address = address_of(option)
    # Ray's client reads it in place of what it is given
    os.environ[ADDRESS_VARIABLE] = address
    use_token()
    try:
        return _open(address)
    except Unreachable as error:
        if _listens(address):
            raise UserError(
                f"a server listens at {address}, and does not answer as Ray's dashboard does; correct --address or "
                f"{ADDRESS_VARIABLE} (Ray's own choice is port 8265)"
            ) from None
        raise error from None


def _listens(address: str) -> bool:
    parts = urlsplit(address)
    with contextlib.suppress(OSError, ValueError):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), LISTEN_SECONDS).close()
        return True
    return False


def _open(address: str) -> Cluster:
    with _cluster_errors(address):
        from ray.job_submission import JobSubmissionClient

        # Ray's client logs each of its steps
        for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(name).setLevel(logging.ERROR)

        class Client(JobSubmissionClient):
            def _do_request(self, *arguments: Any, **options: Any) -> Any:
                # Ray's own waits for ever on a connection that is dead
                return super()._do_request(*arguments, **{"timeout": TIMEOUT, **options})

        # making the client sends a first request, which hangs on a server that is no cluster
        return Cluster(address, within(DEADLINE, lambda: Client(address)))


@contextlib.contextmanager
def _cluster_errors(address: str) -> Iterator[None]:
    """Turns what Ray's client raises into one sentence."""
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        why = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        raise UserError(
            f"the Ray cluster at {address} refuses this user ({why}); give its token by RAY_AUTH_TOKEN_PATH, a file, "
            "or RAY_AUTH_TOKEN"
        ) from None
    except (ConnectionError, requests.RequestException, aiohttp.ClientError, TimeoutError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unreachable(
            f"no Ray cluster answers at {address} ({why[:200]}); start it, or correct --address or {ADDRESS_VARIABLE}"
        ) from None
    except RuntimeError as error:
        why = " ".join(str(error).split())
        if "404" in why and "does not exist" in why:
            raise UserError(
                f"the cluster at {address} does not know this job any more: its head was started anew; submit the "
                "study again, and it goes on where it stopped"
            ) from None
        if "Version check returned 404" in why:
            raise UserError(f"the server at {address} is not Ray's dashboard; correct --address") from None
        raise Unreachable(f"the cluster at {address} did not do as asked ({why[:200]})") from None


def why_ended(details: Any) -> str:
    """Why a job ended without a study's outcome, in words."""
    if details.status == "STOPPED":
        return "stopped before the study had begun, or by force"
    if details.driver_exit_code == COMMAND_NOT_FOUND:
        return "failed, since the cluster's head has no command fierce: install fierce-study on its nodes"
    if details.driver_exit_code is not None:
        return f"failed with exit code {details.driver_exit_code}"
    return f"failed ({' '.join((details.message or 'for an unknown reason').split())[:300]})"
