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
    ones: that one's name. ``heldout`` is found out by measuring: whether it is of samples that are held out.
    ``chance`` names the metric of what chance alone would give this one: the report says where both are the same.
    ``floor_of`` is set where the metric is what another one, of that name, is where nothing was trained; ``group`` then
    says what was measured in its place.
    """

    name: str
    label: str = ""
    note: str = ""
    unit: str = ""
    better: Literal["lower", "higher", ""] = ""
    reads_fine: bool = False
    twin_of: str = ""
    group: str = ""
    heldout: bool = False
    chance: str = ""
    floor_of: str = ""

    def to_dict(self) -> dict[str, str | bool]:
        """The declaration as it is kept with a study, by the fields' names, ``fine`` for the one of fine labels.

        ``better`` is "none" where there is no better direction.
        """
        return {
            "name": self.name,
            "label": self.label or self.name,
            "note": self.note,
            "unit": self.unit,
            "better": self.better or "none",
            "fine": self.reads_fine,
            "twin_of": self.twin_of,
            "heldout": self.heldout,
            "group": self.group,
            "chance": self.chance,
            "floor_of": self.floor_of,
        }
