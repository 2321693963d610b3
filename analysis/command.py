"""The command line of the analysis scripts: ``python -m analysis.X --study NAME [--tracking-uri URI] --out DIR``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from analysis.addresses import without_password
from analysis.output import Figure, Section, Table
from analysis.runs import StoreError, Study
from analysis.terminal import plain


def run(section: Callable[[Study, Path], Section], description: str | None) -> None:
    """Write one section's figures and tables and print where they are."""
    plain()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", required=True, help="name of the study")
    add_tracking_uri(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    try:
        made = section(Study.open(arguments.tracking_uri, arguments.study), arguments.out)
    except StoreError as error:
        sys.exit(f"error: {error}")
    for item in made.items:
        if isinstance(item, Figure):
            print(item.svg, item.png, sep="\n")
        elif isinstance(item, Table):
            print(*(arguments.out / f"{item.stem}.{suffix}" for suffix in ("csv", "md", "tex")), sep="\n")
        else:
            print(item)


def add_tracking_uri(parser: argparse.ArgumentParser) -> None:
    """The option ``--tracking-uri``, whose help shows no password."""
    shown = without_password(default_uri()).replace("%", "%%")
    parser.add_argument("--tracking-uri", default=default_uri(), help=f"MLflow store or server ({shown})")


def default_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else the store in ``FIERCE_HOME``, else the one in ./fierce-home."""
    home = Path(os.environ.get("FIERCE_HOME", "fierce-home"))
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
