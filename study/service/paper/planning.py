"""The paper's studies made to fit: data or a substitute named as such, and epochs and seeds cut to the budget.

A plan is made once and kept, so that what is killed goes on with the same studies.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from analysis import dialect
from study.errors import UserError
from study.file.plan import recipe
from study.file.spec import StudySpec
from study.launch import cost
from study.launch.cost import Cost
from study.service.paper.file import Entry, PaperFile, entries
from trainables.storage import Folder

#: seeds of a study that the budget does not bear ten of: the fewest that decide a difference
FEW_SEEDS, SEEDS = 6, 10
PLAN = "plan.json"


@dataclass(frozen=True)
class Planned:
    """A study of the plan: its file as YAML, or in ``missing`` why there is none and what it needs.

    ``seconds`` are predicted; ``epochs`` of ``full`` are trained, and the paper trained ``steps``.
    """

    name: str
    entry: str
    protocol: str
    paper_data: str
    data: str
    steps: int
    spec: str = ""
    seconds: float = 0.0
    epochs: int = 0
    full: int = 0
    seeds: int = 0
    cut: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Plan:
    """All studies in order of worth; ``digest`` is that of the file that they were planned from."""

    name: str
    budget: float | None
    digest: str
    studies: Sequence[Planned]

    def keep(self, folder: Path) -> None:
        """Write it to ``folder``, whole or not at all."""
        Folder(str(folder)).write(PLAN, json.dumps(asdict(self), indent=1, ensure_ascii=False).encode())

    @classmethod
    def kept(cls, folder: Path) -> Plan | None:
        """The plan in ``folder``, None where there is none."""
        try:
            values = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(
                f"{folder / PLAN} cannot be read ({error}); remove it, and the paper is planned anew"
            ) from None
        return cls(**{**values, "studies": [Planned(**each) for each in values["studies"]]})


def digest(paper: PaperFile) -> str:
    """What tells two files apart."""
    return hashlib.sha256(json.dumps(paper.model_dump(), sort_keys=True, default=str).encode()).hexdigest()


def make(
    paper: PaperFile,
    timed: Callable[[StudySpec], Cost | None] | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> Plan:
    """Time each study, or take what ``timed`` says, and cut it to its share of the budget.

    What a study leaves of its share goes to those after it; ``tell`` is called with the line of each as it is planned.
    Raises what a study file raises.
    """
    wanted = [
        each for each in entries() if each.protocol in paper.protocols and (not paper.only or each.entry in paper.only)
    ]
    if not wanted:
        raise UserError(f"the paper {paper.name!r}: protocols and only leave no study; name others")
    ask = timed or (lambda spec: cost.predict(spec, price=paper.price, small=0))
    left = paper.budget if paper.budget is not None else math.inf
    weights = [each.weight for each in wanted]
    studies = []
    for place, entry in enumerate(wanted):
        share = left * weights[place] / sum(weights[place:])
        study = _planned(paper, entry, share, ask)
        left -= study.seconds
        studies.append(study)
        tell(spoken(study))
    return Plan(paper.name, paper.budget, digest(paper), studies)


def spoken(study: Planned) -> str:
    """A planned study with its size and time, or why it is not run, in words."""
    if study.missing:
        return f"{study.name}: {study.missing}"
    size = f"{study.epochs} of {study.full} epochs, {study.seeds} seeds"
    return f"{study.name}: {size}, {cost.duration(study.seconds)}; {study.data}"


def _planned(paper: PaperFile, entry: Entry, share: float, ask: Callable[[StudySpec], Cost | None]) -> Planned:
    options = paper.data.get(entry.data, {})
    substitute = options.get("data", "simulated") == "simulated"
    name = f"{paper.name}-{entry.entry}-{entry.protocol}"
    data = "simulated, a substitute" if substitute else Path(str(options["data"])).name
    bare = Planned(name, entry.entry, entry.protocol, entry.paper, data, entry.steps)
    has_gpu = bool(cost.here().gpus)
    narrow = list(entry.narrow) if not has_gpu and paper.budget is not None else []
    narrow += entry.simulated if substitute and narrow else ()
    overrides = [f"protocol={entry.protocol}", *_set("benchmark", options), *narrow]
    if not has_gpu:
        overrides += ["resources.gpus=0", "resources.cpus=1"]
    # a GPU that two seeds leave idle would not tell of ten
    few = SEEDS if has_gpu else entry.timed
    timed = StudySpec.load(entry.study, [*overrides, f"seeds={few}"], name)
    epochs = recipe(timed).epochs
    told = ask(timed)
    assert told is not None
    for seeds in (SEEDS, FEW_SEEDS):
        fits = _epochs(told, share, epochs, seeds / few)
        if fits >= min(entry.least, epochs):
            break
    else:
        needed = told.of_epochs(entry.least, FEW_SEEDS / few)
        return replace(bare, missing=(
            f"not run: {entry.least} epochs of {FEW_SEEDS} seeds need {cost.duration(needed)}, and its share of the "
            f"budget is {cost.duration(max(share, 0))}"
        ))  # fmt: skip
    spec = StudySpec.load(entry.study, [*overrides, f"seeds={seeds}", *_shortened(timed, fits, epochs)], name)
    cut = [f"{fits} of {epochs} epochs"] if fits < epochs else []
    cut += [f"{seeds} of {SEEDS} seeds"] if seeds < SEEDS else []
    cut += [f"set smaller: {', '.join(narrow)}"] if narrow else []
    return replace(
        bare, spec=spec.to_yaml(), seconds=told.of_epochs(fits, seeds / few), epochs=fits, full=epochs, seeds=seeds,
        cut="; ".join(cut),
    )  # fmt: skip


def _epochs(told: Cost, share: float, epochs: int, seeds: float) -> int:
    """The most epochs whose time is within ``share``, 0 where none is."""
    fits, beyond = 0, epochs + 1
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        if told.of_epochs(middle, seeds) <= share:
            fits = middle
        else:
            beyond = middle
    return fits


def _shortened(spec: StudySpec, epochs: int, full: int) -> list[str]:
    """Overrides that train so many epochs, the milestones in proportion."""
    if epochs == full:
        return []
    stones = sorted({max(1, round(each * epochs / full)) for each in recipe(spec).milestones} - {epochs})
    return [f"training.epochs={epochs}", f"training.milestones={dialect.inline(stones)}"]


def _set(block: str, options: Mapping[str, Any]) -> list[str]:
    return [f"{block}.{key}={dialect.inline(value)}" for key, value in options.items()]
