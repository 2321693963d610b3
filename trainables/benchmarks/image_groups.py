"""Coarse classes of images as groups of their classes: every class in exactly one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from trainables.benchmarks import DataError

FORM = "groups must name the coarse classes and what is in each, as in {animals: [cat, dog], vehicles: [car, ship]}"
#: group -> its classes
Groups = Mapping[str, tuple[str, ...]]


def checked(groups: Any, leave_out: Collection[str]) -> Groups | str:
    """``groups`` with names as text, or the name of a column; ``ValueError`` with one sentence for anything else."""
    if isinstance(groups, str) and groups:
        return groups
    if not isinstance(groups, Mapping) or not groups:
        raise ValueError(f"{FORM}, or be a column of the list of files, not {groups!r}")
    made: dict[str, tuple[str, ...]] = {}
    of: dict[str, str] = {}
    for group, classes in groups.items():
        if isinstance(classes, str) or not isinstance(classes, Sequence) or not classes:
            raise ValueError(f"{FORM}; {group!r} has {classes!r}")
        names = tuple(_text(name) for name in classes)
        made[_text(group)] = names
        for name in names:
            if name in of:
                both = "twice in" if of[name] == _text(group) else f"in {of[name]!r} and in"
                raise ValueError(f"class {name!r} of groups stands {both} {_text(group)!r}: leave it in one")
            if name in leave_out:
                raise ValueError(f"class {name!r} stands in groups and in leave_out: take it out of one of them")
            of[name] = _text(group)
    if len(made) < 2:
        raise ValueError(f"groups has one coarse class alone, {next(iter(made))!r}: two or more are needed")
    if all(len(names) == 1 for names in made.values()):
        raise ValueError("groups has one class in each group, so that nothing finer is left to look for: join some")
    return made


def group_of(groups: Groups, found: Collection[str], leave_out: Collection[str], source: str) -> dict[str, str]:
    """The group of each class that is ``found``, those of ``leave_out`` aside.

    Raises `DataError` with one sentence, and the nearest names, for a class that is named and not found, or found and
    not named.
    """
    of = {name: group for group, names in groups.items() for name in names}
    check_known([*of], found, "groups", source)
    missing = [name for name in found if name not in of and name not in leave_out]
    if missing:
        others = f", nor {'is' if len(missing) == 2 else 'are'} {listed(missing[1:])}" if len(missing) > 1 else ""
        raise DataError(
            f"{source}: class {missing[0]!r} is in none of the groups{others}: add it to one, or list it under "
            "leave_out"
        )
    return of


def check_known(named: Sequence[str], found: Collection[str], option: str, source: str) -> None:
    """`DataError` with the nearest names where one of the classes ``named`` by an option is not ``found``."""
    unknown = next((name for name in named if name not in found), None)
    if unknown is not None:
        near = get_close_matches(unknown, found, n=3) or sorted(found)[:3]
        raise DataError(
            f"{source} has no class {unknown!r}, which {option} names; it has {', '.join(map(repr, near))} among "
            f"{len(found)}"
        )


def listed(names: Sequence[str]) -> str:
    """The first names in quotes, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def _text(name: Any) -> str:
    if isinstance(name, str | int) and not isinstance(name, bool) and name != "":
        return str(name)
    raise ValueError(f"{FORM}; {name!r} is no name")
