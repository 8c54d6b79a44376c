"""A file's bytes without what names a patient, to be sent to another machine of the site."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from pneumod.errors import DataError
from pneumod.images import jpeg
from pneumod.images.codestreams import bare_jpeg
from pneumod.images.load import PNG_MAGIC, is_dicom
from pneumod.images.orientation import BLOCK, orientation_of

PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"acTL", b"IDAT"})
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def for_travel(data: bytes) -> bytes:
    """The same picture without anything that names a patient: no tags, no text, no EXIF but the orientation.

    Pixels are left as they are: what is burnt into them travels.

    Raises:
        DataError: a format for which this can't be done, or a damaged file.
    """
    if data.startswith(jpeg.MAGIC):
        frame = jpeg.frame_of(data)
        orientation = frame.orientation if frame else 1
        return bare_jpeg(data, BLOCK % orientation if orientation != 1 else b"")
    if is_dicom(data):
        from pneumod.images import dicom_travel

        return dicom_travel.for_travel(data)
    if data.startswith(PNG_MAGIC):
        return b"".join(_png(data))
    raise DataError("only JPEG, PNG and DICOM files are sent to other machines")


def _png(data: bytes) -> Iterator[bytes]:
    """The chunks that make the picture, and its orientation."""
    yield PNG_MAGIC
    place = len(PNG_MAGIC)
    while place + 12 <= len(data):
        kind = data[place + 4 : place + 8]
        after = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if kind in PNG_CHUNKS:
            yield data[place:after]
        if kind == b"eXIf":
            chunk = kind + BLOCK % orientation_of(data[place + 8 : after - 4])
            yield struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        if kind == b"IEND":
            yield PNG_END
            return
        place = after
    raise DataError("a damaged or truncated PNG")
