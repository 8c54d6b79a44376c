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
from pneumod.images.picture import check_size

PNG_HEADER = struct.Struct(">IIBBBBB")  # IHDR: width, height, bit depth, colour type, two zeros, interlaced or not
PNG_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}  # colour type -> samples a pixel, without a palette (3)
PNG_TRANSPARENT_BYTES = {0: 2, 2: 6}  # colour type -> of the one colour that is transparent
PNG_DAMAGED = "a damaged or truncated PNG"
PART_BYTES = 1024 * 1024
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
    """The chunks that make the picture, made anew, and its orientation."""
    header, orientation, transparent, squeezed = b"", 1, b"", []
    for kind, body in _chunks(data):
        if kind == b"IHDR":
            header = header or body
        elif kind == b"IDAT":
            squeezed.append(body)
        elif kind == b"eXIf":
            orientation = orientation_of(body)
        elif kind == b"tRNS":
            transparent = body
    if len(header) != PNG_HEADER.size:
        raise DataError(PNG_DAMAGED)
    width, height, depth, colour, *_, interlaced = PNG_HEADER.unpack(header)
    check_size(width, height)
    if colour not in PNG_SAMPLES or interlaced:
        raise DataError("a PNG with a palette, or interlaced, stays at home")
    yield PNG_MAGIC
    yield _chunk(b"IHDR", header)
    if transparent:
        if len(transparent) != PNG_TRANSPARENT_BYTES.get(colour):
            raise DataError(PNG_DAMAGED)
        yield _chunk(b"tRNS", transparent)
    if orientation != 1:
        yield _chunk(b"eXIf", BLOCK % orientation)
    row_bytes = 1 + (width * PNG_SAMPLES[colour] * depth + 7) // 8
    yield _chunk(b"IDAT", _exactly(b"".join(squeezed), height * row_bytes))
    yield PNG_END


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and contents of each chunk before the end of a PNG."""
    place = len(PNG_MAGIC)
    while place + 12 <= len(data):
        kind = data[place + 4 : place + 8]
        after = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if zlib.crc32(data[place + 4 : after - 4]) != int.from_bytes(data[after - 4 : after], "big"):
            break
        if kind == b"IEND":
            return
        yield kind, data[place + 8 : after - 4]
        place = after
    raise DataError(PNG_DAMAGED)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _exactly(squeezed: bytes, want_bytes: int) -> bytes:
    """A zlib stream without what lies behind it; it must hold so many bytes, and no text behind them.

    It is inflated by parts, and only as far as it should go.
    """
    inflater, rest = zlib.decompressobj(), squeezed
    try:
        while rest and not inflater.eof and want_bytes >= 0:
            want_bytes -= len(inflater.decompress(rest, PART_BYTES))
            rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise DataError(PNG_DAMAGED) from error
    if want_bytes or not inflater.eof:
        raise DataError("a PNG with more or less in it than its picture stays at home")
    return squeezed[: len(squeezed) - len(inflater.unused_data)]
