"""The references among the docs, printed from what the code declares.

python -m study.file.reference [FOLDER]

writes ``study-file.md``, ``benchmarks.md`` and ``metrics.md`` there, by default to ``docs``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from analysis import dialect
from study.file.schema import comments, schema

if TYPE_CHECKING:
    from trainables.metrics import Metric

#: said on top of each page
PRINTED = "<!-- printed by: python -m study.file.reference -->"
#: parts of a study file below its own keys: title, the schema's name of it
PARTS: Mapping[str, str] = {
    "search": "SearchSpec",
    "a range of search": "Range",
    "search.objective": "Objective",
    "search.constraint": "Constraint",
    "search.pruner": "Pruner",
    "evaluation": "Evaluation",
    "resources": "Resources",
    "machines": "Machines",
    "machines.kubernetes": "Kubernetes",
}
_WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}


def study_file() -> str:
    """The keys of a study file, by its JSON schema."""
    found = schema()
    parts = found["$defs"]
    lines = [PRINTED, "# The study file", "", *_plain(found["description"]), "", *_keys(found)]
    training = found["properties"]["training"]
    lines += ["", "## `training`", "", *_plain(training["description"]), ""]
    lines += ["The defaults of the first three, and of what a benchmark sets otherwise, are its own.", ""]
    lines += _keys(training)
    for title, name in PARTS.items():
        shown = f"`{title}`" if " " not in title else title.capitalize()
        lines += ["", f"## {shown}", "", *_plain(parts[name].get("description", "")), "", *_keys(parts[name])]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> list[str]:
    """A docstring as Markdown."""
    lines = []
    inside = False
    for line in text.splitlines():
        inside = line.startswith("    ") or (inside and not line.strip())
        lines.append(line if inside else _code(line))
    return lines


def _code(text: str) -> str:
    return text.replace("``", "`").replace("::", ":")


def _keys(part: Mapping[str, Any]) -> Iterator[str]:
    yield "| key | | default | |"
    yield "|---|---|---|---|"
    for name, key in part["properties"].items():
        required = name in part.get("required", ())
        default = "required" if required else _default(key)
        yield f"| `{name}` | {_type(key)} | {default} | {_cell(key.get('description', ''))} |"


def _default(key: Mapping[str, Any]) -> str:
    value = key.get("default")
    return "" if value in (None, [], {}, "") or isinstance(value, dict | list) else f"`{dialect.inline(value)}`"


def _type(key: Mapping[str, Any]) -> str:
    """What a key takes, in words."""
    if "enum" in key:
        return " or ".join(f"`{value}`" for value in key["enum"])
    if "const" in key:
        return f"`{key['const']}`"
    if "anyOf" in key:
        return ", or ".join(dict.fromkeys(_type(each) for each in key["anyOf"] if each.get("type") != "null"))
    if "$ref" in key:
        return "mapping, see below"
    kind = key.get("type", "")
    if isinstance(kind, list):
        return "mapping" if "object" in kind else " or ".join(_WORDS[each] for each in kind)
    if kind == "array":
        return "list"
    return "mapping" if kind == "object" else _bounded(_WORDS.get(kind, ""), key)


def _bounded(words: str, key: Mapping[str, Any]) -> str:
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    said = [f"{limits[name]} {key[name]:g}" for name in limits if name in key and abs(key[name]) < 1e9]
    return f"{words}, {' and '.join(said)}" if said else words


def _cell(text: str) -> str:
    return _code(" ".join(text.split())).replace("|", "\\|")


def benchmarks() -> str:
    """Every benchmark's options, by their types and comments."""
    from trainables.benchmarks import BENCHMARKS, find

    lines = [PRINTED, "# Benchmarks and their options", ""]
    lines += ["`benchmark: {name: …}` with these beside the name. Those that lead to no data may also vary between the"]
    lines += ["trials of a study, in `grid` and `search`."]
    for name in BENCHMARKS:
        benchmark = find(name)
        lines += ["", f"## `{name}`", "", _first(type(benchmark)), "", "| option | | default | |", "|---|---|---|---|"]
        said: dict[str, str] = {}
        for kind in reversed(benchmark.Options.__mro__[:-1]):
            said |= comments(kind)
        hints = get_type_hints(benchmark.Options, include_extras=True)
        for each in fields(benchmark.Options):
            meaning = _cell(said.get(each.name, ""))
            lines.append(f"| `{each.name}` | {_hint(hints[each.name])} | {_initial(each)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _first(kind: type) -> str:
    """The first sentences of a docstring."""
    return _cell((inspect.getdoc(kind) or "").partition("\n\n")[0])


def _initial(field: Field[Any]) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return "required"
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    if value is None or value == "":
        return ""
    if isinstance(value, Mapping):
        return "" if not value else "see the source"
    return f"`{dialect.inline(list(value) if isinstance(value, tuple) else value)}`"


def _hint(hint: Any) -> str:
    """What an option takes, in words."""
    from trainables.benchmarks import DataPath
    from trainables.benchmarks.options import Bounds

    if hint == DataPath or hint is Path:
        return "path"
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = next((f" {each}" for each in parts[1:] if isinstance(each, Bounds)), "")
        return f"{_hint(parts[0])}{bounds}"
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if origin in (Union, UnionType):
        return ", or ".join(dict.fromkeys(_hint(each) for each in parts if each is not NoneType))
    if origin in (tuple, list):
        return f"list of {_hint(parts[0])}"
    known = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return known.get(hint, "mapping")


def metrics() -> str:
    """Every metric that the project declares, by where it is measured."""
    lines = [PRINTED, "# Metrics", ""]
    lines += ["Names as in MLflow and under `search.objective`. A metric of held-out samples that is measured on the"]
    lines += [
        "validation part as well has there the suffix `-validation`; choose by that one. Which a benchmark measures,"
    ]
    lines += ["`fierce check` says. [Measures](measures.md) says how those of every benchmark come about."]
    for title, found in _declared():
        lines += [
            "",
            f"## {title}",
            "",
            "| metric | | unit | better | fine labels | how |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| `{each.name}` | {_cell(each.label)} | {each.unit} | {each.better or '–'} | "
            f"{'read' if each.reads_fine else ''} | {_cell(each.note)} |"
            for each in found
        ]
    return "\n".join(lines) + "\n"


def _declared() -> Iterator[tuple[str, Sequence[Metric]]]:
    """The metrics with a title: of the training, of each module of evaluators and of each criterion."""
    from trainables import criteria, evaluators
    from trainables.evaluators import few_shot, probes, shared
    from trainables.training import METRICS

    yield "While training", METRICS
    seen = {metric.name for metric in METRICS}
    made: Mapping[str, Iterable[Metric]] = {
        probes.__name__: (*probes.Classes.metrics.fget(probes.Classes), *probes.Values.metrics.fget(probes.Values)),  # type: ignore[attr-defined]
        few_shot.__name__: few_shot.declared([""], (1, 5)),
        # what stands there is declared elsewhere
        shared.__name__: (),
    }
    for info in pkgutil.iter_modules(evaluators.__path__, f"{evaluators.__name__}."):
        module = importlib.import_module(info.name)
        found = made.get(info.name, _constants(module))
        own = [metric for metric in dict.fromkeys(found) if metric.name not in seen and not metric.twin_of]
        seen |= {metric.name for metric in own}
        if own:
            yield _cell((inspect.getdoc(module) or "").partition("\n\n")[0]).rstrip("."), own
    for name in criteria.names():
        own = [metric for metric in criteria.find(name).metrics if metric.name not in seen]
        seen |= {metric.name for metric in own}
        if own:
            yield f"Of the criterion `{name}`", own


def _constants(module: Any) -> Iterator[Metric]:
    """The metrics that stand in a module under names of their own."""
    from trainables.metrics import Metric

    for value in vars(module).values():
        if isinstance(value, Metric):
            yield value
        elif isinstance(value, tuple | list) and value and all(isinstance(each, Metric) for each in value):
            yield from value


PAGES: Mapping[str, Callable[[], str]] = {
    "study-file.md": study_file,
    "benchmarks.md": benchmarks,
    "metrics.md": metrics,
}

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")
