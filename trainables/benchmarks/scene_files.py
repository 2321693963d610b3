"""Hyperspectral scenes from files: the ``.mat`` layouts in circulation and ``.npz`` with the same keys.

Spectra are ``Y``, ``V`` or ``X``, abundances ``A``; either is a matrix with pixels along one axis, or a
cube (rows, columns, bands or materials). Optional are ``nRow`` and ``nCol``, ``scale`` or ``maxValue``,
the materials' ``names`` (or ``cood``) and ``provenance``. Endmembers (``M``, ``GT``) are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat, whosmat

from trainables.benchmarks import DataError
from trainables.benchmarks.scenes import Scene

SPECTRA = ("Y", "V", "X")
NAMES = ("names", "cood")
#: what is read; the names of other arrays are only listed
KEYS = (*SPECTRA, "A", *NAMES, "nRow", "nCol", "scale", "maxValue", "provenance")
#: abundances may miss these by rounding, and no more
LOWEST, SUM_TOLERANCE = -1e-6, 1e-3
#: reflectances without a stated scale stay below this; larger values are counts
LARGEST_REFLECTANCE = 1.5


def read_scene(path: Path, abundances: Path | None = None, pixel_order: str = "column-major") -> Scene:
    """The scene in ``path``, its abundances from a second file where one is named.

    The pixel axis is the one whose length spectra and abundances share (and nRow × nCol, if stated).
    Spectra are multiplied by ``scale``; else divided by ``maxValue``; else, where the largest value
    exceeds 1.5 and so must be a count, divided by that value; else they stand as they are.
    ``pixel_order`` says how cubes are unrolled and how pixel numbers map to rows and columns.
    Raises `DataError` with one sentence that names the file.
    """
    fields = _read_fields(path)
    key = next((key for key in SPECTRA if key in fields), None)
    if key is None:
        raise DataError(f"{path} has no spectra (Y, V or X); it holds {_listing(fields)}")
    source = path
    if abundances is not None:
        source = abundances
        second = _read_fields(abundances)
        if "A" not in second:
            raise DataError(f"{abundances} has no abundances (A); it holds {_listing(second)}")
        fields |= {key: second[key] for key in ("A", *NAMES) if key in second}
    elif "A" not in fields:
        raise DataError(
            f"{path} has no abundances (A), only {_listing(fields)}; name their file as option 'abundances'"
        )
    spectra, grid = _unroll(_numbers(fields[key], f"{key} of {path}"), pixel_order, f"{key} of {path}")
    shares, share_grid = _unroll(_numbers(fields["A"], f"A of {source}"), pixel_order, f"A of {source}")
    shape = _shape([grid, share_grid, _stated_shape(fields, path)], path)
    spectra, shares = _pixels_first(spectra, shares, shape, grid is not None, share_grid is not None, path, key)
    _check_abundances(shares, source)
    factor, note = _scale(spectra, fields, path)
    return Scene(
        (spectra * factor).astype(np.float32),
        shares.clip(min=0).astype(np.float32),
        _names(fields, shares.shape[1]),
        shape,
        pixel_order,
        note,
        _text(fields["provenance"]) if "provenance" in fields else None,
    )


def _read_fields(path: Path) -> dict[str, Any]:
    """The arrays of `KEYS` in a ``.mat`` (5 or 7.3) or ``.npz`` file, in MATLAB's orientation; None for others."""
    if not path.is_file():
        raise DataError(f"{path.absolute()} is not there; 'data' is the path of a .mat or .npz file, or 'simulated'")
    if path.suffix.lower() == ".npz":
        return _guarded(_read_npz, path)
    if path.suffix.lower() != ".mat":
        raise DataError(f"{path} is neither a .mat nor a .npz file")
    with path.open("rb") as file:
        header = file.read(128)
    return _guarded(_read_hdf5 if header.startswith((b"MATLAB 7.3", b"\x89HDF")) else _read_mat5, path)


def _guarded(read: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any]:
    try:
        return read(path)
    except DataError:
        raise
    # a damaged file raises whatever its reader stumbles over first: zlib, struct, zip, HDF5 and type errors
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"{path} cannot be read, it may be truncated or of another format: {reason}") from error


def _read_mat5(path: Path) -> dict[str, Any]:
    stored = loadmat(path, variable_names=KEYS)
    return {key: stored.get(key) for key, _, _ in whosmat(path)}


def _read_npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        if not file.read(4).startswith(b"PK"):
            raise DataError(f"{path} is not a .npz archive")
    # an array of objects is a pickle, and unpickling runs code
    with np.load(path, allow_pickle=False) as archive:
        fields: dict[str, Any] = dict.fromkeys(archive.files)
        for key in fields.keys() & set(KEYS):
            try:
                fields[key] = archive[key]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise DataError(f"{key} of {path} is pickled and refused; save it as a plain array") from error
    return fields


def _read_hdf5(path: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(path, "r") as file:
        fields: dict[str, Any] = dict.fromkeys(key for key in file if not key.startswith("#"))
        for key in fields.keys() & set(KEYS):
            values = file[key][()]
            if values.dtype.kind == "O":
                # a cell array: references to its cells, which are texts here
                fields[key] = [_characters(file[reference][()]) for reference in values.T.flat]
            elif file[key].attrs.get("MATLAB_class") == b"char":
                fields[key] = _characters(values)
            else:
                # HDF5 lists the axes the other way round
                fields[key] = values.T
    return fields


def _characters(codes: NDArray[Any]) -> str:
    return "".join(chr(code) for code in np.asarray(codes).T.flat)


def _numbers(value: Any, what: str) -> NDArray[np.float64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise DataError(f"{what} holds no real numbers but {array.dtype}")
    if not array.size:
        raise DataError(f"{what} is empty")
    if not np.isfinite(array).all():
        raise DataError(f"{what} holds {np.count_nonzero(~np.isfinite(array))} values that are NaN or infinite")
    return array.astype(np.float64)


def _unroll(
    array: NDArray[np.float64], pixel_order: str, what: str
) -> tuple[NDArray[np.float64], tuple[int, int] | None]:
    """A cube (rows, columns, k) as (pixels, k) with its (rows, columns); a matrix as it is."""
    if array.ndim == 2:
        return array, None
    if array.ndim != 3:
        raise DataError(f"{what} has {array.ndim} dimensions; a matrix or a cube (rows, columns, bands) is needed")
    rows, columns, depth = array.shape
    order = "F" if pixel_order == "column-major" else "C"
    return array.reshape(rows * columns, depth, order=order), (rows, columns)  # type: ignore[call-overload]


def _stated_shape(fields: Mapping[str, Any], path: Path) -> tuple[int, int] | None:
    if "nRow" not in fields or "nCol" not in fields:
        return None
    return int(_scalar(fields, "nRow", path)), int(_scalar(fields, "nCol", path))


def _shape(shapes: Sequence[tuple[int, int] | None], path: Path) -> tuple[int, int] | None:
    """The rows and columns on which all that know them agree."""
    known = {shape for shape in shapes if shape is not None}
    if len(known) > 1:
        told = " and ".join(f"{rows} × {columns}" for rows, columns in sorted(known))
        raise DataError(f"{path}: the image cannot be both {told} (spectra, abundances, nRow × nCol)")
    return known.pop() if known else None


def _scalar(fields: Mapping[str, Any], key: str, path: Path) -> float:
    array = np.asarray(fields[key])
    if array.size != 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all() or array.item() <= 0:
        raise DataError(f"{key} of {path} must be one positive number")
    return float(array.item())


def _pixels_first(
    spectra: NDArray[np.float64],
    shares: NDArray[np.float64],
    shape: tuple[int, int] | None,
    spectra_unrolled: bool,
    shares_unrolled: bool,
    path: Path,
    key: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as (pixels, …): the axis of equal length, which must be one and only one."""
    axes = [
        (i, j)
        for i in ((0,) if spectra_unrolled else (0, 1))
        for j in ((0,) if shares_unrolled else (0, 1))
        if spectra.shape[i] == shares.shape[j]
    ]
    sizes = f"{key} {_size(spectra)} and A {_size(shares)}"
    if not axes:
        raise DataError(f"{path}: {sizes} share no axis, so they cannot be of the same pixels")
    if shape is not None:
        pixels = shape[0] * shape[1]
        axes = [(i, j) for i, j in axes if spectra.shape[i] == pixels]
        if not axes:
            raise DataError(f"{path}: {shape[0]} × {shape[1]} is {pixels} pixels, which {sizes} do not share")
    if len(axes) > 1:
        raise DataError(f"{path}: which axis of {sizes} is the pixels is ambiguous; store them as cubes instead")
    i, j = axes[0]
    spectra, shares = (spectra.T if i else spectra), (shares.T if j else shares)
    if shares.shape[1] < 2:
        raise DataError(f"{path}: A {_size(shares)} has a single material; at least two are needed")
    return spectra, shares


def _check_abundances(shares: NDArray[np.float64], path: Path) -> None:
    if shares.min() < LOWEST:
        raise DataError(f"A of {path} holds abundances down to {shares.min():.3g}; none may be negative")
    off = np.abs(shares.sum(1) - 1)
    if off.max() > SUM_TOLERANCE:
        raise DataError(
            f"A of {path}: the abundances of {np.count_nonzero(off > SUM_TOLERANCE)} of {len(off)} pixels"
            f" do not sum to 1 (pixel {off.argmax()}: {shares[off.argmax()].sum():.4g})"
        )


def _scale(spectra: NDArray[np.float64], fields: Mapping[str, Any], path: Path) -> tuple[float, str]:
    """What to multiply the spectra by, and its statement for the description."""
    if "scale" in fields:
        scale = _scalar(fields, "scale", path)
        return scale, f"spectra × scale {scale:.6g}"
    if "maxValue" in fields:
        largest = _scalar(fields, "maxValue", path)
        return 1 / largest, f"spectra / maxValue {largest:g}"
    largest = float(spectra.max())
    if largest > LARGEST_REFLECTANCE:
        return 1 / largest, f"spectra / their largest value {largest:g}"
    return 1.0, "spectra as stored"


def _names(fields: Mapping[str, Any], materials: int) -> tuple[str, ...]:
    for key in NAMES:
        if key in fields:
            names = tuple(_text(name) for name in np.asarray(fields[key]).ravel())
            if len(names) == materials:
                return names
    return tuple(f"material {k + 1}" for k in range(materials))


def _text(value: Any) -> str:
    """A string, also one wrapped in arrays as MATLAB's cells are."""
    return "".join(str(part) for part in np.asarray(value).ravel()).strip()


def _size(array: NDArray[Any]) -> str:
    return "×".join(map(str, array.shape))


def _listing(fields: Mapping[str, Any]) -> str:
    return ", ".join(sorted(fields)) or "nothing"
