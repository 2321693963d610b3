"""An observer of a study, for tests of what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Watcher:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.planned = 0
        self.heard: list[tuple[Any, ...]] = []

    def started(self, planned: int) -> None:
        self.planned = planned
        self.heard.append(("planned", planned))

    def trial_started(self, number: int, label: str, role: str) -> None:
        self.heard.append(("start", number, label, role))

    def epoch(self, number: int, epoch: int, epochs: int, means: Mapping[str, float]) -> None:
        self.heard.append(("epoch", number, epoch, epochs))

    def trial_ended(self, number: int, state: str, reason: str | None, means: Mapping[str, float]) -> None:
        self.heard.append((state, number, reason))

    def message(self, text: str) -> None:
        self.heard.append(("message", text))
