"""A damaged file gives a picture or a DataError, and nothing else, whatever is broken in it."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import suppress

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from pneumod.errors import DataError
from pneumod.images.load import decode_picture
from pneumod.images.travel import for_travel
from tests.images.dicoms import compressed, dataset, written

# pneumod silences Pillow and pydicom when they are imported; pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore")

RAMP = (np.indices((48, 64)).sum(0) * 2 % 256).astype(np.uint8)
DEEP = RAMP.astype(np.uint16) * 16
COLOURS = np.dstack([RAMP, RAMP[::-1], 255 - RAMP])
ROUNDS = 150


def saved(kind: str, pixels: np.ndarray, **how: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **how)
    return out.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


WINDOW = {"WindowCenter": 1000, "WindowWidth": 500, "RescaleSlope": 1, "RescaleIntercept": 0}
FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: cv2.imencode(".jpg", RAMP)[1].tobytes(),
    "progressive": lambda: saved("JPEG", COLOURS, progressive=True, exif=turned()),
    "png": lambda: saved("PNG", COLOURS, exif=turned()),
    "png 16": lambda: saved("PNG", DEEP),
    "tiff": lambda: saved("TIFF", COLOURS),
    "tiff 16": lambda: saved("TIFF", DEEP),
    "tiff lzw": lambda: saved("TIFF", COLOURS, compression="tiff_lzw"),
    "tiff jpeg": lambda: saved("TIFF", COLOURS, compression="jpeg"),
    "bmp": lambda: saved("BMP", COLOURS),
    "implicit": lambda: written(dataset(DEEP, 12, **WINDOW), ImplicitVRLittleEndian),
    "big endian": lambda: written(dataset(DEEP, 12, **WINDOW), ExplicitVRBigEndian),
    "deflated": lambda: written(dataset(DEEP, 12, **WINDOW), DeflatedExplicitVRLittleEndian),
    "rle": lambda: compressed(dataset(DEEP, 12), RLELossless),  # whose decoder panics
    "baseline": lambda: compressed(dataset(RAMP, 8), JPEGBaseline8Bit),
    "lossless": lambda: compressed(dataset(DEEP, 12), JPEGLosslessSV1),
    "jpeg 2000": lambda: compressed(dataset(DEEP, 12), JPEG2000Lossless),
}


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A copy with one or some bytes changed, put in or left out; or the first part of it."""
    if chance.random() < 0.1:
        return data[: chance.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 8, 30))):
        place = chance.randrange(min(len(changed), chance.choice((200, 800, len(changed)))))
        match chance.randrange(4):
            case 0:
                changed[place] = chance.randrange(256)
            case 1:
                changed[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del changed[place : place + chance.randrange(1, 9)]
            case _:
                changed[place:place] = chance.randbytes(chance.randrange(1, 9))
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_a_data_error_or_a_picture(name: str) -> None:
    chance = random.Random(name)
    whole = FILES[name]()
    refused = 0
    for _ in range(ROUNDS):
        data = damaged(whole, chance)
        try:
            grey = decode_picture(data, chance.choice((0, 8, 96)), force=chance.random() < 0.5).grey
            assert grey.ndim == 2
            assert grey.dtype == np.uint8
        except DataError:
            refused += 1
        with suppress(DataError):
            for_travel(data)
    assert 5 < refused < ROUNDS
