"""A file's bytes without what names a patient, to be sent to another machine of the site."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from pneumod.errors import DataError
from pneumod.images import jpeg
from pneumod.images.load import PNG_MAGIC, is_dicom

PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"acTL", b"IDAT"})
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
APP0, APP14, APP15, COMMENT, SCAN, END = 0xE0, 0xEE, 0xEF, 0xFE, 0xDA, 0xD9  # JPEG's markers
JPEG_SEGMENTS = jpeg.FRAMES | {0xC4, 0xCC, SCAN, 0xDB, 0xDC, 0xDD}  # and tables: DHT, DAC, SOS, DQT, DNL, DRI
# An EXIF block of one entry: big endian, the first directory at byte 8, of type SHORT, count 1.
ONLY_ORIENTATION = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00%c\x00\x00\x00\x00\x00\x00"


def for_travel(data: bytes) -> bytes:
    """The same picture without anything that names a patient: no tags, no text, no EXIF but the orientation.

    Pixels are left as they are: what is burnt into them travels.

    Raises:
        DataError: a format for which this can't be done, or a damaged file.
    """
    if data.startswith(jpeg.MAGIC):
        return b"".join(_jpeg(data))
    if is_dicom(data):
        from pneumod.images import dicom

        return dicom.for_travel(data)
    if data.startswith(PNG_MAGIC):
        return b"".join(_png(data))
    raise DataError("only JPEG, PNG and DICOM files are sent to other machines")


def _jpeg(data: bytes) -> Iterator[bytes]:
    """A JPEG's segments up to its end, without comments and applications' data, but Adobe's colour transform."""
    yield data[:2]
    frame = jpeg.frame_of(data)
    if frame is not None and frame.orientation != 1:
        exif = jpeg.EXIF + ONLY_ORIENTATION % frame.orientation
        yield struct.pack(">BBH", 0xFF, jpeg.APP1, len(exif) + 2) + exif
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 2 <= len(data):
        marker = data[place + 1]
        if marker in (0x00, 0xFF) or marker in jpeg.BARE:  # strays between segments; libjpeg passes over them too
            place += 1
            continue
        if marker == END:
            yield data[place : place + 2]
            return
        after = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in JPEG_SEGMENTS:
            yield data[place:after]
        elif marker == APP0 and data.startswith(b"JFIF\x00", place + 4):
            yield struct.pack(">BBH", 0xFF, APP0, 16) + data[place + 4 : place + 16] + bytes(2)  # without its thumbnail
        elif marker == APP14 and data.startswith(b"Adobe", place + 4):
            yield struct.pack(">BBH", 0xFF, APP14, 14) + data[place + 4 : place + 16]
        elif not (APP0 <= marker <= APP15 or marker == COMMENT):
            break  # decoders differ in what they make of it
        place = after
        if marker == SCAN:
            place = _scan_end(data, after)
            yield data[after:place]
    raise DataError(jpeg.DAMAGED)


def _scan_end(data: bytes, place: int) -> int:
    """Where the entropy-coded data of a scan ends: at the next marker that is no restart."""
    while (place := data.find(b"\xff", place)) >= 0 and place + 1 < len(data):
        marker = data[place + 1]
        if marker != 0 and not 0xD0 <= marker <= 0xD7:
            return place
        place += 2
    return len(data)


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
            chunk = kind + ONLY_ORIENTATION % jpeg.orientation_of(data[place + 8 : after - 4])
            yield struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        if kind == b"IEND":
            yield PNG_END
            return
        place = after
    raise DataError("a damaged or truncated PNG")
