"""What is damaged on a disk is never served, and is told, so that it is fetched again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pneumod import wire
from pneumod.blobs import digest_of
from pneumod.core.events import BlobsFound, Connected
from pneumod.demo.cluster import Broker
from pneumod.messages import BlobWant, Chunk
from pneumod.shell.store import Store
from pneumod.shell.transfers import Transfers
from tests.shell.parts import Events, connection, first, running
from tests.shell.test_link import new_link, started

RECEIPT = wire.encode_document(
    wire.Document("receipt", {"run": "run-b", "round": 1, "previous": None, "previous_bytes": None})
)


def found(store: Store, events: Events) -> None:
    events.emit(BlobsFound(store.blobs.digests()))


async def test_a_damaged_blob_that_a_peer_wants_is_told(tmp_path: Path) -> None:
    link, events = new_link(tmp_path, 1, 1)
    store = Store(tmp_path / "state")
    store.load()
    whole, damaged = (store.blobs.write(data).digest for data in (b"whole", b"damaged"))
    (store.blobs.folder / damaged).write_bytes(b"dAmaged")
    transfers = Transfers(link, store, events.emit, lambda sender, digest: True, lambda: found(store, events))
    async with running(asyncio.create_task(transfers.run())):
        transfers.hear_want("2", BlobWant(damaged, (0,)))
        assert await events.until(BlobsFound) == [BlobsFound(frozenset({whole}))]
    assert (store.blobs.folder / f"{damaged}.damaged").read_bytes() == b"dAmaged"
    store.close()


@pytest.mark.parametrize("whole", [True, False])
async def test_a_kept_receipt_is_served_while_it_is_whole(tmp_path: Path, broker: Broker, whole: bool) -> None:
    link, events = new_link(tmp_path, 1, broker.port)
    store = Store(tmp_path / "state")
    store.load()
    store.receipts.add(RECEIPT, "run-b", 1)
    if not whole:
        (tmp_path / "state" / "receipts" / "run-b" / "00001.msgpack").write_bytes(RECEIPT[:-1])
    transfers = Transfers(
        link,
        store,
        events.emit,
        lambda sender, digest: digest in store.receipts,
        lambda: found(store, events),
    )
    async with running(started(link), asyncio.create_task(transfers.run())), connection(broker.port, "2") as peer:
        await peer.subscribe(["piece"])
        await events.until(Connected)
        transfers.hear_want("2", BlobWant(digest_of(RECEIPT), (0,)))
        if whole:
            piece = (await first(peer, "piece")).envelope.message
            assert piece == Chunk(digest_of(RECEIPT), 0, 1, RECEIPT)
        else:
            await events.until(BlobsFound)
            assert digest_of(RECEIPT) not in store.receipts
    store.close()
