"""Several studies seen as one: who they are, their look in figures, and what their stores and files differ in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from analysis import dialect, schema
from analysis.addresses import without_password
from analysis.output import COLOURS, MARKERS, STYLES
from analysis.runs import Study

#: a study's colour by its place: those of `COLOURS`, in an order that takes none of the first criteria's at once
ORDER = (6, 3, 2, 4, 5, 0, 7, 8, 1, 9, 10, 11)
#: keys of a study file that say what it is called and where it is kept, and nothing of its numbers
NAMES = ("name", "description", "tracking_uri", "optuna_uri", "storage")


@dataclass(frozen=True, eq=False)
class Together:
    """Studies side by side; the first is what the others are compared with."""

    studies: Sequence[Study]

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The rows of all studies' trials, with the study's name in front."""
        return pd.concat([study.trials.assign(study=study.name) for study in self.studies], ignore_index=True)

    @property
    def first(self) -> Study:
        return self.studies[0]

    @property
    def others(self) -> Sequence[Study]:
        return self.studies[1:]

    def look(self, study: Study) -> dict[str, str]:
        """Colour, line style and marker of a study, for `Axes.plot`; the same on the whole page."""
        place = list(self.studies).index(study)
        return {
            "color": COLOURS[ORDER[place % len(ORDER)]],
            "linestyle": STYLES[(place + 2) % len(STYLES)],
            "marker": MARKERS[(place + 2) % len(MARKERS)],
        }

    def metrics(self) -> list[str]:
        """The metrics that two studies or more measured at their last epoch, the pages' main ones first."""
        measured = [set(study.ends) for study in self.studies]
        main = [name for study in self.studies for name in study.page.metrics]
        declared = [name for study in self.studies for name in study.metrics]
        names = dict.fromkeys([*main, *declared, *sorted(set().union(*measured))])
        return [name for name in names if sum(name in each for each in measured) > 1]

    def main_metrics(self) -> list[str]:
        """The pages' main metrics that are measured in common; all in common where none is."""
        common = self.metrics()
        main = {name for study in self.studies for name in study.page.metrics}
        return [name for name in common if name in main] or common


def differences(together: Together) -> pd.DataFrame:
    """What differs: a row per key of the study files and per fact of the stores, a column per study; – where absent."""
    settings = [dict(_flat(_named(study))) | _facts(study) for study in together.studies]
    keys = dict.fromkeys(key for each in settings for key in each)
    rows = [
        {"": key, **{study.name: each.get(key, "–") for study, each in zip(together.studies, settings, strict=True)}}
        for key in keys
        if len({each.get(key) for each in settings}) > 1
    ]
    return pd.DataFrame(rows, columns=["", *(study.name for study in together.studies)])


def _named(study: Study) -> Mapping[str, Any]:
    return {key: value for key, value in study.settings.items() if key not in NAMES}


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """``key.path`` and value in YAML of each that is no mapping."""
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _flat(each, f"{key}.{name}" if key else str(name))
    else:
        yield key, without_password(dialect.inline(value))


def _facts(study: Study) -> dict[str, str]:
    """What the store says of the data and the code that the study file does not."""
    fingerprints = ", ".join(sorted({digest[:12] for digest in study.trials["fingerprint"]} - {""}))
    names = ", ".join(sorted(set(study.trials["data_name"]) - {""}))
    sizes = {" ".join(f"{part} {count}" for part, count in each.sizes.items()) for each in study.parts.values()}
    known = {
        "data": names,
        "data fingerprint": fingerprints,
        "samples": "; ".join(sorted(sizes)),
        "versions": study.tags.get(schema.VERSIONS, ""),
        "commit": study.tags.get("mlflow.source.git.commit", "")[:12],
    }
    return {key: value for key, value in known.items() if value}
