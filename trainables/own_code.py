"""Code of a user's own: which it is, what it looked like when it was used, and where in it an error arose."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables.benchmarks import BENCHMARKS, Data

#: digits of a digest
DIGITS = 16

#: the project's own packages
_PACKAGES = [Path(__file__).resolve().parents[1] / name for name in ("trainables", "study", "analysis")]
_INSTALLED = ("site-packages", "dist-packages")


def is_own(filename: str) -> bool:
    """Whether the file is neither the project's nor installed."""
    if not filename or filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    foreign = [*_PACKAGES, Path(sysconfig.get_path("stdlib")).resolve()]
    return not any(path.is_relative_to(each) for each in foreign) and not any(part in _INSTALLED for part in path.parts)


def own_traceback(error: BaseException) -> str:
    """The traceback of what led to ``error``, from the first frame of code of one's own; empty where there is none."""
    return _own_traceback(error)[0]


def own_place(error: BaseException) -> str:
    """Where in code of one's own ``error`` arose, ``losses.py, line 12``; empty where it arose nowhere there."""
    return _own_traceback(error)[1]


def _own_traceback(error: BaseException) -> tuple[str, str]:
    chain: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in chain:
        chain.append(step)
        step = step.__cause__ or step.__context__
    for each in reversed(chain):
        said = traceback.format_exception_only(each)
        # a file that cannot be parsed has no frames
        if isinstance(each, SyntaxError) and is_own(each.filename or ""):
            return "".join(said), f"{Path(each.filename or '').name}, line {each.lineno}"
        frames = traceback.extract_tb(each.__traceback__)
        begin = next((position for position, frame in enumerate(frames) if is_own(frame.filename)), None)
        if begin is not None:
            last = [frame for frame in frames if is_own(frame.filename)][-1]
            text = "".join([*traceback.format_list(_without_project(frames[begin:])), *said])
            return text, f"{Path(last.filename).name}, line {last.lineno}"
    return "", ""


def _without_project(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Own code may be called back by the project's, which is no help to its author."""
    return [
        frame for frame in frames if not any(Path(frame.filename).resolve().is_relative_to(each) for each in _PACKAGES)
    ]


def digests(reference: str) -> dict[str, str]:
    """The modules of one's own behind ``package.module:name``: name -> digest of the file.

    Those that it imports are among them, within a function too, and those that these import. Neither the project's nor
    installed ones are.
    """
    found: dict[str, str] = {}
    waiting = [*_with_packages(reference.partition(":")[0])]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = _file(name)
        if path is None or not is_own(str(path)):
            continue
        # one file, whatever ends its lines
        content = path.read_bytes().replace(b"\r\n", b"\n")
        found[name] = hashlib.sha256(content).hexdigest()[:DIGITS]
        waiting += _imported(content, name if path.name == "__init__.py" else name.rpartition(".")[0])
    return found


def _file(module: str) -> Path | None:
    top = module.partition(".")[0]
    if not top or top in sys.stdlib_module_names:
        return None
    for name in dict.fromkeys((top, module)):
        loaded = sys.modules.get(name)
        origin = getattr(loaded, "__file__", None)
        if loaded is None:
            # a parent of one's own raises whatever it likes
            with suppress(Exception):
                spec = importlib.util.find_spec(name)
                origin = spec.origin if spec else None
        # a package without a file of its own has none; an installed one is not looked into
        if origin and name != module and not is_own(origin):
            return None
    return Path(origin) if origin and Path(origin).is_file() else None


def _imported(content: bytes, package: str) -> Iterator[str]:
    """Names of modules that a file in ``package`` may import, with the packages that they are in."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            names = [base, *(f"{base}.{each.name}" for each in node.names)]
        else:
            continue
        for name in names:
            yield from _with_packages(name)


def _with_packages(module: str) -> Iterator[str]:
    """The module, and the packages that it is in, which are imported with it."""
    parts = module.split(".")
    yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def data_digest(benchmark: str, data: Data) -> str:
    """What tells the ``data`` from others: the benchmark's fingerprint; where it is one's own, the tensors' too."""
    if benchmark in BENCHMARKS:
        return data.fingerprint
    whole = hashlib.sha256(data.fingerprint.encode())
    for tensor in (data.inputs, data.coarse, data.fine):
        whole.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        whole.update(_bytes(tensor))
    return whole.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    """The tensor's bytes as an array, of types that numpy lacks too."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
