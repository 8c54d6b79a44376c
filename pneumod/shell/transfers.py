"""Blobs on the bus: chunks out, chunks in, and the wants that ask for what is missing.

A new model is sent once to all; who fetches it waits for those chunks and asks a holder only for what
didn't come. Every chunk may be forged, so nothing is kept whose whole doesn't have its digest.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from pneumod.blobs import CHUNK_BYTES, chunk_count, digest_of
from pneumod.core.events import Event, JobDone, JobFailed
from pneumod.core.jobs import Fetch, Fetched
from pneumod.errors import BusError, PneumodError
from pneumod.logs import component
from pneumod.messages import NO_TERM, BlobWant, Chunk
from pneumod.shell.link import Link
from pneumod.shell.store import Store

QUIET_S = 1.0  # without a new chunk for so long: ask for what is missing
GIVE_UP_S = 15.0  # without a new chunk for so long, all holders asked: the fetch failed
MAX_LOOSE_BYTES = 64 * 1024 * 1024  # chunks of blobs that nobody here asked for yet
MAX_WANTS = 256  # waiting to be served
WANT_CHUNKS = 512  # asked for at once

log = component("worker")


class Assembly:
    """The chunks of one blob that came so far, and how many jobs wait for it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.users = 0
        self.chunks: dict[int, bytes] = {}
        self.grew = asyncio.Event()

    def add(self, index: int, data: bytes) -> None:
        if index not in self.chunks:
            self.chunks[index] = data
            self.grew.set()

    def missing(self) -> list[int]:
        return [i for i in range(self.count) if i not in self.chunks]

    def whole(self) -> bytes | None:
        if len(self.chunks) < self.count:
            return None
        return b"".join(self.chunks[i] for i in range(self.count))


Key = tuple[str, int]  # digest and count of chunks: who lies about the count is not mixed with who doesn't


class Send(NamedTuple):
    digest: str
    dest: str | None  # None: to all
    chunks: tuple[int, ...] | None  # None: all of them


class Transfers:
    """Serves and fetches blobs; `may_have(sender, digest)` says who may be served what."""

    def __init__(
        self, link: Link, store: Store, emit: Callable[[Event], None], may_have: Callable[[str, str], bool]
    ) -> None:
        self.link = link
        self.store = store
        self.emit = emit
        self.may_have = may_have
        self.dropped = 0
        self._out: asyncio.Queue[Send] = asyncio.Queue(MAX_WANTS)
        self._waiting: set[tuple[str, str | None]] = set()  # what `_out` holds: a repeated want is served once
        self._fetching: dict[Key, Assembly] = {}
        self._loose: OrderedDict[Key, Assembly] = OrderedDict()
        self._tasks: dict[Fetch, asyncio.Task[Event]] = {}

    async def run(self) -> None:
        """Send what was asked for, one blob after the other, until cancelled."""
        while True:
            send = await self._out.get()
            self._waiting.discard((send.digest, send.dest))
            data = await self.store.in_writer(lambda digest=send.digest: self.store.blobs.read(digest))  # type: ignore[misc]
            if data is None:
                continue
            count = chunk_count(len(data))
            try:
                for index in send.chunks if send.chunks is not None else range(count):
                    part = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
                    if part:
                        kind = "chunk" if send.dest is None else "piece"
                        await self.link.publish_bulk(kind, NO_TERM, Chunk(send.digest, index, count, part), send.dest)
            except BusError as error:
                log.debug("a blob was not sent whole: %s", error)

    def broadcast(self, digest: str) -> None:
        self._queue(Send(digest, None, None))

    def hear_want(self, sender: str, want: BlobWant) -> None:
        if self.may_have(sender, want.digest):
            self._queue(Send(want.digest, sender, tuple(sorted(set(want.chunks)))))
        else:
            self.dropped += 1

    def hear_chunk(self, chunk: Chunk) -> None:
        if chunk.index >= chunk.count:
            self.dropped += 1
            return
        key = (chunk.digest, chunk.count)
        assembly = self._fetching.get(key) or self._loose_for(key)
        assembly.add(chunk.index, chunk.data)

    def fetch(self, job: Fetch) -> None:
        task = self._tasks[job] = asyncio.get_running_loop().create_task(self._fetch(job))
        task.add_done_callback(lambda done: self._ended(job, done))

    def cancel(self, job: Fetch) -> None:
        task = self._tasks.get(job)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    def _queue(self, send: Send) -> None:
        if (send.digest, send.dest) in self._waiting:
            return
        try:
            self._out.put_nowait(send)
            self._waiting.add((send.digest, send.dest))
        except asyncio.QueueFull:
            self.dropped += 1

    def _loose_for(self, key: Key) -> Assembly:
        """Chunks that run ahead of the message that names their blob; the oldest blob goes when there are too many."""
        assembly = self._loose.setdefault(key, Assembly(key[1]))
        while sum(len(a.chunks) * CHUNK_BYTES for a in self._loose.values()) > MAX_LOOSE_BYTES:
            self._loose.popitem(last=False)
        return assembly

    def _ended(self, job: Fetch, task: asyncio.Task[Event]) -> None:
        """Tell how a fetch ended, also one that was cancelled before it began."""
        if self._tasks.get(job) is task:
            del self._tasks[job]
        self.emit(JobFailed(job, "cancelled") if task.cancelled() else task.result())

    async def _fetch(self, job: Fetch) -> Event:
        key = (job.blob.digest, chunk_count(job.blob.size_bytes))
        loose = self._loose.pop(key, None)
        assembly = self._fetching.setdefault(key, loose or Assembly(key[1]))
        assembly.users += 1
        try:
            data = await self._assemble(job, assembly)
            await self.store.in_writer(lambda: self.store.blobs.write(data))
            return JobDone(job, Fetched())
        except PneumodError as error:
            return JobFailed(job, str(error))
        finally:
            assembly.users -= 1
            if not assembly.users:
                del self._fetching[key]

    async def _assemble(self, job: Fetch, assembly: Assembly) -> bytes:
        """Wait for chunks, ask for what is missing, and check the whole.

        Raises:
            BusError: nobody sent it.
        """
        asked, quiet_s = 0, 0.0
        wait_s = QUIET_S if job.announced else 0.0
        while True:
            data = assembly.whole()
            if data is not None and await self.store.in_writer(partial(digest_of, data)) == job.blob.digest:
                return data
            if data is not None:
                log.warning("a blob from the bus did not have its digest; asking again")
                assembly.chunks.clear()
            assembly.grew.clear()
            try:
                await asyncio.wait_for(assembly.grew.wait(), wait_s)
                quiet_s, wait_s = 0.0, QUIET_S
                continue
            except TimeoutError:
                quiet_s += wait_s
            if quiet_s >= GIVE_UP_S and asked >= len(job.holders):
                raise BusError(f"nobody sent the blob {job.blob.digest[:12]}")
            if job.holders:
                want = BlobWant(job.blob.digest, tuple(assembly.missing()[:WANT_CHUNKS]))
                self.link.send("want", NO_TERM, want, str(job.holders[asked % len(job.holders)]))
                asked += 1
            wait_s = QUIET_S
