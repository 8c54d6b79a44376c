"""Topics and how each kind travels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumod.errors import WireError
from pneumod.topics import KINDS, MAX_PACKET_BYTES, Address, Topics

TOPICS = Topics("lab")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("sender", ["0", "17", "op-run-ann"])
def test_a_topic_and_its_address_are_each_others_inverse(name: str, sender: str) -> None:
    dest = "3" if KINDS[name].scope == "to" else None
    assert TOPICS.parse(TOPICS.topic(sender, name, dest)) == Address(sender, KINDS[name], dest)


def test_everything_a_node_says_is_under_its_own_name() -> None:
    assert TOPICS.topic("7", "beat") == "pneumod/v1/lab/from/7/beat"
    assert TOPICS.topic("7", "open") == "pneumod/v1/lab/from/7/all/open"
    assert TOPICS.topic("7", "report", "1") == "pneumod/v1/lab/from/7/to/1/report"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "pneumod/v1/lab/from",
        "pneumod/v1/lab/from/7",
        "pneumod/v1/lab/from/7/unknown",
        "pneumod/v1/other/from/7/beat",  # another cluster
        "pneumod/v2/lab/from/7/beat",  # another version
        "x/pneumod/v1/lab/from/7/beat",
        "pneumod/v1/lab/from/7/open",  # said to all, not by itself
        "pneumod/v1/lab/from/7/all/beat",
        "pneumod/v1/lab/from/7/to/1/open",
        "pneumod/v1/lab/from/7/to/report",
        "pneumod/v1/lab/from/7/to/1/report/more",
        "pneumod/v1/lab/from/7/beat/",
        "$SYS/broker/uptime",
    ],
)
def test_a_topic_that_is_not_ours_is_refused(topic: str) -> None:
    with pytest.raises(WireError, match="unknown topic"):
        TOPICS.parse(topic)


@given(st.text())
def test_no_topic_raises_anything_else(text: str) -> None:
    for topic in (text, f"{TOPICS.root}/{text}", f"{TOPICS.root}/7/to/{text}"):
        try:
            TOPICS.parse(topic)
        except WireError:
            continue


@pytest.mark.parametrize(("kind", "dest"), [("beat", "1"), ("open", "1"), ("report", None)])
def test_only_the_directed_kinds_have_a_destination(kind: str, dest: str | None) -> None:
    with pytest.raises(AssertionError):
        TOPICS.topic("7", kind, dest)


def test_subscriptions_are_to_everyones_words_and_to_the_directed_ones_for_me() -> None:
    assert TOPICS.filters("3", ["beacon", "open", "report", "beat"]) == [
        ("pneumod/v1/lab/from/+/beacon", 1),
        ("pneumod/v1/lab/from/+/all/open", 1),
        ("pneumod/v1/lab/from/+/to/3/report", 1),
        ("pneumod/v1/lab/from/+/beat", 0),
    ]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_fits_a_packet_and_what_is_long_is_bulk(kind: object) -> None:
    assert kind.limit_bytes < MAX_PACKET_BYTES  # type: ignore[attr-defined]
    assert kind.bulk == (kind.name in ("chunk", "piece", "done", "parcel"))  # type: ignore[attr-defined]
    assert kind.images == (kind.name in ("done", "parcel"))  # type: ignore[attr-defined]
    assert not (kind.retain and kind.scope == "to")  # type: ignore[attr-defined]
