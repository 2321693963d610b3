"""Hyperspectral scenes from files: the ``.mat`` layouts in circulation and ``.npz`` with the same keys.

Spectra and abundances are matrices with pixels along one axis, or cubes (rows, columns, bands or materials).
What each is called stands in `scene_names`, how pixels are paired in `scene_order`, what is refused as no
spectrum or no abundance in `scene_values`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat, whosmat

from trainables.benchmarks import DataError
from trainables.benchmarks.scene_names import Field, SceneFile, chosen_names, names_by_role
from trainables.benchmarks.scene_order import arrange
from trainables.benchmarks.scene_values import check_abundances, numbers, scaling
from trainables.benchmarks.scenes import Scene


def read_scene(
    path: Path,
    abundances: Path | None = None,
    pixel_order: str | None = None,
    keys: Mapping[str, str] | None = None,
) -> Scene:
    """The scene in ``path``, its abundances from a second file where one is named.

    The pixel axis is the one whose length spectra and abundances share (and rows × columns, if stated).
    Spectra are multiplied by ``scale``; else divided by ``maxValue``; else, where the largest value
    exceeds 1.5 and so must be a count, divided by that value; else they stand as they are.
    ``pixel_order`` says how cubes are unrolled and how pixel numbers map to rows and columns; it is needed
    where a matrix stands beside a cube, unless the linear mixing model settles it with the file's endmembers.
    ``keys`` names the arrays whose names are none of `scene_names.NAMES`.
    Raises `DataError` with one sentence that names the file.
    """
    chosen = chosen_names(keys or {})
    names = names_by_role(chosen)
    wanted = {name for listed in names.values() for name in listed}
    first = SceneFile(path, _read_fields(path, wanted), names)
    second = first if abundances is None else SceneFile(abundances, _read_fields(abundances, wanted), names)
    files = (first,) if abundances is None else (second, first)
    for role, name in chosen.items():
        _check_named(role, name, {"spectra": (first,), "abundances": (second,)}.get(role, files))
    y, a = _spectra(first), _abundances(second, named=abundances is not None)
    spectra, shares = numbers(y, "band"), numbers(a, "material")
    sizes = [size for file in files for size in file.sizes()]
    endmembers = [field for file in files for field in file.all("endmembers")]
    arranged = arrange(y, spectra, a, shares, sizes, endmembers, pixel_order, must="endmembers" in chosen)
    check_abundances(arranged.shares, a)
    scale, maximum = (next(iter(first.all(role)), None) for role in ("scale", "maximum"))
    factor, note = scaling(y, spectra, scale, maximum)
    dark = np.count_nonzero(~arranged.spectra.any(1))
    notes = (note, arranged.note, f"{dark} pixels are 0 in all bands" if dark else "")
    return Scene(
        (arranged.spectra * factor).astype(np.float32),
        arranged.shares.clip(min=0).astype(np.float32),
        _material_names(files, arranged.shares.shape[1]),
        arranged.shape,
        arranged.order,
        ", ".join(filter(None, notes)),
        next((_text(field.value) for field in first.all("provenance")), None),
    )


def _check_named(role: str, name: str, files: Collection[SceneFile]) -> None:
    if not any(name in file.fields for file in files):
        told = " and ".join(str(file.path) for file in files)
        held = ", ".join(file.listing() for file in files)
        raise DataError(f"{told} has no {name} ({role}, by option 'keys'); it holds {held}")


def _spectra(file: SceneFile) -> Field:
    # a file may hold X or V of other meaning beside its Y
    fields = file.all("spectra")
    if not fields:
        raise DataError(
            f"{file.path} has no spectra (Y, V or X); it holds {file.listing()}; another name is told by option 'keys'"
        )
    return fields[0]


def _abundances(file: SceneFile, named: bool) -> Field:
    """The abundances of ``file``, which the user ``named`` as holding them, or not."""
    fields = file.all("abundances")
    if len(fields) > 1:
        told = " and ".join(field.key for field in fields)
        raise DataError(
            f"{file.path} holds {told}, any of which may be the abundances;"
            f" say which in option 'keys', as {{abundances: {fields[0].key}}}"
        )
    if not fields and named:
        raise DataError(
            f"{file.path} has no abundances (A); it holds {file.listing()}; another name is told by option 'keys'"
        )
    if not fields:
        raise DataError(
            f"{file.path} has no abundances (A), only {file.listing()}; name their file as option 'abundances',"
            " or their name in the file in option 'keys'"
        )
    return fields[0]


def _read_fields(path: Path, wanted: Collection[str]) -> dict[str, Any]:
    """The ``wanted`` arrays of a ``.mat`` (5 or 7.3) or ``.npz`` file, as they were saved; None for others."""
    if not path.is_file():
        raise DataError(f"{path.absolute()} is not there; 'data' is the path of a .mat or .npz file, or 'simulated'")
    if path.suffix.lower() == ".npz":
        return _guarded(_read_npz, path, wanted)
    if path.suffix.lower() != ".mat":
        raise DataError(f"{path} is neither a .mat nor a .npz file")
    with path.open("rb") as file:
        header = file.read(128)
    return _guarded(_read_hdf5 if header.startswith((b"MATLAB 7.3", b"\x89HDF")) else _read_mat5, path, wanted)


def _guarded(
    read: Callable[[Path, Collection[str]], dict[str, Any]], path: Path, wanted: Collection[str]
) -> dict[str, Any]:
    try:
        return read(path, wanted)
    except DataError:
        raise
    # a damaged file raises whatever its reader stumbles over first: zlib, struct, zip, HDF5 and type errors
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"{path} cannot be read, it may be truncated or of another format: {reason}") from error


def _read_mat5(path: Path, wanted: Collection[str]) -> dict[str, Any]:
    stored = loadmat(path, variable_names=list(wanted))
    return {key: stored.get(key) for key, _, _ in whosmat(path)}


def _read_npz(path: Path, wanted: Collection[str]) -> dict[str, Any]:
    with path.open("rb") as file:
        if not file.read(4).startswith(b"PK"):
            raise DataError(f"{path} is not a .npz archive")
    # an array of objects is a pickle, and unpickling runs code
    with np.load(path, allow_pickle=False) as archive:
        fields: dict[str, Any] = dict.fromkeys(archive.files)
        for key in fields.keys() & set(wanted):
            try:
                fields[key] = archive[key]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise DataError(f"{key} of {path} is pickled and refused; save it as a plain array") from error
    return fields


def _read_hdf5(path: Path, wanted: Collection[str]) -> dict[str, Any]:
    import h5py

    with h5py.File(path, "r") as file:
        # MATLAB's files begin with a block of its own, in which its version is told
        from_matlab = file.userblock_size > 0
        fields: dict[str, Any] = dict.fromkeys(key for key in file if not key.startswith("#"))
        for key in fields.keys() & set(wanted):
            values = file[key][()]
            if values.dtype.kind == "O":
                # a cell array: references to its cells, which are texts here
                fields[key] = [_characters(file[reference][()]) for reference in values.T.flat]
            elif file[key].attrs.get("MATLAB_class") == b"char":
                fields[key] = _characters(values)
            else:
                # MATLAB's axes are listed the other way round in HDF5
                fields[key] = values.T if from_matlab or "MATLAB_class" in file[key].attrs else values
    return fields


def _characters(codes: NDArray[Any]) -> str:
    return "".join(chr(code) for code in np.asarray(codes).T.flat)


def _material_names(files: Collection[SceneFile], materials: int) -> tuple[str, ...]:
    for field in (field for file in files for field in file.all("names")):
        names = tuple(_text(name) for name in np.asarray(field.value).ravel())
        if len(names) == materials:
            return names
    return tuple(f"material {k + 1}" for k in range(materials))


def _text(value: Any) -> str:
    """A string, also one wrapped in arrays as MATLAB's cells are."""
    return "".join(str(part) for part in np.asarray(value).ravel()).strip()
