"""The addresses of servers in a study's file, and the passwords in them: kept apart, for the user alone.

Tune's files, the study's own in its storage, and what MLflow is sent are read by others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from analysis.addresses import has_secret, without_login, without_password
from study.errors import UserError
from study.file.spec import OLD_OPTUNA_URI, OPTUNA_URI, StudySpec

#: file beside the home's copy of the study file, mode 0600: key -> an address that holds a password
LOGINS = "logins.json"


def servers(spec: StudySpec) -> dict[str, str]:
    """The servers' addresses that the study's file names, by key."""
    named = {"tracking_uri": spec.tracking_uri, OPTUNA_URI: spec.optuna_uri}
    return {key: address for key, address in named.items() if address}


def without_passwords(spec: StudySpec) -> StudySpec:
    """The study as others may read it."""
    named = {**servers(spec), **({"storage": spec.storage} if spec.storage else {})}
    return spec.model_copy(update={key: without_password(address) for key, address in named.items()})


def keep(spec: StudySpec, folder: Path) -> None:
    """Keep the addresses that hold a password in ``folder``, in a file that nobody else can read."""
    secret = {key: address for key, address in servers(spec).items() if has_secret(address)}
    path = folder / LOGINS
    if not secret:
        path.unlink(missing_ok=True)
        return
    write_private(path, json.dumps(secret))


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, whole or not at all: it may hold a login."""
    aside = path.with_name(f".{path.name}.part")
    # what a kill left there may have another mode
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    aside.replace(path)


def restored(spec: StudySpec, folder: Path) -> StudySpec:
    """The study with the passwords that ``folder`` keeps of the same servers."""
    try:
        kept: dict[str, str] = json.loads((folder / LOGINS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return spec
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / LOGINS} cannot be read ({error}); remove it, and set the login anew") from None
    if OLD_OPTUNA_URI in kept:
        kept[OPTUNA_URI] = kept.pop(OLD_OPTUNA_URI)
    named = servers(spec)
    same = {key: kept[key] for key in named if key in kept and without_login(kept[key]) == without_login(named[key])}
    return spec.model_copy(update=same)


def require_no_secrets(spec: StudySpec) -> None:
    """`UserError` where an option of the benchmark holds a password: options stand in many files of a study."""
    for name, value in spec.benchmark.options.items():
        for address in _texts(value):
            if "://" in address and has_secret(address):
                raise UserError(
                    f"benchmark.{name}: {without_password(address)} holds a password, which would be written into the "
                    "study's files; give it by the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://)"
                )


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for item in value for text in _texts(item)] if isinstance(value, list | tuple) else []
