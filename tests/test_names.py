"""No file but its own knows a criterion or a benchmark by its name, read from the strings in the code itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.pages import BUILT_IN
from trainables import criteria
from trainables.benchmarks import BENCHMARKS

ROOT = Path(__file__).parents[1]
REGISTRY = "trainables/benchmarks/__init__.py"
#: name -> the file that defines it
OWN_FILES = {
    **{name: f"trainables/criteria/{name.replace('-', '_')}.py" for name in criteria.names()},
    **{name: f"{module.partition(':')[0].replace('.', '/')}.py" for name, module in BENCHMARKS.items()},
}
#: the paper's pages, each with its claims and tables, and what they share
PAGES = (*(f"{module.rpartition('.')[0].replace('.', '/')}/" for module in BUILT_IN), "analysis/paper.py")
#: file -> the names that it may hold, and why
EXCEPTIONS = {
    # stores of 0.1 declare nothing of themselves; what was so then does not change any more
    "analysis/legacy.py": {"ce", "ls", "fierce", "confidence-penalty"},
    # the layout in which the data of that name are published, and its folder of images
    "trainables/benchmarks/natural_images.py": {"cub", "images"},
    # the program's own name, and its cache of images
    "study/__init__.py": {"fierce"},
    "trainables/benchmarks/images.py": {"fierce", "images"},
}


def strays(file: str, code: str) -> Iterator[tuple[int, str]]:
    """Lines and names of criteria and benchmarks that stand as a string in a file that should not know them."""
    if file == REGISTRY or file.startswith(PAGES):
        return
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and node.value in OWN_FILES:
            known = file == OWN_FILES[node.value] or node.value in EXCEPTIONS.get(file, ())
            if not known:
                yield node.lineno, node.value


def sources() -> Iterator[tuple[str, str]]:
    for package in ("study", "trainables", "analysis"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_no_other_file_names_a_criterion_or_benchmark() -> None:
    assert [f"{file}:{line}: {name}" for file, code in sources() for line, name in strays(file, code)] == []


def test_each_exception_is_needed() -> None:
    held = {file: {name for _, name in strays("", code)} for file, code in sources() if file in EXCEPTIONS}
    assert held == EXCEPTIONS


@pytest.mark.parametrize("name", ["ls", "confidence-penalty", "cifar10"])
def test_a_name_elsewhere_is_found(name: str) -> None:
    code = f"'''Of ls and cifar10.'''\nif criterion == {name!r}:\n    pass\n"
    assert list(strays("study/file/plan.py", code)) == [(2, name)]
    assert list(strays(OWN_FILES[name], code)) == []
