"""Colours of the static figures, made lighter where they would not be seen on a dark page."""

from __future__ import annotations

#: the dark page's ground, as `analysis/templates/base.html.j2` has it
DARK = "#14181c"
#: contrast that the Web Content Accessibility Guidelines (1.4.11) ask of lines in a chart
CONTRAST = 3.0


def on_dark(colour: str) -> str:
    """``colour``, ``#rrggbb``, mixed with as much white as gives it `CONTRAST` on `DARK`."""
    channels = _channels(colour)
    for share in range(101):
        mixed = "#" + "".join(f"{round(channel + (255 - channel) * share / 100):02X}" for channel in channels)
        if contrast(mixed, DARK) >= CONTRAST:
            break
    return mixed


def contrast(first: str, second: str) -> float:
    """Contrast of two colours, 1 to 21, after WCAG 2."""
    low, high = sorted(_luminance(colour) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


def _channels(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


def _luminance(colour: str) -> float:
    shares = [channel / 255 for channel in _channels(colour)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
