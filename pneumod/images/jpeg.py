"""JPEG -> grey levels, at a reduced scale where that is enough."""

from __future__ import annotations

import struct
from typing import NamedTuple

import cv2
import numpy as np

from pneumod.errors import DataError
from pneumod.images.orientation import EXIF, TURNED, orientation_of, upright
from pneumod.images.picture import Grey, Picture, check_size, colour_of, picture

MAGIC = b"\xff\xd8\xff"
DAMAGED = "a damaged or truncated JPEG"
# Start-of-frame markers (ITU-T T.81, table B.1): C0 to CF without DHT (C4), JPG (C8) and DAC (CC); F7: JPEG-LS (T.87).
FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
SCAN = 0xDA  # SOS
BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length: TEM, RST0 to RST7, SOI
APP1 = 0xE1  # of EXIF
REDUCED_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
REDUCED_COLOUR = {
    1: cv2.IMREAD_COLOR_BGR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# Factor -> how many times the square's side the reduced picture's shorter side must be. The larger the reduction,
# the more of the edges' sharpness is lost within a pixel of the square.
ROOM = {8: 3, 4: 2, 2: 2}


class Frame(NamedTuple):
    """What a JPEG's header says up to its frame."""

    width: int  # pixels, before the EXIF orientation
    height: int
    components: int  # 1: grey
    orientation: int  # by EXIF: 1 is upright


def decode(data: bytes, least_px: int) -> Picture:
    """Upright by its EXIF orientation, colours by their luminance.

    Raises:
        DataError: damaged, or over the limit of pixels.
    """
    frame = frame_of(data)
    if frame is None:
        raise DataError(DAMAGED)
    factor = reduction(frame, least_px)
    if frame.components == 1:
        grey, colour = read(data, REDUCED_GREY[factor]), 0.0
    else:
        colours = read(data, REDUCED_COLOUR[factor])
        grey, colour = cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY), colour_of(colours)  # type: ignore[assignment]
    size = (frame.width, frame.height) if frame.orientation in TURNED else (frame.height, frame.width)
    return picture(upright(whole(grey, frame, factor), frame.orientation), size, colour)


def whole(grey: Grey, frame: Frame, factor: int) -> Grey:
    """Undo what decoding at a reduced scale adds.

    A side that isn't a multiple of the factor is rounded up, and the last row or column lies partly beyond the
    edge. Left as it is, the picture would be squashed a little too much, and by more levels than reducing costs.
    """
    height, width = grey.shape
    down, right = frame.height / factor / height, frame.width / factor / width
    if down == right == 1:
        return grey
    places = np.array([[right, 0, right / 2 - 0.5], [0, down, down / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(grey, places, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[return-value]


def read(data: bytes, flags: int) -> Grey:
    """OpenCV's pixels of a JPEG, grey [h, w] or colours [h, w, 3], not turned.

    Raises:
        DataError: OpenCV can't decode it.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise DataError(DAMAGED) from error
    if pixels is None or pixels.size == 0:
        raise DataError(DAMAGED)
    return pixels  # type: ignore[return-value]


def reduction(frame: Frame, least_px: int) -> int:
    """By how much decoding may reduce the picture: 1, 2, 4 or 8."""
    side = min(frame.width, frame.height)
    return next((factor for factor, room in ROOM.items() if 0 < least_px * room * factor <= side), 1)


def frame_of(data: bytes) -> Frame | None:
    """What the header says, up to the first scan; None: there is no frame in it.

    Stray bytes between segments are passed over, as libjpeg does; of several EXIF segments the first counts.

    Raises:
        DataError: the picture is over the limit of pixels.
    """
    size: tuple[int, int, int] | None = None
    orientation = 0
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 10 <= len(data):
        marker = data[place + 1]
        if marker == SCAN:
            break
        if marker in (0x00, 0xFF):  # a stuffed byte; fill bytes before a marker
            place += 1
        elif marker in BARE:
            place += 2
        else:
            after = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
            if marker in FRAMES and size is None:
                height, width, components = struct.unpack_from(">HHB", data, place + 5)
                check_size(width, height)
                size = width, height, components
            elif marker == APP1 and orientation == 0 and data.startswith(EXIF, place + 4):
                orientation = orientation_of(data[place + 4 + len(EXIF) : after])
            place = after
    return Frame(*size, orientation or 1) if size and size[0] and size[1] else None
