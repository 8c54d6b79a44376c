"""Compressed pictures without comments, applications' data, and whatever lies behind their end."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pneumod.errors import DataError
from pneumod.images import jpeg
from pneumod.images.orientation import EXIF

START, APP0, APP14, APP15, COMMENT, END = 0xD8, 0xE0, 0xEE, 0xEF, 0xFE, 0xD9  # JPEG's markers
TABLES = jpeg.FRAMES | {0xC4, jpeg.SCAN, 0xDB, 0xDD}  # frames, and DHT, SOS, DQT, DRI
NAMED = frozenset({(APP0, b"JFIF\x00"), (APP14, b"Adobe")})  # applications' data that tell what the colours are,
NAMED_BYTES = 12  # by their first bytes
PRESETS, PRESETS_BYTES = 0xF8, 13  # JPEG-LS (T.87): LSE; other lengths of it are tables of colours
J2K_START = b"\xff\x4f\xff\x51"  # JPEG 2000's markers SOC and SIZ
J2K_TILE, J2K_DATA, J2K_END = 0xFF90, b"\xff\x93", b"\xff\xd9"  # SOT, SOD, EOC
J2K_KEPT = frozenset({0xFF50, 0xFF51, 0xFF52, 0xFF53, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF5F})  # CAP, SIZ to POC: what decodes
J2K_DROPPED = frozenset({0xFF55, 0xFF57, 0xFF58, 0xFF63, 0xFF64})  # TLM, PLM, PLT, CRG, COM: hints and comments


def bare_jpeg(data: bytes, orientation: bytes = b"") -> bytes:
    """A JPEG or JPEG-LS of its frame, tables and scans alone; of applications' data only what tells the colours.

    Args:
        orientation: an EXIF block that is put in.

    Raises:
        DataError: damaged, or of a kind in which decoders differ.
    """
    return b"".join(_jpeg(data, orientation))


def _jpeg(data: bytes, orientation: bytes) -> Iterator[bytes]:
    yield data[:2]
    if orientation:
        yield struct.pack(">BBH", 0xFF, jpeg.APP1, len(orientation) + 8) + EXIF + orientation
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 2 <= len(data):
        marker = data[place + 1]
        if marker in (0x00, 0xFF) or (marker in jpeg.BARE and marker != START):  # strays, which libjpeg passes over
            place += 1
            continue
        if marker == END:
            yield data[place : place + 2]
            return
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        after = place + 2 + length
        if marker in TABLES or (marker == PRESETS and length == PRESETS_BYTES):
            yield data[place:after]
        elif (marker, data[place + 4 : place + 9]) in NAMED:
            body = data[place + 4 : min(after, place + 4 + NAMED_BYTES)]
            body += bytes(2 if marker == APP0 else 0)  # no thumbnail
            yield struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
        elif not (APP0 <= marker <= APP15 or marker == COMMENT):
            break
        place = after
        if marker == jpeg.SCAN:
            place = _scan_end(data, after)
            yield data[after:place]
    raise DataError(jpeg.DAMAGED)


def _scan_end(data: bytes, place: int) -> int:
    """Where the entropy-coded data of a scan end: at the next marker that is no restart."""
    while (place := data.find(b"\xff", place)) >= 0 and place + 1 < len(data):
        marker = data[place + 1]
        if marker >= 0x80 and not 0xD0 <= marker <= 0xD7:  # below: a stuffed byte, or JPEG-LS's stuffed bit
            return place
        place += 2
    return len(data)


def j2k_size(data: bytes) -> tuple[int, int, int] | None:
    """(width, height, components) of a JPEG 2000 codestream, bare or in a JP2 file (ITU-T T.800, A.5.1 and I.5)."""
    start = _j2k_start(data)
    if start < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    return right - left, bottom - top, components


def _j2k_start(data: bytes) -> int:
    return 0 if data.startswith(J2K_START) else data.find(J2K_START) if data[4:8] == b"jP  " else -1


def bare_j2k(data: bytes) -> bytes:
    """A JPEG 2000 codestream (ITU-T T.800, annex A) without comments and without the JP2 file around it.

    Raises:
        DataError: damaged, or with parts whose length or contents can't be told.
        struct.error: cut off.
    """
    return b"".join(_j2k(data))


def _j2k(data: bytes) -> Iterator[bytes]:
    place = _j2k_start(data) + 2
    if place < 2:
        raise DataError("no JPEG 2000 codestream")
    header, place = _j2k_segments(data, place)
    yield J2K_START[:2] + header
    while data[place : place + 2] != J2K_END:
        marker, rest, tile, tile_bytes, part = struct.unpack_from(">HHHIH", data, place)
        header, start = _j2k_segments(data, place + 12)
        end = place + tile_bytes
        if marker != J2K_TILE or data[start : start + 2] != J2K_DATA or not start + 2 <= end <= len(data):
            raise DataError("a JPEG 2000 codestream of an unusual kind")
        yield struct.pack(">HHHIH", marker, rest, tile, 12 + len(header) + end - start, part) + header + data[start:end]
        place = end
    yield J2K_END


def _j2k_segments(data: bytes, place: int) -> tuple[bytes, int]:
    """The segments of a header that decoding needs, and where the header ends."""
    kept = b""
    while True:
        marker, length = struct.unpack_from(">HH", data, place)
        if marker not in J2K_KEPT | J2K_DROPPED:
            return kept, place
        if marker in J2K_KEPT:
            kept += data[place : place + 2 + length]
        place += 2 + length
