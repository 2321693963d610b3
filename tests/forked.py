"""Programs in processes of their own that need not import torch, MLflow and Optuna again, which takes seconds each.

They are forked from a server that has imported them and done nothing else: `multiprocessing`'s forkserver.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

#: what a command imports that is slow to; not Ray, which reads its settings from the environment when it is imported
SLOW_IMPORTS = (
    "torch",
    "torchvision",
    "mlflow",
    "optuna",
    "pandas",
    "scipy.stats",
    "matplotlib.pyplot",
    "study.cli",
    "study.launch.sweep",
    "study.service.running",
    "analysis.report",
)

#: the command of the user's, as its entry point has it
FIERCE = "from study.cli import main; main()"
#: the same, where Ray is not what is tested
FIERCE_WITHOUT_RAY = """
from tests.in_process import without_ray
from study.cli import main
with without_ray():
    main()
"""
#: where a program finds the project, beside what is installed
ROOT = Path(__file__).resolve().parents[1]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(SLOW_IMPORTS))


class Program:
    """``code`` under way in ``folder`` with ``arguments``; ``output`` and ``errors`` are what it prints.

    ``environment`` is the whole of its environment. With ``log``, a file, it prints there and both are empty.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        code: str = FIERCE,
        log: TextIO | None = None,
    ) -> None:
        self.output, output = _pipe()
        self.errors, errors = _pipe()
        streams = (output, errors) if log is None else (log.fileno(), log.fileno())
        self._process: BaseProcess = _CONTEXT.Process(
            target=_run, args=(code, list(arguments), dict(environment), str(folder), *map(DupFd, streams))
        )
        self._process.start()
        os.close(output)
        os.close(errors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()
        self.output.close()
        self.errors.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.exitcode

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self._process.kill()
        self._process.join()

    def ended(self, seconds: float) -> tuple[int, str, str]:
        """Its exit code, and what it printed that was not read yet; an error where it runs for ``seconds`` more."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"not ended after {seconds} s"
        return self._process.exitcode, self.output.read(), self.errors.read()


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    code: str = FIERCE,
    seconds: float = 300.0,
) -> subprocess.CompletedProcess[str]:
    """`Program`, carried through; it must not print more than a pipe holds, 64 KiB."""
    with Program(arguments, environment, folder, code) as program:
        return subprocess.CompletedProcess(list(arguments), *program.ended(seconds))


def _pipe() -> tuple[TextIO, int]:
    reading, writing = os.pipe()
    return os.fdopen(reading, encoding="utf-8"), writing


def _run(
    code: str, arguments: list[str], environment: dict[str, str], folder: str, output: DupFd, errors: DupFd
) -> None:
    """In the new process: what the shell and the interpreter would have prepared, then ``code``."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["fierce", *arguments]
    installed = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    named = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*named, *installed, str(ROOT)]
    for stream, number in ((output, 1), (errors, 2)):
        os.dup2(stream.detach(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    try:
        exec(code, {"__name__": "__main__"})
    finally:
        # a forked process leaves without them
        atexit._run_exitfuncs()
