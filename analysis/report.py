"""The report of a study: one self-contained page with its figures, its tables and a verdict on the paper's claims.

python -m analysis.report --study NAME [--tracking-uri URI] --out DIR [--page MODULE]
"""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis import (
    command,
    confirmation,
    measures,
    output,
    regret,
    rendering,
    rivals,
    saturation,
    selection,
    similarity,
    statistics,
    summary,
    versions,
)
from analysis.explorer import embedding
from analysis.output import Figure, Section, Table
from analysis.pages import PageError, SectionFunction
from analysis.runs import StoreError, Study

#: sections of every page, each None where a study has nothing for it
EVERYWHERE = (rivals.section, measures.section, similarity.section, regret.section)

#: bytes of a page, which trajectories that are explored are thinned to
LARGEST = 3_000_000

#: what a reader must know of data that is not real
WARNINGS: Mapping[str, str] = {
    "simulated": "Every number on this page comes from simulated data: it shows how the methods behave on a generated "
    "scene, and reproduces no number of the paper.",
    "semi-synthetic": "The data is semi-synthetic (real components, mixed by a program); no number on this page was "
    "measured on a real scene.",
}


def write(tracking_uri: str, study: str, out: Path, page_module: str = "") -> Path:
    """Write ``out``/report.html and, beside it, every figure (SVG, PNG) and table (CSV, Markdown, LaTeX).

    The page needs no network and no other file, and where the browser runs scripts it can be explored. Its sections are
    those of ``page_module``, ``package.module``, where one is named, else those of the benchmark's page. Raises
    `analysis.runs.StudyNotFound`, `analysis.pages.PageError` where ``page_module`` is no page or a section of anyone's
    fails, or `StoreError` where the store or the study's file in it cannot be read.
    """
    opened = Study.open(tracking_uri, study, page_module)
    # a page that is none is said before anything is written
    made, summarised = opened.page.sections, opened.page.summary or summary.section
    answer = _of_page(summarised, opened, out) if len(opened.final) else None
    sections = [overview(opened, out)]
    if len(opened.final):
        if search := search_result(opened, out):
            sections.append(search)
        sections += [section for make in made if (section := _of_page(make, opened, out))]
        sections += [section for make in EVERYWHERE if (section := make(opened, out))]
    # known once all that is drawn was read
    if lost := output.lost_note(opened):
        sections[0] = Section(sections[0].title, (lost, *sections[0].items))
    origin = output.provenance(opened)
    values = {
        "study": opened,
        "benchmark": opened.benchmark,
        "warning": WARNINGS.get(origin, ""),
        "provenance": origin,
        "data": output.data_note(opened),
        "answer": answer,
        "sections": sections,
        "command": f"fierce run {study}.yaml && fierce report {study}",
    }
    # what is explored has the room that the rest leaves
    rest = rendering.page("report.html.j2", explorer=None, **values)
    explorer = embedding.of(opened, LARGEST - len(rest.encode()))
    return rendering.write(out / "report.html", "report.html.j2", explorer=explorer, **values)


def _of_page(make: SectionFunction, study: Study, out: Path) -> Section | None:
    """What ``make`` shows, None where the study has nothing for it; `PageError` where a section of anyone's fails."""
    function = getattr(make, "func", make)
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        made = make(study, out)
    except StoreError:
        raise
    except Exception as error:
        # a fault of the project's own is shown whole
        if name.startswith(f"{__package__}."):
            raise
        trace = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in trace if frame.filename == function.__code__.co_filename] or trace
        what = " ".join(traceback.format_exception_only(error)[-1].split())
        raise PageError(f"the section {name} fails in line {own[-1].lineno} of {own[-1].filename}: {what}") from error
    if made is not None and not isinstance(made, Section):
        raise PageError(f"the section {name} must return an analysis.output.Section, not {type(made).__name__}")
    return made


def overview(study: Study, out: Path) -> Section:
    """What was run: trials, seeds, what failed and what is missing, the data, and what sees no more than chance."""
    # each part names its trials by itself: a setting that is confirmed is there twice
    table = pd.concat([study.trials, study.confirmation.trials]).sort_values("trial", ignore_index=True)
    done = table[[state == "done" and done == planned for state, done, planned in _progress(table)]]
    sentences = [f"{len(done)} of {study.planned_trials} planned trials are done with all their seeds."]
    for state in ("failed", "running", "stopped"):
        rows = table[table["state"] == state]
        if len(rows):
            named = "; ".join(f"trial {row.trial}, {row.label}{_because(str(row.reason))}" for row in rows.itertuples())
            sentences.append(f"{state.capitalize()}: {named}.")
    short = [
        f"trial {number} lacks {', '.join(str(seed) for seed in planned if seed not in done)}"
        for number, (_, done, planned) in zip(table["trial"], _progress(table), strict=True)
        if done != planned
    ]
    if short:
        sentences.append(f"Seeds that are not done: {'; '.join(short)}.")
    if study.planned_trials > len(table):
        sentences.append(f"Not started: {study.planned_trials - len(table)} trials.")
    if len(set(table["fingerprint"]) - {""}) > 1:
        sentences.append("The trials were trained on different data (their fingerprints differ): compare with care.")
    if mixed := versions.note(study.runs):
        sentences.append(mixed)
    items: list[str | Figure | Table] = [" ".join(sentences)]
    items += [text for text in (*dict.fromkeys(table["description"]), output.split_note(study)) if text]
    items += saturation.sentences(study) if len(study.final) else []
    shown = pd.DataFrame(
        {
            "trial": table["trial"],
            "criterion and setting": table["label"],
            "role": table["role"],
            "state": table["state"],
            "seeds done": [f"{len(done)} of {len(planned)}" for _, done, planned in _progress(table)],
        }
    )
    fingerprints = ", ".join(sorted({digest[:12] for digest in table["fingerprint"]} - {""})) or "not stated"
    caption = f"Trials of the study. Data fingerprint (SHA-256): {fingerprints}."
    items.append(output.save_table(study, shown, out, "trials", caption))
    return Section("What was run", tuple(items))


def search_result(study: Study, out: Path) -> Section | None:
    """The best point of a search and all its points; None for a study without one."""
    searched = selection.search(study)
    if not searched:
        return None
    items: list[str | Figure | Table] = [f"Searched for: {selection.rule(study)}."]
    items += [warning for warning in (selection.few_seeds(study), selection.chosen_where_scored(study)) if warning]
    scored_by = selection.scored_by(study)
    scores = selection.summary(study, scored_by) if scored_by else {}
    for criterion, (best, points) in searched.items():
        items.append(_found(study, criterion, best, points))
        shown = pd.DataFrame(
            {
                "trial": points["trial"],
                "setting": points["label"],
                "objective": [str(value or "–") for value in points["objective"]],
                "held out": [str(scores.get(trial, "–")) for trial in points["trial"]],
                "constrained metric": [str(value or "–") for value in points["limit"]],
                "feasible": ["yes" if feasible else "no" for feasible in points["feasible"]],
            }
        )
        if points.empty:
            continue
        if points["limit"].isna().all():
            shown = shown.drop(columns="constrained metric")
        if not scored_by:
            shown = shown.drop(columns="held out")
        caption = (
            f"Searched points, means at the last epoch with {statistics.LEVEL:.0%} Student-t intervals over seeds."
        )
        items.append(output.save_table(study, shown, out, f"search-{rendering.stem(criterion)}", caption))
    return Section("Search", (*items, *confirmation.items(study, out)))


def _found(study: Study, criterion: str, best: selection.Choice | None, points: pd.DataFrame) -> str:
    """What the search found of a criterion, in words."""
    name, count = study.criterion(criterion).label, len(points)
    if best is None:
        unconfirmed = ", so that none is confirmed" if confirmation.asked(study) else ""
        return f"{name}: no searched point is done with all its seeds and feasible{unconfirmed}."
    objective = points.loc[points["trial"] == best.trial, "objective"].iloc[0]
    text = f"{name}: the best of {count} points is {best.label} (trial {best.trial}) at {objective}"
    scored_by = selection.scored_by(study)
    if not scored_by:
        return f"{text}. It was chosen on the samples that it is scored on, so its value is somewhat optimistic."
    score = selection.summary(study, scored_by).get(best.trial, "–")
    return (
        f"{text} on validation samples, by which it was chosen and which is optimistic therefore; {scored_by}, on "
        f"held-out samples, is {score}."
    )


def _progress(table: pd.DataFrame) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    return list(zip(table["state"], table["found"], table["planned"], strict=True))


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def main() -> None:
    """Write a study's report: ``python -m analysis.report``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", required=True, help="name of the study")
    command.add_store(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--page", default="", help="package.module of another page than the benchmark's own")
    arguments = parser.parse_args()
    try:
        print(write(arguments.tracking_uri, arguments.study, arguments.out, arguments.page))
    except StoreError as error:
        command.refuse(error)


if __name__ == "__main__":
    main()
