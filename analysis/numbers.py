"""Numbers in words and labels: how many digits people read, and as many more as tell two of them apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

#: significant digits of a value that people read, then those that are tried while two labels look alike
DIGITS = (4, 5, 7, 10)
#: a value in a label: what stands behind an equals sign
_VALUE = re.compile(r"(?<==)-?\d[\d.]*(?:e[-+]?\d+)?")


def number(value: float, digits: int = 3) -> str:
    """``value`` to so many significant digits, and whole as it is up to a million: 0.0123, 1000."""
    if abs(value) < 1e6 and value == round(value):
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def shortened(label: str) -> Iterator[str]:
    """The label with its values to 4 digits, then to more, and at last as it is.

    >>> list(dict.fromkeys(shortened("fierce λ=0.123456 e=10000")))
    ['fierce λ=0.1235 e=10000', 'fierce λ=0.12346 e=10000', 'fierce λ=0.123456 e=10000']
    """
    for digits in DIGITS:
        yield _VALUE.sub(lambda match, digits=digits: number(float(match[0]), digits), label)  # type: ignore[misc]
    yield label


def short_labels(labels: Iterable[str]) -> Mapping[str, str]:
    """Each of the ``labels`` -> what people read: values to 4 digits, to more where two would look alike.

    >>> short_labels(["ls σ=0.123449", "ls σ=0.123441", "fierce λ=1.23456"])["fierce λ=1.23456"]
    'fierce λ=1.235'
    """
    steps = {label: shortened(label) for label in labels}
    short = {label: next(step) for label, step in steps.items()}
    while alike := [label for label, count in _counted(short).items() if count > 1]:
        for label in alike:
            short[label] = next(steps[label], label)
    return short


def _counted(short: Mapping[str, str]) -> dict[str, int]:
    counts = Counter(short.values())
    return {label: counts[text] for label, text in short.items()}
