"""A study's display, kept from ending the study."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class Guarded:
    """An observer (`study.launch.sweep.Observer`) before which another one's errors end: a study outlives its display.

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
