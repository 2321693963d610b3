"""The command fierce, whose trials save themselves and report at every epoch, so that a fault finds them at work."""

from __future__ import annotations

from functools import partial

from study import cli
from study.launch import sweep

sweep.Cadence = partial(sweep.Cadence, checkpoint=0, report=0)  # type: ignore[assignment,misc]
cli.main()
