"""A Ray that does not start here: one sentence, whatever Ray raises."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from study.errors import UserError
from study.launch import cluster


@pytest.mark.parametrize(
    "error", [OSError("no room"), Exception("The current node timed out during\nstartup.")], ids=["disk", "busy"]
)
def test_a_ray_that_does_not_start_is_said(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**settings: Any) -> None:
        raise error

    # a node that waits in vain takes Ray half a minute
    late = ModuleType("late")
    monkeypatch.setattr(late, "init", init, raising=False)
    monkeypatch.setenv("PYTHONPATH", "")
    why = " ".join(str(error).split()).rstrip(".")
    with pytest.raises(UserError, match=f"below {tmp_path}: {why}; where the machine was merely busy, run it again"):
        cluster._start(late, tmp_path)
