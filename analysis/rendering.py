"""Pages of sections as one self-contained file of HTML: figures and style stand in it, and nothing is fetched."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis import claims, output
from analysis.output import Figure, Table

TEMPLATES = Path(__file__).parent / "templates"


def write(path: Path, template: str, **values: Any) -> Path:
    """Write the page of ``template`` with its ``values`` to ``path``, whole or not at all, and make its folder."""
    text = page(template, **values)
    path.parent.mkdir(parents=True, exist_ok=True)
    output.write_whole(path, text)
    return path


def page(template: str, **values: Any) -> str:
    """The page of ``template`` with its ``values``."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"data_uri": _data_uri, "kind": _kind, "cell": _cell, "chips": _chips}
    return environment.get_template(template).render(**values)


def stem(criterion: str) -> str:
    """The criterion's name as part of a file's name: one of anyone's is ``package.module:name``."""
    return re.sub(r"[^\w.-]", "-", criterion)


def _data_uri(figure: Figure) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(figure.svg.read_bytes()).decode()}"


def _kind(item: str | Figure | Table) -> str:
    return type(item).__name__.lower()


def _chips(value: str) -> list[tuple[int, str]]:
    """The outcomes in a cell of verdicts, each with its place among all outcomes, by which it is coloured."""
    words = str(value).split("; ")
    return [(claims.OUTCOMES.index(re.split(r" [×(]", word)[0]), word) for word in words]


def _cell(value: object, is_wide: bool) -> str:
    """Ties the spaces inside a number with its interval; those of a wide table may break before the sign."""
    text = re.sub(r" ([<=]) ", "\u00a0\\1\u00a0", str(value))
    if is_wide:
        return text.replace(" ± ", " ±\u00a0").replace("; ", ";\n")
    text = re.sub(r" ± |(?<=\d), (?=[+−])", lambda match: match[0].replace(" ", "\u00a0"), text)
    return text.replace("; ", ";\n")
