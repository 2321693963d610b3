"""The oldest releases that the service works with: those that its own package asks for, see ``pyproject.toml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from study.errors import UserError

OURS = "fierce-study"


@cache
def floors() -> Mapping[str, SpecifierSet]:
    """Package -> the releases of it that are asked for, where any is; extras left out."""
    asked = [Requirement(line) for line in metadata.requires(OURS) or ()]
    return {canonicalize_name(one.name): one.specifier for one in asked if one.marker is None and one.specifier}


def fault(package: str, version: str) -> str:
    """What is wrong with ``version`` of ``package``, in one sentence; empty where it will do.

    A release candidate or a build of one's own is judged by its number.
    """
    asked = floors().get(canonicalize_name(package))
    try:
        if asked is None or asked.contains(Version(version).base_version):
            return ""
    except InvalidVersion:
        return ""
    return f"{package} {version} is too old: {package}{asked} is asked for"


def require() -> None:
    """`UserError` where a package installed here is older than is asked for, or missing."""
    for package, asked in floors().items():
        try:
            why = fault(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            why = f"{package} is not installed"
        if why:
            raise UserError(f"{why}; install it: pip install '{package}{asked}'")


def server_fault(package: str, answer: bytes) -> str:
    """`fault` of what a server says that it is; empty where it says no version."""
    text = answer.decode("utf-8", "replace").strip()
    return fault(package, text) if re.fullmatch(r"\d[\w.+-]{0,40}", text) else ""
