"""Every transfer syntax gives the picture that was put in, of every depth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import decoders
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from pneumod.images.load import decode_picture
from tests.images.dicoms import chest, compressed, dataset, written

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
LOSSLESS = (RLELossless, JPEGLossless, JPEGLosslessSV1, JPEG2000Lossless)
JPEG_LS = (JPEGLSLossless, JPEGLSNearLossless)
DEPTHS = [(8, "u1"), (8, "i1"), (10, "u2"), (12, "u2"), (12, "i2"), (16, "u2"), (16, "i2")]
SIDE = 96


@pytest.fixture
def product_decoders() -> Iterator[None]:
    """pyjpegls, which encodes for these tests, would decode too; the product hasn't got it."""
    pytest.importorskip("jpeg_ls")
    for decoder in (decoders.JPEGLSLosslessDecoder, decoders.JPEGLSNearLosslessDecoder):
        decoder.remove_plugin("pyjpegls")
    yield
    for decoder in (decoders.JPEGLSLosslessDecoder, decoders.JPEGLSNearLosslessDecoder):
        decoder.add_plugin("pyjpegls", ("pydicom.pixels.decoders.pyjpegls", "_decode_frame"))


def radiograph(cxr: Path, bits: int, dtype: str) -> Dataset:
    """A chest radiograph in all of its bits: the deeper ones are noise, which a lossy codec may lose."""
    levels = chest(cxr, SIDE).astype(np.int64) << (bits - 8)
    levels += np.random.default_rng(0).integers(0, 2 ** (bits - 8), levels.shape)
    levels -= 2 ** (bits - 1) if dtype.startswith("i") else 0
    return dataset(levels.astype(dtype), bits)


def check(cxr: Path, data: bytes, bits: int, within: int) -> None:
    grey = decode_picture(data).grey
    expected = chest(cxr, SIDE).astype(np.float64)
    if bits > 8:  # shown from the least to the greatest value that occurs
        expected = (expected - expected.min()) * 255 / (expected.max() + 1 - expected.min())
    assert np.abs(grey - expected).max() <= within


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(("bits", "dtype"), DEPTHS)
def test_uncompressed_and_deflated(cxr: Path, syntax: UID, bits: int, dtype: str) -> None:
    check(cxr, written(radiograph(cxr, bits, dtype), syntax), bits, within=2 if bits > 8 else 0)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(("bits", "dtype"), DEPTHS)
def test_lossless(cxr: Path, syntax: UID, bits: int, dtype: str) -> None:
    check(cxr, compressed(radiograph(cxr, bits, dtype), syntax), bits, within=2 if bits > 8 else 0)


@pytest.mark.parametrize("syntax", JPEG_LS, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(("bits", "dtype"), DEPTHS)
@pytest.mark.usefixtures("product_decoders")
def test_jpeg_ls(cxr: Path, syntax: UID, bits: int, dtype: str) -> None:
    check(cxr, compressed(radiograph(cxr, bits, dtype), syntax), bits, within=4)


@pytest.mark.parametrize(
    ("syntax", "bits", "dtype"),
    [(JPEGBaseline8Bit, 8, "u1"), (JPEG2000, 8, "u1"), (JPEG2000, 12, "u2"), (JPEG2000, 12, "i2")],
)
def test_lossy(cxr: Path, syntax: UID, bits: int, dtype: str) -> None:
    check(cxr, compressed(radiograph(cxr, bits, dtype), syntax), bits, within=20)


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS, JPEGBaseline8Bit, JPEG2000], ids=lambda syntax: syntax.name)
def test_white_and_black_change_places_in_monochrome1(cxr: Path, syntax: UID) -> None:
    made = [radiograph(cxr, 8, "u1") for _ in range(2)]
    made[1].PhotometricInterpretation = "MONOCHROME1"
    write = written if syntax in NATIVE else compressed
    plain, inverted = (decode_picture(write(one, syntax)).grey for one in made)
    assert (inverted == 255 - plain).all()
