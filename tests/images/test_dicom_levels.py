"""Stored values of a DICOM file -> what a viewer shows, against pydicom's own functions where it has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_windowing, convert_color_space
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pneumod.images.load import decode_picture
from tests.images.dicoms import dataset, written

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # every value of 12 bits


def grey(made: Dataset, **how: Any) -> np.ndarray:
    return decode_picture(written(made, **how)).grey.astype(int)


def lut(data: list[int], bits: int, first: int = 0) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [len(data), first, bits])
    item.add_new("LUTData", "US", data)
    return [item]


@pytest.mark.filterwarnings("ignore:overflow")  # in pydicom's sigmoid
@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(2048, 4096), (1000, 400), (3000, 1), (50, 333.5)])
@pytest.mark.parametrize("slope", [None, 1, 2.5])
def test_a_window_is_the_standards(function: str | None, centre: float, width: float, slope: float | None) -> None:
    tags = {"WindowCenter": centre, "WindowWidth": width}
    tags |= {} if function is None else {"VOILUTFunction": function}
    tags |= {} if slope is None else {"RescaleSlope": slope, "RescaleIntercept": -1024}
    made = dataset(RAMP, 12, **tags)
    values = apply_modality_lut(RAMP, made)
    windowed = apply_windowing(values, made)
    ends = apply_modality_lut(np.array([0.0, 4095.0]), made)
    expected = (windowed - ends[0]) * 255 / (ends[1] - ends[0])
    assert np.abs(grey(made) - expected).max() <= 0.51


def test_the_first_of_several_windows_is_shown() -> None:
    several = dataset(RAMP, 12, WindowCenter=[1000, 3000], WindowWidth=[500, 100])
    assert (grey(several) == grey(dataset(RAMP, 12, WindowCenter=1000, WindowWidth=500))).all()


@pytest.mark.parametrize(("centre", "width"), [(100, 0), (None, 200), (100, None)])
def test_a_window_that_is_none_is_passed_over(centre: int | None, width: int | None) -> None:
    made = dataset(RAMP, 12)
    made.WindowCenter, made.WindowWidth = centre, width
    assert (grey(made) == grey(dataset(RAMP, 12))).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e308", "0"])
def test_numbers_that_make_no_sense_still_give_a_picture(number: str) -> None:
    for name in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"):
        made = dataset(RAMP, 12, **{"WindowCenter": 9, "WindowWidth": 9, name: 1})
        made[name]._value = number
        assert grey(made).shape == RAMP.shape


def test_without_a_window_deep_values_are_shown_from_the_least_to_the_greatest() -> None:
    levels = grey(dataset(RAMP // 4 + 500, 16))
    assert (levels.min(), levels.max()) == (0, 255)
    assert np.abs(levels - RAMP / 4095 * 255).max() <= 1


def test_padding_does_not_count_among_the_values_that_occur() -> None:
    padded = RAMP // 8 + 1000
    padded[:8] = 65535
    made = dataset(padded, 16, PixelPaddingValue=65535)
    seen = padded[8:].astype(float)
    assert np.abs(grey(made)[8:] - (seen - seen.min()) * 255 / np.ptp(seen)).max() <= 0.51
    ranged = padded.copy()
    ranged[:4] = 65000
    levels = grey(dataset(ranged, 16, PixelPaddingValue=65535, PixelPaddingRangeLimit=64000))
    assert (levels[8:].min(), levels[8:].max()) == (0, 255)


def test_eight_bits_are_shown_as_they_are() -> None:
    dim = (RAMP // 64).astype(np.uint8) + 20
    assert (grey(dataset(dim, 8)) == dim).all()
    assert (grey(dataset(dim, 8, PhotometricInterpretation="MONOCHROME1")) == 255 - dim).all()
    assert (grey(dataset((dim.astype(int) - 128).astype(np.int8), 8)) == dim).all()


def test_bits_above_those_stored_are_no_part_of_the_value() -> None:
    overlay = RAMP | 0xF000
    assert (grey(dataset(overlay, 12)) == grey(dataset(RAMP, 12))).all()


def test_a_negative_slope_turns_white_and_black_over() -> None:
    made = dataset(RAMP, 12, RescaleSlope=-1, RescaleIntercept=4095)
    assert np.abs(grey(made) - (255 - grey(dataset(RAMP, 12)))).max() <= 1


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_a_voi_lut_is_looked_up(syntax: Any, bits: int) -> None:
    curve = np.round((np.arange(4096) / 4095) ** 2 * (2**bits - 1)).astype(int)
    made = dataset(RAMP, 12, VOILUTSequence=lut(curve.tolist(), bits), WindowCenter=1, WindowWidth=1)
    assert np.abs(grey(made, syntax=syntax) - curve.reshape(64, 64) * 255 / (2**bits - 1)).max() <= 0.51


def test_a_lut_as_bytes() -> None:
    """8-bit entries may be packed two in a word; words of OW are in the file's byte order."""
    curve = (255 - np.arange(4096) // 16).astype(np.uint8)
    for raw in (curve.tobytes(), curve.astype("<u2").tobytes()):
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [4096, 0, 8])
        item.add_new("LUTData", "OW", raw)
        assert (grey(dataset(RAMP, 12, VOILUTSequence=[item])) == curve.reshape(64, 64)).all()


def test_values_beyond_a_lut_have_its_ends_and_its_first_value_may_be_negative() -> None:
    signed = (RAMP.astype(int) - 2048).astype(np.int16)
    made = dataset(signed, 12, VOILUTSequence=lut(list(range(256)), 8, first=-128))
    assert (grey(made) == np.clip(signed.astype(int) + 128, 0, 255)).all()


def test_a_lut_that_says_16_bits_and_uses_12() -> None:
    made = dataset(RAMP, 12, VOILUTSequence=lut(list(range(4096)), 16))
    assert np.abs(grey(made) - RAMP / 4095 * 255).max() <= 0.51


def test_a_modality_lut_comes_before_the_window() -> None:
    table = lut((4095 - np.arange(4096)).tolist(), 16)
    made = dataset(RAMP, 12, ModalityLUTSequence=table, WindowCenter=1000, WindowWidth=500)
    assert (grey(made)[::-1, ::-1] == grey(dataset(RAMP, 12, WindowCenter=1000, WindowWidth=500))).all()


def test_colours_become_their_luminance() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    expected = colours @ np.array([0.299, 0.587, 0.114])
    picture = decode_picture(written(dataset(colours, 8)))
    assert np.abs(picture.grey - expected).max() <= 1
    assert picture.facts.colour == pytest.approx((colours.max(2) - colours.min(2)).mean(), rel=0.1)
    other = convert_color_space(colours, "RGB", "YBR_FULL")
    ybr = decode_picture(written(dataset(other, 8, PhotometricInterpretation="YBR_FULL"))).grey
    assert np.abs(ybr - expected).max() <= 3


def test_a_palette_is_looked_up() -> None:
    places = (RAMP // 16).astype(np.uint8)
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for number, colour in enumerate(("Red", "Green", "Blue")):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        ramp = np.arange(256) * 257 if number == 0 else np.zeros(256)
        tags[f"{colour}PaletteColorLookupTableData"] = ramp.astype("<u2").tobytes()
    picture = decode_picture(written(dataset(places, 8, **tags)))
    assert np.abs(picture.grey - places * 0.299).max() <= 1
    assert picture.facts.colour == pytest.approx(places.mean(), rel=0.05)
