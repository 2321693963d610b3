"""What a study's file may be given between two launches, and what is refused: told by what changed alone.

Further seeds, criteria, points of the grid and trials of the search are trained beside what is there. Whatever would
change what was trained, or take something away, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis import dialect
from analysis.addresses import without_login, without_password
from analysis.numbers import shortened
from study.errors import UserError
from study.file.document import dotted
from study.file.plan import fixed_points, name_of

if TYPE_CHECKING:
    import optuna

    from study.file.document import Keys
    from study.file.spec import StudySpec

#: keys of a study file that may change between launches
CHANGEABLE = {
    *("description", "resources", "machines", "concurrency", "points_per_trial", "max_failures", "storage", "tracking"),
}
#: those that are judged by the trials that they name
NAMING = {"criteria", "grid"}
#: addresses, whose login may change and is not for others to read
ADDRESSES = ("tracking_uri", "optuna_uri")


@dataclass(frozen=True)
class Change:
    """A field of the study file, by its dotted name, with what it was and what it is, in words."""

    field: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.field}: {self.was} → {self.now}"


def require_growth(before: StudySpec, now: StudySpec, study: optuna.Study | None) -> None:
    """`UserError` where the file ``now`` is not the one ``before`` with more to train.

    ``study`` is Optuna's, None where nothing was begun.
    """
    changed = [*refused(before, now), *_after_the_choice(before, now, study)]
    if changed:
        told = "; ".join(map(str, changed))
        raise UserError(
            f"study {now.name!r} stands with another file: {told}. What is trained stays as it is: choose another "
            "name by --name, or train it anew with --replace"
        )


def refused(before: StudySpec, now: StudySpec) -> list[Change]:
    """What changed otherwise than by more to train."""
    was, now_is = before.model_dump(), now.model_dump()
    for values in (was, now_is):
        for key in ADDRESSES:
            values[key] = values[key] and without_login(values[key])
    changed = []
    for key in was:
        if key == "seeds":
            changed += _fewer_seeds(before.seeds, now.seeds)
        elif key == "search":
            changed += _search(was[key], now_is[key])
        elif key not in CHANGEABLE | NAMING:
            changed += differences((key,), was[key], now_is[key])
    # a benchmark or criterion that is another one has other trials, too
    return changed or _fewer_points(before, now)


def differences(keys: Keys, was: Any, now: Any) -> Iterator[Change]:
    """Where two values of a file differ, at any depth."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*was, *now]):
            yield from differences((*keys, key), was.get(key), now.get(key))
    elif was != now:
        yield Change(dotted(keys), _shown(was), _shown(now))


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, Mapping):
        return dialect.inline(_plain(value))
    return without_password(value) if isinstance(value, str) else dialect.inline(_plain(value))


def _plain(value: Any) -> Any:
    """``value`` as YAML has it, without the keys that are not given."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _fewer_seeds(was: Sequence[int], now: Sequence[int]) -> list[Change]:
    return [] if set(was) <= set(now) else [Change("seeds", ranges(was), ranges(now))]


def ranges(seeds: Sequence[int]) -> str:
    """Whole numbers as people write them: ``0 to 9, 12``."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _search(was: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> Iterator[Change]:
    """What a search was given otherwise than by more trials, further criteria, or a confirmation."""
    if was is None or now is None:
        yield from differences(("search",), was, now)
        return
    for key in was:
        if key == "trials":
            if now[key] < was[key]:
                yield Change("search.trials", str(was[key]), str(now[key]))
        elif key == "criteria":
            for criterion, space in was[key].items():
                yield from differences(("search", key, criterion), space, now[key].get(criterion))
        elif key != "confirm":
            yield from differences(("search", key), was[key], now[key])


def _fewer_points(before: StudySpec, now: StudySpec) -> list[Change]:
    from study.record.trials import key

    planned = {key(now, point) for point in fixed_points(now)}
    return [
        Change(
            "grid" if point.role == "grid" else "criteria",
            next(shortened(name_of(before, point.trial))),
            "not planned",
        )
        for point in fixed_points(before)
        if key(before, point) not in planned
    ]


def _after_the_choice(before: StudySpec, now: StudySpec, study: optuna.Study | None) -> Iterator[Change]:
    """What a search may not be given any more once its choice is confirmed: it would be another choice."""
    from study.record.trials import CHOSEN

    if before.search is None or now.search is None:
        return
    if study is None or CHOSEN not in study.user_attrs:
        return
    why = "(its choice is being confirmed, or was)"
    if set(now.seeds) > set(before.seeds):
        yield Change("seeds", ranges(before.seeds), f"{ranges(now.seeds)} {why}")
    for key in ("trials", "confirm"):
        was, now_is = getattr(before.search, key), getattr(now.search, key)
        if was != now_is and not (key == "trials" and now_is < was):
            yield Change(f"search.{key}", _shown(was), f"{_shown(now_is)} {why}")
    if added := now.search.criteria.keys() - before.search.criteria.keys():
        yield Change("search.criteria", ", ".join(before.search.criteria), f"{', '.join(sorted(added))} too {why}")
