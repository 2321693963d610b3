"""Who may import whom, read from the code itself, imports within functions and for types alone included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"study": {"trainables", "analysis"}, "trainables": set[str](), "analysis": set[str]()}
#: the rooms of `study` from the bottom to the top: each may import from those before it
ROOMS = ("errors", "file", "home", "servers", "record", "launch", "service", "api", "cli")
#: what trainables knows nothing of, save in the module that Tune calls
SERVICES = {"ray", "optuna", "mlflow"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the three packages, by its dotted name."""
    paths = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def imported(path: Path, *, for_types: bool = True) -> Iterator[str]:
    """The dotted names that a file imports, be it ``for_types`` alone: modules, or what is in them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    if not for_types:
        guarded = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
        skipped = {node for block in guarded for node in ast.walk(block)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and not node.level, f"{path}: a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


@cache
def arrows(*, for_types: bool = True) -> dict[str, set[str]]:
    """Module -> the modules of the three packages that it imports."""
    graph: dict[str, set[str]] = {}
    for name, path in modules().items():
        targets = set()
        for target in imported(path, for_types=for_types):
            module = target if target in modules() else target.rpartition(".")[0]
            if module in modules():
                targets.add(module)
        graph[name] = targets
    return graph


def room(module: str) -> int:
    return ROOMS.index(module.split(".")[1])


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some modules that import each other in a ring; none where there is no ring."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module not in done:
            for target in sorted(graph[module]):
                if circle := visit(target, [*path, module]):
                    return circle
            done.add(module)
        return []

    return next((circle for module in sorted(graph) if (circle := visit(module, []))), [])


def test_the_reading_sees_an_import_within_a_function_and_for_types(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("def f():\n    from a.b import c\n\nif TYPE_CHECKING:\n    import d.e\n", encoding="utf-8")
    assert sorted(imported(path)) == ["a.b.c", "d.e"]
    assert sorted(imported(path, for_types=False)) == ["a.b.c"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert "study.file.spec" in arrows()["study.file.plan"]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages(package: str) -> None:
    own = [name for name in modules() if name.split(".")[0] == package]
    reached = {(name, target) for name in own for target in arrows()[name]}
    assert {arrow for arrow in reached if arrow[1].split(".")[0] not in PACKAGES[package] | {package}} == set()


def test_rooms() -> None:
    below = {
        (name, target)
        for name, targets in arrows().items()
        for target in targets
        if name.startswith("study.") and target.startswith("study.") and room(target) > room(name)
    }
    assert below == set()


def test_no_circle() -> None:
    """Imports for types alone aside, which never run."""
    # a package's own file may name what is in it
    reached = arrows(for_types=False).items()
    graph = {name: {target for target in targets if target != name} for name, targets in reached}
    assert circle(graph) == []


def test_trainables_stand_without_the_services() -> None:
    users = {
        name
        for name, path in modules().items()
        if name.startswith("trainables") and SERVICES & {target.split(".")[0] for target in imported(path)}
    }
    assert users == {"trainables.trainable"}
