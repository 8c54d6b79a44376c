"""Fetches on a disk that refuses, is slow or has no room: each ends once, and no path of this machine is told."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from pneumod.blobs import CHUNK_BYTES
from pneumod.core.events import JobFailed
from pneumod.core.jobs import Fetch
from pneumod.messages import BlobRef
from pneumod.shell.store import LEAST_FREE_BYTES, MIB
from tests.disks import small_disk
from tests.shell.parts import LIMIT_S
from tests.shell.test_transfers import CHUNKS, REF, Node, Start, fetch, patient, start

__all__ = ["patient", "start"]
REFUSED = "the disk of node 2 refused it"

pytestmark = pytest.mark.usefixtures("patient")


async def spooled(node: Node) -> Path:
    """The file of the one fetch that runs."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            found = list(node.store.blobs.folder.glob(".*.tmp"))
            if found and await node.store.in_writer(lambda: True):  # what the writer did before is done
                return found[0]
            await asyncio.sleep(0.01)


async def test_a_disk_that_refuses_is_a_failure_without_a_path(start: Start) -> None:
    async with start(2) as asker:
        shutil.rmtree(asker.store.blobs.folder)
        asker.transfers.fetch(fetch())
        assert await asker.ends() == [JobFailed(fetch(), REFUSED)]


async def test_a_disk_that_refuses_even_to_tidy_up_is_a_failure_too(start: Start) -> None:
    async with start(2) as asker:
        asker.transfers.fetch(fetch())
        path = await spooled(asker)
        path.unlink()
        path.mkdir()  # neither written nor unlinked
        asker.transfers.hear_chunk(CHUNKS[0])
        assert await asker.ends() == [JobFailed(fetch(), REFUSED)]
        assert not asker.transfers._tasks


async def test_a_cancelled_fetch_ends_at_once_where_the_disk_is_slow_and_leaves_nothing(start: Start) -> None:
    async with start(2) as asker:
        asker.transfers.fetch(fetch())
        path = await spooled(asker)
        released = threading.Event()
        blocked = asyncio.create_task(asker.store.in_writer(released.wait))
        try:
            await asyncio.sleep(0)
            asker.transfers.cancel(fetch())
            assert await asker.ends() == [JobFailed(fetch(), "cancelled")]
            assert path.exists(), "no file work in the event loop"
        finally:
            released.set()
        await blocked
        await asker.store.in_writer(lambda: None)
        assert not path.exists()


async def test_a_blob_without_room_is_not_even_asked_for(start: Start, tmp_path: Path) -> None:
    with small_disk(tmp_path / "state2", LEAST_FREE_BYTES // MIB + 8):
        async with start(1) as holder, start(2) as asker:
            for size_mib in (12, 4000):  # leaves too little for the state; has no room at all
                big = Fetch(BlobRef("b" * 64, size_mib * MIB), (1,), announced=False)
                asker.transfers.fetch(big)
                assert (await asker.ends(len(asker.events.of(JobFailed)) + 1))[-1] == JobFailed(big, REFUSED)
            assert holder.wants == []
            await asker.store.in_writer(lambda: None)
            assert list(asker.store.blobs.folder.iterdir()) == []


async def test_chunks_that_the_disk_cannot_take_in_time_are_dropped(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumod.shell.assembly.MAX_FRESH", 2)
    async with start(2) as asker:
        asker.transfers.fetch(fetch())
        await spooled(asker)
        released = threading.Event()
        blocked = asyncio.create_task(asker.store.in_writer(released.wait))
        try:
            await asyncio.sleep(0)
            for chunk in CHUNKS[:3]:
                asker.transfers.hear_chunk(chunk)
            assert asker.transfers.dropped == 1
            (assembly,) = asker.transfers._fetching.values()
            assert sum(map(len, assembly.fresh.values())) == 2 * CHUNK_BYTES
        finally:
            released.set()
        await blocked


async def test_a_fault_in_a_fetch_ends_the_transfers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path, 2, 1, lambda *_: True)
    monkeypatch.setattr(node.transfers, "_assemble", lambda *_: 1 / 0)
    serving = asyncio.create_task(node.transfers.run())
    await asyncio.sleep(0)
    node.transfers.fetch(fetch())
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(serving, LIMIT_S)
    assert caught.group_contains(ZeroDivisionError)
    assert node.events.seen == []
    assert REF.digest not in node.store.blobs.digests()
    node.store.close()
