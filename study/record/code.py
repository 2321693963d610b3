"""What a study was trained with: code of the user's own by its content, the data's fingerprint, and the versions.

It stands beside the study's file in its storage. Numbers of two networks, or of two data sets, are not to be mixed in
one paired table: a launch that would do so is refused. The product's own version may change; status and report tell it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import UserError
from study.file import plan

if TYPE_CHECKING:
    import optuna

    from study.file.spec import StudySpec
    from trainables.storage import Folder

#: the file in the study's folder
CODE = "code.json"
#: a trial's file in its own, see `trainables.trainable`, which needs Ray
CHECKPOINT = "checkpoint.pt"
#: the reference of what every trial of a study is made of
BENCHMARK = "benchmark"
#: what an option that names code looks like
_REFERENCE = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")

WAY_OUT = "train it under another name by --name, or anew with --replace"


@dataclass(frozen=True)
class Code:
    """What a study is trained with.

    ``modules``: criterion or `BENCHMARK` -> module of one's own -> digest. ``data`` is the data's fingerprint, empty
    where it is not known; ``folder`` where the study was started, in which such modules are looked for; ``versions``
    are those of fierce-study, of each launch.
    """

    modules: Mapping[str, Mapping[str, str]]
    data: str = ""
    versions: tuple[str, ...] = ()
    folder: str = ""


def current(spec: StudySpec, folder: str = "") -> Code:
    """The code as it stands now; the data is not looked at.

    `UserError` where the study's code cannot be imported, with the ``folder`` in which it was when it was trained.
    """
    _require_importable(spec, folder)
    from trainables.own_code import digests

    of_all: dict[str, str] = {}
    for reference in _references(spec.benchmark.name, spec.benchmark.options):
        of_all |= digests(reference)
    modules = {BENCHMARK: of_all}
    modules |= {name: digests(name) for name in plan.criteria_of(spec) if ":" in name}
    return Code(
        {name: each for name, each in modules.items() if each},
        versions=(version("fierce-study"),),
        folder=str(Path.cwd()),
    )


def _require_importable(spec: StudySpec, folder: str) -> None:
    try:
        plan.criteria_of(spec)
        plan.recipe(spec)
    # a network that is an option, and cannot be imported, is a ValueError
    except (LookupError, ValueError) as error:
        said = error.args[0] if error.args else error
        where = folder if folder and folder != str(Path.cwd()) else "the folder that it was started in"
        raise UserError(f"{said}; go on with study {spec.name!r} in {where}, or name it by PYTHONPATH") from None


def _references(*values: Any) -> Iterator[str]:
    """What names code among an option's values."""
    for value in values:
        if isinstance(value, Mapping):
            yield from _references(*value.values())
        elif isinstance(value, list | tuple):
            yield from _references(*value)
        elif isinstance(value, str) and _REFERENCE.fullmatch(value):
            yield value


def read(folder: Folder) -> Code | None:
    """What the study in ``folder`` was trained with, None where a release before that was kept began it."""
    kept = folder.read(CODE)
    try:
        values = json.loads(kept) if kept else None
    except ValueError:
        return None
    return Code(**{**values, "versions": tuple(values["versions"])}) if values else None


def keep(code: Code, folder: Folder) -> None:
    """Keep it, with what an earlier launch kept and this one does not know."""
    before = read(folder)
    if before is not None:
        modules = {**before.modules, **code.modules}
        versions = tuple(dict.fromkeys((*before.versions, *code.versions)))
        code = replace(
            code,
            modules=modules,
            versions=versions,
            data=code.data or before.data,
            folder=code.folder or before.folder,
        )
    folder.write(CODE, json.dumps(asdict(code), indent=1).encode())


def require_same(name: str, before: Code, now: Code, trained: Callable[[], Collection[str]]) -> None:
    """`UserError` where code or data that study ``name`` was trained with changed since.

    ``trained`` gives the criteria of which anything was trained: code of which nothing was may be mended.
    """
    changed = {
        (part, module)
        for part, modules in now.modules.items()
        for module, digest in modules.items()
        if before.modules.get(part, {}).get(module, digest) != digest
    }
    other_data = bool(before.data and now.data and before.data != now.data)
    kept = trained() if changed or other_data else ()
    modules = sorted({module for part, module in changed if part in kept or (kept and part == BENCHMARK)})
    if modules:
        raise UserError(
            f"study {name!r} was trained with other code: {', '.join(modules)} changed since (its content was "
            f"{_digest(before, modules[0])}, and is {_digest(now, modules[0])}); put it back, or {WAY_OUT}"
        )
    if kept and other_data:
        raise UserError(
            f"study {name!r} was trained on other data: its fingerprint was {before.data[:12]}, and is "
            f"{now.data[:12]}; put the data back, or {WAY_OUT}"
        )


def trained(study: optuna.Study, folder: Folder, tracking_uri: str) -> set[str]:
    """The criteria of which the study holds a result, an epoch or a checkpoint."""
    from study.record import tracking, trials

    epochs: dict[int, int] = {}
    for (number, _), (status, epoch) in tracking.read_runs(tracking_uri, study.study_name).items():
        epochs[number] = max(epochs.get(number, 0), 1 if status == "FINISHED" else epoch or 0)
    return {
        trial.user_attrs[trials.CRITERION]
        for number, trial in trials.attempts(study).items()
        if trial.state.name in ("COMPLETE", "PRUNED")
        or epochs.get(number)
        or (folder / "trials" / str(number)).exists(CHECKPOINT)
    }


def _digest(code: Code, module: str) -> str:
    return next(each[module][:8] for each in code.modules.values() if module in each)
