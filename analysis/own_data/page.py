"""The default page, of a benchmark that has none of its own: every metric, along training and at its end."""

from __future__ import annotations

from analysis import trajectories
from analysis.own_data import table
from analysis.pages import Page

PAGES = (
    Page(
        metrics=("accuracy/coarse", "calibration/ece", "entropy/features"),
        sections=(table.section, trajectories.section),
    ),
)
