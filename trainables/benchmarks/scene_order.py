"""Which pixel of the abundances is which of the spectra: axes, and the numbering of an image's pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trainables.benchmarks import DataError
from trainables.benchmarks.scene_names import Field

Matrix = NDArray[np.float64]

#: how the pixels of an image are numbered: down the columns as MATLAB does, or along the rows as numpy does
PixelOrder = Literal["column-major", "row-major"]
PIXEL_ORDERS: tuple[str, ...] = get_args(PixelOrder)
#: an order fits the linear mixing model where it leaves less than this share of what another order leaves
DECISIVE = 0.7
#: with fewer pixels per material any order may seem to fit
PIXELS_PER_MATERIAL = 10


@dataclass(frozen=True)
class Arranged:
    """Spectra (N, bands) and abundances (N, m) of the same pixels, numbered in ``order``.

    ``shape`` is (rows, columns) where it is known, ``note`` says how the order was settled where it was asked.
    """

    spectra: Matrix
    shares: Matrix
    shape: tuple[int, int] | None
    order: str
    note: str = ""


def arrange(
    y: Field,
    spectra: Matrix,
    a: Field,
    shares: Matrix,
    sizes: Sequence[tuple[int, int]],
    endmembers: Sequence[Field],
    stated: str | None,
    must: bool = False,
) -> Arranged:
    """Pixels along the first axis, paired; ``spectra`` and ``shares`` are matrices or cubes (rows, columns, ·).

    ``sizes`` are what the files state of rows and columns, ``stated`` is the user's pixel order. A matrix beside
    a cube is paired in the stated order, or else in the one that the linear mixing model fits with ``endmembers``.
    `DataError` where neither tells, where the model fits another pairing, and where ``endmembers`` ``must`` be
    usable and are not.
    """
    spectra, grid = _unrolled(spectra, y)
    shares, share_grid = _unrolled(shares, a)
    shape = _shape([grid, share_grid, *sizes], y)
    spectra, shares = _pixels_first(y, spectra, a, shares, shape, grid is not None, share_grid is not None)
    known = _endmembers(endmembers, spectra.shape[1], shares.shape[1], must)
    order = stated or PIXEL_ORDERS[0]
    # pixels in one row or column have one numbering
    if shape is None or 1 in shape:
        return Arranged(spectra, shares, shape, order)
    to_rows = np.arange(len(spectra)).reshape(shape, order="F").ravel()
    if (grid is None) == (share_grid is None):
        _check_pairing(y, spectra, a, shares, to_rows, known)
        if grid is not None and order == "row-major":
            spectra, shares = spectra[to_rows], shares[to_rows]
        return Arranged(spectra, shares, shape, order)
    by_rows = (spectra[to_rows], shares) if grid is not None else (spectra, shares[to_rows])
    pairings = dict(zip(PIXEL_ORDERS, ((spectra, shares), by_rows), strict=True))
    order, note = _settled(y, a, grid is not None, pairings, known, stated)
    return Arranged(*pairings[order], shape, order, note)


def _settled(
    y: Field,
    a: Field,
    cube_of_spectra: bool,
    pairings: Mapping[str, tuple[Matrix, Matrix]],
    endmembers: Matrix | None,
    stated: str | None,
) -> tuple[str, str]:
    """The order of a matrix beside a cube, and its statement for the description."""
    left = {order: unexplained(*pairing, endmembers) for order, pairing in pairings.items()}
    best, worst = sorted(left, key=left.__getitem__)
    decisive = left[best] < DECISIVE * left[worst] and _enough(*pairings[best])
    evidence = (
        f"the linear mixing model fits {best} (it leaves {left[best]:.1%} of the spectra, else {left[worst]:.1%})"
    )
    if stated is not None:
        if decisive and stated != best:
            raise DataError(f"{y.path}: option 'pixel_order' is {stated}, but {evidence}")
        return stated, ""
    if decisive and endmembers is not None:
        return best, f"pixels {best} by the linear mixing model"
    cube, matrix = (y, a) if cube_of_spectra else (a, y)
    hint = f"; {evidence}" if decisive else ""
    raise DataError(
        f"{y.path}: {matrix.beside(y)} is a matrix and {cube.beside(y)} a cube, so how the matrix numbers the pixels"
        " must be told by option 'pixel_order': column-major (down the columns, as MATLAB) or row-major (as numpy)"
        f"{hint}"
    )


def _check_pairing(
    y: Field, spectra: Matrix, a: Field, shares: Matrix, to_rows: NDArray[np.intp], endmembers: Matrix | None
) -> None:
    """`DataError` where two cubes or two matrices fit the linear mixing model with one of them renumbered."""
    if not _enough(spectra, shares):
        return
    stored = unexplained(spectra, shares, endmembers)
    renumbered = min(unexplained(spectra, shares[index], endmembers) for index in (to_rows, to_rows.argsort()))
    if renumbered < DECISIVE * stored:
        raise DataError(
            f"{y.path}: {y.key} and {a.beside(y)} number the pixels in different orders, by rows and by columns:"
            f" renumbered, the linear mixing model leaves {renumbered:.1%} of the spectra, as stored {stored:.1%};"
            " save both in one order"
        )


def unexplained(spectra: Matrix, shares: Matrix, endmembers: Matrix | None = None) -> float:
    """‖Y − A Mᵀ‖ / ‖Y‖ for spectra Y (N, bands), abundances A (N, m) and endmembers M (bands, m).

    Endmembers are taken up to one factor; without them the best in the sense of least squares stand in.
    """
    if endmembers is None:
        mixed = shares @ np.linalg.lstsq(shares, spectra, rcond=None)[0]
    else:
        mixed = shares @ endmembers.T
        power = np.square(mixed).sum()
        mixed *= (mixed * spectra).sum() / power if power else 0
    return float(np.linalg.norm(spectra - mixed) / (np.linalg.norm(spectra) or 1))


def _enough(spectra: Matrix, shares: Matrix) -> bool:
    return bool(len(spectra) >= PIXELS_PER_MATERIAL * shares.shape[1])


def _endmembers(fields: Sequence[Field], bands: int, materials: int, must: bool) -> Matrix | None:
    """The first of ``fields`` that can be endmembers, as (bands, materials)."""
    for field in fields:
        array = np.asarray(field.value)
        usable = array.dtype.kind in "iuf" and np.isfinite(array).all()
        if usable and array.shape in ((bands, materials), (materials, bands)):
            return (array if array.shape == (bands, materials) else array.T).astype(np.float64)
        if must:
            raise DataError(
                f"{field} ({size(array)}) cannot be the endmembers of {bands} bands and {materials} materials"
            )
    return None


def _unrolled(array: Matrix, field: Field) -> tuple[Matrix, tuple[int, int] | None]:
    """A cube (rows, columns, k) as (pixels, k), column-major, with its (rows, columns); a matrix as it is."""
    if array.ndim == 2:
        return array, None
    if array.ndim != 3:
        raise DataError(f"{field} has {array.ndim} dimensions; a matrix or a cube (rows, columns, bands) is needed")
    rows, columns, depth = array.shape
    return array.reshape(rows * columns, depth, order="F"), (rows, columns)


def _shape(shapes: Sequence[tuple[int, int] | None], y: Field) -> tuple[int, int] | None:
    """The rows and columns on which all that know them agree."""
    known = {shape for shape in shapes if shape is not None}
    if len(known) > 1:
        told = " and ".join(f"{rows} × {columns}" for rows, columns in sorted(known))
        raise DataError(f"{y.path}: the image cannot be both {told} (spectra, abundances, nRow × nCol)")
    return known.pop() if known else None


def _pixels_first(
    y: Field,
    spectra: Matrix,
    a: Field,
    shares: Matrix,
    shape: tuple[int, int] | None,
    spectra_unrolled: bool,
    shares_unrolled: bool,
) -> tuple[Matrix, Matrix]:
    """Both as (pixels, …): the axis of equal length, which must be one and only one."""
    axes = [
        (i, j)
        for i in ((0,) if spectra_unrolled else (0, 1))
        for j in ((0,) if shares_unrolled else (0, 1))
        if spectra.shape[i] == shares.shape[j]
    ]
    sizes = f"{y.key} {size(spectra)} and {a.key} {size(shares)}"
    if not axes:
        raise DataError(f"{y.path}: {sizes} share no axis, so they cannot be of the same pixels")
    if shape is not None:
        pixels = shape[0] * shape[1]
        axes = [(i, j) for i, j in axes if spectra.shape[i] == pixels]
        if not axes:
            raise DataError(f"{y.path}: {shape[0]} × {shape[1]} is {pixels} pixels, which {sizes} do not share")
    if len(axes) > 1:
        raise DataError(f"{y.path}: which axis of {sizes} is the pixels is ambiguous; store them as cubes instead")
    i, j = axes[0]
    spectra, shares = (spectra.T if i else spectra), (shares.T if j else shares)
    if shares.shape[1] < 2:
        raise DataError(f"{y.path}: {a.key} {size(shares)} has a single material; at least two are needed")
    return spectra, shares


def size(array: NDArray[Any]) -> str:
    """The shape as a message shows it: ``3×4``."""
    return "×".join(map(str, array.shape))
