"""Named tensors in one blob."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumod import wire
from pneumod.errors import WireError

DOCUMENT = wire.Document(
    "update", {"run": "run-a", "round": 1}, (wire.Tensor("dense/kernel", "float32", (2, 2), b"\x00" * 16),)
)


def test_a_document_comes_out_as_it_went_in_and_always_has_the_same_bytes() -> None:
    data = wire.encode_document(DOCUMENT)
    assert wire.decode_document(data, "update") == DOCUMENT
    assert wire.encode_document(wire.decode_document(data, "update")) == data


def document(**changes: Any) -> bytes:
    raw = wire.unpack(wire.encode_document(DOCUMENT))
    raw["doc"] |= changes
    packed: bytes = msgpack.packb(raw)
    return packed


def tensor(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "w", "dtype": "float32", "shape": [1], "data": b"\x00" * 4} | changes]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (b"\x80", "another version"),
        (msgpack.packb({"v": 2, "doc": {}}), "another version"),
        (msgpack.packb({"v": 1}), "bad document"),
        (document(kind="model"), "a model in place of a update"),
        (document(kind="virus"), "bad document"),
        (document(header=[]), "bad document"),
        (document(tensors=tensor(dtype="object")), "bad document"),
        (document(tensors=tensor(shape=[-1])), "bad document"),
        (document(tensors=tensor(shape=[1] * 9)), "bad document"),
        (document(tensors=tensor(name="")), "bad document"),
        (document(tensors=tensor(data="text")), "bad document"),
        (document(tensors=tensor() * (wire.MAX_TENSORS + 1)), "bad document"),
    ],
)
def test_a_blob_that_is_no_document_of_its_kind_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        wire.decode_document(data, "update")


@given(st.binary(max_size=600))
def test_random_blobs_raise_nothing_but_wire_errors(data: bytes) -> None:
    try:
        wire.decode_document(data, "update")
    except WireError:
        return
