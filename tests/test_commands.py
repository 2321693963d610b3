"""Every command, and every piece of a study file, that the docs show: read by the program, and the README's run."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.io import savemat
from sklearn.datasets import load_digits
from typer.main import get_command
from typer.testing import CliRunner

from study.cli import app
from study.file.spec import READY_MADE, StudySpec, ready_made
from tests.in_process import without_ray

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md")
]
PAGES += sorted((ROOT / "docs").glob("*.md"))
#: what stands in a fenced block: commands, study files, or what other tests run
SHELL, STUDY, ELSEWHERE = ("console", "sh"), ("yaml", "yml"), ("python", "toml", "")
#: programs of others, whose commands are only held to the shell's grammar, or run by `make test-docker`
OTHERS = {"docker", "mlflow", "ray", "pip", "ssh", "cd", "git", "rm", "cat", ".", "source", "password=$(cat"}
OTHERS |= {"kubectl", "scancel", "sbatch", "squeue"}
#: what stands for a value of the reader's own, as text that any option takes
PLACEHOLDERS = {"…": "0", "DIR": "out", "NAME": "jasper", "STUDY.yaml": "quickstart"}


def _fenced(path: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def _inline(path: Path) -> list[str]:
    """What stands between backquotes outside of blocks."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", text)]


def _prompted(text: str) -> list[str]:
    """The commands behind a prompt, each on one line."""
    return re.findall(r"^\$ (.*?)$", re.sub(r"\\\n\s*", "", text), re.MULTILINE)


def _commented(path: Path) -> list[str]:
    """The commands in the comment on top of a study file."""
    top = re.match(r"(#.*\n)*", path.read_text(encoding="utf-8"))
    lines = re.sub(r"\\\n#\s*", "", top[0] if top else "").splitlines()
    return [line.removeprefix("# ") for line in lines if line.startswith("# fierce ")]


def _shown() -> Iterator[tuple[str, str, bool]]:
    """Where a command stands, the command, and whether it stands in running text."""
    for path in PAGES:
        where = path.relative_to(ROOT).as_posix()
        for language, text in _fenced(path):
            if language == "console" and not text.startswith("$ python -c"):
                yield from ((where, command, False) for command in _prompted(text))
        for text in _inline(path):
            if re.match(r"(fierce|make|python -m|docker) \S", text):
                yield where, text, True
    for path in (*sorted(READY_MADE.glob("*.yaml")), *sorted((ROOT / "examples").glob("*.yaml"))):
        yield from ((path.name, command, False) for command in _commented(path))
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        if command.epilog:
            yield f"fierce {name}", command.epilog.removeprefix("Example: "), False


COMMANDS = list(dict.fromkeys(_shown()))
#: those of the command itself, one for each that a loop or a pipe holds
FIERCE = [
    (where, part.strip(), is_text)
    for where, command, is_text in COMMANDS
    for part in re.findall(r"fierce(?: +(?:'[^']*'|[^\s;|&>#']+))+", command)
]
#: studies as they are shown, with what overrides them
STUDIES = [
    (where, part, is_text) for where, part, is_text in FIERCE if re.match(r"fierce (run|check|submit) [^-]", part)
]
MODULES = [(where, command) for where, command, _ in COMMANDS if re.match(r"python -m (?!pytest)[\w.]+", command)]


def _words(command: str) -> list[str]:
    """The words of a command, without the brackets of what may be left out, nor what a loop puts in."""
    text = re.sub(r"\$\w+", "29", command.replace("[", " [").replace("]", "] ")) if "python -m" in command else command
    words = shlex.split(
        re.sub(r"(?<= )\[|\](?= |$)", "", text) if "python -m" in command else re.sub(r"\$\w+", "29", text)
    )
    return [PLACEHOLDERS.get(word, word) for word in words]


def _given(words: list[str], is_text: bool) -> tuple[dict[str, Any], str]:
    """What the command is given as `fierce` reads its arguments, running nothing, and what it says where it cannot."""
    taken: dict[str, Any] = {}
    command = get_command(app)
    groups = [command]
    while groups:
        for each in groups.pop().commands.values():  # type: ignore[attr-defined]
            each.callback = taken.update
            groups += [each] if hasattr(each, "commands") else []
    said = io.StringIO()
    # in running text a command may stand without its arguments
    for more in ([], ["jasper"], ["jasper", "mine"], ["jasper", "--out", "jasper.csv"])[: None if is_text else 1]:
        taken.clear()
        quiet, ends = contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit)
        with contextlib.redirect_stderr(said), quiet, ends as ended:
            command.main(args=[*words[1:], *more], prog_name="fierce")
        if ended.value.code == 0:
            return taken, ""
    return taken, said.getvalue()


def test_there_are_commands_of_every_kind() -> None:
    assert len(FIERCE) > 100 and len(STUDIES) > 40 and len(MODULES) > 10
    # each command of the program is shown somewhere
    named = {_words(part)[1] for _, part, _ in FIERCE}
    assert set(get_command(app).commands) <= named  # type: ignore[attr-defined]


def test_nothing_is_shown_that_no_test_reads() -> None:
    for path in PAGES:
        for language, text in _fenced(path):
            assert language in (*SHELL, *STUDY, *ELSEWHERE), (path.name, language)
            for command in _prompted(text) if language == "console" else ():
                first = command.lstrip("(").split()[0]
                known = {"fierce", "make", "python", "for"} | OTHERS
                assert first in known or (ROOT / first).is_file(), (path.name, command)


@pytest.mark.parametrize(("where", "command", "is_text"), FIERCE)
def test_a_command_and_its_options_are_known(where: str, command: str, is_text: bool) -> None:
    _, wrong = _given(_words(command), is_text)
    assert not wrong, f"{where}: {command}"


def test_a_wrong_command_is_told() -> None:
    for command in (
        "fierce run jasper --sets a=1",
        "fierce runs jasper",
        "fierce rename jasper",
        "fierce ui --port five",
    ):
        assert _given(_words(command), False)[1], command
    assert _given(_words("fierce run --replaced"), True)[1]


@pytest.mark.parametrize(("where", "command", "is_text"), STUDIES)
def test_a_study_that_is_overridden_is_one(
    where: str, command: str, is_text: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, _ = _given(_words(command), is_text)
    spec = str(given["spec"])
    own = [text for language, text in _fenced(ROOT / "README.md") if language == "yaml" and "benchmark:" in text]
    (tmp_path / "unmixing.yaml").write_text(own[0], encoding="utf-8")
    own = [text for language, text in _fenced(ROOT / "docs" / "own-data.md") if language == "yaml"]
    for name in ("digits.yaml", "study.yaml"):
        (tmp_path / name).write_text(own[0], encoding="utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    loaded = StudySpec.load(spec, given["overrides"] or (), given.get("name"))
    assert loaded.name == (given.get("name") or Path(spec).stem)


@pytest.mark.parametrize(("where", "command"), MODULES)
def test_a_module_takes_what_it_is_shown_with(where: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Read(Exception):
        """The arguments were read."""

    parse = argparse.ArgumentParser.parse_args

    def read(parser: argparse.ArgumentParser, *arguments: Any) -> Any:
        parse(parser, *arguments)
        raise Read

    _, _, module, *words = _words(command.replace("analysis.<name>", "analysis.feature_space"))
    assert importlib.util.find_spec(module), f"{where}: {command}"
    if not words:
        return
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", read)
    monkeypatch.setattr(sys, "argv", [module, *words])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(Read):
        runpy.run_module(module, run_name="__main__")


def test_what_make_is_asked_for_it_has() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w[\w-]*):", makefile, re.MULTILINE))
    asked = {
        word
        for _, command, _ in COMMANDS
        for part in re.findall(r"\bmake ([\w -]+)", command.split("#")[0])
        for word in part.split()
    }
    assert asked and asked <= targets


def test_the_shell_can_read_every_command() -> None:
    blocks = [text for path in PAGES for language, text in _fenced(path) if language == "sh"]
    commands = [command for _, command, _ in COMMANDS if "…" not in command and "<" not in command.replace("- <", "")]
    done = subprocess.run(["bash", "-n"], input="\n".join(blocks + commands), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def _merged(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    both = {key for key in base.keys() & given.keys() if isinstance(base[key], dict) and isinstance(given[key], dict)}
    return {**base, **given, **{key: _merged(base[key], given[key]) for key in both}}


#: what a piece of a study file is put into, where it lacks it
AROUND: Mapping[str, Any] = {
    "name": "shown",
    "benchmark": {"name": "hyperspectral", "validation": 0.2},
    "criteria": ["ce", {"name": "fierce", "lambda": 1, "e": 100}],
}
SEARCH: Mapping[str, Any] = {
    "criteria": {"fierce": {"lambda": {"low": 0.1, "high": 1}}},
    "trials": 2,
    "objective": {"metric": "accuracy/validation", "direction": "maximize"},
}
TABLE: Mapping[str, Any] = {"name": "table", "data": "houses.csv", "coarse": "kind", "fine": "price"}
INSIDE = ("search", "training", "resources", "evaluation")


def _pieces() -> Iterator[tuple[str, dict[str, Any]]]:
    """Where a piece stands, and what it holds, by the keys of a study file."""
    fields = StudySpec.model_fields
    of = {
        name: annotated.model_fields
        for name in INSIDE
        for annotated in [getattr(fields[name].annotation, "__args__", (fields[name].annotation,))[0]]
        if hasattr(annotated, "model_fields")
    }
    for path in PAGES:
        blocks = [text for language, text in _fenced(path) if language in STUDY]
        for text in [*blocks, *_inline(path)]:
            try:
                read = yaml.safe_load(text)
            except yaml.YAMLError:
                continue
            is_block = text in blocks
            # in running text a word may stand for a value
            if not isinstance(read, dict) or (
                not is_block and (None in read.values() or re.search(r"…|: (n|[A-Z]+)\b", text))
            ):
                assert not is_block, (path.name, text)
                continue
            inside = next((name for name, known in of.items() if read.keys() <= known.keys()), "")
            if "benchmark" in read and isinstance(read["benchmark"], dict) and "name" not in read["benchmark"]:
                yield path.name, {"grid": read, "benchmark": TABLE}
            elif read.keys() <= fields.keys():
                yield path.name, read
            elif inside:
                yield path.name, {inside: read}
            else:
                assert not is_block, (path.name, text)


@pytest.mark.parametrize(("where", "piece"), list(_pieces()))
def test_a_piece_of_a_study_file_is_one(
    where: str, piece: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mynetworks").mkdir()
    (tmp_path / "mynetworks" / "wide.py").write_text("from examples.own_data import Network\n", encoding="utf-8")
    codes = [text for language, text in _fenced(ROOT / "docs" / "own-data.md") if language == "python"]
    (tmp_path / "mylosses.py").write_text(next(text for text in codes if "class Focal" in text), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    around: dict[str, Any] = dict(AROUND)
    if "search" in piece:
        # an objective is given as a whole
        search = {key: value for key, value in SEARCH.items() if key != "objective" or key not in piece["search"]}
        around = {**AROUND, "criteria": ["ce"], "search": search}
    if "benchmark" in piece:
        around.pop("benchmark")
    whole = _merged(around, piece)
    assert StudySpec.from_yaml(yaml.safe_dump(whole, allow_unicode=True)).name == "shown"


def _scene(path: Path) -> None:
    """A small scene of three materials in the names of public collections."""
    draw = np.random.default_rng(0)
    shares = draw.dirichlet(np.full(3, 0.3), 240).T
    ends = draw.uniform(0, 1, (12, 3))
    savemat(path, {"Y": ends @ shares + draw.normal(0, 0.01, (12, 240)), "A": shares, "M": ends})


@pytest.mark.slow
def test_the_commands_of_the_readme_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _scene(tmp_path / "jasper_ridge.mat")
    study, commands = [text for _, text in _fenced(ROOT / "README.md")][1:3]
    (tmp_path / "unmixing.yaml").write_text(study, encoding="utf-8")
    # fewer seeds, trials and epochs; all else as documented
    smaller = ["seeds=2", "search.trials=2", "search.confirm=2", "training.epochs=1", "benchmark.probe_epochs=1"]
    ran = []
    with without_ray():
        for command in _prompted(commands):
            words = shlex.split(command.split(" #")[0].split(" > ")[0])[1:]
            # it serves until Ctrl-C: tests of the command start it
            if words == ["ui"]:
                continue
            if words[0] in ("run", "check"):
                words += [part for value in smaller for part in ("--set", value)]
            if words[0] in ("delete", "rename"):
                words.append("--yes")
            done = CliRunner().invoke(app, words, catch_exceptions=False)
            # a machine may lack what the doctor looks for
            assert done.exit_code == 0 or words[0] == "doctor", (command, done.output)
            ran.append(words[0])
    assert set(ran) >= {"check", "run", "status", "resume", "report", "export", "studies", "rename", "delete", "schema"}
    assert (tmp_path / "unmixing.parquet").is_file()
    assert not (tmp_path / "fierce-home" / "studies" / "jasper").exists()


@pytest.mark.slow
def test_a_trial_runs_in_this_process_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    table = load_digits(as_frame=True).frame.rename(columns={"target": "fine"})
    table.assign(coarse=table["fine"] % 2).to_csv("digits.csv", index=False)
    study = next(text for language, text in _fenced(ROOT / "docs" / "own-data.md") if language == "yaml")
    (tmp_path / "digits.yaml").write_text(study, encoding="utf-8")
    (code,) = [text for language, text in _fenced(ROOT / "docs" / "debugging.md") if language == "python"]
    names: dict[str, Any] = {}
    exec(compile(code, "docs/debugging.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"] and "loss/train" in lines[0]
    assert names["trial"].criterion == "ce" and names["training"].network is not None


def test_every_ready_made_study_and_example_says_how_it_is_run() -> None:
    for path in (*(READY_MADE / f"{name}.yaml" for name in ready_made()), *(ROOT / "examples").glob("*.yaml")):
        assert _commented(path), path.name
