"""One file -> grey levels."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumod.errors import DataError
from pneumod.images.batch import load_all
from pneumod.images.load import MAX_FILE_BYTES, decode_grey, load_grey, printable, read_grey, squash

RAMP = np.arange(200 * 100, dtype=np.uint8).reshape(200, 100) // 2


def encoded(extension: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(extension, pixels)[1].tobytes()


def png_that_claims(width: int, height: int) -> bytes:
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))


def jpeg_that_claims(width: int, height: int) -> bytes:
    whole = bytearray(encoded(".jpg", RAMP))
    frame = whole.index(b"\xff\xc0")
    whole[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_an_image_is_squashed_to_a_square(tmp_path: Path, extension: str) -> None:
    half = np.zeros((40, 200), np.uint8)
    half[:, 100:] = 200
    path = tmp_path / f"x{extension}"
    path.write_bytes(encoded(extension, half))
    grey = load_grey(path, 28)
    assert grey.shape == (28, 28)
    assert grey.dtype == np.uint8
    assert grey[:, :13].max() <= 8
    assert grey[:, 15:].min() >= 192


def test_resampling_is_the_mean_of_the_area() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 200  # nearest or bilinear sampling would keep 0 or 200
    grey = decode_grey(encoded(".png", board.astype(np.uint8)))
    assert np.unique(squash(grey, 32)).tolist() == [100]


def test_the_extension_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpeg"
    path.write_bytes(encoded(".png", RAMP))
    assert (read_grey(path) == RAMP).all()


def test_sixteen_bits_are_scaled_to_eight() -> None:
    levels = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    grey = decode_grey(encoded(".png", levels))
    assert np.abs(grey - levels / 257.0).max() < 1.0


def test_colours_become_their_luminance_and_alpha_is_left_away() -> None:
    red = np.zeros((32, 32, 4), np.uint8)
    red[..., 2] = 255  # blue, green, red, alpha
    assert np.abs(decode_grey(encoded(".png", red)).astype(int) - 76).max() <= 1


def test_an_image_is_upright_by_its_exif_orientation(cxr: Path) -> None:
    upright = read_grey(cxr / "odd_files" / "hopper_gray.jpg").astype(int)
    for turned in ("hopper_orientation_3.jpg", "hopper_orientation_6.jpg"):
        grey = read_grey(cxr / "odd_files" / turned)
        assert np.abs(grey - upright).mean() < 6
        assert np.abs(grey[::-1, ::-1] - upright).mean() > 20


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the file is empty"),
        (b"GIF89a" + bytes(100), "not a JPEG or PNG image"),
        (b"II*\x00" + bytes(100), "not a JPEG or PNG image"),
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
        load_grey(path, 96)
    assert str(caught.value) == why


def test_a_file_that_is_not_there_a_folder_and_a_huge_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_grey(tmp_path / "x.png", 96)
    with pytest.raises(DataError, match="can't be read: Is a directory"):
        load_grey(tmp_path, 96)
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(DataError, match="over 256 MiB"):
        load_grey(tmp_path / "huge.png", 96)


def test_every_odd_file_is_read_or_refused_in_silence(cxr: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths = sorted((cxr / "odd_files").iterdir())
    assert len(paths) > 20
    loaded = load_all(paths, 96)
    assert loaded.pixels.shape == (len(loaded.kept), 96, 96)
    assert len(loaded.kept) + len(loaded.skipped) == len(paths)
    refused = {path.name for path, _ in loaded.skipped}
    assert capfd.readouterr() == ("", "")
    assert {"broken.png", "truncated_jpeg.jpg", "truncated_image.png", "tiff_16bit_RGB.tiff"} <= refused
    assert not {"hopper_gray.jpg", "nih_rgba_00001054_002.png", "junk_jpeg_header.jpg"} & refused


def test_standard_error_comes_back_after_an_image(capfd: pytest.CaptureFixture[str]) -> None:
    decode_grey(encoded(".png", RAMP))
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_a_name_that_is_not_utf8_can_be_printed() -> None:
    assert printable(Path("a\udcffb.png")) == "a\ufffdb.png"
