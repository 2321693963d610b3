"""Optuna's database where it may go away for a while."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.exc import InterfaceError, OperationalError

log = logging.getLogger(__name__)

#: what Optuna's cache, which stands before every such storage, calls beside the public methods
_FROM_CACHE = ("_create_new_trial", "_set_trial_param", "_get_best_trial_id", "_get_trials")

#: seconds for which a database that does not answer is waited for, and the longest pause between two tries
PATIENCE, PAUSE = 300.0, 5.0


class PatientStorage(RDBStorage):
    """Optuna's storage, which asks again while its database is being restarted.

    Each of its methods is one transaction. Where the answer to one was lost, asking again finds it done: a trial told
    twice is told, and a trial made twice waits for its turn or is taken up by the next launch.
    """


def _patiently(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def asked_again(storage: PatientStorage, *arguments: Any, **named: Any) -> Any:
        deadline, pause = time.monotonic() + PATIENCE, 0.2
        asked = 0
        while True:
            try:
                return method(storage, *arguments, **named)
            except UpdateFinishedTrialError:
                if not asked:
                    raise
                return True
            except StorageInternalError as error:
                if not isinstance(error.__cause__, OperationalError | InterfaceError) or time.monotonic() > deadline:
                    raise
                log.warning("Optuna's database does not answer; asking again in %.1f s", pause)
            except (OperationalError, InterfaceError):
                if time.monotonic() > deadline:
                    raise
            time.sleep(pause)
            asked, pause = asked + 1, min(2 * pause, PAUSE)

    return asked_again


for _name in (*BaseStorage.__abstractmethods__, *_FROM_CACHE):
    setattr(PatientStorage, _name, _patiently(getattr(RDBStorage, _name)))
