"""One file -> one picture, whatever its name, and one reason where there is none."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumod.errors import DataError
from pneumod.images.load import decode_picture, read_picture
from pneumod.images.picture import MAX_FILE_BYTES
from tests.images.dicoms import dataset, written

RAMP = np.arange(200 * 100, dtype=np.uint8).reshape(200, 100) // 2
KIND = "not a JPEG, PNG, TIFF, BMP or DICOM file"


def encoded(extension: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(extension, pixels)[1].tobytes()


def png_that_claims(width: int, height: int) -> bytes:
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(bytes(1000))
    chunks = (struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body in (ihdr, idat))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_that_claims(width: int, height: int) -> bytes:
    whole = bytearray(encoded(".jpg", RAMP))
    frame = whole.index(b"\xff\xc0")
    whole[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


@pytest.mark.parametrize("kind", [".png", ".tiff", ".bmp", "dicom"])
@pytest.mark.parametrize("name", ["x.jpeg", "x.png", "IM000001", "1.2.840.10008"])
def test_the_name_does_not_matter(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(written(dataset(RAMP, 8)) if kind == "dicom" else encoded(kind, RAMP))
    picture = read_picture(path)
    assert (picture.grey == RAMP).all()
    assert (picture.facts.height, picture.facts.width, picture.facts.colour) == (200, 100, 0)
    assert picture.facts.contrast == pytest.approx(RAMP.std(), abs=0.01)


def test_a_file_that_is_dicom_and_starts_as_tiff_is_dicom() -> None:
    data = written(dataset(RAMP, 8))
    assert (decode_picture(b"II*\x00" + data[4:]).grey == RAMP).all()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the file is empty"),
        (b"GIF89a" + bytes(100), KIND),
        (b"II*\x00" + bytes(100), "a damaged or truncated TIFF"),
        (b"BM" + bytes(100), "a damaged or truncated BMP"),
        (bytes(128) + b"DICM", "it names no modality: no chest projection (CR, DX); --force takes it all the same"),
        (bytes(128) + b"DIC", KIND),
        (b"\xff\xd8\xff", "a damaged or truncated JPEG"),
        (b"\x89PNG\r\n\x1a\n", "a damaged or truncated PNG"),
        (encoded(".jpg", RAMP)[:-100], "a damaged or truncated JPEG"),
        (encoded(".jpg", RAMP)[:30], "a damaged or truncated JPEG"),
        (encoded(".png", RAMP)[:-100], "a damaged or truncated PNG"),
        (png_that_claims(100_000, 50_000), "100000 x 50000 pixels are over the limit of 100 million"),
        (jpeg_that_claims(60_000, 50_000), "60000 x 50000 pixels are over the limit of 100 million"),
        (png_that_claims(0, 0), "a damaged or truncated PNG"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "x.jpeg"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_picture(path)
    assert str(caught.value) == why


def test_what_is_no_file_or_too_large(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    reasons = {
        "x.png": "no such file",
        "": "can't be read: Is a directory",
        "pipe": "not a file but a pipe or a device",
        "huge.png": "the file is over 256 MiB",
    }
    for name, why in reasons.items():
        with pytest.raises(DataError, match=why):
            read_picture(tmp_path / name)


def test_a_jpeg_needs_neither_pydicom_nor_pillow(tmp_path: Path) -> None:
    """They take time to import, which a cold `pneumod predict` hasn't got."""
    (tmp_path / "x.jpg").write_bytes(encoded(".jpg", RAMP))
    code = (
        "import sys, pathlib; from pneumod.images.load import read_picture;"
        "read_picture(pathlib.Path(sys.argv[1]), 96); print([m for m in ('pydicom', 'PIL') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "x.jpg"], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
