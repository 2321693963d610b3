"""The YAML of study files: the core schema of YAML 1.2, and that what is written is read back, by YAML 1.1 too."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import yaml
from texts import texts

from analysis import dialect


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # the table of YAML 1.2.2, section 10.3.2, and its examples
        *(
            ("null", None),
            ("Null", None),
            ("~", None),
            ("", None),
            ("True", True),
            ("FALSE", False),
            ("0", 0),
            ("-19", -19),
        ),
        *(
            ("0.", 0.0),
            ("-0.0", -0.0),
            (".5", 0.5),
            ("+12e03", 12000.0),
            ("-2E+05", -200000.0),
            ("+1", 1),
            ("1.5e1", 15.0),
        ),
        *((".inf", math.inf), ("-.Inf", -math.inf), ("1e-4", 1e-4), ("1E5", 1e5), ("12.", 12.0)),
        # numbers and switches of YAML 1.1 alone are text
        *(
            (text, text)
            for text in ("yes", "no", "NO", "on", "off", "y", "1:30", "1_000", "2024-01-01", "1,5", "=", "tRuE")
        ),
    ],
)
def test_plain_values_are_the_core_schema_s(text: str, value: Any) -> None:
    read = dialect.scalar(dialect.Loader(f"a: {text}").get_single_node().value[0][1])
    assert read == value and type(read) is type(value)
    assert dialect.load(f"a: {text}") == {"a": value}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("010", ("8", "write 10", '"010"')),
        ("-010", ("write -10",)),
        ("08", ("begins with 0", "write 8")),
        ("00", ("write 0",)),
        ("0x1f", ("write 31", '"0x1f"')),
        ("-0x1f", ("write -31",)),
        ("0o17", ("write 15",)),
        ("0b101", ("write 5",)),
        ("12e4567", ("too large", '"12e4567"')),
        ("1e-4000", ("too small",)),
        ("9223372036854775808", ("too large",)),
        ("1" * 6000, ("too large",)),
        ("!!int 1:30", ("int",)),
        ("!!bool yes", ("bool",)),
        ("!!bool maybe", ("bool",)),
        ("!!null x", ("null",)),
        ("!!float abc", ("float",)),
        ("!!python/name:os.system x", ("python",)),
    ],
)
def test_a_number_that_readers_disagree_about_is_refused_with_what_to_write(text: str, words: tuple[str, ...]) -> None:
    node = dialect.Loader(f"a: {text}").get_single_node().value[0][1]
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        dialect.scalar(node)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.slow
def test_text_is_read_as_it_was_written() -> None:
    for text in texts():
        value = {"a": text, "b": [text, {"c": text}], f"k{text}": {text: 1}}
        written = dialect.dump(value)
        assert dialect.load(written) == value, repr(text)
        assert dialect.load(dialect.inline(text)) == text, repr(text)
        assert "\n" not in dialect.inline(text)
        # another reader, of YAML 1.1
        assert yaml.safe_load(written) == value, repr(text)


@pytest.mark.parametrize(
    "number", [0, -1, 2**63 - 1, 0.0, -0.0, 0.1, 1e-5, 1e5, 1e16, 1.5e300, 5e-324, 1 / 3, math.inf, -math.inf]
)
def test_numbers_are_read_as_they_were_written(number: float) -> None:
    read = dialect.load(dialect.dump({"a": number}))["a"]
    assert read == number and type(read) is type(number)
    assert math.copysign(1, read) == math.copysign(1, number)


def test_one_list_at_two_places_is_written_twice() -> None:
    shared = [1, 5]
    assert dialect.load(dialect.dump({"a": shared, "b": shared})) == {"a": shared, "b": shared}


def test_what_an_earlier_version_left_without_quotes_is_text() -> None:
    # PyYAML takes neither for a number, so it wrote them bare
    assert yaml.safe_dump({"a": "08", "b": "0o17"}) == "a: 08\nb: 0o17\n"
    assert dialect.load("a: 08\nb: 0o17\n") == {"a": "08", "b": "0o17"}
