"""An RO-Crate beside the page: what it was made of and how, as JSON-LD, so that it can be made again.

RO-Crate 1.1, https://w3id.org/ro/crate/1.1: a root data set, its files, and the action that made them with its
instruments. Written as it is; no library is needed to read it.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from study.errors import UserError
from study.file.spec import StudySpec
from study.record import facts
from study.service.paper.planning import PLAN, Plan
from trainables.storage import Folder, digest

CRATE = "ro-crate-metadata.json"
#: packages whose versions decide a number
PACKAGES = ("fierce-study", "torch", "torchvision", "numpy", "scipy", "POT", "scikit-learn", "ray", "optuna", "mlflow")


def write(folder: Path, plan: Plan, command: str) -> Path:
    """``folder``/ro-crate-metadata.json of what stands in ``folder``, and of the data that ``plan`` reads."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CRATE)
    inside = [_file(path, path.relative_to(folder).as_posix()) for path in files if not _is_left_out(path)]
    data = [_file(Path(path), Path(path).as_uri()) for path in data_of(plan)]
    code = facts.source()
    software = {
        "@id": "#fierce-study",
        "@type": "SoftwareApplication",
        "name": "fierce-study",
        "version": version("fierce-study"),
        "identifier": code.get("mlflow.source.git.commit", ""),
        "additionalProperty": _properties(
            {"changed since that commit": code.get("mlflow.source.git.dirty", "unknown")}
        ),
    }
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        **{package: _installed().get(package.lower(), "") for package in PACKAGES},
    }
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": command,
        "instrument": {"@id": "#fierce-study"},
        "object": [{"@id": each["@id"]} for each in data] + [{"@id": PLAN}],
        "result": [{"@id": each["@id"]} for each in inside],
        "endTime": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": _properties(environment),
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{plan.name}: the paper's tables, figures and claims, rebuilt",
        "description": "Made again by: fierce paper --from THIS_FOLDER",
        "datePublished": datetime.now(UTC).date().isoformat(),
        "hasPart": [{"@id": each["@id"]} for each in (*inside, *data)],
        "mentions": {"@id": "#run"},
    }
    descriptor = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }
    graph = [descriptor, root, *inside, *data, software, action]
    content = {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}
    Folder(str(folder)).write(CRATE, json.dumps(content, indent=1, ensure_ascii=False).encode())
    return folder / CRATE


def data_of(plan: Plan) -> list[str]:
    """The files and folders of data that the plan's studies read, each once."""
    found: set[str] = set()
    for study in plan.studies:
        options = StudySpec.from_yaml(study.spec).benchmark.options if study.spec else {}
        for value in options.values():
            if isinstance(value, str) and Path(value).is_absolute():
                found.add(value)
    return sorted(found)


def require_same_data(folder: Path) -> None:
    """`UserError` where a file of data that the crate in ``folder`` was made of is not here, or is another."""
    try:
        graph = json.loads((folder / CRATE).read_text(encoding="utf-8"))["@graph"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / CRATE} cannot be read ({error}); name the folder of a crate by --from") from None
    for entity in graph:
        if not entity["@id"].startswith("file://"):
            continue
        path = Path(entity["name"])
        if not path.exists():
            raise UserError(f"{path}: the data that the crate was made of are not here; put them there")
        now = _digest(path, path.stat().st_mtime_ns)
        if now != entity["sha256"]:
            raise UserError(
                f"{path}: other data than the crate was made of (SHA-256 {now[:12]}, it was {entity['sha256'][:12]})"
            )


def _file(path: Path, identity: str) -> dict[str, Any]:
    size = {} if path.is_dir() else {"contentSize": path.stat().st_size}
    name = str(path) if identity.startswith("file://") else path.name
    return {
        "@id": identity,
        "@type": "Dataset" if path.is_dir() else "File",
        "name": name,
        "sha256": _digest(path, path.stat().st_mtime_ns),
        **size,
    }


@lru_cache(maxsize=4096)
def _digest(path: Path, changed: int) -> str:
    """As `digest`; ``changed`` is the time of ``path``, by which a cache knows it."""
    return digest(path)


def _is_left_out(path: Path) -> bool:
    """Figures, which stand in the page as well, and what is being written."""
    return path.suffix in (".png", ".svg") or path.name.startswith(".")


@lru_cache(maxsize=1)
def _installed() -> Mapping[str, str]:
    return {str(each.metadata["Name"]).lower(): each.version for each in distributions()}


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"@type": "PropertyValue", "name": name, "value": value} for name, value in values.items()]
