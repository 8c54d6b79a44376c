"""Which DICOM files are taken, and which are refused and why."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from pneumod.errors import DataError
from pneumod.images import dicom
from pneumod.images.load import decode_picture
from tests.images.dicoms import PATIENT, chest, compressed, dataset, encapsulated, lossless_jpeg, written

# pneumod silences pydicom when it is imported; pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

RAMP = (np.arange(64 * 64) // 16).astype(np.uint8).reshape(64, 64)
FORCE = "; --force takes it all the same"
NOT_CHEST = "is no chest projection (CR, DX)"
LATERAL = "a lateral view, not a frontal one (PA, AP)"
RAW = "a detector's raw data (for processing), not a picture to look at"
DAMAGED = "a damaged or truncated DICOM file"


def reason(data: bytes, force: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        decode_picture(data, force=force)
    assert caught.value.__context__ is None  # so that no traceback can tell what pydicom said
    return str(caught.value)


def code(meaning: str) -> list[Dataset]:
    item = Dataset()
    item.CodeMeaning = meaning
    return [item]


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"Modality": "CR"},
        {"Modality": "RG"},
        {"BodyPartExamined": None},
        {"BodyPartExamined": ""},
        {"BodyPartExamined": "Chest PA"},
        {"BodyPartExamined": "THORAX"},
        {"BodyPartExamined": None, "AnatomicRegionSequence": code("Chest")},
        {"ViewPosition": None},
        {"ViewPosition": "AP"},
        {"ViewPosition": "LLD"},  # lying on the side, seen from the front
        {"ViewPosition": None, "ViewCodeSequence": code("postero-anterior")},
        {"ViewPosition": None, "ViewCodeSequence": code("left lateral decubitus")},
        {"PresentationIntentType": "FOR PRESENTATION"},
        {"NumberOfFrames": 1},
        {"NumberOfFrames": ""},
    ],
    ids=str,
)
def test_a_frontal_projection_of_the_chest_is_taken(tags: dict[str, Any]) -> None:
    assert (decode_picture(written(dataset(RAMP, 8, **tags))).grey == RAMP).all()


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"Modality": "CT"}, f"modality CT {NOT_CHEST}"),
        ({"Modality": "MR"}, f"modality MR {NOT_CHEST}"),
        ({"Modality": "OT"}, f"modality OT {NOT_CHEST}"),
        ({"Modality": PATIENT}, f"modality unknown {NOT_CHEST}"),
        ({"Modality": None}, "it names no modality: no chest projection (CR, DX)"),
        ({"BodyPartExamined": "HAND"}, "body part HAND, not the chest"),
        ({"BodyPartExamined": PATIENT}, "body part unknown, not the chest"),
        ({"BodyPartExamined": None, "AnatomicRegionSequence": code("Abdomen")}, "body part ABDOMEN, not the chest"),
        ({"ViewPosition": "LL"}, LATERAL),
        ({"ViewPosition": "LATERAL"}, LATERAL),
        (
            {"ViewPosition": None, "ViewCodeSequence": code("left lateral")},
            LATERAL,
        ),
        (
            {"PresentationIntentType": "FOR PROCESSING"},
            "a detector's raw data (for processing), not a picture to look at",
        ),
    ],
    ids=str,
)
def test_anything_else_is_refused_unless_forced(tags: dict[str, Any], why: str) -> None:
    data = written(dataset(RAMP, 8, **tags))
    assert reason(data) == why + FORCE
    assert (decode_picture(data, force=True).grey == RAMP).all()


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"NumberOfFrames": 2, "Rows": 32}, "a DICOM file of 2 frames; give one that holds a single one"),
        ({"PixelData": None}, "a DICOM file without a picture"),
        ({"Rows": 30_000, "Columns": 20_000}, "20000 x 30000 pixels are over the limit of 100 million"),
        ({"BitsAllocated": 32}, "32 bits a pixel; 8 to 16 are understood"),
        ({"BitsAllocated": 1, "BitsStored": 1}, "1 bits a pixel; 8 to 16 are understood"),
        ({"Rows": 65}, DAMAGED),
        ({"Rows": None}, DAMAGED),
        ({"Columns": 0}, DAMAGED),
        ({"PhotometricInterpretation": "RGB"}, DAMAGED),
        ({"SamplesPerPixel": 16_384}, "16384 samples a pixel; grey levels have 1, colours 3"),
    ],
    ids=str,
)
def test_what_force_can_not_help(tags: dict[str, Any], why: str) -> None:
    data = written(dataset(RAMP, 8, **tags))
    assert reason(data) == why
    assert reason(data, force=True) == why


def claims(frame: bytes, place: int, form: str, *numbers: int) -> bytes:
    changed = bytearray(frame)
    struct.pack_into(form, changed, place, *numbers)
    return bytes(changed)


def test_a_compressed_picture_that_claims_more_than_the_header_is_refused_before_decoding() -> None:
    """Some decoders would fill the memory by the size in the compressed data."""
    jpeg = lossless_jpeg(RAMP, 8, 1)
    huge = claims(jpeg, jpeg.index(b"\xff\xc3") + 5, ">HH", 9_000, 9_000)
    assert reason(encapsulated(dataset(RAMP, 8), JPEGLosslessSV1, huge)) == DAMAGED
    beyond = claims(jpeg, jpeg.index(b"\xff\xc3") + 5, ">HH", 60_000, 60_000)
    limit = "60000 x 60000 pixels are over the limit of 100 million"
    assert reason(encapsulated(dataset(RAMP, 8), JPEGLosslessSV1, beyond)) == limit
    assert reason(encapsulated(dataset(RAMP, 8), JPEGLSLossless, huge.replace(b"\xff\xc3", b"\xff\xf7"))) == DAMAGED
    made = dataset(RAMP, 8)
    made.compress(JPEG2000Lossless)
    stream = made.PixelData[made.PixelData.index(b"\xff\x4f\xff\x51") :]
    for place, form, number in ((8, ">I", 40_000), (40, ">H", 16_384)):  # columns; components
        changed = claims(stream, place, form, number)
        assert reason(encapsulated(dataset(RAMP, 8), JPEG2000Lossless, changed)) == DAMAGED


def test_a_deflated_file_is_inflated_up_to_the_limit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(dataset(np.zeros((512, 512), np.uint8), 8), DeflatedExplicitVRLittleEndian)
    assert len(data) < 2_000
    assert decode_picture(data).grey.max() == 0
    monkeypatch.setattr(dicom, "MAX_FILE_BYTES", 100_000)

    def inflate(*_: Any) -> bytes:
        raise AssertionError("the whole was inflated")

    monkeypatch.setattr(zlib, "decompress", inflate)
    assert "the inflated file is over" in reason(data)


def test_a_transfer_syntax_that_no_decoder_knows() -> None:
    video = encapsulated(dataset(RAMP, 8), MPEG2MPML, bytes(100))
    assert reason(video) == "the transfer syntax is not supported: MPEG2 Main Profile / Main Level"


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless, JPEGLosslessSV1, RLELossless])
def test_compressed_data_of_another_kind_are_damaged(syntax: Any) -> None:
    assert reason(encapsulated(dataset(RAMP, 8), syntax, bytes(range(256)))) in (DAMAGED, "a damaged or truncated JPEG")


def test_a_file_that_does_not_tell_its_transfer_syntax() -> None:
    data = written(dataset(RAMP, 8))
    start = data.index(b"\x02\x00\x10\x00UI")
    end = start + 8 + int.from_bytes(data[start + 6 : start + 8], "little")
    assert (decode_picture(data[:start] + data[end:]).grey == RAMP).all()


def test_several_fragments_make_one_frame() -> None:
    made = dataset(RAMP, 8)
    made.PixelData = encapsulate([lossless_jpeg(RAMP, 8, 1)], fragments_per_frame=3)
    made["PixelData"].is_undefined_length = True
    assert (decode_picture(written(made, JPEGLosslessSV1)).grey == RAMP).all()


def test_a_jpeg_inside_is_decoded_at_a_reduced_scale_where_that_is_enough(cxr: Path) -> None:
    for side in (512, 510):
        made = dataset(chest(cxr, side), 8)
        data = compressed(made, JPEGBaseline8Bit)
        full, reduced = decode_picture(data), decode_picture(data, least_px=96)
        assert full.grey.shape == (side, side)
        assert reduced.grey.shape == (side // 2, side // 2)
        assert (reduced.facts.height, reduced.facts.width) == (side, side)
        assert reduced.facts.contrast == pytest.approx(full.facts.contrast, rel=0.05)


@pytest.mark.parametrize(
    ("age", "years"),
    [("006Y", 6.0), ("018M", 1.5), ("052W", 0.9966), ("010D", 0.0274), ("62", 62.0), ("", None), ("unknown", None)],
)
def test_the_age_of_the_patient(tmp_path: Path, age: str, years: float | None) -> None:
    path = tmp_path / "x"
    path.write_bytes(written(dataset(RAMP, 8, PatientAge=age)))
    found = dicom.age_years(path)
    assert found == (None if years is None else pytest.approx(years, abs=1e-3))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_the_age_is_read_from_the_head_of_a_file_alone(tmp_path: Path, syntax: UID) -> None:
    """It is read by the command itself: a file may not fill its memory."""
    path = tmp_path / "x"
    for private_bytes, years in ((10, 6.0), (50_000_000, None)):
        made = dataset(np.zeros((5000, 5000), np.uint8), 8, PatientAge="006Y")
        made.add_new(0x00090010, "LO", "X")
        made.add_new(0x00091001, "OB", bytes(private_bytes))
        path.write_bytes(written(made, syntax))
        del made
        tracemalloc.start()
        try:
            assert dicom.age_years(path) == years
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()


def test_there_is_no_age_in_other_files(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert dicom.age_years(path) is None
    path.write_bytes(b"x" * 500)
    assert dicom.age_years(path) is None
    path.write_bytes(bytes(128) + b"DICM" + b"x" * 50)
    assert dicom.age_years(path) is None
