"""What a page holds of a study to be explored: data, scripts and Plotly, within its own file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.explorer import content, packing
from analysis.explorer.content import Curves
from analysis.explorer.packing import Scale
from analysis.runs import Study

FOLDER = Path(__file__).parent
#: the smallest bundle of Plotly that draws lines and bars, compressed; its licence stands beside it
PLOTLY = FOLDER / "plotly" / "plotly-basic-4.1.1.min.js.gz"
#: in the order in which they are run
SCRIPTS = ("data", "numbers", "controls", "plots", "trajectories", "sensitivity", "coordinates", "importance", "start")
#: panel -> its title, in order
TITLES = {
    "trajectories": "Trajectories",
    "sensitivity": "Against a hyperparameter, epoch by epoch",
    "coordinates": "All settings in parallel coordinates",
    "importance": "Which hyperparameters matter",
}
#: bytes of a page that are left to trajectories at least, whatever else it holds
LEAST = 300_000
#: bytes of the panels and of what stands around each block, about
AROUND = 8_000


@dataclass(frozen=True)
class Block:
    """Data of a page under an ``id``, as ``text`` in base64."""

    id: str
    text: str


@dataclass(frozen=True)
class Panel:
    """A plot with its switches, by the ``name`` of its script."""

    name: str
    title: str


@dataclass(frozen=True)
class Explorer:
    """The ``script`` of a page, its ``blocks`` of data and the ``panels`` that these are enough for.

    ``stride``: curves hold each so-many-th epoch.
    """

    script: str
    blocks: tuple[Block, ...]
    panels: tuple[Panel, ...]
    stride: int

    @property
    def steps(self) -> int:
        """Into how many steps each metric's range is divided."""
        return packing.STEPS


def of(study: Study, room: int) -> Explorer | None:
    """What the page of ``study`` holds, in some ``room`` bytes; None where no seed is done.

    Where it takes more, epochs are left out, of all metrics alike, but for the first and the last one.
    """
    document = content.of(study) if len(study.final) else {"metrics": []}
    if not document["metrics"]:
        return None
    plotly = base64.b64encode(PLOTLY.read_bytes()).decode("ascii")
    code = script()
    left = room - len(plotly) - len(code) - len(packing.document(document)) - AROUND
    stride, curves, packed = _within(study, [metric["name"] for metric in document["metrics"]], max(LEAST, left))
    blocks = []
    for place, (each, (scale, text)) in enumerate(zip(curves, packed, strict=True)):
        document["metrics"][place] |= {
            "block": f"explore-metric-{place}",
            "epochs": each.epochs.tolist(),
            "low": scale.low,
            "high": scale.high,
            "log": scale.log,
        }
        blocks.append(Block(f"explore-metric-{place}", text))
    document |= {"steps": packing.STEPS}
    own = (Block("explore-study", packing.document(document)), Block("explore-plotly", plotly))
    return Explorer(code, (*own, *blocks), _panels(document), stride)


def script() -> str:
    """The scripts as one, whose names no other script of the page sees."""
    parts = [(FOLDER / "scripts" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return "(() => {\n'use strict';\n" + "\n".join(parts) + "})();\n"


def _panels(document: Mapping[str, Any]) -> tuple[Panel, ...]:
    criteria = [trial["criterion"] for trial in document["trials"]]
    shown = {
        "trajectories": any(len(metric["epochs"]) > 1 for metric in document["metrics"]),
        "sensitivity": bool(document["sweeps"]),
        "coordinates": len(set(criteria)) < len(criteria),
        "importance": bool(document["search"] and document["search"]["importance"]),
    }
    return tuple(Panel(name, title) for name, title in TITLES.items() if shown[name])


def _within(study: Study, names: Sequence[str], budget: int) -> tuple[int, list[Curves], list[tuple[Scale, str]]]:
    """The smallest stride found by which the trajectories fit ``budget``, and these, thinned and packed."""
    whole = [content.curves(study, name) for name in names]
    longest = max((len(each.epochs) for each in whole), default=1)
    stride = 1
    while True:
        thinned = [each.every(stride) for each in whole]
        packed = [_packed(each) for each in thinned]
        taken = sum(len(text) for _, text in packed)
        if taken <= budget or stride >= longest:
            return stride, thinned, packed
        stride = min(longest, max(stride + 1, round(stride * taken / budget)))


def _packed(curves: Curves) -> tuple[Scale, str]:
    scale = Scale.of(curves.values)
    return scale, packing.curves(scale.codes(curves.values))
