"""What is refused as no spectrum or no abundance, with its place, and how spectra become reflectances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainables.benchmarks import DataError
from trainables.benchmarks.scene_names import Field

Values = NDArray[np.float64]

#: abundances may miss these by rounding, and no more
LOWEST, SUM_TOLERANCE = -1e-6, 1e-3
#: reflectances stay below this, and the largest of a scene above that; larger unscaled values are counts
LARGEST_REFLECTANCE, SMALLEST_MAXIMUM = 1.5, 1e-3
#: values of a scene come in an unbroken range: what lies this factor beyond the others is a fill or a fault
GAP = 2.0
#: noise around zero, as a share of the largest value
AROUND_ZERO = 0.03


def numbers(field: Field, third: str) -> Values:
    """The finite numbers of ``field``; `DataError` with the place of the first other, ``third`` its third axis."""
    array = np.asarray(field.value)
    if array.dtype.kind not in "iuf":
        raise DataError(f"{field} holds no real numbers but {array.dtype}")
    if not array.size:
        raise DataError(f"{field} is empty")
    wrong = ~np.isfinite(array)
    if wrong.any():
        raise DataError(
            f"{field} holds {np.count_nonzero(wrong)} values that are NaN or infinite, the first in"
            f" {_place(wrong, third)}; mend them or leave out their pixels or bands"
        )
    return array.astype(np.float64)


def check_abundances(shares: Values, field: Field) -> None:
    """`DataError` where abundances (N, m) are negative or those of a pixel do not sum to 1."""
    if shares.min() < LOWEST:
        pixel, material = np.unravel_index(shares.argmin(), shares.shape)
        raise DataError(
            f"{field} holds abundances down to {shares.min():.3g} (pixel {pixel}, material {material + 1});"
            " none may be negative"
        )
    sums = shares.sum(1)
    off = np.abs(sums - 1)
    if off.max() > SUM_TOLERANCE:
        percent = " as percent do" if np.abs(np.median(sums) - 100) < 1 else ""
        raise DataError(
            f"{field}: the abundances of {np.count_nonzero(off > SUM_TOLERANCE)} of {len(off)} pixels"
            f" do not sum to 1 (pixel {off.argmax()}: {sums[off.argmax()]:.4g}){percent}"
        )


def scaling(field: Field, spectra: Values, scale: Field | None, maximum: Field | None) -> tuple[float, str]:
    """What to multiply the spectra by, and its statement for the description.

    `DataError` where a value lies far from all others, so that the rest would be crushed or a fill be trained on,
    or where the stated scale gives no reflectances.
    """
    largest = float(spectra.max())
    if largest <= 0:
        raise DataError(f"{field} holds no value above 0")
    ordinary = _end(spectra[spectra > 0], None)
    _check_fills(field, spectra, ordinary)
    if scale is not None:
        factor, note = scale.scalar(), f"spectra × scale {scale.scalar():.6g}"
    elif maximum is not None:
        factor, note = 1 / maximum.scalar(), f"spectra / maxValue {maximum.scalar():g}"
    elif largest > LARGEST_REFLECTANCE:
        factor, note = 1 / largest, f"spectra / their largest value {largest:g}"
    else:
        return 1.0, "spectra as stored"
    # a scale that the user states is not set by outliers, so those that it leaves within the reflectances are no fault
    if ordinary < largest and (scale is None or largest * factor > LARGEST_REFLECTANCE):
        _refuse(field, spectra > ordinary, f"while the others end at {ordinary:g}")
    _check_reflectances(field, largest * factor, note)
    return factor, note


def _check_reflectances(field: Field, largest: float, note: str) -> None:
    if largest > LARGEST_REFLECTANCE:
        raise DataError(
            f"{field}: {note} reach {largest:.3g}, and reflectances end at {LARGEST_REFLECTANCE};"
            " a number to divide by is stored as maxValue"
        )
    if largest < SMALLEST_MAXIMUM:
        raise DataError(f"{field}: {note} reach only {largest:.3g}; are they scaled already?")


def _check_fills(field: Field, spectra: Values, ordinary: float) -> None:
    below = -spectra[spectra < 0]
    if not below.size:
        return
    lowest = _end(below, AROUND_ZERO * ordinary)
    if lowest < below.max():
        rest = spectra[spectra >= -lowest].min()
        _refuse(field, spectra < -lowest, f"while the others begin at {rest:g}")


def _end(values: Values, start: float | None) -> float:
    """Where the unbroken range of positive ``values`` that holds ``start`` ends; the median is its default."""
    start = float(np.quantile(values, 0.5, method="lower")) if start is None else start
    ascending = np.unique(np.append(values[values > start], start))
    breaks = np.flatnonzero(ascending[1:] > GAP * ascending[:-1])
    return float(ascending[breaks[0]] if breaks.size else ascending[-1])


def _refuse(field: Field, wrong: NDArray[np.bool_], others: str) -> None:
    value = np.asarray(field.value)[tuple(np.argwhere(wrong)[0])]
    raise DataError(
        f"{field} holds {value:g} in {_place(wrong, 'band')}, {others} ({np.count_nonzero(wrong)} such values):"
        " a fill, a spike or a saturated cell and no reflectance; mend such cells or leave out their pixels or bands"
    )


def _place(wrong: NDArray[np.bool_], third: str) -> str:
    """Where the first of ``wrong`` stands, counted from 1, and its index, from 0."""
    index = [int(i) for i in np.argwhere(wrong)[0]]
    # more dimensions than a cube's are refused later, by their number
    told = ", ".join(f"{axis} {i + 1}" for axis, i in zip(("row", "column", third), index, strict=False))
    return f"{told} (index {index})"
