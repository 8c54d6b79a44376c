"""Blobs over a real broker: each fetch ends once, and nothing is kept whose whole has not its digest."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pneumod.blobs import CHUNK_BYTES, digest_of
from pneumod.bus import Incoming
from pneumod.core.events import BlobsFound, Connected, JobDone, JobFailed, Received
from pneumod.core.jobs import Fetch, Fetched
from pneumod.demo.cluster import Broker
from pneumod.messages import NO_TERM, BlobRef, BlobWant, Chunk, Term
from pneumod.shell.link import Link
from pneumod.shell.store import Store
from pneumod.shell.transfers import Transfers
from tests.shell.parts import Events, connection, node_config, running

BLOB = random.Random(1).randbytes(3 * CHUNK_BYTES + 1000)
REF = BlobRef(digest_of(BLOB), len(BLOB))
CHUNKS = [Chunk(REF.digest, i, 4, BLOB[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES]) for i in range(4)]
LONG_S = 60.0  # longer than any test


class Node:
    """The part of a daemon that moves blobs; it notes the wants that it hears."""

    def __init__(self, folder: Path, number: int, port: int, may_have: Callable[[str, str], bool]) -> None:
        self.events = Events()
        self.wants: list[tuple[str, BlobWant]] = []
        config = node_config(folder, number, port)
        self.store = Store(config.state_dir)
        self.link = Link(config, 1, lambda *at: self.events.emit(Connected(*at)), lambda: None, self._received)
        self.transfers = Transfers(self.link, self.store, self.events.emit, may_have, self._damaged)

    def _damaged(self) -> None:
        self.events.emit(BlobsFound(self.store.blobs.digests()))

    def _received(self, incoming: Incoming) -> None:
        message = incoming.envelope.message
        if isinstance(message, Chunk):
            self.transfers.hear_chunk(message)
            self.events.emit(Received(incoming.address.kind.name, incoming.envelope))
        elif isinstance(message, BlobWant):
            self.wants.append((incoming.envelope.sender, message))
            self.transfers.hear_want(incoming.envelope.sender, message)

    async def ends(self, count: int = 1) -> list[JobDone | JobFailed]:
        return await self.events.until(JobDone | JobFailed, count)  # type: ignore[arg-type]


Start = Callable[..., contextlib.AbstractAsyncContextManager[Node]]


@pytest.fixture
def start(tmp_path: Path, broker: Broker) -> Start:
    @contextlib.asynccontextmanager
    async def start(number: int, may_have: Callable[[str, str], bool] = lambda *_: True) -> AsyncIterator[Node]:
        node = Node(tmp_path, number, broker.port, may_have)
        parts = [asyncio.create_task(node.link.run()), asyncio.create_task(node.transfers.run())]
        async with running(*parts):
            await node.events.until(Connected)
            yield node
        node.store.close()

    return start


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks again before the test is over: what comes, came without asking."""
    monkeypatch.setattr("pneumod.shell.transfers.QUIET_S", LONG_S)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.transfers.QUIET_S", 0.1)
    monkeypatch.setattr("pneumod.shell.transfers.GIVE_UP_S", 1.0)


def fetch(*holders: int, announced: bool = False) -> Fetch:
    return Fetch(REF, holders, announced)


@pytest.mark.usefixtures("patient")
async def test_a_blob_of_several_chunks_goes_from_one_node_to_another(start: Start) -> None:
    async with start(1) as holder, start(2) as asker, start(3) as other:
        holder.store.blobs.write(BLOB)
        asker.transfers.fetch(fetch(1))
        assert await asker.ends() == [JobDone(fetch(1), Fetched())]
        assert asker.store.blobs.read(REF.digest) == BLOB
        assert holder.wants == [("2", BlobWant(REF.digest, (0, 1, 2, 3)))]
        assert other.transfers._loose == {}, "pieces go to the asker alone"


@pytest.mark.usefixtures("patient")
async def test_a_broadcast_reaches_two_receivers_without_a_want(start: Start) -> None:
    async with start(1) as holder, start(2) as two, start(3) as three:
        holder.store.blobs.write(BLOB)
        two.transfers.fetch(fetch(1, announced=True))
        holder.transfers.broadcast(REF.digest)
        assert await two.ends() == [JobDone(fetch(1, announced=True), Fetched())]
        three.transfers.fetch(fetch(1, announced=True))  # its chunks ran ahead of this
        assert await three.ends() == [JobDone(fetch(1, announced=True), Fetched())]
        assert holder.wants == []
        assert two.store.blobs.read(REF.digest) == three.store.blobs.read(REF.digest) == BLOB


@pytest.mark.usefixtures("hasty")
async def test_only_the_missing_chunks_are_asked_for(start: Start, broker: Broker) -> None:
    async with start(1) as holder, start(2) as asker, connection(broker.port, "9") as lossy:
        holder.store.blobs.write(BLOB)
        for index in (0, 2):
            await lossy.publish("chunk", NO_TERM, CHUNKS[index])
        await asker.events.until(Received, 2)
        asker.transfers.fetch(fetch(1, announced=True))
        assert await asker.ends() == [JobDone(fetch(1, announced=True), Fetched())]
        assert {index for _, want in holder.wants for index in want.chunks} == {1, 3}


@pytest.mark.usefixtures("hasty")
async def test_a_holder_that_does_not_answer_is_passed_over(start: Start) -> None:
    async with start(1) as holder, start(2) as asker:
        holder.store.blobs.write(BLOB)
        asker.transfers.fetch(fetch(7, 1))
        assert await asker.ends() == [JobDone(fetch(7, 1), Fetched())]


@pytest.mark.usefixtures("hasty")
async def test_a_forged_chunk_is_not_kept_and_the_blob_is_fetched_all_the_same(start: Start, broker: Broker) -> None:
    async with start(1) as holder, start(2) as asker, connection(broker.port, "9") as forger:
        holder.store.blobs.write(BLOB)
        for index in range(4):
            await forger.publish("chunk", NO_TERM, Chunk(REF.digest, index, 4, bytes(CHUNK_BYTES)))
        await asker.events.until(Received, 4)
        asker.transfers.fetch(fetch(1, announced=True))
        assert await asker.ends() == [JobDone(fetch(1, announced=True), Fetched())]
        assert asker.store.blobs.read(REF.digest) == BLOB
        assert asker.store.blobs.digests() == {REF.digest}
        assert len(holder.wants) >= 1


@pytest.mark.usefixtures("patient")
async def test_chunks_that_lie_about_their_number_do_no_harm(start: Start) -> None:
    async with start(2) as asker:
        for index in range(3):
            asker.transfers.hear_chunk(Chunk(REF.digest, index, 3, b"of another count"))
            asker.transfers.hear_chunk(Chunk(f"{index:064}", index + 7, 3, b"beyond the count"))
        for chunk in CHUNKS:
            asker.transfers.hear_chunk(chunk)
        asker.transfers.fetch(fetch())
        assert await asker.ends() == [JobDone(fetch(), Fetched())]
        assert asker.transfers.dropped == 3
        assert len(asker.transfers._loose) == 1, "what can't be a chunk takes no room"


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("holders", [(), (7,), (7, 8)])
async def test_nobody_answers(start: Start, holders: tuple[int, ...]) -> None:
    async with start(2) as asker:
        asker.transfers.fetch(fetch(*holders))
        assert await asker.ends() == [JobFailed(fetch(*holders), f"nobody sent the blob {REF.digest[:12]}")]
        assert asker.store.blobs.digests() == frozenset()


@pytest.mark.usefixtures("hasty")
async def test_who_may_not_have_a_blob_gets_nothing(start: Start) -> None:
    async with start(1, lambda sender, _: sender == "2") as holder, start(2) as master, start(3) as curious:
        holder.store.blobs.write(BLOB)
        curious.transfers.fetch(fetch(1))
        master.transfers.fetch(fetch(1))
        assert isinstance((await master.ends())[0], JobDone)
        assert isinstance((await curious.ends())[0], JobFailed)
        assert holder.transfers.dropped == len([sender for sender, _ in holder.wants if sender == "3"]) > 0


@pytest.mark.usefixtures("patient")
async def test_a_cancelled_fetch_fails_once_even_before_it_began_and_can_be_asked_for_again(start: Start) -> None:
    async with start(2) as asker:
        asker.transfers.fetch(fetch(7))
        asker.transfers.cancel(fetch(7))
        assert await asker.ends() == [JobFailed(fetch(7), "cancelled")]
        asker.transfers.fetch(fetch(7))
        asker.transfers.hear_chunk(CHUNKS[0])
        await asyncio.sleep(0.05)  # it waits for chunks
        asker.transfers.cancel(fetch(7))
        asker.transfers.fetch(fetch(7))
        await asker.ends(2)
        for chunk in CHUNKS:
            asker.transfers.hear_chunk(chunk)
        ends = await asker.ends(3)
        assert [type(event) for event in ends] == [JobFailed, JobFailed, JobDone]
        asker.transfers.cancel(fetch(7))  # too late: of no effect
        assert not asker.transfers._tasks
        assert not asker.transfers._fetching


@pytest.mark.usefixtures("patient")
async def test_two_fetches_of_one_blob_both_end(start: Start) -> None:
    """A new master wants the model to lead from, and to train."""
    async with start(1) as holder, start(2) as asker:
        asker.transfers.fetch(fetch(7))
        asker.transfers.fetch(fetch(8, announced=True))
        holder.store.blobs.write(BLOB)
        holder.transfers.broadcast(REF.digest)
        ends = await asker.ends(2)
        assert {type(event) for event in ends} == {JobDone}
        assert {event.job for event in ends} == {fetch(7), fetch(8, announced=True)}


@pytest.mark.usefixtures("patient")
async def test_loose_chunks_are_bounded_and_the_oldest_go_first(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.transfers.MAX_LOOSE_BYTES", 6 * CHUNK_BYTES)
    async with start(2) as asker:
        for chunk in CHUNKS[:2]:
            asker.transfers.hear_chunk(chunk)
        for number in range(40):
            asker.transfers.hear_chunk(Chunk(f"{number:064}", 0, 2, bytes(CHUNK_BYTES)))
            held = sum(len(one.fresh) for one in asker.transfers._loose.values())
            assert held <= 7
        assert (REF.digest, 4) not in asker.transfers._loose
        assert (f"{39:064}", 2) in asker.transfers._loose


@pytest.mark.usefixtures("patient")
async def test_wants_that_wait_are_bounded_and_a_repeated_one_is_served_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumod.shell.transfers.MAX_WANTS", 5)
    async with start(1) as holder:
        for _ in range(3):
            holder.transfers.hear_want("2", BlobWant(REF.digest, (0,)))
        for number in range(20):
            holder.transfers.hear_want("2", BlobWant(f"{number:064}", (0,)))
        assert holder.transfers.dropped == 16


@pytest.mark.usefixtures("patient")
async def test_nothing_is_sent_any_more_to_who_has_gone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.transfers.IN_FLIGHT", 1)
    everything = BlobWant(REF.digest, (0, 1, 2, 3))
    async with start(1) as holder:
        holder.store.blobs.write(BLOB)
        sent: list[tuple[str | None, int]] = []

        async def publish(kind: str, term: Term, chunk: Chunk, dest: str | None) -> None:
            sent.append((dest, chunk.index))
            holder.transfers.forget("2")

        monkeypatch.setattr(holder.link, "publish_bulk", publish)
        monkeypatch.setattr(holder.transfers, "emit", holder.events.emit)
        holder.transfers.hear_want("3", BlobWant(REF.digest, (3,)))
        holder.transfers.hear_want("2", everything)  # forgotten while it waits
        holder.transfers.hear_want("4", BlobWant(REF.digest, (2,)))
        holder.transfers.hear_want("5", BlobWant("f" * 64, (0,)))  # isn't here: the end of the test
        await holder.events.until(BlobsFound)
        assert sent == [("3", 3), ("4", 2)]
        holder.transfers.hear_want("2", everything)  # forgotten while it is sent
        holder.transfers.hear_want("5", BlobWant("f" * 64, (0,)))
        await holder.events.until(BlobsFound, 2)
        assert sent == [("3", 3), ("4", 2), ("2", 0)]


@pytest.mark.usefixtures("patient")
async def test_a_blob_is_fetched_in_parts_and_read_from_the_disk_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumod.shell.assembly.WANT_CHUNKS", 1)
    async with start(1) as holder, start(2) as asker:
        holder.store.blobs.write(BLOB)
        reads, read = [], holder.store.read

        async def reading(digest: str) -> bytes | None:
            reads.append(digest)
            return await read(digest)

        monkeypatch.setattr(holder.store, "read", reading)
        asker.transfers.fetch(fetch(1))
        assert await asker.ends() == [JobDone(fetch(1), Fetched())]
        assert [want.chunks for _, want in holder.wants] == [(0,), (1,), (2,), (3,)]
        assert reads == [REF.digest]
