"""PNG, TIFF and BMP of every kind of pixel come out as a person sees them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumod.errors import DataError
from pneumod.images.load import decode_picture

# pneumod silences Pillow when it is imported; pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

RAMP = (np.arange(48 * 64) // 12).astype(np.uint8).reshape(48, 64)
COLOURS = np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1]])
LUMINANCE = COLOURS @ np.array([0.299, 0.587, 0.114])


def saved(pixels: Any, kind: str, **how: Any) -> bytes:
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(out, kind, **how)
    return out.getvalue()


def grey(data: bytes) -> np.ndarray:
    picture = decode_picture(data)
    assert picture.grey.shape == (picture.facts.height, picture.facts.width)
    return picture.grey.astype(float)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_and_colours(kind: str) -> None:
    assert (grey(saved(RAMP, kind)) == RAMP).all()
    picture = decode_picture(saved(COLOURS, kind))
    assert np.abs(picture.grey - LUMINANCE).max() <= 1
    assert picture.facts.colour == pytest.approx(np.ptp(COLOURS.astype(int), axis=2).mean(), rel=0.01)
    assert decode_picture(saved(np.dstack([RAMP] * 3), kind)).facts.colour == 0


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_a_palette_and_black_and_white(kind: str) -> None:
    palette = Image.fromarray(COLOURS).quantize(256)
    assert np.abs(grey(saved(palette, kind)) - np.asarray(palette.convert("L"))).max() <= 1
    assert (grey(saved(RAMP > 100, kind)) == np.where(RAMP > 100, 255, 0)).all()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_compressed_tiff(compression: str) -> None:
    assert np.abs(grey(saved(RAMP, "TIFF", compression=compression)) - RAMP).max() <= 4


def test_cmyk_in_tiff() -> None:
    assert np.abs(grey(saved(Image.fromarray(COLOURS).convert("CMYK"), "TIFF")) - LUMINANCE).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_what_is_transparent_is_black(kind: str) -> None:
    alpha = np.where(RAMP > 100, 255, 0).astype(np.uint8)
    shown = np.where(RAMP > 100, RAMP, 0)
    assert (grey(saved(np.dstack([RAMP, RAMP, RAMP, alpha]), kind)) == shown).all()
    if kind == "PNG":
        assert (grey(saved(np.dstack([RAMP, alpha]), kind)) == shown).all()
        assert (grey(saved(RAMP, kind, transparency=200)) == np.where(RAMP == 200, 0, RAMP)).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("depth", [8, 10, 12, 14, 16])
def test_deep_levels_are_scaled_by_the_depth_that_they_use(kind: str, depth: int) -> None:
    deep = np.round(np.linspace(0, 2**depth - 1, 48 * 64)).astype(np.uint16).reshape(48, 64)
    assert np.abs(grey(saved(deep, kind)) - deep / (2**depth - 1) * 255).max() <= 0.51


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_signed_and_real_levels_are_shown_from_the_least_to_the_greatest(dtype: str) -> None:
    levels = (np.arange(48 * 64).reshape(48, 64) - 1000).astype(dtype) * (1 if dtype == "int32" else 0.01)
    shown = np.linspace(0, 255, 48 * 64).reshape(48, 64)
    assert np.abs(grey(saved(levels.astype(dtype), "TIFF")) - shown).max() <= 0.51
    with pytest.raises(DataError, match="no numbers"):
        decode_picture(saved(np.full((8, 8), np.nan, np.float32), "TIFF"))


def test_white_may_be_zero_in_tiff() -> None:
    deep = RAMP.astype(np.uint16) * 257
    for pixels in (RAMP, deep):
        data = saved(pixels, "TIFF")
        tag = data.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00")  # photometric interpretation: black is zero
        inverted = data[: tag + 8] + b"\x00" + data[tag + 9 :]
        assert (grey(inverted) == 255 - RAMP).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("pixels", [RAMP, RAMP.astype(np.uint16) * 257, COLOURS], ids=["8", "16", "colours"])
@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, 1), (8, 3)])
def test_a_turned_picture_is_upright(kind: str, pixels: np.ndarray, orientation: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = grey(saved(pixels, kind))
    how = {"exif": exif} if kind == "PNG" else {"tiffinfo": {0x0112: orientation}}
    assert (grey(saved(np.ascontiguousarray(np.rot90(pixels, turn)), kind, **how)) == upright).all()


def test_a_tiff_of_several_pages_is_refused() -> None:
    page = Image.fromarray(RAMP)
    with pytest.raises(DataError, match="a TIFF of 3 pictures; give one that holds a single one"):
        decode_picture(saved(page, "TIFF", save_all=True, append_images=[page, page]))


def claims(data: bytes, place: int, value: int) -> bytes:
    return data[:place] + value.to_bytes(4, "little") + data[place + 4 :]


def test_a_picture_over_the_limit_is_refused_before_decoding() -> None:
    bmp = claims(claims(saved(RAMP, "BMP"), 18, 20_000), 22, 10_000)
    with pytest.raises(DataError, match="20000 x 10000 pixels are over the limit of 100 million"):
        decode_picture(bmp)
    tiff = saved(RAMP, "TIFF")
    wide = tiff.index(b"\x00\x01\x04\x00\x01\x00\x00\x00\x40\x00")
    with pytest.raises(DataError, match="100000000 x 48 pixels are over the limit of 100 million"):
        decode_picture(claims(tiff, wide + 8, 100_000_000))


def test_a_tiff_whose_tiles_are_over_the_limit_is_refused_before_decoding() -> None:
    tiff = saved(RAMP, "TIFF")
    rows = tiff.index(b"\x16\x01\x04\x00\x01\x00\x00\x00")  # the tag of the rows in a strip becomes a tile's width
    tiled = tiff[:rows] + b"\x42\x01" + tiff[rows + 2 :]
    with pytest.raises(DataError, match="200000000 x 1 pixels are over the limit of 100 million"):
        decode_picture(claims(tiled, rows + 8, 200_000_000))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    data = saved(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), kind)
    for cut in (30, len(data) // 2, len(data) - 600):
        with pytest.raises(DataError, match=f"a damaged or truncated {kind}"):
            decode_picture(data[:cut])
