"""What to write in place of a value that is of another kind than the key needs."""

from __future__ import annotations

import re
from typing import Any

import yaml

from analysis import dialect

#: the switches of YAML 1.1
_SWITCHES = {"yes": "true", "y": "true", "on": "true", "no": "false", "n": "false", "off": "false"}
#: a whole part in groups of three digits, by what stands between them
_GROUPS = re.compile(r"[0-9]{1,3}(?:([_,' \u00a0\u2009\u202f])[0-9]{3})(?:\1[0-9]{3})*(?:\.[0-9]+)?")
_UNDERSCORES = re.compile(r"[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_COMMA = re.compile(r"[0-9]*,[0-9]+(?:[eE][-+]?[0-9]+)?")
_MINUTES = re.compile(r"[0-9]+(?::[0-9]{1,2})+(?:\.[0-9]+)?")


def number(given: Any) -> str:
    """``; write 1.5`` where ``given``, in a number's place, looks like one; else nothing.

    >>> number("1,5"), number("10_000"), number("2:30"), number("many")
    ('; write 1.5', '; write 10000', "; write one number, without ':'", '')
    """
    if isinstance(given, float) and given.is_integer():
        return f"; write {given:.0f}" if abs(given) < 1e15 else ""
    if not isinstance(given, str):
        return ""
    # the minus sign of typography
    text = given.strip().replace("−", "-")
    if _MINUTES.fullmatch(text):
        return "; write one number, without ':'"
    sign, digits = ("-" if text.startswith("-") else ""), text.lstrip("+-")
    if _GROUPS.fullmatch(digits):
        digits = re.sub(r"[^0-9.]", "", digits)
    elif _UNDERSCORES.fullmatch(digits):
        digits = digits.replace("_", "")
    elif _COMMA.fullmatch(digits):
        digits = digits.replace(",", ".")
    elif digits.endswith("%") and _is_number(digits[:-1].strip()):
        digits = f"{float(digits[:-1]) / 100:g}"
    plain = sign + digits
    if not _is_number(plain):
        return ""
    return f"; write {plain}" if plain != given else f"; write {plain} without quotes"


def switch(given: Any) -> str:
    """``; write true`` where ``given``, in the place of true or false, is YAML 1.1's word for it.

    >>> switch("yes"), switch("perhaps")
    ('; write true', '')
    """
    word = given.strip().lower() if isinstance(given, str) else ""
    if word in ("true", "false"):
        return f"; write {word} without quotes"
    return f"; write {_SWITCHES[word]}" if word in _SWITCHES else ""


def interval(given: Any) -> str:
    """``; write {low: 0.01, high: 10}`` where ``given``, in a range's place, is its two ends.

    >>> interval([0.01, 10]), interval([1, 2, 3])
    ('; write {low: 0.01, high: 10}', '')
    """
    if not isinstance(given, list | tuple) or len(given) != 2:
        return ""
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in given):
        return ""
    return f"; write {{low: {dialect.inline(given[0])}, high: {dialect.inline(given[1])}}}"


def entry(given: Any) -> str:
    """``write {name: fierce, lambda: 1}`` where ``given``, in a criterion's place, is ``{fierce: {lambda: 1}}``.

    >>> entry({"fierce": {"lambda": 1}}), entry({"ce": None}), entry({"name": "ls", "sigma": 0.1})
    ('write {name: fierce, lambda: 1}', 'write ce', '')
    """
    if not isinstance(given, dict) or len(given) != 1:
        return ""
    ((name, settings),) = given.items()
    if name == "name" or not isinstance(settings, dict | None):
        return ""
    if not settings:
        return f"write {name}"
    listed = ", ".join(f"{key}: {dialect.inline(value)}" for key, value in settings.items())
    return f"write {{name: {name}, {listed}}}"


def _is_number(text: str) -> bool:
    try:
        value = dialect.load(text)
    except (yaml.YAMLError, ValueError):
        return False
    return isinstance(value, int | float) and not isinstance(value, bool)
