"""The default page, of a benchmark that has none of its own: settings, every metric, along training and at its end."""

from __future__ import annotations

from analysis import trajectories
from analysis.own_data import settings, table
from analysis.pages import Page

PAGES = (
    Page(
        metrics=(
            *("accuracy/coarse", "accuracy/fine-linear", "r2/fine-linear", "calibration/ece", "entropy/features"),
        ),
        sections=(settings.section, table.section, trajectories.section),
    ),
)
