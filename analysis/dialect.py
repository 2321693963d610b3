"""The YAML of study files: the core schema of YAML 1.2, read and written alike.

YAML 1.1, which PyYAML follows, takes ``010`` for 8, ``1:30`` for 90 and ``no`` for false, and ``1e4`` for text. Here
``1:30``, ``no`` and dates are text and ``1e4`` is a number. A number that readers disagree about (``010``, ``0x1f``) or
that no float or int64 holds is refused with what to write. What is written is in quotes wherever either version would
take it for something else than text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from pathlib import PurePath
from typing import Any, cast

import yaml

_PREFIX = "tag:yaml.org,2002:"
#: the tag of plain scalars that one reader takes for one number, and another for another one or for text
_UNCLEAR = "!unclear"
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
#: (tag, pattern, first characters), the first that matches counts
_RESOLVERS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (f"{_PREFIX}null", re.compile(r"(?:~|null|Null|NULL|)$"), "~nN"),
    (f"{_PREFIX}bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    (_UNCLEAR, re.compile(r"[-+]?(?:0[0-9]+|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)$"), "-+0"),
    (f"{_PREFIX}int", re.compile(r"[-+]?[0-9]+$"), "-+0123456789"),
    (f"{_PREFIX}float", re.compile(_DECIMAL.pattern + "$"), "-+.0123456789"),
    (f"{_PREFIX}float", re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"), "-+."),
)
#: the largest magnitude of a whole number: int64's
_LARGEST = 2**63 - 1


class Loader(yaml.SafeLoader):
    """Safe YAML in the core schema, without aliases, which can grow without bound."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            # the stubs of PyYAML leave it without a type
            event = cast(Any, self).peek_event()
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not accepted: write the value out", event.start_mark
            )
        return super().compose_node(parent, index)


class _Written(Loader):
    """Reads what was written by a program: an unclear number can only be text that an earlier version left bare."""


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes wherever YAML 1.1 or the core schema would take it for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


# nothing of YAML 1.1 is read; what is written is in quotes where either version asks for it
Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _firsts in _RESOLVERS:
    # an empty value has no first character
    _initials = [*_firsts, *([""] if _tag == f"{_PREFIX}null" else [])]
    for _class in (Loader, _Dumper):
        _class.add_implicit_resolver(_tag, _pattern, _initials)


def scalar(node: yaml.ScalarNode) -> Any:
    """The value of ``node``; ``ValueError`` with one sentence that says what to write."""
    text, kind = node.value, node.tag.removeprefix(_PREFIX)
    if node.tag == _UNCLEAR:
        raise ValueError(_unclear(text))
    if kind == "str":
        return text
    if kind not in ("null", "bool", "int", "float"):
        raise ValueError(f"the type {node.tag!r} is not accepted in a study file")
    # a tag that is written out (!!int 1:30) makes no other value than the core schema knows
    tags = {kind, "int"} if kind == "float" else {kind}
    if not any(pattern.match(text) for tag, pattern, _ in _RESOLVERS if tag.removeprefix(_PREFIX) in tags):
        raise ValueError(f"{text!r} cannot be read as a value of type {kind}")
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    return _whole(text) if kind == "int" else _real(text)


def load(text: str) -> Any:
    """The value of what `dump` wrote; ``yaml.YAMLError`` or ``ValueError`` for anything damaged."""
    return yaml.load(text, _Written)


def dump(value: Any) -> str:
    """``value`` (mappings, lists, text, numbers, true, false, null) as YAML, keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)


def inline(value: Any, quoted: bool = False) -> str:
    """``value`` as YAML on one line, as it stands after ``--set key=``; ``quoted`` or where needed in double quotes."""
    text = _inline(value)
    return _inline(value, style='"') if quoted or (isinstance(value, str) and text.startswith("'")) else text


def _inline(value: Any, style: str | None = None) -> str:
    # alone, a value would be followed by the mark of a document's end
    listed = yaml.dump(
        [value], Dumper=_Dumper, default_flow_style=True, default_style=style, allow_unicode=True, width=math.inf
    )
    return listed.strip()[1:-1]


def _unclear(text: str) -> str:
    sign, digits = ("-" if text.startswith("-") else ""), text.lstrip("+-")
    quoted = f'or "{text}" if it is text'
    if digits[1] in "box":
        return f"{text} is not in decimal, and not every program reads it alike: write {sign}{int(digits, 0)}, {quoted}"
    octal = f", which YAML 1.1 reads as {sign}{int(digits, 8)}" if set(digits) <= set("01234567") else ""
    return f"{text} begins with 0{octal}: write {sign}{digits.lstrip('0') or '0'}, {quoted}"


def _whole(text: str) -> int:
    # Python itself refuses to read some thousands of digits
    if len(text.lstrip("+-0")) > len(str(_LARGEST)) or abs(int(text)) > _LARGEST:
        raise ValueError(_unheld(text, "large"))
    return int(text)


def _real(text: str) -> float:
    if not _DECIMAL.fullmatch(text):
        return float(text.replace(".", ""))
    value = float(text)
    if math.isinf(value):
        raise ValueError(_unheld(text, "large"))
    if value == 0 and re.search("[1-9]", re.split("[eE]", text)[0]):
        raise ValueError(_unheld(text, "small"))
    return value


def _unheld(text: str, size: str) -> str:
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return f'{shown} is read as a number, which is too {size}: write another, or "{shown}" if it is text'


def _construct(loader: Loader, node: yaml.Node) -> Hashable:
    assert isinstance(node, yaml.ScalarNode)
    value: Hashable = node.value if node.tag == _UNCLEAR else scalar(node)
    return value


def _represent(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # other styles fold line breaks and keep no control characters
    return dumper.represent_scalar(f"{_PREFIX}str", text, style=None if text.isprintable() else '"')


for _kind in ("null", "bool", "int", "float"):
    _Written.add_constructor(f"{_PREFIX}{_kind}", _construct)
_Written.add_constructor(_UNCLEAR, _construct)
_Dumper.add_representer(str, _represent)
_Dumper.add_multi_representer(PurePath, lambda dumper, path: _represent(dumper, str(path)))
