"""How a picture must be turned to be upright, by EXIF (CIPA DC-008, 4.6.4): the same here and where it is sent."""

from __future__ import annotations

import struct

import numpy as np

from pneumod.images.picture import Grey

EXIF = b"Exif\x00\x00"  # how JPEG's segment with an EXIF block starts
TAG, LONG = 0x0112, 4  # of the orientation; a type of four bytes, where two are usual
TURNED = frozenset({5, 6, 7, 8})  # orientations whose height is the upright picture's width
# An EXIF block of one entry: big endian, the first directory at byte 8, of type SHORT, count 1.
BLOCK = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00%c\x00\x00\x00\x00\x00\x00"


def orientation_of(exif: bytes) -> int:
    """The orientation, 1 to 8, in an EXIF block, which is a TIFF's first directory; 1 (upright) if it tells none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, place)
            if tag == TAG:
                (value,) = struct.unpack_from(f"{order}{'I' if kind == LONG else 'H'}", exif, place + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:  # cut off
        pass
    return 1


def upright(grey: Grey, orientation: int) -> Grey:
    """Grey levels [h, w] of that orientation -> upright, [w, h] for 5 to 8."""
    if orientation in TURNED:
        grey = grey.T
    down = -1 if orientation in (3, 4, 7, 8) else 1
    right = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(grey[::down, ::right])
