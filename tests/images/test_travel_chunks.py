"""A PNG or JPEG that goes to another machine is its picture alone, and anything odd about it stays at home."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from pneumod.errors import DataError
from pneumod.images.load import decode_picture
from pneumod.images.travel import for_travel
from tests.images.dicoms import dataset, written

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

NAME = b"Zyxwvut^Patient"  # 15 bytes
NOISE = np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)
RAW = b"".join(b"\0" + row.tobytes() for row in NOISE)  # rows without a filter


def saved(kind: str, pixels: np.ndarray = NOISE, mode: str | None = None) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(out, kind)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(before: bytes = b"", squeezed: bytes = zlib.compress(RAW), behind: bytes = b"", interlaced: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 0, 0, 0, interlaced))
    chunks = header, before, chunk(b"IDAT", squeezed), behind, chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    "data",
    [
        png(squeezed=zlib.compress(RAW) + NAME),
        png(behind=chunk(b"IDAT", NAME)),
        png(before=chunk(b"PLTE", NAME)),
        png(before=chunk(b"acTL", NAME)),
        png(before=chunk(b"teXt", NAME)),
        png(behind=chunk(b"eXIf", NAME)),
    ],
)
def test_bytes_that_are_not_of_a_pngs_picture_do_not_travel(data: bytes) -> None:
    assert NAME in data
    travels = for_travel(data)
    assert NAME not in travels
    assert (decode_picture(travels).grey == NOISE).all()
    assert (decode_picture(data).grey == NOISE).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_each_kind_of_png_travels_as_it_is(mode: str) -> None:
    data = saved("PNG", NOISE.astype(np.uint16) * 200) if mode == "I;16" else saved("PNG", mode=mode)
    one, other = decode_picture(data), decode_picture(for_travel(data))
    assert one.facts == other.facts
    assert (one.grey == other.grey).all()


def test_a_png_in_many_parts_travels() -> None:
    squeezed = zlib.compress(RAW)
    parts = b"".join(chunk(b"IDAT", squeezed[at : at + 100]) for at in range(1000, len(squeezed), 100))
    assert (decode_picture(for_travel(png(squeezed=squeezed[:1000], behind=parts))).grey == NOISE).all()


STAY: dict[str, Callable[[], bytes]] = {
    "text behind the rows, compressed": lambda: png(squeezed=zlib.compress(RAW + NAME)),
    "a bomb": lambda: png(squeezed=zlib.compress(bytes(50_000_000))),
    "cut off": lambda: png(squeezed=zlib.compress(RAW)[:-100]),
    "a wrong check sum": lambda: png().replace(chunk(b"IDAT", zlib.compress(RAW))[-4:], b"Zyxw"),
    "a transparent colour that is text": lambda: png(before=chunk(b"tRNS", NAME)),
    "a palette": lambda: saved("PNG", mode="P"),
    "interlaced": lambda: png(interlaced=1),
    "no end": lambda: png()[:-12],
}


@pytest.mark.parametrize("what", STAY)
def test_an_odd_png_stays_at_home(what: str) -> None:
    with pytest.raises(DataError, match=r"stays at home|damaged"):
        for_travel(STAY[what]())


@pytest.mark.parametrize("marker", [0xCC, 0xDC])
def test_a_jpeg_with_unusual_segments_stays_at_home(marker: int) -> None:
    """DAC and DNL, which decoders pass over."""
    plain = saved("JPEG")
    data = plain[:-2] + struct.pack(">BBH", 0xFF, marker, 2 + len(NAME)) + NAME + plain[-2:]
    for_travel(plain)
    with pytest.raises(DataError, match="damaged"):
        for_travel(data)


def test_no_line_on_standard_error_is_lost_while_files_are_stripped(capfd: pytest.CaptureFixture[str]) -> None:
    """`--cluster` strips them in threads, while its main thread says what happens."""
    data = written(dataset(np.zeros((1500, 1500), np.uint8), 8))
    with ThreadPoolExecutor(4) as threads:
        stripped = [threads.submit(for_travel, data) for _ in range(40)]
        lines = 0
        while not all(one.done() for one in stripped):
            lines += os.write(2, b"\n")
    assert lines > 4
    assert capfd.readouterr().err == "\n" * lines
