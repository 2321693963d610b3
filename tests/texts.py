"""Text that a file format may read as something else than what was written."""

from __future__ import annotations

import random
import string

#: text that one version of YAML or the other takes for something else, and text that is hard to keep
NASTY = [
    *(
        "",
        "~",
        "null",
        "Null",
        "true",
        "yes",
        "no",
        "NO",
        "on",
        "off",
        "y",
        "n",
        "=",
        "<<",
        "-",
        "?",
        ":",
        "#",
        "|",
        ">",
    ),
    *("12e4567", "1e5", "1E5", "1.5e1", ".5", "+1", "010", "08", "0x1f", "0o17", "0b11", "10_000", "1:30", "1,5", "-0"),
    *(".inf", "-.INF", ".nan", "2024-01-01", "2024-01-01 12:00:00", "1" * 30, "1e-400", "0.0", "1.", "._5", "inf"),
    *("/x/my #1/c", "a: b", "a:", "- a", "[a]", "{a}", "*a", "&a", "!a", "%a", "@a", "`a", "'a", '"a', "a\\n", "--- a"),
    *(
        " a",
        "a ",
        "a\nb",
        "\n",
        "a\n",
        "a\r\nb",
        "\t",
        "a\tb",
        "\x00",
        "\x07",
        "\x7f",
        "\x85",
        "\xa0",
        "\u2028",
        "\ufeff",
    ),
    *("\ud800", "\udce4", "λ", "Bäume", "😀", "a  b" * 60, "word " * 60, "...", "a #b", "a # b\n# c"),
]
ALPHABET = (
    string.ascii_letters[:8] + "0123456789" + "#:-'\"\\ \n\t\r,[]{}&*!|>%@`~?.+_xeE=\x85\u2028\ufeff\ud800é😀\0\x7f"
)


def texts(drawn: int = 2000) -> list[str]:
    """`NASTY`, and so many draws of hard letters, the same each time."""
    draw = random.Random(0)
    return NASTY + ["".join(draw.choices(ALPHABET, k=draw.randint(1, 9))) for _ in range(drawn)]
