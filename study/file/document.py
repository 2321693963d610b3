"""A YAML mapping that remembers where each of its values was written."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

from analysis import dialect
from study.errors import UserError

#: keys and list positions from the root to a value
Keys = tuple[str | int, ...]

#: a study file is a page of text; anything larger is another file given by mistake
MAX_BYTES = 1_000_000
#: far deeper than any study file, and far from the interpreter's recursion limit
MAX_DEPTH = 20


def dotted(keys: Keys) -> str:
    """``grid.fierce.lambda.0`` for ("grid", "fierce", "lambda", 0)."""
    return ".".join(str(key) for key in keys)


class Document:
    """A mapping read from ``text``, with the line of each value; `override` replaces values.

    Raises `UserError` where the text is not one YAML mapping with distinct, textual keys.
    """

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self._places: dict[Keys, str] = {}
        #: plain values that are no text, as they were written
        self._written: dict[Keys, tuple[str, Any]] = {}
        root = _parse(text, source)
        if not isinstance(root, yaml.MappingNode):
            raise UserError(f"{source}: a study file is a mapping of keys to values, not {_kind(root)}")
        self.values: dict[str, Any] = self._value(root, (), source)

    def where(self, keys: Keys) -> str:
        """The place of the value at ``keys``, or of the nearest one around it: ``study.yaml line 3, seeds``."""
        # a setting may be written with a dot or below its block
        places = {dotted(known): place for known, place in self._places.items()}
        for length in range(len(keys), 0, -1):
            if (known := dotted(keys[:length])) in places:
                return f"{places[known]}, {dotted(keys)}"
        return f"{self.source}, {dotted(keys)}" if keys else self.source

    def no_text(self, keys: Keys) -> str | None:
        """Why the value at ``keys``, as it was written, is no text, and what to write; None where it is none."""
        if keys not in self._written:
            return None
        written, value = self._written[keys]
        kind = "nothing" if value is None else "true or false" if isinstance(value, bool) else "a number"
        shown = f"{written}, which is read as {kind}" if written else "empty"
        text = dialect.inline(written, quoted=True)
        # --set is written out again for the very value that it gave; one below that is quoted where it stands
        is_set = self._places.get(keys) == f"--set {dotted(keys)}"
        return f"must be text, not {shown}; write {_assigned(dotted(keys), text) if is_set else text}"

    def override(self, assignment: str) -> None:
        """Apply one ``key.path=value``; the value is YAML. List positions are numbers: ``criteria.2.lambda=4``.

        `UserError` where YAML would drop a part of it: a comment begins with `` #``.
        """
        flag = f"--set {assignment}"
        path, equals, text = assignment.partition("=")
        names = path.strip().split(".")
        if not equals or not all(names):
            raise UserError(f"{flag}: write it as key.path=value")
        keys: Keys = tuple(int(name) if name.isascii() and name.isdigit() else name for name in names)
        target: Any = self.values
        for depth, key in enumerate(keys[:-1]):
            target = self._step(target, key, keys[: depth + 1], flag)
        last = keys[-1]
        self._check(target, last, keys, flag)
        # the value is replaced, so lines noted for it and below it are no longer true
        self._places = {known: place for known, place in self._places.items() if known[: len(keys)] != keys}
        self._written = {known: text for known, text in self._written.items() if known[: len(keys)] != keys}
        target[last] = self._set(keys, text, flag)
        self._places[keys] = f"--set {dotted(keys)}"

    def put(self, key: str, value: str, flag: str) -> None:
        """Set ``key`` to the text that stands after ``flag`` on the command line."""
        self.values[key] = value
        self._places[key,] = flag
        self._written.pop((key,), None)

    def _set(self, keys: Keys, text: str, flag: str) -> Any:
        """The value of the ``text`` that is set at ``keys``."""
        may_be_text = True
        try:
            node = _parse(text, flag)
            _require_whole(dotted(keys), text, node)
            may_be_text = isinstance(node, yaml.ScalarNode)
            if node is not None:
                return self._value(node, keys, flag, lines=False)
        except UserError as error:
            hint = f"; if it is text, write {_as_text(dotted(keys), text)}" if may_be_text else ""
            raise UserError(f"{error}{hint}") from None
        self._written[keys] = "", None
        return None

    def _step(self, target: Any, key: str | int, keys: Keys, flag: str) -> Any:
        """The mapping or list under ``key``, made where there is none yet."""
        self._check(target, key, keys, flag)
        below = target.get(key) if isinstance(target, dict) else target[key]
        if isinstance(below, str) and keys[0] in ("benchmark", "criteria"):
            # `benchmark: hyperspectral` is short for `benchmark: {name: hyperspectral}`
            below = {"name": below}
        elif below is None:
            below = {}
            self._places[keys] = flag.partition("=")[0]
            self._written.pop(keys, None)
        target[key] = below
        return below

    def _check(self, target: Any, key: str | int, keys: Keys, flag: str) -> None:
        if isinstance(target, dict) and isinstance(key, str):
            return
        if isinstance(target, list) and isinstance(key, int):
            if key < len(target):
                return
            raise UserError(f"{flag}: {dotted(keys[:-1])} has {len(target)} entries, numbered from 0")
        raise UserError(f"{flag}: {dotted(keys[:-1])} has no entry {key!r}")

    def _value(self, node: yaml.Node, keys: Keys, source: str, lines: bool = True) -> Any:
        """The plain value of ``node``, noting its place and refusing repeated keys and foreign types."""
        place = f"{source} line {node.start_mark.line + 1}" if lines else source
        if keys:
            self._places[keys] = place
        if len(keys) > MAX_DEPTH:
            raise UserError(f"{place}: nested more than {MAX_DEPTH} levels deep")
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            values: dict[str, Any] = {}
            for key_node, value_node in node.value:
                at = f"{source} line {key_node.start_mark.line + 1}" if lines else source
                if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                    shown = key_node.value if isinstance(key_node, yaml.ScalarNode) else _kind(key_node)
                    raise UserError(f"{at}: keys are names, and {shown!r} is not one; put it in quotes if it is meant")
                key = key_node.value
                if key in values:
                    raise UserError(f"{at}, {dotted((*keys, key))}: given twice; keep one")
                values[key] = self._value(value_node, (*keys, key), source, lines)
                # the key's line: a value may stand on a later one
                if lines:
                    self._places[(*keys, key)] = at
            return values
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._value(item, (*keys, index), source, lines) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode):
            raise UserError(f"{place}, {dotted(keys)}: the type {node.tag!r} is not accepted in a study file")
        try:
            value = dialect.scalar(node)
        except ValueError as error:
            raise UserError(f"{place}, {dotted(keys)}: {error}") from None
        if not isinstance(value, str):
            self._written[keys] = node.value, value
        return value


def read(path: Path) -> Document:
    """The document in the file ``path``."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: too large for a study file ({path.stat().st_size:,} bytes)")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8, so not a study file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return Document(text, str(path))


def _parse(text: str, source: str) -> yaml.Node | None:
    try:
        return dialect.Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        raise UserError(
            f"{source}: not a text file (it holds a control character at position {error.position})"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{source}{line}: not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise UserError(f"{source}: nested more than {MAX_DEPTH} levels deep") from None


#: marks and directives of documents, and the names of nodes, which nothing refers to
_HOLD_NOTHING = (yaml.DocumentStartToken, yaml.DocumentEndToken, yaml.DirectiveToken, yaml.AnchorToken)


def _require_whole(path: str, text: str, node: yaml.Node | None) -> None:
    """`UserError` where ``node`` does not hold all of the ``text`` of a ``--set path=text``."""
    covered = 0
    left = ""
    for token in yaml.scan(text) if node is not None or text.strip() else ():
        begin, end = token.start_mark.index, token.end_mark.index
        left += text[covered:begin]
        if isinstance(token, _HOLD_NOTHING):
            left += text[begin:end]
        covered = end
    lost = (left + text[covered:]).strip()
    folded = isinstance(node, yaml.ScalarNode) and node.style is None and "\n" in text.strip()
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">") and not node.value:
        lost = node.style
    if lost or folded:
        why = f"YAML drops {lost!r}" if lost else "YAML turns its line breaks into spaces"
        raise UserError(f"--set {path}: {why}; leave that out")


def _as_text(path: str, text: str) -> str:
    """What to type for the key at ``path`` to be the ``text`` as it stands."""
    return _assigned(path, dialect.inline(text.strip()))


def _assigned(path: str, value: str) -> str:
    return f"--set {shlex.quote(f'{path}={value}')}"


def _kind(node: yaml.Node | None) -> str:
    if node is None:
        return "an empty file"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
