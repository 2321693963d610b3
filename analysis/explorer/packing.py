"""Numbers as short text within a page: rounded, as differences, compressed, in base64, which no HTML can break."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

#: steps that the range of a metric is divided into
STEPS = 2000
#: positive values that span more than so many times the smallest are divided evenly on a logarithmic scale
LOG_SPAN = 20.0


@dataclass(frozen=True)
class Scale:
    """How a metric's values are rounded: to `STEPS` equal steps from ``low`` to ``high``, of their ``log`` or not."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, values: np.ndarray) -> Scale:
        """The scale of ``values``, of which at least one is finite."""
        finite = values[np.isfinite(values)]
        low, high = float(finite.min()), float(finite.max())
        return cls(low, high, log=low > 0 and high > LOG_SPAN * low)

    def codes(self, values: np.ndarray) -> np.ndarray:
        """``values`` as uint16: 0 where there is none or it is not finite, else 1 for the lowest and so on."""
        low, high = np.log([self.low, self.high]) if self.log else (self.low, self.high)
        with np.errstate(invalid="ignore", divide="ignore"):
            placed = (np.log(values) if self.log else values) - low
        share = placed / (high - low) if high > low else placed
        finite = np.isfinite(values)
        return np.where(finite, 1 + np.rint(np.where(finite, share, 0) * STEPS), 0).astype(np.uint16)

    def values(self, codes: np.ndarray) -> np.ndarray:
        """The values that `codes` stand for, NaN for 0; within half a step of those that were coded."""
        low, high = np.log([self.low, self.high]) if self.log else (self.low, self.high)
        placed = low + (codes.astype(float) - 1) / STEPS * (high - low)
        return np.where(codes == 0, np.nan, np.exp(placed) if self.log else placed)


def curves(codes: np.ndarray) -> str:
    """``codes`` (…, epochs), uint16, as text: neighbouring epochs' differences, low bytes before high ones."""
    steps = np.diff(codes.astype(np.int32), axis=-1, prepend=0)
    # small differences of either sign have a high byte of 0
    folded = np.where(steps < 0, -2 * steps - 1, 2 * steps).astype("<u2")
    planes = folded.reshape(-1).view(np.uint8).reshape(-1, 2).T
    return compressed(np.ascontiguousarray(planes).tobytes())


def unpacked_curves(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """The codes that `curves` made ``text`` of, as the page's script reads them."""
    planes = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1)
    folded = np.ascontiguousarray(planes.T).view("<u2").reshape(shape).astype(np.int32)
    steps = np.where(folded % 2, -(folded + 1) // 2, folded // 2)
    return np.cumsum(steps, axis=-1).astype(np.uint16)


def document(content: Any) -> str:
    """``content``, of plain values without NaN, as JSON and then as text."""
    written = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return compressed(written.encode())


def compressed(content: bytes) -> str:
    """``content`` by gzip, in base64; the same for the same bytes."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")
