"""What travels inside a work item comes out as it went in; what is wrong is refused."""

from __future__ import annotations

import msgspec
import pytest

from pneumod import parcel, wire
from pneumod.errors import WireError
from pneumod.parcel import MAX_FILES, Answer, Answers, Facts, Head, Parcel
from pneumod.settings import Preparation
from pneumod.work import PARCEL_BYTES

FACTS = Facts(1024, 800, 0.5, 60.0)
VALUES = [
    Head(Preparation(64, True, True), True, b"{}", b"model"),
    Parcel((b"\x00\xff", b"")),
    Answers((Answer(FACTS, b"\x00" * 4), "no image", Answer(FACTS, None, 0.25, 3.5))),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_it_comes_out_as_it_went_in(value: Head | Parcel | Answers) -> None:
    assert parcel.unpack(parcel.pack(value), type(value)) == value


@pytest.mark.parametrize(
    "wrong",
    [
        Answers((Answer(FACTS, None, float("nan")),)),
        Answers((Answer(FACTS, None, 0.5, float("inf")),)),
        Answers((Answer(msgspec.structs.replace(FACTS, colour=float("nan"))),)),
        Answers((Answer(FACTS, None, 1.5),)),
        Answers((Answer(msgspec.structs.replace(FACTS, width=0)),)),
        Answers(()),
        Answers(("no image",) * (MAX_FILES + 1)),
    ],
)
def test_what_is_out_of_range_is_refused(wrong: Answers) -> None:
    with pytest.raises(WireError):
        parcel.unpack(parcel.pack(wrong), Answers)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", wire.pack({"files": 3}), parcel.pack(VALUES[0]), bytes(PARCEL_BYTES + 1)]
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        parcel.unpack(data, Parcel)
