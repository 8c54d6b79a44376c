"""Files of work items over a real broker: from the owner to the worker, through trouble, and within limits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pneumod.core.events import Received
from pneumod.demo.cluster import Broker
from pneumod.desk import Give, Need, Spent
from pneumod.errors import BusError
from pneumod.messages import NO_TERM, ParcelWant, Piece, Taken
from pneumod.shell.parcels import MAX_PIECES
from tests.shell.desks import HEAD, came, files
from tests.shell.movers import BIG, HOME, NAME, Start, batch_at, contents, gives, part_of
from tests.shell.parts import LIMIT_S


@pytest.fixture
def start(tmp_path: Path, broker: Broker) -> Start:
    return lambda node, broker_site=HOME: part_of(tmp_path, node, broker.port, broker_site)


async def test_the_files_of_an_item_and_the_head_of_its_batch_come_from_the_owner(start: Start) -> None:
    async with start(1) as owner, start(2) as worker, batch_at(owner) as its:
        getting = asyncio.create_task(worker.parcels.get(1, NAME, 3))
        await gives(its, (3, BIG))
        assert await getting == (HEAD, BIG)
        spent = await its.hear()
        assert isinstance(spent, Spent)
        assert (spent.how, spent.item, spent.parcel_bytes) == ("sent", 3, len(BIG))
        assert spent.ms > 0
        again = asyncio.create_task(worker.parcels.get(1, NAME, 4))
        await gives(its, (4, files(4)))
        assert await again == (HEAD, files(4))
        heads = [want for want in owner.wants() if want.item is None]
        assert len(heads) == 1, "the head is asked for once a batch"
        assert not worker.parcels._coming
        assert not owner.parcels._pending


async def test_one_node_gets_several_parcels_at_a_time(start: Start) -> None:
    async with start(1) as owner, start(2) as worker, batch_at(owner) as its:
        getting = [asyncio.create_task(worker.parcels.get(1, NAME, item)) for item in range(4)]
        for _ in range(4):
            need = await its.hear()
            while isinstance(need, Spent):
                need = await its.hear()
            assert isinstance(need, Need)
            its.say(Give(need.item, files(need.item) + BIG))
        async with asyncio.timeout(LIMIT_S):
            assert await asyncio.gather(*getting) == [(HEAD, files(item) + BIG) for item in range(4)]


async def test_a_nodes_own_items_come_from_its_desk_and_not_over_the_bus(start: Start) -> None:
    async with start(1) as owner, batch_at(owner) as its:
        getting = asyncio.create_task(owner.parcels.get(1, NAME, 5))
        await gives(its, (5, files(5)))
        assert await getting == (HEAD, files(5))
        assert owner.heard == []


async def test_nothing_of_it_touches_the_disk(start: Start, tmp_path: Path) -> None:
    async with start(1) as owner, start(2) as worker, batch_at(owner) as its:
        getting = asyncio.create_task(worker.parcels.get(1, NAME, 3))
        await gives(its, (3, BIG))
        await getting
    written = contents(tmp_path)
    assert written
    assert not any(BIG[:64] in data for data in written)


async def test_who_asks_for_what_is_done_or_over_is_told_so(start: Start) -> None:
    async with start(1) as owner, start(2) as worker, batch_at(owner):
        await owner.desk.deliver(came(3))
        fetches = [asyncio.create_task(worker.parcels.get(1, *what)) for what in ((NAME, 3), ("another", 4))]
        await worker.events.until(Received, 2)
        assert [incoming.envelope.message for incoming in worker.heard] == [Taken(NAME, 3), Taken("another", 4)]
        for fetch in fetches:
            fetch.cancel()  # as the core does


async def test_lost_pieces_are_asked_for_again(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pneumod.shell.parcels.QUIET_S", 0.2)
    async with start(1) as owner, start(2) as worker, batch_at(owner) as its:
        publish, lost = owner.link.publish_bulk, list[int]()

        async def lossy(kind: str, term: object, piece: Piece, dest: str | None) -> None:
            if piece.index % 5 == 2 and piece.index not in lost and piece.item is not None:
                lost.append(piece.index)
            else:
                await publish(kind, NO_TERM, piece, dest)

        monkeypatch.setattr(owner.link, "publish_bulk", lossy)
        getting = asyncio.create_task(worker.parcels.get(1, NAME, 3))
        await gives(its, (3, BIG))
        assert await asyncio.wait_for(getting, LIMIT_S) == (HEAD, BIG)
        assert sorted(lost) == list(range(2, 41, 5))


async def test_an_owner_that_says_nothing_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.parcels.QUIET_S", 0.1)
    monkeypatch.setattr("pneumod.shell.parcels.GIVE_UP_S", 0.5)
    async with start(2) as worker:
        with pytest.raises(BusError, match="sent no files"):
            await asyncio.wait_for(worker.parcels.get(1, NAME, 3), LIMIT_S)
        assert not worker.parcels._coming


async def test_a_command_that_takes_its_time_is_asked_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.parcels.QUIET_S", 0.1)
    async with start(1) as owner, start(2) as worker, batch_at(owner) as its:
        getting = asyncio.create_task(worker.parcels.get(1, NAME, 3))
        assert await its.hear() == Need(3)
        await owner.events.when(lambda: len(owner.wants()) >= 4)
        its.say(Give(3, files(3)))
        assert await asyncio.wait_for(getting, LIMIT_S) == (HEAD, files(3))
        assert isinstance(await its.hear(), Spent)


async def test_the_end_of_a_batch_is_told_at_once_to_those_who_wait_for_files(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumod.shell.parcels.QUIET_S", 60.0)  # nobody asks again
    async with start(1) as owner, start(2) as worker:
        async with batch_at(owner) as its:
            getting = asyncio.create_task(worker.parcels.get(1, NAME, 3))
            assert await its.hear() == Need(3)
        await worker.events.when(lambda: any(isinstance(one.envelope.message, Taken) for one in worker.heard))
        assert not owner.parcels._pending
        getting.cancel()


async def test_wants_that_wait_are_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.parcels.MAX_PENDING", 5)
    async with start(1) as owner, batch_at(owner):
        owner.parcels.hear_want(2, ParcelWant(NAME, 3, (0, 1, 2)))
        owner.parcels.hear_want(2, ParcelWant(NAME, 3, (0, 1, 2)))
        owner.parcels.hear_want(2, ParcelWant(NAME, 4, (0, 1, 2)))
        assert len(owner.parcels._pending) == 3


async def test_a_parcel_that_says_it_is_longer_than_any_is_not_taken(start: Start) -> None:
    async with start(2) as worker:
        getting = asyncio.create_task(worker.parcels.get(1, NAME, 3))
        await asyncio.sleep(0)
        for index in range(3):
            worker.parcels.hear_piece(1, Piece(NAME, 3, index, MAX_PIECES + 1, b"too much"))
        assert worker.parcels.dropped == 3
        getting.cancel()


async def test_heads_in_memory_are_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.parcels.MAX_HEADS", 2)
    async with start(2) as worker:
        for number in range(5):
            batch = f"batch-{number}"
            getting = asyncio.create_task(worker.parcels._head((1, batch, None)))
            await asyncio.sleep(0.01)
            worker.parcels.hear_piece(1, Piece(batch, None, 0, 1, b"head %d" % number))
            assert await asyncio.wait_for(getting, LIMIT_S) == b"head %d" % number
        assert [key[1] for key in worker.parcels._heads] == ["batch-3", "batch-4"]
