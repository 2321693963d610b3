"""The command line of the analysis scripts: ``python -m analysis.X --study NAME [--home HOME] --out DIR``.

A store elsewhere is named by ``--tracking-uri`` in place of ``--home``.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from analysis.addresses import without_password
from analysis.output import Figure, Section, Table
from analysis.runs import StoreError, Study
from analysis.terminal import plain


def run(section: Callable[..., Section | None], description: str | None) -> None:
    """Write one section's figures and tables, as the study's page has it, and print where they are."""
    plain()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", required=True, help="name of the study")
    add_store(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    try:
        study = Study.open(arguments.tracking_uri, arguments.study)
        made = _as_on_page(study, section)(study, arguments.out)
    except StoreError as error:
        refuse(error)
    if made is None:
        refuse(f"the study {arguments.study!r} has nothing for this section")
    for item in made.items:
        if isinstance(item, Figure):
            print(item.svg, item.png, sep="\n")
        elif isinstance(item, Table):
            print(*(arguments.out / f"{item.stem}.{suffix}" for suffix in ("csv", "md", "tex")), sep="\n")
        else:
            print(item)


def add_store(parser: argparse.ArgumentParser) -> None:
    """The options ``--tracking-uri``, whose help shows no password, and ``--home``, of which the last one holds."""
    shown = without_password(default_uri()).replace("%", "%%")
    parser.add_argument("--tracking-uri", default=default_uri(), help=f"MLflow store or server ({shown})")
    parser.add_argument(
        "--home", dest="tracking_uri", type=_store_in, metavar="HOME", help="study home that has the store"
    )


def refuse(reason: object) -> NoReturn:
    """End with a sentence of what the user can correct, and the exit code of ``fierce`` for it."""
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(2)


def _as_on_page(study: Study, section: Callable[..., Section | None]) -> Callable[[Study, Path], Section | None]:
    """``section`` with what the study's page gives to it; as it is where the page has no such section.

    Raises `StoreError` where it cannot be made without the page.
    """
    code = section.__code__
    for made in study.page.sections:
        function = getattr(made, "func", made).__code__
        # run as a script, a module is there twice
        if (function.co_filename, function.co_name) == (code.co_filename, code.co_name):
            return made
    needed = [
        parameter.name
        for parameter in inspect.signature(section).parameters.values()
        if parameter.default is parameter.empty
    ][2:]
    if needed:
        raise StoreError(f"the page of {study.benchmark} has no such section, and it needs {' and '.join(needed)}")
    return section


def default_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else the store in ``FIERCE_HOME``, else the one in ./fierce-home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _store_in(os.environ.get("FIERCE_HOME", "fierce-home"))


def _store_in(home: str) -> str:
    return f"sqlite:///{Path(home) / 'mlflow.db'}"
