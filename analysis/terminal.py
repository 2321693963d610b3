"""Terminals that lack a letter: what is printed never fails for want of one."""

from __future__ import annotations

import codecs
import sys

#: the error handler of `plain`, by the name that codecs know it by
_HANDLER = "fierce-plain"
#: letters and signs of the displays -> what stands for them where the encoding has no such letter
_PLAIN = {
    **{"λ": "lambda", "σ": "sigma", "β": "beta", "Δ": "Delta", "ε": "epsilon", "±": "+-", "×": "x", "−": "-"},
    **{"–": "-", "—": "-", "…": "...", "≥": ">=", "≤": "<=", "→": "->", "‘": "'", "’": "'", "“": '"', "”": '"'},
}


def plain() -> None:
    """Let stdout and stderr write in words, else as ``?``, what their encoding has no letter for."""
    codecs.register_error(_HANDLER, _replaced)
    for stream in (sys.stdout, sys.stderr):
        # a stream may be None, where the process has none, or a test's own, which cannot be set
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, "?") for letter in letters), error.end
