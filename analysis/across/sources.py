"""Of which runs in MLflow each number of a page is: kept beside the page, and linked where MLflow has an address."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from analysis import output, schema, selection
from analysis.addresses import without_login
from analysis.output import Figure, Table
from analysis.runs import Study

#: rows that the paper or its notebook printed
PRINTED = ("paper: ", "notebook: ", "floor: ")


class Sources:
    """Gathers, item by item, what `write` keeps."""

    def __init__(self) -> None:
        #: of each number: item, row (from 0), column, text, study, trials, runs (ids of the seeds' runs); or printed
        self.entries: list[dict[str, Any]] = []
        self._studies: dict[str, Study] = {}

    def add(self, study: Study, item: Figure | Table) -> None:
        """A figure, or each cell of a table that holds a digit."""
        if isinstance(item, Figure):
            self._note(study, item.svg.name, {}, measured(study))
            return
        for place, row in enumerate(item.frame.to_dict("records")):
            about = " ".join(str(value) for value in list(row.values())[:2])
            for column, value in row.items():
                if not re.search(r"\d", str(value)):
                    continue
                cell = {"row": place, "column": str(column), "text": str(value)}
                if str(next(iter(row.values()))).startswith(PRINTED):
                    self.entries.append({"item": item.stem, **cell, "printed": True})
                else:
                    self._note(study, item.stem, cell, trials_of(study, row, about))

    def add_cell(
        self, study: Study | None, table: Table, row: int, column: str, about: str, planned: bool = False
    ) -> None:
        """One cell of a table over several studies; ``planned``: it is the plan's, and of no run."""
        text = str(table.frame.iloc[row][column])
        if not re.search(r"\d", text):
            return
        cell = {"row": row, "column": column, "text": text}
        if planned or study is None:
            self.entries.append({"item": table.stem, **cell, "planned": True})
        else:
            self._note(study, table.stem, cell, trials_of(study, {}, about))

    def write(self, path: Path) -> None:
        """Write the entries, and the runs of each study: trial -> run, and seed -> run."""
        studies = {name: described(study) for name, study in self._studies.items()}
        content = {"studies": studies, "numbers": self.entries}
        output.write_whole(path, json.dumps(content, indent=1, ensure_ascii=False))

    def _note(self, study: Study, item: str, cell: Mapping[str, Any], trials: Iterable[int]) -> None:
        self._studies[study.name] = study
        chosen = sorted(trials)
        runs = [run for trial in chosen for run in seeds_of(study).get(trial, {}).values()]
        self.entries.append({"item": item, **cell, "study": study.name, "trials": chosen, "runs": runs})


def trials_of(study: Study, row: Mapping[Any, Any], about: str) -> list[int]:
    """The trials that a row of a table is of: by its number, by the labels that it names, else all that are done."""
    done = measured(study)
    if (number := row.get("trial")) is not None and str(number).isdecimal() and int(number) in done:
        return [int(number)]
    table = study.trials[study.trials["trial"].isin(done)]
    labels = dict(zip(table["label"], table["trial"], strict=True))
    found = [int(trial) for label, trial in labels.items() if re.search(rf"(?<!\w){re.escape(label)}(?![\w.])", about)]
    # a criterion's own name stands for the trial that speaks for it
    for criterion, choice in selection.headline(study).items():
        label = study.criterion(criterion).label
        if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", about):
            found.append(choice.trial)
    return sorted(set(found)) or done


def measured(study: Study) -> list[int]:
    """The trials of which a replica is done."""
    return sorted(int(trial) for trial in study.final["trial"].unique())


@lru_cache(maxsize=64)
def seeds_of(study: Study) -> Mapping[int, Mapping[int, str]]:
    """trial -> seed -> id of its run, of the replicas that are done."""
    found: dict[int, dict[int, str]] = {}
    for row in study.replicas[study.replicas["state"] == "done"].itertuples():
        found.setdefault(int(row.trial), {})[int(row.seed)] = str(row.run_id)  # type: ignore[arg-type]
    return found


def described(study: Study) -> dict[str, Any]:
    """Where the study is in MLflow, and its runs."""
    at_level = [run for run in study.runs if run.data.tags.get(schema.LEVEL) == "trial"]
    own = {int(run.data.tags[schema.TRIAL]): run.info.run_id for run in at_level}
    seeds = seeds_of(study)
    trials = {
        str(trial): {"run": run, "seeds": {str(seed): each for seed, each in seeds.get(trial, {}).items()}}
        for trial, run in own.items()
    }
    return {
        "tracking_uri": without_login(study.tracking_uri),
        "experiment": study.experiment.experiment_id,
        "trials": trials,
    }


def link(study: Study) -> tuple[str, str]:
    """The study's name, and where MLflow shows its runs; the address is empty where it has none."""
    uri = without_login(study.tracking_uri)
    address = f"{uri.rstrip('/')}/#/experiments/{study.experiment.experiment_id}/runs" if uri.startswith("http") else ""
    return study.name, address
