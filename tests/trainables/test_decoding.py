"""Pixels against torchvision's own decoder, TIFFs written by hand, and the upright image itself."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_png

from trainables.benchmarks.decoding import Rejected, decode


def png16(values: np.ndarray, colour: int, transparent: bytes = b"") -> bytes:
    """A PNG of 16 bits a channel: ``values`` (h, w, channels), ``colour`` the format's colour type."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(bits: int, content: bytes, sample_format: int = 1, photometric: int = 1) -> bytes:
    """A grey TIFF of two pixels, after the TIFF 6.0 specification."""
    fields = {256: 2, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: 1, 279: len(content)}
    fields[339] = sample_format
    fields[273] = 10 + 12 * len(fields) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + struct.pack("<I", 0) + content


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bits_a_channel_equal_torchvisions(colour: int, channels: int) -> None:
    data = png16(np.random.default_rng(0).integers(0, 65536, (8, 8, channels)), colour)
    stored = decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    expected = stored.to(torch.float64).numpy() / 257
    if channels in (2, 4):
        opaque = expected[-1:] / 255
        expected = expected[:-1] * opaque + 255 * (1 - opaque)
    # PIL keeps the high byte of several channels, and blends in whole numbers
    assert np.abs(decode(data, 8).astype(float) - expected).max() < 2


def test_a_16_bit_ramp_keeps_its_greys() -> None:
    ramp = np.arange(0, 65536, 257).reshape(16, 16, 1)
    np.testing.assert_array_equal(decode(png16(ramp, 0), 16)[0].ravel(), np.arange(256))


@pytest.mark.parametrize(
    "data",
    [
        b"P5\n2 1\n65535\n\x00\x00\xff\xff",
        b"P5\n2 1\n4095\n\x00\x00\x0f\xff",
        b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0, 1),
        tiff(16, struct.pack("<2H", 0, 65535)),
        tiff(16, struct.pack("<2H", 65535, 0), photometric=0),
        tiff(12, bytes([0x00, 0x0F, 0xFF])),
        tiff(32, struct.pack("<2f", 0, 1), sample_format=3),
        tiff(8, bytes([0, 255])),
        saved(Image.fromarray(np.array([[0, 65535]], ">u2")), "TIFF"),
    ],
)
def test_black_and_white_of_every_depth(data: bytes) -> None:
    assert decode(data, 2, "stretch")[:, 0].tolist() == [[0, 255]] * 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(32, struct.pack("<2f", 0, 200), sample_format=3), "floating-point pixels outside 0..1"),
        (tiff(32, struct.pack("<2f", 0, np.nan), sample_format=3), "floating-point pixels outside 0..1"),
        (tiff(32, struct.pack("<2I", 0, 70000)), "32-bit or signed pixels"),
        (tiff(16, struct.pack("<2h", -5, 5), sample_format=2), "32-bit or signed pixels"),
        (saved(Image.new("LAB", (4, 4)), "TIFF"), "LAB colours"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC or AVIF"),
    ],
)
def test_pixels_whose_meaning_is_not_known_are_left_out(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        decode(data, 4)


def half_clear(mode: str) -> bytes:
    """A red left half, and a right half of hidden green."""
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    image.paste((0, 255, 0, 0), (4, 0, 8, 8))
    if mode == "P":
        palette = Image.new("P", (8, 8), 0)
        palette.putpalette([255, 0, 0, 0, 255, 0])
        palette.paste(1, (4, 0, 8, 8))
        return saved(palette, transparency=1)
    if mode == "RGB":
        return saved(image.convert("RGB"), transparency=(0, 255, 0))
    return saved(image, mode)


@pytest.mark.parametrize("mode", ["PNG", "TIFF", "P", "RGB"])
def test_what_is_transparent_stands_on_white(mode: str) -> None:
    pixels = decode(half_clear(mode), 8)
    assert (pixels[:, :, :4] == np.array([255, 0, 0])[:, None, None]).all()
    assert (pixels[:, :, 4:] == 255).all()


@pytest.mark.parametrize("kind", ["WEBP", "GIF"])
def test_transparency_of_other_formats(kind: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (decode(saved(image, kind), 8) == 255).all()


def test_grey_and_deep_transparency() -> None:
    grey = Image.new("LA", (8, 8), (0, 128))
    # black at 128 / 255 over white
    assert (decode(saved(grey), 8) == 127).all()
    assert (decode(saved(Image.new("L", (8, 8), 7), transparency=7), 8) == 255).all()
    data = png16(np.array([[[1000], [2000]]]), 0, struct.pack(">H", 1000))
    assert decode(data, 2, "stretch")[0, 0].tolist() == [255, round(2000 / 257)]
    colours = png16(np.array([[[1000, 2000, 3000], [65535, 0, 0]]]), 2, struct.pack(">HHH", 1000, 2000, 3000))
    assert decode(colours, 2, "stretch")[:, 0].tolist() == [[255, 255], [255, 0], [255, 0]]


def test_cmyk_and_palettes() -> None:
    assert decode(saved(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF"), 4)[:, 0, 0].tolist() == [255, 0, 0]
    # 4:4:4 and full quality: only rounding is left
    jpeg = decode(saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100), 8)[:, 0, 0]
    assert np.abs(jpeg.astype(int) - [0, 255, 255]).max() <= 3


#: EXIF's orientation -> how the upright image is turned to be stored so
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_turns_upright(orientation: int, kind: str) -> None:
    upright = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    np.testing.assert_array_equal(decode(saved(stored, kind, exif=exif, **options), 8), upright.transpose(2, 0, 1))


def test_a_turned_photo_is_cropped_as_it_is_seen() -> None:
    upright = np.zeros((24, 8, 3), np.uint8)
    upright[8:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(np.ascontiguousarray(np.rot90(upright))), "JPEG", exif=exif, quality=100)
    assert decode(data, 8).min() > 250


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_leaves_the_pixels() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    data = saved(Image.fromarray(pixels), exif=b"Exif\0\0II*\0\xff\xff\xff\xff nothing")
    np.testing.assert_array_equal(decode(data, 8), pixels.transpose(2, 0, 1))
