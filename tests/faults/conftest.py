"""Collects the rows of the fault table, prints them, and writes them to docs/faults.md where none is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- the table, as `make test-faults` writes it -->", "<!-- end of the table -->"
#: the rows by test, in their order; None for one that did not come to its end
ROWS = pytest.StashKey[dict[str, str | None]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = {}


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Callable[[str, str, str], None]:
    """Takes the test's row of the table: the fault, how the study went on, and what was compared."""
    rows = request.config.stash[ROWS]
    if not rows:
        rows |= dict.fromkeys(name for name in vars(request.module) if name.startswith("test_"))

    def take(*cells: str) -> None:
        rows[request.node.name] = f"| {' | '.join(cells)} |"

    return take


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    made = [row for row in rows.values() if row]
    table = "\n".join(["| fault | what the study did | at the end |", "|---|---|---|", *made])
    terminalreporter.section("faults")
    terminalreporter.write_line(table)
    if len(made) == len(rows):
        before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
