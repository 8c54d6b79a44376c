"""Whatever comes from the bus, nothing but WireError is raised."""

from __future__ import annotations

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from pneumod import messages as m
from pneumod import wire
from pneumod.errors import WireError
from pneumod.topics import KINDS
from tests.examples import MESSAGES, TERM, address


@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=600))
def test_random_bytes_raise_nothing_but_wire_errors(kind: str, data: bytes) -> None:
    try:
        wire.decode(address(kind), data)
    except WireError:
        return


@given(st.sampled_from(MESSAGES), st.data())
def test_damaged_messages_raise_nothing_but_wire_errors(case: tuple[str, m.Message], data: st.DataObject) -> None:
    kind, message = case
    good = bytearray(wire.encode("7", TERM, message))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        envelope = wire.decode(address(kind), bytes(good))
    except WireError:
        return
    assert wire.decode(address(kind), wire.encode("7", envelope.term, envelope.message)) == envelope  # type: ignore[arg-type]


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(MESSAGES), st.data())
def test_any_value_in_any_field_raises_nothing_but_wire_errors(
    case: tuple[str, m.Message], data: st.DataObject
) -> None:
    kind, message = case
    body = wire.unpack(wire.encode("7", TERM, message))["body"]
    body[data.draw(st.sampled_from(sorted(body)))] = data.draw(anything)
    try:
        wire.decode(address(kind), msgpack.packb({"v": 1, "from": "7", "term": TERM, "body": body}))
    except WireError:
        return
