"""What a metric is, declared where it is measured; tracking writes the declarations down with the study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A metric: one number per replica and epoch.

    ``name`` is its name in MLflow and in a study file, with slashes (``mse/raw``); ``label`` the axis label, unit
    included; ``note`` says how it is measured. ``reads_fine`` says whether it reads fine labels, which a choice made
    without them must not see. ``twin_of`` is set where the metric is one of held-out samples, measured on validation
    ones: that one's name.
    """

    name: str
    label: str = ""
    note: str = ""
    unit: str = ""
    better: Literal["lower", "higher", ""] = ""
    reads_fine: bool = False
    twin_of: str = ""
    group: str = ""

    def to_dict(self) -> dict[str, str | bool]:
        """The declaration as it is kept: name, label, note, unit, better (or "none"), fine, twin_of, group."""
        return {
            "name": self.name,
            "label": self.label or self.name,
            "note": self.note,
            "unit": self.unit,
            "better": self.better or "none",
            "fine": self.reads_fine,
            "twin_of": self.twin_of,
            "group": self.group,
        }
