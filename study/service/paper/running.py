"""The paper rebuilt: its studies run one after another, each resumable by its name, and the page kept up to date."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.across import paper as page
from analysis.across.paper import Drawn, Piece
from study.errors import UserError
from study.file.spec import StudySpec
from study.home import Home
from study.launch import cost
from study.record.files import studies_here
from study.service.paper import crate, planning
from study.service.paper.file import elements, read
from study.service.paper.planning import Plan

if TYPE_CHECKING:
    from study.launch.sweep import Outcome

Runner = Callable[[StudySpec], "Outcome"]


def folder_of(home: Home, name: str) -> Path:
    """Where the paper's plan, page and what stands beside it are."""
    return home.root / "papers" / name


def plan_of(file: Path, home: Home, tell: Callable[[str], object]) -> Plan:
    """The plan that was kept for ``file``, else one made now and kept; ``tell`` is called with its lines.

    Raises `UserError` where the file was changed since, as its studies would be others.
    """
    paper = read(file)
    folder = folder_of(home, paper.name)
    kept = Plan.kept(folder)
    if kept is not None:
        if kept.digest != planning.digest(paper):
            raise UserError(
                f"{file}: the paper {paper.name!r} was planned from another content of it, and its studies stand; put "
                "that back, or give the paper another name by name:"
            )
        say(kept, tell)
        return kept
    # each study is timed, which takes minutes in all
    tell("planning: each study is timed by a few of its steps and evaluations")
    plan = planning.make(paper, tell=tell)
    tell(_in_all(plan))
    plan.keep(folder)
    return plan


def run(plan: Plan, home: Home, runner: Runner, tell: Callable[[str], object], command: str) -> tuple[Path, bool]:
    """Run what is left of ``plan``, the page written anew after each study; the page, and whether all was run.

    ``runner`` trains what a study lacks, nothing of one that is done; it stops where one was interrupted.
    """
    folder = folder_of(home, plan.name)
    # only what was trained since is drawn anew
    drawn: Drawn = {}
    at = write(plan, home, folder, command, drawn)
    for study in plan.studies:
        if not study.spec:
            continue
        tell(planning.spoken(study))
        outcome = runner(StudySpec.from_yaml(study.spec))
        drawn.pop(study.name, None)
        at = write(plan, home, folder, command, drawn)
        if outcome.interrupted:
            return at, False
    return at, True


def write(plan: Plan, home: Home, folder: Path, command: str, drawn: Drawn | None = None) -> Path:
    """The page of what there is by now, with numbers.json, the studies' files and the crate beside it.

    ``drawn`` is as for `analysis.across.paper.write`.
    """
    there = studies_here(home)
    pieces = [_piece(home, study, study.name in there) for study in plan.studies]
    budget = "no bound" if plan.budget is None else cost.duration(plan.budget)
    at = page.write(pieces, elements(), folder, plan.name, budget, drawn)
    files = folder / "studies"
    files.mkdir(exist_ok=True)
    for study in plan.studies:
        if study.spec:
            (files / f"{study.name}.yaml").write_text(study.spec, encoding="utf-8")
    crate.write(folder, plan, command)
    return at


def _piece(home: Home, study: planning.Planned, is_there: bool) -> Piece:
    uri = home.tracking_uri(StudySpec.from_yaml(study.spec)) if study.spec else ""
    return Piece(
        entry=study.entry,
        protocol=study.protocol,
        name=study.name,
        tracking_uri=uri if is_there else "",
        paper_data=study.paper_data,
        paper_steps=study.steps,
        cut=study.cut,
        predicted=study.seconds,
        missing="" if is_there else study.missing or "not run yet",
    )


def say(plan: Plan, tell: Callable[[str], object]) -> None:
    """The plan in lines: each study, and all of them."""
    for study in plan.studies:
        tell(planning.spoken(study))
    tell(_in_all(plan))


def _in_all(plan: Plan) -> str:
    bound = "no bound" if plan.budget is None else cost.duration(plan.budget)
    return f"in all about {cost.duration(sum(each.seconds for each in plan.studies))}, budget {bound}"


def from_crate(folder: Path, home: Home) -> Plan:
    """The plan of a crate, kept in ``home``; `UserError` where its data are not here or are others."""
    plan = Plan.kept(folder)
    if plan is None:
        raise UserError(f"{folder}: holds no {planning.PLAN}, so it is no crate of a paper")
    crate.require_same_data(folder)
    at = folder_of(home, plan.name)
    before = Plan.kept(at)
    if before is not None and json.dumps([each.spec for each in before.studies]) != json.dumps(
        [each.spec for each in plan.studies]
    ):
        raise UserError(f"the home {home.root} has another paper {plan.name!r}; give another --home")
    plan.keep(at)
    return plan
