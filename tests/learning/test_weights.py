"""Weights <-> blobs."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pneumod.errors import WireError
from pneumod.learning.weights import Array, model_document, pack_tensor, read_model, unpack_tensor
from pneumod.wire import Document, encode_document

FLOATS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)  # fmt: skip


@given(st.lists(FLOATS, max_size=5))
def test_a_model_comes_back_bit_for_bit(arrays: list[Array]) -> None:
    names = [f"layer{index}/kernel" for index in range(len(arrays))]
    model = read_model(encode_document(model_document(arrays, names, 96, "run-a", 7)))
    assert (model.image_size, model.run, model.round, model.names) == (96, "run-a", 7, tuple(names))
    for array, read in zip(arrays, model.arrays, strict=True):
        assert read.dtype == np.float32
        assert read.shape == array.shape
        assert read.tobytes() == array.tobytes()


def test_the_order_in_memory_does_not_matter() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert pack_tensor("w", np.asfortranarray(array)) == pack_tensor("w", array)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"dtype": "float16"}, "w is float16 in place of float32"),
        ({"shape": (3,)}, "8 bytes, which don't fill its shape"),
        ({"shape": (2**31, 2**31)}, "don't fill its shape"),
        ({"data": np.array([1.0, np.nan], "<f4").tobytes()}, "w has values that are not finite"),
        ({"data": np.array([1.0, np.inf], "<f4").tobytes()}, "w has values that are not finite"),
    ],
)
def test_a_bad_tensor_is_refused(change: dict[str, object], why: str) -> None:
    tensor = msgspec.structs.replace(pack_tensor("w", np.ones(2, np.float32)), **change)
    with pytest.raises(WireError, match=why):
        unpack_tensor(tensor)


@pytest.mark.parametrize("header", [{}, {"image_size": 96, "run": "r"}, {"image_size": True, "run": "r", "round": 1}])
def test_a_header_without_its_fields_is_refused(header: dict[str, object]) -> None:
    with pytest.raises(WireError, match=r"the model's header has no (image_size|round) of type int"):
        read_model(encode_document(Document("model", header)))


def test_other_bytes_and_other_documents_are_refused() -> None:
    for data in (b"", b"\xc1", encode_document(Document("update", {}))):
        with pytest.raises(WireError):
            read_model(data)
