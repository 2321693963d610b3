"""Prints the versions that the image is built from: what pip would install today of the project and its service.

python docker/lock.py > docker/requirements.txt

Run it by the Python of docker/Dockerfile, 3.11, on Linux: other platforms need other packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = "# what docker/Dockerfile installs; printed by: make lock"


def wanted() -> list[str]:
    """What the project asks for, its extra ``service`` included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["service"]]


def resolved(requirements: list[str]) -> list[str]:
    """``name==version`` of all that pip would install of them into an empty environment, in order."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    # pip's own notices stand on stderr
    told = subprocess.run([*command, *requirements], check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    found = (package["metadata"] for package in json.loads(told)["install"])
    # a local version (+cpu) names one index's build
    return sorted(f"{each['name'].lower()}=={each['version'].partition('+')[0]}" for each in found)


if __name__ == "__main__":
    print("\n".join([HEAD, *resolved(wanted())]))
