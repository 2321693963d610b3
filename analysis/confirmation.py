"""What a search chose, trained again on seeds that had no part in the choice, beside its rivals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analysis import output, selection, statistics, tables
from analysis.output import Figure, Table
from analysis.runs import Study


def asked(study: Study) -> int:
    """On how many fresh seeds the search's choice is to be confirmed; 0 where it is not."""
    return int((study.settings.get("search") or {}).get("confirm") or 0)


def items(study: Study, out: Path) -> list[str | Figure | Table]:
    """A paragraph, and tables ``confirmation`` and ``confirmation-differences``; nothing where nothing is asked for."""
    if not asked(study):
        return []
    fresh = study.confirmation
    shown = tables.rows(fresh, every=True)
    if not shown:
        return [f"To be confirmed on {asked(study)} fresh seeds; no trial of these is done yet."]
    seeds = sorted({seed for planned in fresh.trials["planned"] for seed in planned})
    text = (
        f"Confirmed on seeds {seeds[0]} to {seeds[-1]}, which had no part in the choice: claims about a searched "
        "criterion are tested on these trials alone."
    )
    columns = _columns(study)
    caption = (
        "The search's choice and the baselines on fresh seeds: means at the last epoch; "
        f"{output.seeds_note(fresh, shown, statistics.LEVEL)}"
    )
    table, data = tables.beside(fresh, shown, columns), tables.numbers(fresh, shown, columns)
    content: list[str | Figure | Table] = [text, output.save_table(fresh, table, out, "confirmation", caption, data)]
    differences = tables.against_reference(fresh, shown, columns)
    if len(differences):
        caption = tables.differences_caption(fresh, "the fresh seeds")
        data = tables.difference_numbers(fresh, shown, columns)
        content.append(output.save_table(fresh, differences, out, "confirmation-differences", caption, data))
    return content


def _columns(study: Study) -> Mapping[str, str]:
    """What was searched for, on held-out samples where that is measured, and the page's main metrics."""
    metrics = dict.fromkeys([selection.scored_by(study) or selection.objective_metric(study), *study.page.metrics])
    return {metric: study.metric(metric).label for metric in metrics}
