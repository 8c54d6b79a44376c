"""Updates <-> blobs, checked against their round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from pneumod.errors import WireError
from pneumod.learning.codec import CODECS, read_update, update_document
from pneumod.learning.weights import Model, pack_tensor
from pneumod.messages import MAX_IMAGES, BlobRef, RoundOpen, RunSettings, Term
from pneumod.wire import Document, encode_document

BASE = Model(28, "run-a", 2, ("conv", "bias"), (np.ones((2, 3), np.float32), np.zeros(4, np.float32)))
DELTAS = (np.full((2, 3), 0.5, np.float32), np.arange(4, dtype=np.float32))
OPENED = RoundOpen(
    run="run-a", number=1, round=3, base=BlobRef("a" * 64, 9), train=True, who=(1, 2), deadline_ms=1000,
    class_weights=(1.0, 1.0), exponents=(27, 27), settings=RunSettings(image_size=28), terms=(Term(1, -1, 1),),
)  # fmt: skip


def test_an_update_comes_back_bit_for_bit() -> None:
    update = read_update(encode_document(update_document(DELTAS, BASE, OPENED, 17)), BASE, OPENED)
    assert update.samples == 17
    assert [delta.tobytes() for delta in update.deltas] == [delta.tobytes() for delta in DELTAS]
    assert [delta.shape for delta in update.deltas] == [(2, 3), (4,)]


@pytest.mark.parametrize(
    ("opened", "key"),
    [
        ({"run": "run-b"}, "run"),
        ({"round": 4}, "round"),
        ({"base": BlobRef("b" * 64, 9)}, "base"),
    ],
)
def test_an_update_of_another_round_is_refused(opened: dict[str, Any], key: str) -> None:
    data = encode_document(update_document(DELTAS, BASE, OPENED, 17))
    with pytest.raises(WireError, match=f"the update is of another {key}"):
        read_update(data, BASE, msgspec.structs.replace(OPENED, **opened))


@pytest.mark.parametrize("samples", [0, -1, MAX_IMAGES + 1, True, 1.5, "9", None])
def test_samples_out_of_range_or_of_another_type_are_refused(samples: Any) -> None:
    data = encode_document(update_document(DELTAS, BASE, OPENED, samples))
    with pytest.raises(WireError, match="samples"):
        read_update(data, BASE, OPENED)


def test_an_update_with_another_codec_is_refused() -> None:
    document = update_document(DELTAS, BASE, OPENED, 17)
    other = Document("update", {**document.header, "codec": "zip"}, document.tensors)
    with pytest.raises(WireError, match="the update is of another codec"):
        read_update(encode_document(other), BASE, OPENED)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t[:1], "1 tensors in place of 2"),
        (lambda t: (*t, t[0]), "3 tensors in place of 2"),
        (lambda t: t[::-1], r"bias \(4,\) in place of conv \(2, 3\)"),
        (lambda t: (pack_tensor("conv", np.ones((3, 2), np.float32)), t[1]), r"conv \(3, 2\) in place of"),
        (lambda t: (t[0], pack_tensor("bias", np.full(4, np.inf, np.float32))), "not finite"),
        (lambda t: (t[0], msgspec.structs.replace(t[1], dtype="int32")), "int32 in place of float32"),
    ],
)
def test_tensors_that_do_not_fit_the_base_are_refused(change: Callable[[Any], Any], why: str) -> None:
    with pytest.raises(WireError, match=why):
        CODECS["f32"].decode(change(CODECS["f32"].encode(DELTAS, BASE)), BASE)
