"""A study that was begun is gone on with, or given more to train, and never mixed with another: see `take_up`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from study.home import Home
from study.launch import preflight
from study.launch.observer import Observer, Silent
from study.record import changes, code
from study.record.files import kept_spec, storing
from trainables.storage import Folder

if TYPE_CHECKING:
    import optuna

    from study.file.spec import StudySpec


def take_up(
    spec: StudySpec, folder: Folder, home: Home, observer: Observer, *, note: bool = True
) -> tuple[optuna.Study | None, code.Code]:
    """Refuse what would change in a study that was begun, and note what its trials were given so far.

    Nothing is written without ``note``. Returns Optuna's study, None where nothing was begun, and the code that this
    launch would train with.
    """
    with storing(folder):
        earlier, kept = kept_spec(folder, home), code.read(folder)
    now = code.current(spec, kept.folder if kept else "")
    # of what `fierce run` looked at
    now = replace(now, data=preflight.digest(spec, load=False))
    if earlier is None:
        return None, now
    # optuna takes seconds to import
    from study.record import trials
    from study.servers.database import optuna_errors

    study = trials.load_study(spec, home)
    if study is None and not (folder / "trials").names():
        # a launch that ended before its first trial leaves nothing that another file would change
        return None, now
    changes.require_growth(earlier, spec, study)
    if study is None:
        return None, now
    with optuna_errors(home.optuna_uri(spec)):
        if kept is None:
            observer.message(f"study {spec.name!r} has no record of its code and data, which are noted from now on")
        else:
            uri = home.tracking_uri(spec)
            code.require_same(spec.name, kept, now, partial(code.trained, study, folder, uri))
        # before the file tells of others
        if note and earlier.seeds != spec.seeds:
            trials.note_seeds(earlier, study)
    return study, now


def require_same_data(spec: StudySpec, folder: Folder, home: Home, study: optuna.Study | None, known: str) -> None:
    """Refuse to go on with other data than the study was trained on, and keep what tells it, where not ``known``."""
    data = known or preflight.digest(spec)
    with storing(folder):
        kept = code.read(folder)
    if kept is None or not data:
        return
    if study is not None:
        uri = home.tracking_uri(spec)
        now = replace(kept, data=data)
        code.require_same(spec.name, kept, now, partial(code.trained, study, folder, uri))
    # ray takes seconds to import
    from trainables.trainable import FINGERPRINT

    with storing(folder):
        code.keep(code.Code({}, data), folder)
        if kept.data and kept.data != data:
            # nothing was trained on the old one
            for name in folder.names():
                if name.startswith(FINGERPRINT):
                    folder.remove(name)


@dataclass(frozen=True)
class Outlook:
    """What a launch would do with a study that stands.

    ``kept`` are the numbers of trials that are over, ``extended`` those that are given further seeds, and ``open``
    those gone on with, since they were interrupted, or, where it is asked for, failed. ``points`` says what becomes of
    each fixed point, by `study.record.trials.key`, and ``searched`` how many trials a criterion's search has.
    """

    kept: tuple[int, ...]
    extended: Mapping[int, tuple[int, ...]]
    open: tuple[int, ...]
    points: Mapping[str, str]
    searched: Mapping[str, int]

    def __str__(self) -> str:
        """In words."""
        words = [f"{len(self.kept)} kept as they are"]
        for seeds in dict.fromkeys(self.extended.values()):
            of = [number for number, each in self.extended.items() if each == seeds]
            words.append(f"{len(of)} trained on the further seeds {changes.ranges(seeds)}")
        if self.open:
            words.append(f"{len(self.open)} gone on with")
        return f"of the trials that are there {', '.join(words)}"


def outlook(spec: StudySpec, home: Home, *, retry_failed: bool = False) -> Outlook | None:
    """What a launch of ``spec`` would do with the study of that name; None where nothing of it was begun.

    `UserError` where the launch would be refused.
    """
    from study.record import status, trials

    # no database is made for a look
    if status.optuna_study(spec, home) is None:
        return None
    study, _ = take_up(spec, home.files(spec.name, spec), home, Silent(), note=False)
    if study is None:
        return None
    lacking = trials.lacking_seeds(spec, study)
    kept: list[int] = []
    going: list[int] = []
    points: dict[str, str] = {}
    searched: dict[str, int] = {}
    for number, trial in trials.attempts(study).items():
        attributes = trial.user_attrs
        is_over = trial.state.name in ("COMPLETE", "PRUNED") or (trial.state.name == "FAIL" and not retry_failed)
        if number in lacking:
            what = f"kept, and seeds {changes.ranges(lacking[number])}"
        else:
            (kept if is_over else going).append(number)
            what = "failed" if trial.state.name == "FAIL" else "kept" if is_over else "gone on with"
        points[trials.key_of(trial)] = what
        if attributes[trials.ROLE] == "search":
            criterion = attributes[trials.CRITERION]
            searched[criterion] = searched.get(criterion, 0) + 1
    return Outlook(tuple(kept), lacking, tuple(going), points, searched)
