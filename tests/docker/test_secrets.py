"""The script that makes the service's secrets."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make(folder: Path) -> dict[str, str]:
    subprocess.run(
        [ROOT / "docker" / "secrets.sh"], env={**os.environ, "FIERCE_SECRETS": str(folder)}, check=True, timeout=60
    )
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


def test_every_secret_is_its_own_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = make(folder)
    passwords = {name: value for name, value in made.items() if name != "aws_credentials"}
    assert len(passwords) == 7
    assert all(len(value) == 64 and int(value, 16) for value in passwords.values())
    assert len(set(passwords.values())) == 7
    assert make(folder) == made
    (folder / "ray_auth_token").unlink()
    again = make(folder)
    assert again.pop("ray_auth_token") != made.pop("ray_auth_token")
    assert again == made


def test_nobody_else_on_the_machine_comes_in_and_the_containers_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) & 0o033 for file in folder.iterdir()} == {0}
    assert {stat.S_IMODE(file.stat().st_mode) & 0o444 for file in folder.iterdir()} == {0o444}
