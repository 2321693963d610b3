"""Who follows a study as it runs: what an observer is told, and how its errors are kept from ending the study."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Follows a study as it runs. ``state`` is ``done``, ``failed``, ``interrupted`` or ``stopped early``."""

    def started(self, planned: int) -> None: ...

    def trial_started(self, number: int, label: str, role: str) -> None: ...

    def epoch(self, number: int, epoch: int, epochs: int, means: Mapping[str, float]) -> None: ...

    def trial_ended(self, number: int, state: str, reason: str | None, means: Mapping[str, float]) -> None: ...

    def message(self, text: str) -> None:
        """What the user should know of a trial that goes on."""
        ...


class Silent:
    """An observer that says nothing."""

    def started(self, planned: int) -> None:
        pass

    def trial_started(self, number: int, label: str, role: str) -> None:
        pass

    def epoch(self, number: int, epoch: int, epochs: int, means: Mapping[str, float]) -> None:
        pass

    def trial_ended(self, number: int, state: str, reason: str | None, means: Mapping[str, float]) -> None:
        pass

    def message(self, text: str) -> None:
        pass


class Guarded:
    """An observer (`Observer`) before which another one's errors end: a study outlives its display.

    The first error is logged, and nothing more is shown.
    """

    def __init__(self, observer: Any) -> None:
        self._observer = observer
        self._is_broken = False

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._observer, name)

        def call(*arguments: Any, **named: Any) -> None:
            if self._is_broken:
                return
            try:
                method(*arguments, **named)
            # whatever a display of the user's own may raise; rich ends the process of a pipe that was closed
            except (Exception, SystemExit) as error:
                self._is_broken = True
                log.warning("the display failed (%s: %s); the study goes on without it", type(error).__name__, error)

        return call
