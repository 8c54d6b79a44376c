"""Bytes from the bus: what passes, what doesn't, and that nothing else than WireError ever comes of them."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumod import messages as m
from pneumod import wire
from pneumod.errors import WireError
from pneumod.topics import KINDS
from tests.core.pair import beat
from tests.examples import MESSAGES, TERM, address


def payload(kind: str, **changes: Any) -> bytes:
    """The payload of a good message, with fields of its body changed."""
    body = wire.unpack(wire.encode("7", TERM, dict(MESSAGES)[kind]))
    body["body"] |= changes
    packed: bytes = msgpack.packb(body)
    return packed


def refusal(kind: str, data: bytes, sender: str = "7") -> str:
    with pytest.raises(WireError) as caught:
        wire.decode(address(kind, sender), data)
    return str(caught.value)


@pytest.mark.parametrize(("kind", "message"), MESSAGES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_message_comes_out_as_it_went_in(kind: str, message: m.Message) -> None:
    data = wire.encode("7", TERM, message)
    envelope = wire.decode(address(kind), data)
    assert envelope == m.Envelope("7", TERM, message)
    assert isinstance(envelope.term, m.Term)
    assert wire.encode("7", TERM, message) == data
    assert len(data) <= KINDS[kind].limit_bytes


def test_there_is_a_message_of_every_kind() -> None:
    assert {kind for kind, _ in MESSAGES} == set(KINDS)


@given(st.binary(max_size=192 * 1024))
def test_any_bytes_travel_in_a_chunk(data: bytes) -> None:
    chunk = m.Chunk("a" * 64, 0, 1, data)
    assert wire.decode(address("chunk"), wire.encode("7", TERM, chunk)).message == chunk


@given(st.floats(0, 1), st.text(max_size=400), st.integers(0, 2**53))
def test_numbers_and_texts_come_out_as_they_went_in(share: float, text: str, sent: int) -> None:
    said = msgspec.structs.replace(beat(), progress=share, sent_bytes=sent)
    assert wire.decode(address("beat"), wire.encode("7", TERM, said)).message == said
    reply = m.Reply(True, text)
    assert wire.decode(address("reply"), wire.encode("7", TERM, reply)).message == reply


def test_an_empty_payload_is_a_cleared_topic() -> None:
    assert wire.decode(address("beacon"), b"") == m.Envelope("7", m.NO_TERM, None)


def test_a_node_may_say_more_than_this_version_knows() -> None:
    assert wire.decode(address("gone"), payload("gone", colour="blue")).message == m.Gone(2, 5)


# ---- refusals ----


def test_a_payload_longer_than_its_kind_is_refused_before_it_is_read() -> None:
    assert refusal("gone", b"\xff" * (KINDS["gone"].limit_bytes + 1)) == "too long"


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",  # never used
        b"\x81",  # a map that ends early
        b"\xdf\xff\xff\xff\xff",  # a map of 4 billion entries
        b"\xdd\xff\xff\xff\xff",  # a list of 4 billion
        b"\xc6\xff\xff\xff\xff",  # 4 GB of bytes
        b"\xdb\xff\xff\xff\xff",  # 4 GB of text
        b"\xa1\xff",  # not UTF-8
        b"\xc0\xc0",  # something is left over
        b"\xd4\x05\x00",  # an extension type
        b"\x81\x01\x02",  # a number as a key
        b"\x91" * 900,  # 900 lists in each other
        b"\x81\xa1a" * 300,
    ],
)
def test_what_is_not_our_msgpack_is_refused(data: bytes) -> None:
    assert refusal("beat", data) == "not msgpack"


@pytest.mark.parametrize("data", [b"\xc0", b"\x01", b"\x90", b"\x80", b"\xa3abc", b"\xcb" + b"\x00" * 8])
def test_a_value_that_is_no_envelope_is_refused(data: bytes) -> None:
    assert refusal("beat", data) == "another version"


@pytest.mark.parametrize("version", [0, 2, "1", None, [1], 1.5])
def test_another_version_is_refused(version: object) -> None:
    raw = wire.unpack(payload("beat")) | {"v": version}
    assert refusal("beat", msgpack.packb(raw)) == "another version"


@pytest.mark.parametrize("sender", ["8", "07", "", 7, None, ["7"]])
def test_a_sender_that_is_not_the_topics_is_refused(sender: object) -> None:
    raw = wire.unpack(payload("beat")) | {"from": sender}
    assert refusal("beat", msgpack.packb(raw)) == "sender is not the topic's"


@pytest.mark.parametrize(
    "sender", ["07", "-1", "a", "op-root-ann", "op-run-", "op-run-Ann", "12345678901", "7\n", "٣", "+"]
)
def test_a_topic_of_a_sender_that_can_not_be_is_refused(sender: str) -> None:
    assert refusal("beat", wire.encode(sender, TERM, dict(MESSAGES)["beat"]), sender).startswith("bad beat")
    assert refusal("beacon", b"", sender).startswith("bad beacon")


@pytest.mark.parametrize(
    "term",
    [
        None, [], [1, -1], [1, -1, 0, 0], [-1, -1, 0], [2**48 + 1, -1, 0], [1, 1, 0], [1, -(2**31), 0], [1, -1, -1],
        [1.0, -1, 0], ["1", -1, 0], [math.nan, -1, 0], {"counter": 1},
    ],
)  # fmt: skip
def test_a_term_out_of_range_is_refused(term: object) -> None:
    raw = wire.unpack(payload("beacon")) | {"term": term}
    assert refusal("beacon", msgpack.packb(raw)).startswith("bad beacon")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("beat", {"progress": 1.5}),
        ("beat", {"progress": -0.1}),
        ("beat", {"progress": "0.5"}),
        ("beat", {"boot": -1}),
        ("beat", {"boot": True}),
        ("beat", {"boot": None}),
        ("beat", {"activity": "sleeping"}),
        ("beat", {"model": "A" * 64}),
        ("beat", {"model": "a" * 63}),
        ("beat", {"model": "a" * 64 + "\n"}),
        ("beat", {"top_term": [2**48 + 1, 0, 0]}),
        ("beat", {"load": math.inf}),
        ("card", {"name": ""}),
        ("card", {"name": "n" * 65}),
        ("card", {"cores": 0}),
        ("card", {"counts": {"train_normal": -1}}),
        ("gone", {"why": "bored"}),
        ("beacon", {"heirs": list(range(9))}),
        ("beacon", {"heirs": [2**31]}),
        ("beacon", {"phase": "dreaming"}),
        ("beacon", {"note": "n" * 401}),
        ("spec", {"run": "Run A"}),
        ("spec", {"run": ""}),
        ("spec", {"number": 0}),
        ("spec", {"settings": {"image_size": 27}}),
        ("spec", {"settings": {"batch_size": 1}}),
        ("spec", {"settings": {"learning_rate": 0.0}}),
        ("spec", {"settings": {"dropout": 1.0}}),
        ("spec", {"settings": {"codec": "f16"}}),
        ("open", {"terms": []}),
        ("open", {"round": 0}),
        ("open", {"class_weights": [1.0]}),
        ("open", {"class_weights": [1.0, 0.0]}),
        ("open", {"exponents": [65]}),
        ("open", {"base": {"digest": "a" * 64, "size_bytes": 0}}),
        ("spec", {"run": "run-a\n"}),
        ("open", {"deadline_ms": 2**53 + 1}),
        ("result", {"samples": -1}),
        ("result", {"scores": {"normal": [[1024, 1]]}}),
        ("result", {"scores": {"normal": [[0, -1]]}}),
        ("result", {"scores": {"normal": [[0, 1]] * 1025}}),
        ("want", {"chunks": []}),
        ("want", {"chunks": [65_536]}),
        ("chunk", {"data": "text"}),
        ("chunk", {"data": b"x" * (192 * 1024 + 1)}),
        ("request", {"settings": None}),
        ("reply", {"ok": 1}),
    ],
)
def test_a_field_out_of_range_or_of_a_wrong_type_is_refused(kind: str, changes: dict[str, Any]) -> None:
    assert refusal(kind, payload(kind, **changes)).startswith(f"bad {kind}: ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_body_is_refused(kind: str) -> None:
    raw = wire.unpack(payload(kind))
    for body in (None, [], "text", 7):
        assert refusal(kind, msgpack.packb(raw | {"body": body})).startswith(f"bad {kind}")
    del raw["body"]
    assert refusal(kind, msgpack.packb(raw)).startswith(f"bad {kind}")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("beat", ("progress",)),
        ("beat", ("samples_per_s",)),
        ("spec", ("settings", "learning_rate")),
        ("open", ("class_weights",)),
        ("result", ("train_loss",)),
        ("result", ("scores", "loss")),
        ("report", ("closed", "scored", "auc")),
        ("report", ("closed", "best", "threshold")),
        ("closed", ("summary", "train_loss")),
    ],
)
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(
    kind: str, path: tuple[str, ...], value: float
) -> None:
    raw = wire.unpack(payload(kind))
    place = raw["body"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = [value, 1.0] if path[-1] == "class_weights" else value
    assert refusal(kind, msgpack.packb(raw)).startswith(("not finite", f"bad {kind}"))


def test_the_reason_is_short() -> None:
    assert len(refusal("beat", payload("beat", activity="x" * 1_000))) <= 200


@pytest.mark.parametrize("sender", [str(m.MAX_NODE_ID + 1), "9999999999"])
def test_an_id_beyond_all_nodes_is_refused(sender: str) -> None:
    """As an heir it would make the master's beacon unreadable."""
    assert refusal("beat", wire.encode(sender, TERM, dict(MESSAGES)["beat"]), sender) == "no node's id"
    assert refusal("beacon", b"", sender) == "no node's id"
    assert wire.decode(address("beacon", str(m.MAX_NODE_ID)), b"").node == m.MAX_NODE_ID
