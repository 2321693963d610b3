"""What a section of the report is made of, written to files: figures (SVG, PNG) and tables (CSV, Markdown, LaTeX)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from analysis import legacy
from analysis.runs import Study
from analysis.selection import planned

Row = TypeVar("Row")

#: criterion -> colour (after the paper: CE red, FIERCE green, LS blue), by its place; colours, styles and markers are
#: told apart by colour-blind readers and in a grey print
COLOURS = (
    *("#CC3311", "#0077BB", "#009988", "#EE7733", "#EE3377", "#33BBEE", "#332288", "#999933", "#882255", "#000000"),
    *("#DDAA33", "#AA4499"),
)
STYLES = ("--", "-.", "-", ":")
MARKERS = ("s", "^", "o", "D", "v", "P", "X")
#: panels that stand side by side at most
PANELS = 5
#: resolution of clouds of points, which an SVG holds as pixels: at 160 those of eleven panels were a quarter of a page
POINTS_DPI = 110
#: columns that a page shows of a table at most
COLUMNS = 7
#: replicas that a sentence names at most
LISTED = 10

#: the look of every figure
STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
plt.rcParams.update(STYLE)

#: small Greek letters whose name LaTeX knows, from α on; ο is an o
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "varepsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu"),
    *("xi", "", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "varphi", "chi", "psi", "omega"),
)
#: characters that pdfLaTeX has no glyph for
_LATEX = str.maketrans(
    {
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
        "×": r"$\times$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "<": "$<$",
        ">": "$>$",
    }
    | {chr(ord("α") + place): rf"$\{name}$" for place, name in enumerate(_GREEK) if name}
    | {"ο": "o"}
)


class Described(Protocol):
    """What says which data it shows: a study, or several together."""

    @property
    def trials(self) -> pd.DataFrame:
        """A row per trial, with the columns data_name and provenance."""
        ...


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


@dataclass(frozen=True)
class Figure:
    """A figure in two files."""

    svg: Path
    png: Path
    caption: str


class Lead(str):
    """A paragraph that says the most in the fewest words, set larger than others."""


class Glossary(str):
    """What words mean, ``word: meaning`` a line; small, below what uses them."""


@dataclass(frozen=True)
class Table:
    """A table for reading; its files stand beside the figures under ``stem``.

    A page shows the columns ``first``, or as many as are legible, and folds the others away.
    """

    stem: str
    frame: pd.DataFrame
    caption: str
    first: tuple[str, ...] = ()

    @property
    def shown(self) -> list[str]:
        """The columns that a page shows at once."""
        return list(self.first or self.frame.columns[:COLUMNS])

    @property
    def folded(self) -> list[list[str]]:
        """The columns of further tables, each with the first column before them; empty where all are shown."""
        key, rest = self.frame.columns[0], [name for name in self.frame.columns if name not in self.shown]
        return [[key, *rest[start : start + COLUMNS - 1]] for start in range(0, len(rest), COLUMNS - 1)]


@dataclass(frozen=True)
class Section:
    """A part of the report: paragraphs (plain text), figures and tables, in order."""

    title: str
    items: tuple[str | Figure | Table, ...]


def save_figure(study: Described, canvas: Canvas, out: Path, stem: str, caption: str) -> Figure:
    """Write ``canvas`` as ``stem``.svg and .png under ``out`` and close it; simulated data is stamped on it."""
    origin = provenance(study)
    if origin != "real":
        canvas.text(0.995, 1.005, f"{origin} data", ha="right", va="bottom", fontsize=8, color="#a04000", weight="bold")
    out.mkdir(parents=True, exist_ok=True)
    svg, png = out / f"{stem}.svg", out / f"{stem}.png"
    # laid out once for both files: with any layout engine, a placeholder included, savefig draws each of them twice
    canvas.draw_without_rendering()
    canvas.set_layout_engine(None)
    box = canvas.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
    # the same values give the same bytes
    with mpl.rc_context({"svg.hashsalt": stem}):
        canvas.savefig(svg, metadata={"Date": None}, bbox_inches=box, dpi=POINTS_DPI)
    canvas.savefig(png, bbox_inches=box)
    plt.close(canvas)
    return Figure(svg, png, f"{caption} {data_note(study)}")


def save_table(
    study: Described,
    frame: pd.DataFrame,
    out: Path,
    stem: str,
    caption: str,
    data: pd.DataFrame | None = None,
    first: Sequence[str] = (),
) -> Table:
    """Write ``frame`` as ``stem``.md and .tex under ``out``, and ``data`` (numbers; else ``frame``) as .csv.

    ``first``: columns that a page shows where there are too many.
    """
    caption = f"{caption} {data_note(study)}"
    out.mkdir(parents=True, exist_ok=True)
    (frame if data is None else data).to_csv(out / f"{stem}.csv", index=False)
    (out / f"{stem}.md").write_text(f"{_markdown(frame)}\n\n{caption}\n", encoding="utf-8")
    escaped = frame.rename(columns=_escape_latex).map(lambda cell: _escape_latex(str(cell)))
    latex = escaped.to_latex(
        index=False, caption=_escape_latex(caption), label=f"tab:{stem}", column_format="l" * len(frame.columns)
    )
    (out / f"{stem}.tex").write_text(latex, encoding="utf-8")
    return Table(stem, frame, caption, tuple(first))


def provenance(study: Described) -> str:
    """``real``, ``semi-synthetic`` or ``simulated``: the furthest from real of the study's data sets."""
    order = ("simulated", "semi-synthetic", "real")
    kinds = set(study.trials["provenance"])
    return next((kind for kind in order if kind in kinds), "unstated")


def printed(study: Study, rows: Sequence[Row]) -> Sequence[Row]:
    """The paper's ``rows`` for a table to show beside ours: none beside simulated data, which they say nothing of."""
    return () if provenance(study) == "simulated" else rows


def data_note(study: Described) -> str:
    """The data and where it comes from, in a sentence that stands in every caption."""
    named = study.trials.loc[study.trials["data_name"] != "", ["data_name", "provenance"]].drop_duplicates()
    if named.empty:
        return "Data: not stated."
    sets = "; ".join(f"{row.data_name} ({row.provenance})" for row in named.itertuples())
    return f"Data: {sets}."


def split_note(study: Study) -> str:
    """How the data was split, and what an interval over seeds covers; empty where the study does not say."""
    if not study.parts:
        return ""
    drawn = next(iter(study.parts.values()))
    sizes = ", ".join(f"{part} {count:,}" for part, count in drawn.sizes.items())
    options = study.settings.get("benchmark") or {}
    named, group = options.get("split") or "random", options.get("group")
    how = f"by {group}, each of which is in one part alone" if group else "sample by sample at random"
    if isinstance(named, dict) and named.get("by") == "block":
        how = f"in blocks of {named['size']} × {named['size']} neighbouring pixels, none of which is in two parts"
    elif isinstance(named, dict):
        how = "by person, each of whom is in one part alone"
    if not drawn.redrawn:
        return (
            f"Split: the same held-out samples for every seed ({sizes}). An interval covers other seeds: initial "
            "weights, orders, and what else a seed draws. It does not speak of other data."
        )
    return (
        f"Split: {how}, anew for every seed ({sizes}). An interval covers other seeds, that is initial weights, orders "
        "and splits of this one data set; it does not speak of other data. Since the seeds' training samples overlap, "
        "it is too narrow even for that; the tables' corrected interval allows for the overlap (Nadeau and Bengio "
        "2003: variance × (1/n + n_test/n_train) in place of 1/n)."
    )


def lost_note(study: Study) -> str:
    """Whose arrays were kept and cannot be read, in a sentence; empty where there are none of that kind."""
    if not study.lost:
        return ""
    named = ", ".join(f"trial {trial} seed {seed}" for trial, seed in study.lost[:LISTED])
    more = f" and {len(study.lost) - LISTED} more" if len(study.lost) > LISTED else ""
    return (
        "Arrays (features, probabilities) that were kept with the replicas are missing or damaged among the artifacts, "
        f"and what is drawn from them leaves these out: {named}{more}. `fierce resume` sends what the checkpoints hold."
    )


def seeds_note(study: Study, chosen: Mapping[str, int], level: float) -> str:
    """How many seeds each trial (label -> number) has, and what an interval is."""
    done = study.final.groupby("trial")["seed"].nunique()
    short = []
    whole = set()
    for label, trial in chosen.items():
        n, wanted = int(done.get(trial, 0)), planned(study, trial)
        if n == wanted:
            whole.add(wanted)
        else:
            short.append(f"{label} has n = {n} of {wanted} seeds, hence no interval")
    counts = " or ".join(str(n) for n in sorted(whole))
    parts = [f"n = {counts} seeds, {level:.0%} Student-t intervals"] if whole else []
    return "; ".join(parts + short) + "."


def look(study: Study, criterion: str) -> dict[str, str]:
    """Colour and line style of a criterion, for `Axes.plot`."""
    return {"color": colour(study, criterion), "linestyle": STYLES[_place(study, criterion) % len(STYLES)]}


def colour(study: Study, criterion: str) -> str:
    """Colour of a criterion; the same in every study for those that all stores know."""
    return COLOURS[_place(study, criterion) % len(COLOURS)]


def marker(study: Study, criterion: str) -> str:
    """Marker of a criterion, for `Axes.plot`."""
    return MARKERS[_place(study, criterion) % len(MARKERS)]


def _place(study: Study, criterion: str) -> int:
    """Those that all stores know first, wherever the study declares them, then the study's own in order."""
    return [*legacy.CRITERIA, *(name for name in study.criteria if name not in legacy.CRITERIA)].index(criterion)


def row_of_panels(count: int, width: float, heights: Sequence[float], **options: Any) -> tuple[Canvas, Any]:
    """Panels side by side, at most `PANELS` in a row, then below: a figure, and its axes (len(heights), count).

    ``width`` and ``heights``, of the panels that stand one on another for each, are in inches.
    """
    columns = min(count, PANELS)
    blocks, rows = -(-count // columns), len(heights)
    size = (width * columns, sum(heights) * blocks)
    ratios = list(heights) * blocks
    canvas, grid = plt.subplots(
        blocks * rows, columns, figsize=size, squeeze=False, height_ratios=ratios, layout="constrained", **options
    )
    # (blocks, rows, columns) -> (rows, blocks · columns)
    axes = grid.reshape(blocks, rows, columns).swapaxes(0, 1).reshape(rows, -1)
    for spare in axes[:, count:].flat:
        spare.remove()
    return canvas, axes[:, :count]


def legend_below(canvas: Canvas, axes: Axes) -> None:
    """One legend for the whole figure, under its panels, in as many rows as its labels need."""
    handles, labels = axes.get_legend_handles_labels()
    # a letter is about .08 inches wide, and a handle with its gaps .7
    fitting = canvas.get_figwidth() / (0.7 + 0.08 * max(map(len, labels), default=1))
    rows = -(-len(labels) // max(1, int(fitting)))
    columns = max(1, -(-len(labels) // max(1, rows)))
    canvas.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=columns)


def _markdown(frame: pd.DataFrame) -> str:
    rows: list[Any] = [frame.columns, ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def _escape_latex(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, r"\textbackslash " if character == "\\" else f"\\{character}")
    return text.translate(_LATEX)
