"""Which of several equal images is kept, so that none is trained on and tested on, or counted twice."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

REPEATED = "the same image as one that is kept"
CONFLICTING = "the same image with different labels, none of which is kept"


@dataclass(frozen=True)
class Target:
    """What is learned of an image, a JSON value, and whether the source sets the image aside for testing."""

    value: Any
    test: bool = False


def repeated(contents: Iterable[Hashable], targets: Sequence[Target]) -> dict[int, str]:
    """Index of each image to leave out -> why; images are equal where their ``contents`` are.

    Of equal images with the same value one is kept: the first of those set aside for testing, so that the test part
    stays whole and training does not see it, or else the first. Of equal images with different values none is kept,
    since nothing tells which is right.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, content in enumerate(contents):
        groups[content].append(index)
    reasons: dict[int, str] = {}
    for group in groups.values():
        if len(group) == 1:
            continue
        if len({json.dumps(targets[index].value) for index in group}) > 1:
            reasons |= dict.fromkeys(group, CONFLICTING)
        else:
            kept = next((index for index in group if targets[index].test), group[0])
            reasons |= {index: REPEATED for index in group if index != kept}
    return reasons
