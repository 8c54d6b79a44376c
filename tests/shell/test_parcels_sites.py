"""Who gets no files of work items, and over which brokers none travel."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pneumod.core.events import Received
from pneumod.demo.cluster import Broker
from pneumod.desk import Need
from pneumod.errors import BusError
from pneumod.messages import NO_TERM, ParcelWant, Piece, Taken
from pneumod.work import Done
from tests.shell.movers import HOME, MARKER, NAME, Start, batch_at, part_of
from tests.shell.parts import LIMIT_S, connection


@pytest.fixture
def start(tmp_path: Path, broker: Broker) -> Start:
    return lambda node, broker_site=HOME: part_of(tmp_path, node, broker.port, broker_site)


async def test_a_node_of_another_site_gets_none_by_the_owners_own_roster(start: Start, broker: Broker) -> None:
    """Node 3 is of the south, whatever it says and believes of itself: it asks as a node of the north would."""
    async with start(1) as owner, batch_at(owner) as its, connection(broker.port, "3") as stranger:
        await stranger.subscribe(["parcel", "taken", "grant", "chunk", "piece"])
        for item in (None, 3):
            await stranger.publish("ask", NO_TERM, ParcelWant(NAME, item, (0, 1)), "1")
        await owner.events.until(Received, 2)
        assert owner.parcels.dropped == 2
        assert not owner.parcels._pending
        await stranger.publish("ask", NO_TERM, ParcelWant("another", 3, (0, 1)), "1")
        await owner.events.until(Received, 3)
        getting = asyncio.create_task(owner.parcels.get(1, NAME, 1))
        assert await its.hear() == Need(1), "nothing was asked of the command for it"
        getting.cancel()
        await owner.link.publish_bulk("chunk", NO_TERM, MARKER, None)
        async with asyncio.timeout(LIMIT_S):
            async for incoming in stranger.receive():
                assert incoming.address.kind.name == "chunk", "it gets nothing before what was said last"
                break


async def test_a_node_that_is_in_no_roster_gets_none(start: Start, broker: Broker) -> None:
    async with start(1) as owner, batch_at(owner), connection(broker.port, "9") as stranger:
        await stranger.publish("ask", NO_TERM, ParcelWant(NAME, 3, (0,)), "1")
        await owner.events.until(Received)
        assert owner.parcels.dropped == 1
        assert not owner.parcels._pending


@pytest.mark.parametrize("broker_site", [None, "south"])
async def test_over_a_broker_that_is_not_of_the_site_nothing_is_served_and_nothing_sent(
    start: Start, broker: Broker, broker_site: str | None
) -> None:
    async with start(1, broker_site) as owner, connection(broker.port, "2") as worker:
        await worker.subscribe(["parcel", "done", "chunk", "taken"])
        owner.desk.batch = NAME  # as if it had one from before
        await worker.publish("ask", NO_TERM, ParcelWant(NAME, 3, (0,)), "1")
        await owner.events.until(Received)
        assert owner.parcels.dropped == 1
        with pytest.raises(BusError, match="not of this site"):
            await owner.link.publish_bulk("parcel", NO_TERM, Piece(NAME, 3, 0, 1, b"a picture"), "2")
        owner.link.send("parcel", NO_TERM, Piece(NAME, 3, 0, 1, b"a picture"), "2")
        owner.link.send("done", NO_TERM, Done(NAME, 3, b"pixels"), "2")
        owner.link.send("taken", NO_TERM, Taken(NAME, 3), "2")
        await asyncio.sleep(0)  # what is sent without waiting goes first
        await owner.link.publish_bulk("chunk", NO_TERM, MARKER, None)
        kinds = set()
        async with asyncio.timeout(LIMIT_S):
            async for incoming in worker.receive():
                kinds.add(incoming.address.kind.name)
                if kinds == {"chunk", "taken"}:
                    break
                assert not kinds & {"parcel", "done"}


async def test_a_piece_that_nobody_asked_for_or_from_another_node_is_dropped(start: Start) -> None:
    async with start(1), start(2) as worker:
        getting = asyncio.create_task(worker.parcels.get(1, NAME, 3))
        await asyncio.sleep(0)
        for node, piece in (
            (3, Piece(NAME, 3, 0, 1, b"not the owner's")),
            (1, Piece(NAME, 4, 0, 1, b"another item's")),
            (1, Piece("another", 3, 0, 1, b"another batch's")),
            (1, Piece(NAME, 3, 2, 2, b"beyond its count")),
        ):
            worker.parcels.hear_piece(node, piece)
        assert worker.parcels.dropped == 4
        getting.cancel()


async def test_pieces_of_two_readings_of_the_files_are_not_mixed(start: Start) -> None:
    async with start(2) as worker:
        fetching = asyncio.create_task(worker.parcels._fetch((1, NAME, 3)))
        await asyncio.sleep(0)
        for piece in (Piece(NAME, 3, 0, 3, b"old", 7), Piece(NAME, 3, 1, 2, b"new", 8), Piece(NAME, 3, 0, 2, b"a ", 8)):
            worker.parcels.hear_piece(1, piece)
        assert await asyncio.wait_for(fetching, LIMIT_S) == b"a new"


async def test_pieces_that_disagree_on_their_number_are_not_mixed(start: Start) -> None:
    async with start(2) as worker:
        fetching = asyncio.create_task(worker.parcels._fetch((1, NAME, 3)))
        await asyncio.sleep(0)
        for piece in (Piece(NAME, 3, 0, 2, b"a"), Piece(NAME, 3, 1, 3, b"x"), Piece(NAME, 3, 1, 2, b"b")):
            worker.parcels.hear_piece(1, piece)
        assert await asyncio.wait_for(fetching, LIMIT_S) == b"ab"
        assert worker.parcels.dropped == 1
