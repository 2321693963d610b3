"""The bytes of an image file to pixels of 8 bits a channel, converted by what they mean or refused."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

MAX_PIXELS = 64_000_000
#: PIL plugins that may see a file: no format that calls another program
PIL_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

#: EXIF's orientation -> what turns the stored pixels upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: TIFF's tags BitsPerSample and PhotometricInterpretation, and the latter's WhiteIsZero
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
#: brands of the HEIF family in a file's first box
_HEIF = (b"heic", b"heix", b"heif", b"mif1", b"msf1", b"hevc", b"avif", b"avis")


class Rejected(ValueError):
    """Raised for a file that is to be left out; the message is the reason."""


def decode(data: bytes, size: int, fit: Literal["crop", "stretch"] = "crop") -> np.ndarray:
    """The image in ``data`` as (3, size, size) uint8 RGB; `Rejected` says what is wrong with it.

    Turned upright by its EXIF orientation. 16 bits a channel are scaled to 8, transparent pixels stand on white, and
    floating point is read as 0 (black) to 1 (white); pixels whose black and white are not known are rejected. Of
    several frames the first is taken. Scaled with PIL's antialiased bilinear filter, torchvision's default.
    """
    image = _opened(data)
    try:
        rgb = _rgb(image)
    except Rejected:
        raise
    except Exception as error:
        raise Rejected("truncated or damaged image") from error
    turn = _turn(image)
    if turn is not None:
        rgb = rgb.transpose(turn)
    width, height = rgb.size
    box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    if (width, height) != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box)
    return np.asarray(rgb).transpose(2, 0, 1)


def _opened(data: bytes) -> Image.Image:
    """The image, its pixels not decoded yet."""
    if not data:
        raise Rejected("empty file")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        raise Rejected("HEIC or AVIF, which is not read: save it as JPEG or PNG")
    too_large = f"more than {MAX_PIXELS // 10**6} million pixels"
    try:
        image = Image.open(io.BytesIO(data), formats=PIL_FORMATS)
    except UnidentifiedImageError:
        raise Rejected("not an image") from None
    except Image.DecompressionBombError:
        raise Rejected(too_large) from None
    except Exception as error:
        # decoders raise whatever they come upon in damaged bytes
        raise Rejected("truncated or damaged image") from error
    if image.width * image.height > MAX_PIXELS:
        raise Rejected(too_large)
    return image


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        # whatever damaged EXIF raises: the pixels are whole, and most photos are stored upright
        return None


def _rgb(image: Image.Image) -> Image.Image:
    """The image's pixels in RGB, not turned."""
    deep = any("16" in str(tile.args) for tile in getattr(image, "tile", ()))
    image.load()
    if image.mode.startswith("I") or image.mode == "F":
        return _grey(image).convert("RGB")
    if image.mode == "LAB":
        raise Rejected("LAB colours, which are not read: save it in RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.info.get("transparency")
    if deep and isinstance(clear, tuple):
        # PIL keeps the high byte of a 16-bit colour, but all of the colour that stands for transparency
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    # what a transparent pixel hides is arbitrary, often black: pages show it on white
    opaque = Image.new("RGBA", image.size, "white")
    opaque.alpha_composite(image.convert("RGBA"))
    return opaque.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """A grey image of more than 8 bits in 8, from its own black to its own white; PIL's own conversion clips at 255."""
    values = np.asarray(image)
    if image.mode == "F":
        # NaN is outside as well
        if not (values.min() >= 0 and values.max() <= 1):
            raise Rejected("floating-point pixels outside 0..1: save it with 8 or 16 bits")
        shares = values.astype(np.float64)
    elif image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):
        shares = values / (2 ** _bits(image) - 1)
    else:
        raise Rejected("32-bit or signed pixels, whose black and white are not known: save it with 8 or 16 bits")
    if image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        shares = 1 - shares
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        shares = np.where(values == transparent, 1.0, shares)
    return Image.fromarray((shares * 255).round().astype(np.uint8))


def _bits(image: Image.Image) -> int:
    """Bits of a grey sample: 16, or fewer where a TIFF says so (PIL leaves 12 bits as they are)."""
    bits = _tag(image, _BITS) if image.format == "TIFF" else None
    return bits if isinstance(bits, int) else 16


def _tag(image: Image.Image, tag: int) -> object:
    tags = getattr(image, "tag_v2", {})
    value = tags.get(tag)
    return value[0] if isinstance(value, tuple) and value else value
