"""One JPEG or PNG file -> grey levels as a person sees them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pneumod.errors import DataError
from pneumod.images.quiet import quiet

Grey = NDArray[np.uint8]

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 100_000_000  # the largest X-ray detectors have 20 million; a small file may claim far more
JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers of JPEG (ITU-T T.81, table B.1): C0 to CF without DHT (C4), JPG (C8) and DAC (CC).
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length: TEM, RST0 to RST7, SOI


def printable(path: Path) -> str:
    """A path for a log or a terminal: bytes in a file's name that aren't UTF-8 become U+FFFD."""
    return os.fsencode(path).decode(errors="replace")


def load_grey(path: Path, image_size: int) -> Grey:
    """The grey levels [image_size, image_size] of a JPEG or PNG file, uint8.

    Resampled by area and squashed to a square: the aspect isn't kept (docs/adr/0002-squash-to-square.md).

    Raises:
        DataError: the reason why the file can't be used, without its path.
    """
    return squash(read_grey(path), image_size)


def squash(grey: Grey, image_size: int) -> Grey:
    """Grey levels uint8 [height, width] -> [image_size, image_size]."""
    resized: Grey = cv2.resize(grey, (image_size, image_size), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return resized


def read_grey(path: Path) -> Grey:
    """The grey levels [height, width] of a JPEG or PNG file at its own size, uint8.

    Upright by its EXIF orientation; colours by their luminance, 16-bit levels by their high byte, and an
    alpha channel left away, as picture viewers show an opaque one.

    Raises:
        DataError: the reason why the file can't be used, without its path.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise DataError("not a file but a pipe or a device")  # which might never end
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}") from error
    if not data:
        raise DataError("the file is empty")
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"the file is over {MAX_FILE_BYTES // 2**20} MiB")
    return decode_grey(data)


def decode_grey(data: bytes) -> Grey:
    """`read_grey` of a file's bytes."""
    if data.startswith(PNG_MAGIC):
        name, size = "PNG", _png_size(data)
    elif data.startswith(JPEG_MAGIC):
        name, size = "JPEG", _jpeg_size(data)
    else:
        raise DataError("not a JPEG or PNG image")
    if size is None:
        raise DataError(f"a damaged or truncated {name}")
    width, height = size
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels are over the limit of {MAX_PIXELS // 1_000_000} million")
    try:
        with quiet():
            grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise DataError(f"a damaged or truncated {name}") from error
    if grey is None or grey.size == 0:
        raise DataError(f"a damaged or truncated {name}")
    return grey  # type: ignore[return-value]


def _png_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of the IHDR chunk, which must be the first."""
    if data[12:16] != b"IHDR" or len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of the first frame header; stray bytes between segments are passed over, as libjpeg does."""
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 9 <= len(data):
        marker = data[place + 1]
        if marker in JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        if marker in (0x00, 0xFF):  # a stuffed byte; fill bytes before a marker
            place += 1
        elif marker in JPEG_BARE:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
