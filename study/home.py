"""The study home: the folder that holds the embedded databases and every study's files."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from analysis.addresses import absolute, has_secret, without_login, without_password
from study.errors import UserError
from study.file.paths import in_utf_8
from trainables.storage import Folder

if TYPE_CHECKING:
    from study.file.spec import StudySpec

#: environment variable: the home where ``--home`` is not given
HOME_VARIABLE = "FIERCE_HOME"
DEFAULT_HOME = "fierce-home"
#: MLflow's database in a home
DATABASE = "mlflow.db"
#: a study's file, in its folder in a home and in the study's storage
SPEC = "study.yaml"
#: environment variable: where studies keep checkpoints where their file does not say
STORAGE_VARIABLE = "FIERCE_STORAGE"


@dataclass(frozen=True)
class Home:
    """A study home.

    ``studies/<name>/`` holds ``study.yaml`` (as resolved, with where the home was then) and the report. Below the
    study's storage, which is the same folder where no other is named, stand ``study.yaml``, ``lock`` (held by the
    running driver), ``stop`` (present while the study winds up), ``trials/<number>/`` (lock and checkpoint) and
    ``tune/`` (Ray Tune's own folder). ``mlflow.db`` with ``artifacts/``, and ``optuna.db``, serve the studies that name
    no server. A home may be moved or copied as a whole (see `study.record.moved`).
    """

    root: Path

    @classmethod
    def find(cls, path: str | Path | None = None) -> Home:
        """The home at ``path``, else at ``FIERCE_HOME``, else ``./fierce-home``.

        `UserError` where the address of a database there would be another path's: of a '?' in it, or where the locale
        spells it otherwise than UTF-8 does.
        """
        root = Path(path or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().resolve()
        if not in_utf_8(root):
            raise UserError(
                f"the study home {root} has letters that are spelled otherwise in this locale's encoding "
                f"({sys.getfilesystemencoding()}) than in UTF-8: set PYTHONUTF8=1, or choose another with --home"
            )
        if "?" in str(root):
            raise UserError(
                f"the study home {root} has a '?' in its path, which ends the path in a database's address: choose "
                "another with --home"
            )
        return cls(root)

    def tracking_uri(self, spec: StudySpec | None = None) -> str:
        """Where MLflow keeps the runs: the study file's, else ``MLFLOW_TRACKING_URI``, else the home's SQLite."""
        named = _named(spec.tracking_uri if spec else None, "MLFLOW_TRACKING_URI")
        return named or f"sqlite:///{self.root / DATABASE}"

    def artifacts(self, tracking_uri: str) -> str | None:
        """Where artifacts go: below the home for a database on this machine; a server decides for itself."""
        return (self.root / "artifacts").as_uri() if tracking_uri.startswith("sqlite:") else None

    def optuna_uri(self, spec: StudySpec | None = None) -> str:
        """Optuna's database: the study file's, else ``OPTUNA_STORAGE``, else the home's SQLite."""
        named = _named(spec.optuna_uri if spec else None, "OPTUNA_STORAGE")
        return named or f"sqlite:///{self.root / 'optuna.db'}"

    def study(self, name: str) -> Path:
        """The study's folder on this machine."""
        return self.root / "studies" / name

    def storage(self, spec: StudySpec | None = None) -> Folder:
        """Where checkpoints and Tune's state are kept: the study file's, else ``FIERCE_STORAGE``, else the home."""
        named = absolute((spec and spec.storage) or os.environ.get(STORAGE_VARIABLE) or str(self.root / "studies"))
        if has_secret(named):
            raise UserError(
                f"storage: {without_password(named)} holds a password, which Ray Tune would write into the study's "
                "files; give it by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return Folder(unquote(urlsplit(named).path) if named.startswith("file:") else named)

    def files(self, name: str, spec: StudySpec | None = None) -> Folder:
        """The study's folder in its `storage`."""
        return self.storage(spec) / name

    def prepare(self) -> None:
        """Make the home; `UserError` where that cannot be."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the study home {self.root} cannot be made: {error.strerror}; choose another with --home"
            ) from None
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise UserError(f"the study home {self.root} is not writable; choose another with --home")


def _named(kept: str | None, variable: str) -> str | None:
    """The address in the study's file, else in the environment, from where it takes its login if it has none."""
    kept, given = absolute(kept or ""), absolute(os.environ.get(variable) or "")
    if kept and not has_secret(kept) and without_login(given) == without_login(kept):
        return given
    return kept or given or None
