"""What leaves a machine, or is said, names no patient, and is the same picture."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from pneumod.errors import DataError
from pneumod.images.load import decode_picture
from pneumod.images.picture import Picture
from pneumod.images.travel import for_travel
from tests.images.dicoms import PATIENT, compressed, dataset, encapsulated, lossless_jpeg, written

# pneumod silences Pillow and pydicom when they are imported; pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

RAMP = (np.arange(64 * 48) // 12).astype(np.uint8).reshape(48, 64)
NAME = PATIENT.encode()


def outcome(data: bytes, force: bool = False) -> Picture | str:
    try:
        return decode_picture(data, force=force)
    except DataError as error:
        return str(error)


def same(one: Picture | str, other: Picture | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return bool((one.grey == other.grey).all()) and one.facts == other.facts


def opened(data: bytes) -> bytes:
    """A DICOM file as it is, and all that its elements hold."""
    read = pydicom.dcmread(io.BytesIO(data))
    inside = (value for element in read.iterall() for value in (str(element.value), element.value))
    return data + b"".join(
        value.encode() if isinstance(value, str) else value for value in inside if isinstance(value, str | bytes)
    )


def saved(kind: str, pixels: np.ndarray = RAMP, **how: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **how)
    return out.getvalue()


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_keeps_nothing_but_its_picture_and_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x013B], exif[0x0112] = PATIENT, orientation  # the artist
    for pixels in (RAMP, np.dstack([RAMP, RAMP[::-1], RAMP])):
        for more in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
            data = saved("JPEG", pixels, exif=exif, comment=NAME, xmp=NAME, icc_profile=NAME, dpi=(72, 72), **more)
            data += NAME
            travels = for_travel(data)
            assert data.count(NAME) == 5
            assert NAME not in travels
            assert same(outcome(data), outcome(travels))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_png_keeps_nothing_but_its_picture_and_orientation(orientation: int) -> None:
    text = PngInfo()
    text.add_text("Comment", PATIENT)
    text.add_itxt("Author", PATIENT)
    exif = Image.Exif()
    exif[0x013B], exif[0x0112] = PATIENT, orientation
    for how in ({}, {"transparency": 100}):
        data = saved("PNG", pnginfo=text, exif=exif, **how) + NAME
        travels = for_travel(data)
        assert data.count(NAME) == 4
        assert NAME not in travels
        assert same(outcome(data), outcome(travels))


@pytest.mark.parametrize("kind", ["TIFF", "BMP"])
def test_other_formats_stay_at_home(kind: str) -> None:
    with pytest.raises(DataError, match="only JPEG, PNG and DICOM files are sent"):
        for_travel(saved(kind))


def lookup_table() -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, 8])
    item.add_new("LUTExplanation", "LO", PATIENT)
    item.add_new("LUTData", "US", list(range(255, -1, -1)))
    return [item]


@pytest.mark.parametrize(
    "syntax",
    [
        *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian),
        *(JPEGBaseline8Bit, JPEG2000Lossless),
    ],
    ids=lambda syntax: syntax.name,
)
@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": [100, 20], "WindowWidth": [50, 7]},
        {"VOILUTSequence": lookup_table(), "WindowCenterWidthExplanation": PATIENT},
        {"ModalityLUTSequence": lookup_table(), "PixelPaddingValue": 0},
        {"BodyPartExamined": PATIENT},
        {"Modality": PATIENT},
        {"BodyPartExamined": f"CHEST {PATIENT}"},
        {"ViewPosition": f"LATERAL {PATIENT}", "StudyDescription": PATIENT},
    ],
    ids=str,
)
def test_a_dicom_file_keeps_nothing_but_its_picture(syntax: UID, tags: dict[str, Any]) -> None:
    made = dataset(RAMP, 8, **tags)
    instance = made.SOPInstanceUID.encode()
    data = compressed(made, syntax) if syntax.is_encapsulated else written(made, syntax)
    travels = for_travel(data)
    plain = decode_picture(data, force=True)
    assert same(plain, decode_picture(travels, force=True))
    assert same(outcome(data), outcome(travels))
    for secret in (NAME, b"20200229", b"006Y", instance):
        assert secret not in opened(travels)
        assert secret in opened(data)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, RLELossless], ids=lambda syntax: syntax.name)
def test_a_dicom_file_that_would_have_to_be_decompressed_stays_at_home(syntax: UID) -> None:
    """A decompressor is for a decoder's process alone, which a file may kill."""
    made = dataset(RAMP, 8)
    data = compressed(made, syntax) if syntax.is_encapsulated else written(made, syntax)
    decode_picture(data)
    with pytest.raises(DataError, match="stays at home"):
        for_travel(data)


def file_of(frame: bytes, syntax: UID) -> bytes:
    return encapsulated(dataset(RAMP, 8), syntax, frame)


def with_box(frame: bytes) -> bytes:
    """A JP2 file with a box of text before its codestream."""
    text = b"<p>" + NAME + b"</p>"
    place = frame.index(b"jp2c") - 4
    return frame[:place] + struct.pack(">I", 8 + len(text)) + b"xml " + text + frame[place:]


def with_tail(values: np.ndarray) -> bytes:
    """Uncompressed pixel data with text behind the picture."""
    made = dataset(values, 8)
    made.PixelData += NAME * 2
    return written(made)


def with_lut(first: int, raw: bytes) -> bytes:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [256, first, 8])
    item.add_new("LUTData", "OW", raw + bytes(len(raw) % 2))
    return written(dataset(RAMP.astype(np.int16) if first < 0 else RAMP, 8 + 8 * (first < 0), VOILUTSequence=[item]))


HIDDEN: dict[str, Callable[[], bytes]] = {
    "comment in JPEG": lambda: file_of(saved("JPEG", comment=NAME), JPEGBaseline8Bit),
    "behind JPEG": lambda: file_of(saved("JPEG") + NAME, JPEGBaseline8Bit),
    "comment in JPEG 2000": lambda: file_of(saved("JPEG2000", no_jp2=True, comment=NAME), JPEG2000Lossless),
    "box in JP2": lambda: file_of(with_box(saved("JPEG2000")), JPEG2000Lossless),
    "behind JPEG 2000": lambda: file_of(saved("JPEG2000", no_jp2=True) + NAME, JPEG2000Lossless),
    "behind lossless JPEG": lambda: file_of(lossless_jpeg(RAMP, 8, 1) + NAME, JPEGLosslessSV1),
    "behind the pixels": lambda: with_tail(RAMP),
    "behind colours": lambda: with_tail(np.dstack([RAMP] * 3)),
    "behind a packed table": lambda: with_lut(0, bytes(range(256)) + NAME),
    "behind a table": lambda: with_lut(-100, np.arange(256).astype("<u2").tobytes() + NAME),
    "a palette beside grey levels": lambda: written(dataset(RAMP, 8, RedPaletteColorLookupTableData=NAME + b" ")),
    "a table of offsets": lambda: written(dataset(RAMP, 8, ExtendedOffsetTable=NAME + bytes(3))),
    "more numbers than one": lambda: written(dataset(RAMP, 8, Rows=[48, *np.frombuffer(NAME + b" ", "<u2").tolist()])),
}


@pytest.mark.parametrize("where", HIDDEN)
def test_text_beside_the_pixels_does_not_travel(where: str) -> None:
    data = HIDDEN[where]()
    assert NAME in opened(data)
    try:
        travels = for_travel(data)
    except DataError:
        assert where in ("more numbers than one", "a table of offsets")  # it stays at home
    else:
        assert NAME not in opened(travels)
        assert same(decode_picture(data), decode_picture(travels))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda one: one.name)
def test_bits_that_are_no_part_of_a_value_do_not_travel(syntax: UID) -> None:
    """Old scanners drew text there, for viewers that know."""
    for kind in ("<u2", "<i2"):
        made = dataset((RAMP.astype(int) * 8 | 0x5000).astype(kind), 12, WindowCenter=900, WindowWidth=1500)
        data = written(made, syntax)
        travels = for_travel(data)
        assert same(decode_picture(data), decode_picture(travels))
        assert not (np.frombuffer(pydicom.dcmread(io.BytesIO(travels)).PixelData, "<u2") & 0x5000).any()


@pytest.mark.parametrize("name", ["PhotometricInterpretation", "VOILUTFunction", "RescaleSlope", "WindowCenter"])
def test_text_in_place_of_what_decoding_needs_does_not_travel(name: str) -> None:
    made = dataset(RAMP, 8, RescaleSlope="1", WindowCenter="1", VOILUTFunction="LINEAR")
    made[name]._value = "ABCDEFGHIJKLM"
    data = written(made).replace(b"ABCDEFGHIJKLM", NAME)
    assert NAME in data
    said = ""
    try:
        assert NAME not in for_travel(data)
    except DataError as error:
        said = "".join(traceback.format_exception(error))
    assert PATIENT not in said


def test_every_file_has_the_same_outcome_after_its_travel(cxr: Path) -> None:
    travelled = 0
    for path in sorted(path for folder in ("dicom", "odd_files") for path in (cxr / folder).rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            try:
                travels = for_travel(data)
            except DataError:
                continue
            travelled += 1
            assert len(travels) <= len(data) + 40
            for force in (False, True):
                assert same(outcome(data, force), outcome(travels, force)), path.name
    assert travelled > 20


SAYING = """
import logging, sys, traceback, warnings
logging.basicConfig(level=logging.DEBUG)
from pathlib import Path
from pneumod.images.dicom import age_years
from pneumod.images.load import read_picture
for path in map(Path, sys.argv[1:]):
    try:
        print(read_picture(path).facts, age_years(path))
    except Exception:
        traceback.print_exc()
"""


def test_nothing_that_is_printed_or_logged_holds_a_patients_value(tmp_path: Path) -> None:
    """Each of these makes pydicom warn, log or raise with the value in its text."""
    marker = f"{PATIENT}X"[:14]
    made = {
        "charset": {"SpecificCharacterSet": marker},
        "slope": {"RescaleSlope": "12345678901234"},
        "frames": {"NumberOfFrames": "12345678901234"},
        "modality": {"Modality": marker},
        "age": {"PatientAge": marker},
        "lut": {"VOILUTSequence": lookup_table()},
        "date": {"PatientBirthDate": marker},
    }
    for name, tags in made.items():
        data = written(dataset(RAMP, 8, **tags)).replace(b"12345678901234", marker.encode())
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"{name}.cut").write_bytes(data[:-100])
    paths = sorted(tmp_path.iterdir())
    run = subprocess.run([sys.executable, "-W", "always", "-c", SAYING, *paths], capture_output=True, text=True)
    assert run.stdout.count("Facts") == 4
    said = run.stdout + run.stderr
    assert "DataError" in said
    assert "Zyxwv" not in said
    assert "Warning" not in said
