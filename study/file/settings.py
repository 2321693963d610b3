"""Training settings and options of the benchmark that differ between a study's trials.

They stand beside hyperparameters in ``grid`` and ``search``, in the file's own blocks or under dotted names::

    grid:
      training: {learning_rate: [0.001, 0.01]}      # every criterion of the study
      fierce: {lambda: [0.1, 1], benchmark.hidden: [[64, 32], [256, 64]]}

Below a criterion they are read as dotted names, elsewhere as blocks. A trial's replicas share them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic_core import PydanticCustomError

from analysis import dialect
from study.file.document import Keys
from study.file.parts import number
from study.file.sentences import problem
from study.file.training import setting
from trainables.trial import Recipe

if TYPE_CHECKING:
    from study.file.search import SearchSpec

#: the blocks of the study file whose values may differ between trials
BLOCKS = ("training", "benchmark")
#: searched on a logarithmic scale unless the file says otherwise: their ratio matters, not their difference
LOGARITHMIC = ("training.learning_rate", "training.weight_decay")


def is_setting(name: str) -> bool:
    """Whether ``name`` is a dotted setting, and not a hyperparameter.

    >>> is_setting("training.learning_rate"), is_setting("lambda")
    (True, False)
    """
    return any(name.startswith(f"{block}.") for block in BLOCKS)


def short(name: str) -> str:
    """``learning_rate`` for ``training.learning_rate``; a hyperparameter's name as it is."""
    return name.partition(".")[2] if is_setting(name) else name


def in_blocks(values: Any) -> Any:
    """``values`` with each dotted setting below its block; what is no mapping is left to be refused."""
    if not isinstance(values, dict):
        return values
    found: dict[str, Any] = {key: value for key, value in values.items() if not is_setting(key)}
    for key in filter(is_setting, values):
        block, _, name = key.partition(".")
        inner = dict(found.get(block) or {})
        _put(inner, name, values[key], (key,))
        found[block] = inner
    return found


def dotted(values: Any) -> Any:
    """``values`` with the settings of each block under their dotted names."""
    if not isinstance(values, dict):
        return values
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = value if key in BLOCKS and isinstance(value, dict) else {"": value}
        for name, each in inner.items():
            _put(found, f"{key}.{name}" if name else key, each, (key, name) if name else (key,))
    return found


def _put(found: dict[str, Any], name: str, value: Any, keys: Keys) -> None:
    if name in found:
        raise problem(keys, "is given twice, once with a dot and once below its block; keep one")
    found[name] = value


def grid_axes(grid: Any) -> Any:
    """The grid with its settings as this module reads them, and numbers for hyperparameters."""
    if not isinstance(grid, dict):
        return grid
    found = {key: value if key in BLOCKS else dotted(value) for key, value in in_blocks(grid).items()}
    for criterion, axes in found.items():
        if isinstance(axes, list | tuple) and criterion not in BLOCKS:
            own = setting(criterion)
            below = f"training: {{{own}: …}}" if own else f"benchmark: {{{criterion}: …}}"
            raise problem((criterion,), f"is no mapping of a criterion; a setting stands below its block, as {below}")
        if criterion in BLOCKS or not isinstance(axes, dict):
            continue
        for name, values in axes.items():
            listed = values if isinstance(values, list | tuple) else [values]
            for position, value in enumerate(() if is_setting(name) else listed):
                try:
                    number(value)
                except PydanticCustomError as error:
                    raise problem((criterion, name, position), error.message()) from None
    return found


def search_ranges(search: Any) -> Any:
    """The search with its settings as this module reads them, `LOGARITHMIC` ones on such a scale by default."""
    if not isinstance(search, dict):
        return search
    found = in_blocks(search)
    for block in BLOCKS:
        if isinstance(found.get(block), dict):
            found[block] = {name: _scaled(f"{block}.{name}", value) for name, value in found[block].items()}
    if isinstance(found.get("criteria"), dict):
        found["criteria"] = {
            criterion: {name: _scaled(name, value) for name, value in space.items()}
            if isinstance(space := dotted({} if given is None else given), dict)
            else space
            for criterion, given in found["criteria"].items()
        }
    return found


def _scaled(name: str, interval: Any) -> Any:
    if name not in LOGARITHMIC or not isinstance(interval, dict) or not {"log", "step", "choices"}.isdisjoint(interval):
        return interval
    low = interval.get("low")
    # a range from 0 has no logarithm
    return {**interval, "log": True} if isinstance(low, int | float) and low > 0 else interval


def shared(blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of a grid or search that hold for every criterion, under their dotted names."""
    return {f"{block}.{name}": value for block in BLOCKS for name, value in (blocks.get(block) or {}).items()}


def values_of(
    grid: Mapping[str, Mapping[str, Sequence[Any]]], search: SearchSpec | None
) -> Iterator[tuple[str, Sequence[Any]]]:
    """The dotted settings of ``grid`` and ``search``, some twice, with their values; of a range its ends."""
    yield from shared(grid).items()
    for criterion, axes in grid.items():
        if criterion not in BLOCKS:
            yield from ((name, values) for name, values in axes.items() if is_setting(name))
    for criterion in search.criteria if search else ():
        assert search is not None
        for name, interval in search.space(criterion).items():
            if is_setting(name):
                yield name, interval.choices or (interval.low, interval.high)


def names_of(search: SearchSpec) -> list[str]:
    """The settings that are searched, for any criterion."""
    spaces = (search.space(criterion) for criterion in search.criteria)
    return list(dict.fromkeys(name for space in spaces for name in space if is_setting(name)))


def overrides(values: Mapping[str, Any], block: str) -> dict[str, Any]:
    """The settings of ``block`` among ``values`` of a trial, under their names there."""
    return {short(name): value for name, value in values.items() if name.startswith(f"{block}.")}


@cache
def kind(name: str, options: type) -> type | None:
    """``int`` or ``float`` where the setting is such a number, of the `Recipe` or the benchmark's ``options``."""
    owner = Recipe if name.startswith("training.") else options
    return next((each for each in _parts(get_type_hints(owner).get(short(name))) if each in (int, float)), None)


def _parts(hint: Any) -> Iterator[Any]:
    """The types that ``hint`` is made of."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from _parts(part)
    else:
        yield hint


def coded(value: Any) -> Any:
    """``value`` as Optuna keeps one of several choices: text for a list or mapping."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def text(value: Any, digits: int = 12) -> str:
    """``value`` in a label: a number to so many significant digits, a list as it is in YAML.

    >>> text(0.001), text((64, 32)), text("adamw")
    ('0.001', '[64, 32]', 'adamw')
    """
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return dialect.inline(list(value) if isinstance(value, tuple) else value)
