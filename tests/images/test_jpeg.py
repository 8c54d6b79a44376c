"""JPEG: upright, in grey, and at a reduced scale where nobody could tell."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from pneumod.images.load import decode_picture, read_picture
from pneumod.images.picture import Grey
from pneumod.images.travel import for_travel

SIDE = 96


def squash(grey: Grey) -> np.ndarray:
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(float)


def saved(pixels: np.ndarray, **how: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95, **how)
    return out.getvalue()


def test_native_x_rays_are_decoded_smaller_and_squashed_to_the_same(cxr: Path) -> None:
    differences, smaller = [], 0
    for path in sorted((cxr / "native_samples").glob("*/*.jpeg")):
        full, reduced = read_picture(path), read_picture(path, least_px=SIDE)
        differences.append(np.abs(squash(full.grey) - squash(reduced.grey)).mean())
        smaller += reduced.grey.size < full.grey.size
        assert min(reduced.grey.shape) >= min(2 * SIDE, *full.grey.shape)
        assert (reduced.facts.height, reduced.facts.width) == full.grey.shape
    assert smaller == 23  # of 24: one is 219 pixels high
    assert np.mean(differences) < 0.3
    assert max(differences) < 0.5


@pytest.mark.parametrize("cut", [1, 3, 5, 7])
def test_sizes_that_no_scale_divides(cxr: Path, cut: int) -> None:
    """OpenCV's reduced pictures are up to a pixel larger than the scale says; squashed so, they'd be 2 levels off."""
    for path in sorted((cxr / "native_samples").glob("PNEUMONIA/*.jpeg"))[:6]:
        data = saved(read_picture(path).grey[cut:, 2 * cut + 1 :])
        full, reduced = decode_picture(data).grey, decode_picture(data, least_px=SIDE).grey
        assert reduced.size < full.size
        assert np.abs(squash(full) - squash(reduced)).mean() < 0.8


def test_a_picture_is_never_smaller_than_it_must_be() -> None:
    data = saved(np.zeros((1000, 700), np.uint8))
    sides = {least: decode_picture(data, least_px=least).grey.shape for least in (0, 1, 29, 30, 87, 88, 175, 176, 900)}
    assert sides == {
        0: (1000, 700),
        1: (125, 88),
        29: (125, 88),
        30: (250, 175),
        87: (250, 175),
        88: (500, 350),
        175: (500, 350),
        176: (1000, 700),
        900: (1000, 700),
    }


def test_colour_is_measured_in_real_colours_and_none_in_grey_ones() -> None:
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (640, 480))
    grey = np.dstack([smooth[..., 0]] * 3)
    for least in (0, SIDE):
        picture = decode_picture(saved(smooth), least)
        assert picture.facts.colour == pytest.approx(np.ptp(smooth.astype(int), axis=2).mean(), rel=0.05)
        assert decode_picture(saved(grey), least).facts.colour < 0.5
        assert decode_picture(saved(grey[..., 0]), least).facts.colour == 0
    full = decode_picture(saved(smooth)).grey
    assert np.abs(full - smooth @ np.array([0.299, 0.587, 0.114])).mean() < 1


def test_cmyk() -> None:
    smooth = cv2.resize(np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8), (640, 480))
    out = io.BytesIO()
    Image.fromarray(smooth).convert("CMYK").save(out, "JPEG", quality=95)
    expected = np.asarray(Image.open(out).convert("RGB").convert("L"), np.float64)
    assert np.abs(decode_picture(out.getvalue()).grey - expected).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("least", [0, 48])
def test_every_exif_orientation(orientation: int, least: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = cv2.resize(np.random.default_rng(2).integers(0, 256, (5, 7), np.uint8), (301, 203))
    data = saved(pixels, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    picture = decode_picture(data, least)
    assert (picture.facts.height, picture.facts.width) == expected.shape
    assert (picture.grey.shape == expected.shape) == (least == 0)
    shown = cv2.resize(picture.grey, expected.shape[::-1]).astype(float)
    assert np.abs(shown - expected).mean() < 2


def block(orientation: int, kind: int = 3) -> bytes:
    """An EXIF segment; kind 3 is a number of two bytes, 4 one of four."""
    number = orientation.to_bytes(2 if kind == 3 else 4, "big").ljust(4, b"\0")
    body = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0" + bytes([kind]) + b"\0\0\0\x01" + number + bytes(4)
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize("least", [0, 48])
def test_the_first_exif_segment_before_the_scan_counts_here_and_where_it_is_sent(least: int) -> None:
    pixels = cv2.resize(np.random.default_rng(3).integers(0, 256, (5, 7), np.uint8), (301, 203))
    plain = saved(pixels)
    scan = plain.index(b"\xff\xda")
    files = {
        "two": plain[:2] + block(6) + block(1) + plain[2:],
        "four bytes": plain[:2] + block(6, kind=4) + plain[2:],
        "behind the frame": plain[:scan] + block(6) + plain[scan:],
        "none": plain,
    }
    for name, data in files.items():
        here, there = decode_picture(data, least), decode_picture(for_travel(data), least)
        assert (here.facts.height, here.facts.width) == ((203, 301) if name == "none" else (301, 203))
        assert (here.grey == there.grey).all()
        assert here.facts == there.facts


def test_a_png_is_turned_by_its_exif_alone_here_and_where_it_is_sent() -> None:
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>')
    out = io.BytesIO()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(out, "PNG", pnginfo=text)
    for data in (out.getvalue(), for_travel(out.getvalue())):
        assert decode_picture(data).grey.shape == (20, 30)
