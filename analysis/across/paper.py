"""The paper on one page: its tables and figures in its order, ours beside, one grid of claims, and what is missing.

Made of several studies, from MLflow alone. Holm's adjustment is over all tests of the page. ``numbers.json`` beside it
says of every printed number which runs it is of.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis import claims, output, rendering, schema, statistics
from analysis.across import sources
from analysis.across.together import Together
from analysis.claims import FAILS, HOLDS, UNTESTED, Claim, Verdict
from analysis.output import Figure, Lead, Section, Table
from analysis.runs import Study, StudyNotFound

#: the folder below the page's with the figures and tables of each study
FILES = "items"
#: columns of the studies' table that are the plan's
PLANNED = ("predicted", "cut", "the paper's steps")


#: study -> stem -> figure or table of its own page
Drawn = dict[str, Mapping[str, Figure | Table]]


@dataclass(frozen=True)
class Element:
    """A table or figure of the paper: ``name``, what it ``says``, and entry -> stems of ours that rebuild it."""

    name: str
    says: str
    shows: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Piece:
    """A study of the page, of which ``entry`` says what it is for; without a ``tracking_uri`` it is ``missing``.

    ``paper_data`` and ``paper_steps`` are what the paper trained on, and how long; ``cut`` says what is smaller here;
    ``predicted`` is in seconds.
    """

    entry: str
    protocol: str
    name: str
    tracking_uri: str
    paper_data: str
    paper_steps: int
    cut: str = ""
    predicted: float = 0.0
    missing: str = ""

    @cached_property
    def study(self) -> Study | None:
        """The study as it stands; None where no replica of it is done."""
        if not self.tracking_uri:
            return None
        try:
            found = Study.open(self.tracking_uri, self.name)
        # a study that was killed while it began
        except StudyNotFound:
            return None
        return None if found.final.empty else found


@dataclass(frozen=True)
class Judged:
    """A test of a claim on a study: its verdict by itself, the page's adjusted p, and the outcome by that."""

    piece: Piece
    claim: Claim
    verdict: Verdict
    adjusted: float

    @property
    def outcome(self) -> str:
        return claims.settled(self.verdict, self.adjusted)


def write(
    pieces: Sequence[Piece],
    elements: Sequence[Element],
    out: Path,
    name: str,
    budget: str,
    drawn: Drawn | None = None,
) -> Path:
    """Write ``out``/paper.html of what there is of ``pieces``, and numbers.json beside it.

    Studies in ``drawn`` are not drawn again, and the others are put there: for whoever writes the page several times.
    Raises `analysis.store.StoreError` where a study cannot be read.
    """
    there = [piece for piece in pieces if piece.study is not None]
    made = {} if drawn is None else drawn
    made |= {piece.name: _items(piece, out) for piece in there if piece.name not in made}
    judged = judge(there)
    kept = sources.Sources()
    sections = [_element(element, pieces, made, kept) for element in elements]
    sections += [_grid(judged, out, kept), _studies(pieces, out, kept), _missing(pieces, elements)]
    studies = [piece.study for piece in there if piece.study is not None]
    path = rendering.write(
        out / "paper.html",
        "paper.html.j2",
        name=name,
        answer=_answer(judged, pieces, budget),
        sections=sections,
        links=[sources.link(study) for study in studies],
        origins=sorted({output.provenance(study) for study in studies} - {"real"}),
    )
    kept.write(out / "numbers.json")
    return path


def judge(pieces: Sequence[Piece]) -> list[Judged]:
    """Every test of every study's claims, p adjusted by Holm over all of them."""
    tests = [
        (piece, claim, verdict)
        for piece in pieces
        if piece.study is not None
        for claim, verdict in claims.tested(piece.study, piece.study.page.claims)
    ]
    adjusted = statistics.holm([verdict.p for *_, verdict in tests])
    return [Judged(*test, float(p)) for test, p in zip(tests, adjusted, strict=True)]


def _items(piece: Piece, out: Path) -> dict[str, Figure | Table]:
    """Stem -> item of all sections of the study's own page, their files below ``out``."""
    study = piece.study
    assert study is not None
    folder = out / FILES / piece.name
    found: dict[str, Figure | Table] = {}
    for make in study.page.sections:
        section = make(study, folder)
        for item in section.items if section else ():
            if isinstance(item, Figure):
                found[item.svg.stem] = item
            elif isinstance(item, Table):
                found[item.stem] = replace(item, stem=f"{FILES}/{piece.name}/{item.stem}")
    return found


def _element(
    element: Element,
    pieces: Sequence[Piece],
    made: Mapping[str, Mapping[str, Figure | Table]],
    kept: sources.Sources,
) -> Section:
    items: list[str | Figure | Table] = [f"In the paper: {element.says}."]
    for piece in pieces:
        stems = element.shows.get(piece.entry, ())
        if not stems:
            continue
        study = piece.study
        if study is None:
            items.append(f"{_titled(piece)}: {piece.missing or 'no replica is done'}.")
            continue
        shown = [made[piece.name][stem] for stem in stems if stem in made[piece.name]]
        items.append(f"{_titled(piece)}. {_size(piece, study)}")
        if not shown:
            items.append("Nothing of it was measured here.")
        for item in shown:
            kept.add(study, item)
        items += shown
    if len(items) == 1:
        items.append("No study of it was asked for.")
    return Section(element.name, tuple(items))


def _titled(piece: Piece) -> str:
    return f"{piece.name}, protocol {piece.protocol}"


def _size(piece: Piece, study: Study) -> str:
    """What was trained on, and how long beside the paper."""
    here = ", ".join(f"{row.data_name} ({row.provenance})" for row in _sets(study).itertuples())
    steps = steps_of(study)
    ran = f"{steps:,} steps of each replica" if steps else "an unknown number of steps"
    return (
        f"The paper: {piece.paper_data}, about {piece.paper_steps:,} steps. Here: {here}, {ran}"
        f"{f' ({piece.cut})' if piece.cut else ''}."
    )


def _sets(study: Study) -> pd.DataFrame:
    return study.trials.loc[study.trials["data_name"] != "", ["data_name", "provenance"]].drop_duplicates()


def steps_of(study: Study) -> int:
    """Steps that a replica was trained, 0 where the store does not say; the most of any trial."""
    most = 0
    for run in study.runs:
        size = run.data.params.get("training.batch_size")
        epochs = run.data.params.get("training.epochs")
        number = run.data.tags.get(schema.TRIAL)
        parts = study.parts.get(int(number)) if number else None
        if size and epochs and parts:
            most = max(most, int(epochs) * math.ceil(parts.sizes["train"] / int(size)))
    return most


def _answer(judged: Sequence[Judged], pieces: Sequence[Piece], budget: str) -> Section:
    tested = [each for each in judged if each.outcome not in (UNTESTED, claims.NO_VERDICT)]
    counts = {outcome: sum(each.outcome == outcome for each in tested) for outcome in (HOLDS, FAILS)}
    there = sum(piece.study is not None for piece in pieces)
    lead = (
        f"{there} of {len(pieces)} studies, budget {budget}: of {len(tested)} tests of the paper's claims "
        f"{counts[HOLDS]} hold, {counts[FAILS]} do not, and {len(tested) - sum(counts.values())} are undecided."
    )
    text = (
        "A verdict here is of the size that was run, on the data that are named, and says so at each table. Holm's "
        f"adjustment is over the {sum(not math.isnan(each.verdict.p) for each in judged)} tests that have a p."
    )
    return Section("The answer", (Lead(lead), text))


def _grid(judged: Sequence[Judged], out: Path, kept: sources.Sources) -> Section:
    """Tables ``grid-1``, ``grid-2``, …: a row per claim and probe, a column per study, a verdict in each cell.

    Studies of different pages, which judge other claims, stand in tables of their own: in one, most cells would be
    empty, and those to the right out of sight.
    """
    title = "The paper's claims"
    if not judged:
        return Section(title, ("No study is done that judges a claim.",))
    items: list[str | Figure | Table] = [
        "Claims × data set × protocol × probe. In each cell the verdict, and p adjusted by Holm over all tests of this "
        "page; – where a study does not judge it. Tests of which nothing was measured are left out."
    ]
    parts = [rows for of_page in _by_page(judged) if (rows := _rows(of_page))]
    if not parts:
        return Section(title, ("None of the claims could be tested.",))
    items += [_verdicts(part, out, f"grid-{number}", kept) for number, part in enumerate(parts, 1)]
    untested = list(dict.fromkeys(each.claim.sentence for each in judged if each.outcome == UNTESTED))
    tested = {each.claim.sentence for each in judged if each.outcome != UNTESTED}
    if alone := [sentence for sentence in untested if sentence not in tested]:
        items.append(f"Not tested by any study here: {'; '.join(alone)}.")
    return Section(title, tuple(items))


def _by_page(judged: Sequence[Judged]) -> list[list[Judged]]:
    """``judged`` by the page of the study, that is by what was trained on."""
    found: dict[tuple[str, ...], list[Judged]] = {}
    for each in judged:
        study = each.piece.study
        assert study is not None
        found.setdefault(tuple(study.page.benchmarks) or (study.benchmark,), []).append(each)
    return list(found.values())


def _rows(judged: Sequence[Judged]) -> list[list[Judged]]:
    """The verdicts on each claim by each probe, where anything was measured, in the order of the claims."""
    cells: dict[tuple[str, str, str], list[Judged]] = {}
    for each in judged:
        cells.setdefault((each.claim.sentence, each.claim.where, each.verdict.measure), []).append(each)
    rows = [row for row in cells.values() if any(each.outcome != UNTESTED for each in row)]
    return sorted(rows, key=lambda row: _order(judged, row[0].claim.sentence))


def _verdicts(rows: Sequence[Sequence[Judged]], out: Path, stem: str, kept: sources.Sources) -> Table:
    """Table ``stem`` of ``rows``, each the verdicts of one claim by one probe."""
    order = list(dict.fromkeys(each.piece for row in rows for each in row))
    columns = {piece: f"{_where(piece)}, {piece.protocol}: {piece.entry}" for piece in order}
    found = [{columns[each.piece]: each for each in row} for row in rows]
    frame = pd.DataFrame(
        {"claim": row[0].claim.sentence, "where": row[0].claim.where, "measured by": row[0].verdict.measure}
        | {name: _cell(by_column.get(name)) for name in columns.values()}
        for row, by_column in zip(rows, found, strict=True)
    )
    together = Together([piece.study for piece in order if piece.study is not None])
    table = output.save_table(together, frame, out / FILES, stem, "Verdicts.", first=tuple(frame.columns))
    table = replace(table, stem=f"{FILES}/{stem}", frame=frame.map(_on_one_line))
    for place, by_column in enumerate(found):
        for column, each in by_column.items():
            assert each.piece.study is not None
            kept.add_cell(each.piece.study, table, place, column, f"{each.verdict.measure} {each.verdict.numbers}")
    return table


def _on_one_line(cell: str) -> str:
    """The cell as a page shows it, which does not break within p."""
    return re.sub(r"\(p .*\)", lambda found: found[0].replace(" ", "\u00a0"), cell)


def _order(judged: Sequence[Judged], sentence: str) -> int:
    return next(place for place, each in enumerate(judged) if each.claim.sentence == sentence)


def _where(piece: Piece) -> str:
    assert piece.study is not None
    return ", ".join(_sets(piece.study)["data_name"]) or "unnamed data"


def _cell(found: Judged | None) -> str:
    if found is None:
        return "–"
    if math.isnan(found.adjusted):
        return found.outcome
    return f"{found.outcome} (p {claims.p_cell(found.adjusted)})"


def _studies(pieces: Sequence[Piece], out: Path, kept: sources.Sources) -> Section:
    """Table ``studies``: sizes beside the paper's, and what was predicted."""
    rows = []
    for piece in pieces:
        study = piece.study
        steps = steps_of(study) if study is not None else 0
        rows.append(
            {
                "study": piece.name,
                "data": ", ".join(_sets(study)["data_name"]) if study is not None else "–",
                "the paper's data": piece.paper_data,
                "steps": f"{steps:,}" if steps else "–",
                "the paper's steps": f"{piece.paper_steps:,}",
                "predicted": f"{piece.predicted / 60:.1f} min" if piece.predicted else "–",
                "cut": piece.cut or ("–" if study is not None else piece.missing),
            }
        )
    frame = pd.DataFrame(rows)
    there = Together([piece.study for piece in pieces if piece.study is not None])
    if not there.studies:
        return Section("What was run", ("No study is done yet.",))
    caption = "The studies in order of worth. A step is one batch of each replica; the paper's are of its own data."
    table = output.save_table(there, frame, out / FILES, "studies", caption, first=tuple(frame.columns))
    table = replace(table, stem=f"{FILES}/studies")
    for place, piece in enumerate(pieces):
        for column in frame.columns:
            kept.add_cell(piece.study, table, place, column, "", planned=column in PLANNED)
    return Section("What was run", (table,))


def _missing(pieces: Sequence[Piece], elements: Sequence[Element]) -> Section:
    """What the page lacks of the paper, and what it needs."""
    items = [f"{_titled(piece)}: {piece.missing or 'no replica is done'}." for piece in pieces if piece.study is None]
    entries = {piece.entry for piece in pieces}
    items += [
        f"{element.name}: no study of it was asked for." for element in elements if not entries & set(element.shows)
    ]
    for piece in pieces:
        study = piece.study
        if study is not None and output.provenance(study) == "simulated":
            items.append(
                f"{piece.name} is of simulated data, which reproduces no number: it needs {piece.paper_data}, named in "
                "the file under data."
            )
    return Section("What is missing, and what it needs", tuple(items) or ("Nothing.",))
