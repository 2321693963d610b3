"""Pages: what the report of a benchmark shows, in order, and the paper's settings that it is compared with."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from analysis.store import StoreError

#: an `analysis.runs.Study` and the folder to write to -> an `analysis.output.Section`; a study knows its page, and so
#: a page's type knows no study
SectionFunction = Callable[[Any, Path], Any]

#: modules with the paper's pages, and the module with the page of every other benchmark
BUILT_IN = ("analysis.hyperspectral.page", "analysis.age.page", "analysis.natural_images.page")
DEFAULT = "analysis.own_data.page"
#: entry points of this group are anyone's pages: the benchmark's name in a study file = ``package.module``
GROUP = "fierce.pages"


class PageError(StoreError):
    """The page that was asked for cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class Page:
    """A report's ``sections`` in order, each a function of the study and the folder to write to.

    ``benchmarks`` are the names of those that it serves; ``settings`` the paper's hyperparameters, criterion -> name
    -> value: the trial that has them speaks for its criterion; ``metrics`` the main ones, most important first;
    ``claims`` those that it judges, `analysis.claims.Claim` each.
    """

    sections: Sequence[SectionFunction]
    benchmarks: Sequence[str] = ()
    settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    metrics: Sequence[str] = ()
    summary: SectionFunction | None = None
    claims: Sequence[Any] = ()


def find(benchmark: str, module: str = "") -> Page:
    """The page of ``module`` where one is named, else the benchmark's own, else the default.

    A module holds its pages as ``PAGES``; of several, the one that serves ``benchmark`` is taken, else the first.
    No name in the store is imported. Raises `PageError` where the module cannot be imported or holds no page.
    """
    if module:
        return _of_module(module, benchmark)
    for built_in in BUILT_IN:
        pages: Sequence[Page] = importlib.import_module(built_in).PAGES
        for page in pages:
            if benchmark in page.benchmarks:
                return page
    for point in entry_points(group=GROUP, name=benchmark):
        return _of_module(point.value, benchmark)
    return _of_module(DEFAULT, benchmark)


def _of_module(name: str, benchmark: str) -> Page:
    try:
        pages: Sequence[Page] = importlib.import_module(name).PAGES
    # a module of one's own raises whatever it likes
    except Exception as error:
        raise PageError(
            f"the page {name!r} cannot be imported ({error or type(error).__name__}): give it as package.module, of a "
            "module that defines PAGES"
        ) from error
    if not isinstance(pages, Sequence) or not pages or not all(isinstance(page, Page) for page in pages):
        raise PageError(f"{name}: PAGES must be a list of analysis.pages.Page, with at least one")
    return next((page for page in pages if benchmark in page.benchmarks), pages[0])
