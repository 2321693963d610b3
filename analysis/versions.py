"""The versions of the product that a study was trained by, as its runs tell them."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow.entities import Run

from analysis import schema

#: the product, in what a run tells of versions: ``fierce-study 0.2.0 python 3.12.3 torch …``
PRODUCT = "fierce-study"


def note(runs: Iterable[Run]) -> str:
    """A warning where several versions trained the study; empty where one did."""
    found = set()
    for run in runs:
        name, _, rest = run.data.tags.get(schema.VERSIONS, "").partition(" ")
        if name == PRODUCT:
            found.add(rest.partition(" ")[0])
    if len(found) < 2:
        return ""
    return (
        f"Trained by {PRODUCT} {' and '.join(sorted(found))}: what a release changes in numbers is in its list of "
        "changes."
    )
