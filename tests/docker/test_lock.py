"""The versions that the image is built from satisfy what the project asks for."""

from __future__ import annotations

import runpy
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

DOCKER = Path(__file__).resolve().parents[2] / "docker"


def test_each_dependency_is_there_once_in_a_version_that_is_accepted() -> None:
    lines = (DOCKER / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    pinned = {canonicalize_name(name): Version(version) for name, version in pairs}
    assert len(pinned) == len(pairs) > 100
    wanted = [Requirement(line) for line in runpy.run_path(str(DOCKER / "lock.py"))["wanted"]()]
    assert len(wanted) > 20
    for requirement in wanted:
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement
