"""What a study file and ``--set`` take for numbers, switches and text, and what they say where they don't."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from texts import NASTY, texts

from analysis.dialect import inline
from study.errors import UserError
from study.file.document import Document
from study.file.spec import StudySpec

STUDY = "name: q\nbenchmark: tiny:Tiny\ncriteria: [ce]\nseeds: 1\n"


def load(folder: Path, text: str = STUDY, *overrides: str, name: str | None = None) -> StudySpec:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return StudySpec.load(path, overrides, name)


def refusal(folder: Path, text: str = STUDY, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, text, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["12e4567", "1e5", "null", "2024-01-01", "007", "no", "1.5", "0x1f", "true", "1_0"])
def test_a_name_like_a_number_survives_its_file(tmp_path: Path, name: str) -> None:
    spec = load(tmp_path, name=name)
    assert spec.name == name
    assert StudySpec.from_yaml(spec.to_yaml()) == spec


@pytest.mark.slow
def test_every_text_of_a_study_survives_its_file() -> None:
    for text in texts(drawn=200):
        spec = StudySpec.model_validate(
            {
                "name": "s",
                "description": text,
                "benchmark": {"name": "tiny:Tiny", "trouble": text, "list": [text, [text]], "map": {text: text}},
                "criteria": ["ce"],
                "search": {
                    "criteria": {"fierce": {"lambda": {"low": 0.1, "high": 1}}},
                    "trials": 1,
                    "objective": {"metric": text or "m", "direction": "minimize"},
                },
                "evaluation": {"cadence": {text: 1}},
                "storage": text,
                "tracking_uri": text,
                "optuna_uri": text,
            }
        )
        assert StudySpec.from_yaml(spec.to_yaml()) == spec, repr(text)


@pytest.mark.parametrize("value", [None, math.inf, -math.inf, 1e-5, 1e16, 10**15, True, [1, [None]], {"a": None}])
def test_every_value_of_an_option_survives_its_file(value: Any) -> None:
    spec = StudySpec.model_validate(
        {"name": "s", "benchmark": {"name": "tiny:Tiny", "option": value}, "criteria": ["ce"], "seeds": 1}
    )
    assert StudySpec.from_yaml(spec.to_yaml()) == spec


@pytest.mark.parametrize(
    ("value", "lost"),
    [("lake #1", "#1"), ("#1", "#1"), ("[ce] # only", "# only"), ("--- a", "---"), ("a\nb", "breaks")],
)
def test_what_yaml_would_drop_of_an_override_is_refused_with_what_to_type(
    tmp_path: Path, value: str, lost: str
) -> None:
    message = refusal(tmp_path, STUDY, f"description={value}")
    assert message.startswith("--set description: ") and lost in message
    flag, typed = shlex.split(message[message.rindex("--set ") :])
    assert flag == "--set" and load(tmp_path, STUDY, typed).description == value


def test_an_override_in_quotes_keeps_what_looks_like_a_comment(tmp_path: Path) -> None:
    assert load(tmp_path, STUDY, "description='lake #1'").description == "lake #1"
    assert load(tmp_path, STUDY, 'description="#1"').description == "#1"
    assert load(tmp_path, STUDY, "description=lake#1").description == "lake#1"
    assert load(tmp_path, STUDY, "grid={fierce: {lambda: [1, 2]}}").grid == {"fierce": {"lambda": (1, 2)}}


@pytest.mark.parametrize("value", ["@home", "`a`", "*a", "&a", "!a", "%a", "[a].mat", "a: b: c"])
def test_what_yaml_does_not_read_is_refused_with_what_to_type(tmp_path: Path, value: str) -> None:
    message = refusal(tmp_path, STUDY, f"description={value}")
    if "--set " in message[1:]:
        _, typed = shlex.split(message[message.rindex("--set ") :])
        assert load(tmp_path, STUDY, typed).description == value
    else:
        assert "must be text" in message


def test_whatever_the_text_an_override_of_it_can_be_written(tmp_path: Path) -> None:
    for text in NASTY:
        document = Document(STUDY, "mine.yaml")
        document.override(f"description={inline(text)}")
        assert document.values["description"] == text


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("010", ("8", "write 10")),
        ("1:30", ("'1:30'", "without ':'")),
        ("10_000", ("write 10000",)),
        ("10,000", ("write 10000",)),
        ("1,5", ("write 1.5",)),
        ("1e400", ("too large",)),
        (".inf", ("whole number",)),
        ("1e1", ("write 10",)),
        ("'3'", ("write 3 without quotes",)),
        ("yes", ("'yes'",)),
        ("−3", ("write -3",)),
        ("50%", ("write 0.5",)),
    ],
)
def test_a_number_written_otherwise_is_refused_with_what_to_write(
    tmp_path: Path, written: str, words: tuple[str, ...]
) -> None:
    for message in (
        refusal(tmp_path, f"{STUDY}training: {{epochs: {written if ',' not in written else repr(written)}}}\n"),
        refusal(tmp_path, STUDY, f"training.epochs={written}"),
    ):
        assert "training.epochs" in message
        for word in words:
            assert word in message


@pytest.mark.parametrize(
    ("written", "value"), [("1.5e1", 15), ("1e-4", 1e-4), ("1E5", 1e5), ("+1", 1), (".5", 0.5), ("1.", 1), ("3", 3)]
)
def test_a_number_is_what_it_looks_like(tmp_path: Path, written: str, value: float) -> None:
    spec = load(tmp_path, STUDY, f"criteria=[ce, {{name: fierce, lambda: {written}}}]")
    assert spec.criteria[1].hyperparameters == {"lambda": value}
    assert load(tmp_path, f"{STUDY}training: {{learning_rate: {written}}}\n").training == {"learning_rate": value}


@pytest.mark.parametrize(("written", "right"), [("yes", "true"), ("No", "false"), ("off", "false"), ("'true'", "true")])
def test_a_switch_has_two_words(tmp_path: Path, written: str, right: str) -> None:
    search = (
        "search: {trials: 1, objective: {metric: mse/odd, direction: minimize}, "
        f"criteria: {{fierce: {{lambda: {{low: 0.1, high: 1, log: {written}}}}}}}}}\n"
    )
    assert f"write {right}" in refusal(tmp_path, STUDY + search)


@pytest.mark.parametrize(
    "written", ["no", "NO", "on", "1:30", "2024-01-01", "10_000", "1,5", "12 %", "a#b", "0x", "1.5.0"]
)
def test_text_stays_text(tmp_path: Path, written: str) -> None:
    assert load(tmp_path, f"{STUDY}description: {written}\n").description == written
    assert load(tmp_path, STUDY, f"description={written}").description == written


@pytest.mark.parametrize("written", ["1e5", "2024", "1.0", "null", "true", ".inf", "~", ""])
def test_what_is_no_text_is_refused_as_it_was_written(tmp_path: Path, written: str) -> None:
    message = refusal(tmp_path, f"{STUDY}description: {written}\n")
    assert "mine.yaml line 5, description: must be text" in message and f'write "{written}"' in message
    message = refusal(tmp_path, STUDY, f"description={written}")
    _, typed = shlex.split(message[message.rindex("--set ") :])
    assert load(tmp_path, STUDY, typed).description == written


def test_an_option_that_is_a_number_takes_no_switch(tmp_path: Path) -> None:
    assert "must be a number, not true" in refusal(tmp_path, STUDY, "benchmark.samples=true")


def test_a_digit_that_python_does_not_count_with_is_a_key(tmp_path: Path) -> None:
    assert "no entry '²'" in refusal(tmp_path, STUDY, "criteria.²=1")


@pytest.mark.parametrize("mark", ["|", ">"])
def test_a_mark_of_a_block_of_text_is_no_empty_text(mark: str) -> None:
    document = Document("name: q", "q.yaml")
    with pytest.raises(UserError, match=re.escape(f"YAML drops '{mark}'")):
        document.override(f"description={mark}")


def test_a_name_from_the_command_line_is_not_blamed_on_the_file() -> None:
    document = Document("name: q", "q.yaml")
    document.put("name", ".inf", "--name")
    assert document.values["name"] == ".inf" and document.where(("name",)) == "--name, name"
