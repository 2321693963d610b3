"""Text is read and written as UTF-8, wherever the program runs: no call leaves the encoding to the locale."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("study", "trainables", "analysis", "benchmarks", "docker", "examples", "tests")
#: methods and functions that read or write text -> the position of their encoding
TEXT = {"read_text": 0, "write_text": 1}
#: those that do so unless a mode says otherwise -> the positions of mode and encoding, as a method of a path or file
OPENING = {"open": (0, 2), "fdopen": (1, 3), "NamedTemporaryFile": (0, 2), "TemporaryFile": (0, 2), "TextIOWrapper": ()}
#: what has a method open of its own, which opens no text
OTHERS = {"Image", "tarfile", "Study", "runs", "_Final", "browser", "client", "archive", "os", "cls"}


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str, str]]:
    """Each call with its name, and the name of what it is a method of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Attribute):
                yield node, function.attr, ast.unparse(function.value).partition(".")[0]
            elif isinstance(function, ast.Name):
                yield node, function.id, ""


def leaves_encoding_open(call: ast.Call, name: str, owner: str) -> bool:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given or None in given:
        return False
    if name in TEXT:
        return len(call.args) <= TEXT[name]
    if "text" in given or "universal_newlines" in given:
        return name in ("run", "Popen", "check_output", "call", "check_call")
    if name not in OPENING or owner in OTHERS:
        return False
    if name == "TextIOWrapper":
        return len(call.args) < 2
    # the function open takes the path first
    shift = 1 if name == "open" and not owner else 0
    place, last = OPENING[name][0] + shift, OPENING[name][1] + shift
    mode = given.get("mode") or (call.args[place] if len(call.args) > place else None)
    binary = (
        name.endswith("TemporaryFile") if mode is None else isinstance(mode, ast.Constant) and "b" in str(mode.value)
    )
    return not binary and len(call.args) <= last


def open_encodings(source: str) -> list[int]:
    """Lines of the calls that read or write text in the locale's encoding."""
    return sorted(
        call.lineno for call, name, owner in calls(ast.parse(source)) if leaves_encoding_open(call, name, owner)
    )


@pytest.mark.slow
def test_no_text_is_read_or_written_in_the_locale_s_encoding() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in open_encodings(path.read_text(encoding="utf-8"))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("call", "is_open"),
    [
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text('λ')", True),
        ("path.write_text('λ', 'utf-8')", False),
        ("open(path)", True),
        ("open(path, 'rb')", False),
        ("path.open()", True),
        ("path.open('w')", True),
        ("path.open('wb')", False),
        ("path.open('w', encoding='utf-8')", False),
        ("os.fdopen(1, 'w')", False),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("tempfile.NamedTemporaryFile()", False),
        ("subprocess.run(words, text=True)", True),
        ("subprocess.run(words)", False),
        ("subprocess.run(words, text=True, encoding='utf-8')", False),
        ("Image.open(file)", False),
    ],
)
def test_such_calls_are_told_from_others(call: str, is_open: bool) -> None:
    assert bool(open_encodings(call)) is is_open
