"""Hyperspectral scenes: what one is, and a simulated one by the extended linear mixing model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit, softmax

MATERIALS = ("vegetation", "red metallic roofs", "concrete", "asphalt")
#: as the paper's crop of Houston
SHAPE = (105, 128)
#: band centres in nm, as many as the paper's sensor has
WAVELENGTHS: NDArray[np.float64] = np.linspace(380.0, 1050.0, 144)

#: fixes the simulated scene
_SEED = 12
#: width in pixels of the patches of one material, and of the shading
_PATCH, _SHADE = 6.0, 4.0
#: the smaller, the sharper the transitions between materials
_TEMPERATURE = 0.3
#: standard deviation of the logarithm of an endmember's scale
_VARIABILITY = 0.15


@dataclass(frozen=True)
class Scene:
    """Spectra (N, bands) as reflectances, abundances (N, m) that sum to 1 over the m materials, both float32.

    ``shape`` is (rows, columns) where it is known; pixels are numbered in ``pixel_order``. ``note`` says
    how the spectra were scaled or made, ``provenance`` is the file's own statement, if it has one.
    """

    spectra: NDArray[np.float32]
    abundances: NDArray[np.float32]
    names: tuple[str, ...]
    shape: tuple[int, int] | None
    pixel_order: str
    note: str
    provenance: str | None = None


def endmembers(wavelengths: NDArray[np.float64] = WAVELENGTHS) -> NDArray[np.float64]:
    """Reflectances (bands, 4), 0..1, of `MATERIALS` at ``wavelengths`` in nm, by formula.

    Vegetation with its green peak, red edge at 715 nm and water band at 970 nm; a red roof that rises at
    600 nm with an iron-oxide band at 870 nm; concrete that saturates; asphalt, dark and almost flat.
    """
    w = wavelengths

    def peak(centre: float, width: float) -> NDArray[np.float64]:
        return np.exp(-0.5 * ((w - centre) / width) ** 2)

    vegetation = 0.04 + 0.06 * peak(550, 30) + 0.42 * expit((w - 715) / 12) - 0.05 * peak(970, 25)
    roof = 0.06 + 0.30 * expit((w - 600) / 15) - 0.05 * peak(870, 45)
    concrete = 0.14 + 0.22 * (1 - np.exp(-(w - 380) / 200))
    asphalt = 0.06 + 0.06 * (w - 380) / 670
    return np.stack([vegetation, roof, concrete, asphalt], 1)


def simulate() -> Scene:
    """The embedded scene, always the same: 105 × 128 pixels, 144 bands, four materials, no noise.

    Extended linear mixing model: x_n = Σ_k a_nk ψ_nk s_k. The abundances a are a softmax of smooth random
    fields, so that pure patches meet in mixed transitions; each endmember s_k has a scale ψ_nk at each
    pixel, smooth and log-normal, as shading and slope give.
    """
    rng = np.random.default_rng(_SEED)
    fields = _smooth_fields(rng, _PATCH)
    abundances = softmax(fields / _TEMPERATURE, axis=1)
    scales = np.exp(_VARIABILITY * _smooth_fields(rng, _SHADE))
    spectra = (abundances * scales) @ endmembers().T
    return Scene(
        spectra.astype(np.float32),
        abundances.astype(np.float32),
        MATERIALS,
        SHAPE,
        "column-major",
        "extended linear mixing model, spectra by formula",
    )


def _smooth_fields(rng: np.random.Generator, width: float) -> NDArray[np.float64]:
    """One Gaussian random field per material (N, 4), mean 0 and deviation 1, pixels column-major."""
    noise = rng.standard_normal((len(MATERIALS), *SHAPE))
    fields = np.stack([gaussian_filter(field, width).ravel(order="F") for field in noise], 1)
    standardized: NDArray[np.float64] = (fields - fields.mean(0)) / fields.std(0)
    return standardized
