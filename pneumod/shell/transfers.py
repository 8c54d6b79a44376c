"""Blobs on the bus: chunks out, chunks in, and the wants that ask for what is missing.

A new model is sent once to all; who fetches it waits for those chunks and asks a holder only for what
didn't come. Every chunk may be forged, so nothing is kept whose whole doesn't have its digest.
What is fetched lies on the disk, as long as LEAST_FREE_BYTES of it stay free: a master's updates spool within that.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from pneumod.blobs import CHUNK_BYTES, chunk_count
from pneumod.core.events import Event, JobDone, JobFailed
from pneumod.core.jobs import Fetch, Fetched
from pneumod.errors import BusError, PneumodError
from pneumod.logs import component
from pneumod.messages import NO_TERM, BlobWant, Chunk
from pneumod.shell.assembly import Assembly, Pull, Spool
from pneumod.shell.link import Link
from pneumod.shell.store import Store

QUIET_S = 1.0  # without a new chunk for so long: ask for what is missing
GIVE_UP_S = 15.0  # without a new chunk for so long, all holders asked: the fetch failed
MAX_LOOSE_BYTES = 64 * 1024 * 1024  # chunks of blobs that nobody here asked for yet
MAX_WANTS = 256  # waiting to be served
KEEP_S = 2.0  # a blob that was sent stays in memory for so long
IN_FLIGHT = 4  # chunks sent and not yet acknowledged

log = component("worker")


Key = tuple[str, int]  # digest and count of chunks: who lies about the count is not mixed with who doesn't


class Send(NamedTuple):
    digest: str
    dest: str | None  # None: to all
    chunks: tuple[int, ...] | None  # None: all of them


class Transfers:
    """Serves and fetches blobs, while `run` does.

    `may_have(sender, digest)` says who may be served what; `damaged()` is called when a blob turned out to be.
    """

    def __init__(
        self,
        link: Link,
        store: Store,
        emit: Callable[[Event], None],
        may_have: Callable[[str, str], bool],
        damaged: Callable[[], None],
    ) -> None:
        self.link = link
        self.store = store
        self.emit = emit
        self.may_have = may_have
        self.damaged = damaged
        self.dropped = 0
        self._out: asyncio.Queue[Send] = asyncio.Queue(MAX_WANTS)
        self._waiting: set[tuple[str, str | None]] = set()  # what `_out` holds: a repeated want is served once
        self._sending: Send | None = None
        self._reading: tuple[str, bytes] | None = None  # the blob that was sent last
        self._fetching: dict[Key, Assembly] = {}
        self._loose: OrderedDict[Key, Assembly] = OrderedDict()
        self._tasks: dict[Fetch, asyncio.Task[Event]] = {}
        self._group = asyncio.TaskGroup()  # of the fetches: a fault in one ends `run`

    async def run(self) -> None:
        """Fetch, and send what was asked for, one blob after the other, until cancelled; nothing is left behind."""
        async with self._group:
            await self._serve()

    async def _serve(self) -> None:
        while True:
            try:
                async with asyncio.timeout(None if self._reading is None else KEEP_S):
                    send = await self._out.get()
            except TimeoutError:
                self._reading = None
                continue
            if (send.digest, send.dest) not in self._waiting:
                continue  # who asked for it has gone
            self._waiting.remove((send.digest, send.dest))
            self._sending = send
            try:
                await self._send(send)
            except* BusError as group:
                log.debug("a blob was not sent whole: %s", group.exceptions[0])

    async def _read(self, digest: str) -> bytes | None:
        """A blob from the disk; it is kept for a moment, since it is asked for in several parts."""
        if self._reading is None or self._reading[0] != digest:
            self._reading = None  # not two of them in memory
            data = await self.store.read(digest)
            if data is None:  # it was found to be damaged: the core fetches it again
                self.damaged()
                return None
            self._reading = digest, data
        return self._reading[1]

    async def _send(self, send: Send) -> None:
        """Send chunks of a blob, a few at a time, as long as they are wanted."""
        data = await self._read(send.digest)
        if data is None:
            return
        kind = "chunk" if send.dest is None else "piece"
        count, room = chunk_count(len(data)), asyncio.Semaphore(IN_FLIGHT)
        async with asyncio.TaskGroup() as group:
            for index in send.chunks if send.chunks is not None else range(count):
                await room.acquire()
                if send is not self._sending or index >= count:
                    return
                chunk = Chunk(send.digest, index, count, data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])
                sending = group.create_task(self.link.publish_bulk(kind, NO_TERM, chunk, send.dest))
                sending.add_done_callback(lambda _: room.release())

    def forget(self, node: str) -> None:
        """A node has gone: nothing that it asked for is sent any more. Once it is back it asks again."""
        self._waiting = {(digest, dest) for digest, dest in self._waiting if dest != node}
        if self._sending is not None and self._sending.dest == node:
            self._sending = None

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
        self.dropped += not assembly.add(chunk.index, chunk.data)

    def fetch(self, job: Fetch) -> None:
        task = self._tasks[job] = self._group.create_task(self._fetch(job))
        task.add_done_callback(lambda done: self._ended(job, done))

    def cancel(self, job: Fetch) -> None:
        task = self._tasks.get(job)
        if task is not None:
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
        while sum(len(a.fresh) * CHUNK_BYTES for a in self._loose.values()) > MAX_LOOSE_BYTES:
            self._loose.popitem(last=False)
        return assembly

    def _ended(self, job: Fetch, task: asyncio.Task[Event]) -> None:
        """Tell how a fetch ended, also one that was cancelled before it began."""
        if self._tasks.get(job) is task:
            del self._tasks[job]
        if task.cancelled():
            self.emit(JobFailed(job, "cancelled"))
        elif task.exception() is None:
            self.emit(task.result())

    async def _fetch(self, job: Fetch) -> Event:
        key = (job.blob.digest, chunk_count(job.blob.size_bytes))
        assembly = self._fetching.get(key)
        if assembly is None:
            assembly = self._fetching[key] = self._loose.pop(key, Assembly(key[1]))
            assembly.expect(job.blob.size_bytes)
        assembly.users += 1
        try:
            async with assembly.lock:
                if not assembly.done:
                    await self._assemble(job, assembly)
            return JobDone(job, Fetched())
        except BusError as error:
            return JobFailed(job, str(error))
        except PneumodError as error:
            log.warning("the blob %s can't be kept: %s", job.blob.digest[:12], error)
            why = f"the disk of node {self.link.config.node_id} refused it"  # may go on the bus: no path
            return JobFailed(job, why)
        finally:
            assembly.users -= 1
            if not assembly.users:
                del self._fetching[key]

    async def _assemble(self, job: Fetch, assembly: Assembly) -> None:
        """Write chunks as they come, ask for what is missing, and check the whole.

        Raises:
            BusError: nobody sent it.
            PneumodError: the disk refused it, or has no room for it.
        """
        spool = Spool(self.store.blobs.folder / f".{job.blob.digest}-{assembly.count}.tmp")
        pull, quiet_s = Pull(assembly, job.holders, job.announced), 0.0
        try:
            await self.store.in_writer(partial(spool.reserve, job.blob.size_bytes))
            await self.store.in_writer(self.store.check_disk)
            while True:
                await self.store.in_writer(partial(spool.write, assembly.take()))
                if assembly.whole:
                    if await self.store.in_writer(partial(self.store.blobs.adopt, spool.path, job.blob.digest)):
                        assembly.done = True
                        return
                    log.warning("a blob from the bus did not have its digest; asking again")
                    assembly.forget()
                if (wanted := pull.next()) is not None:
                    holder, chunks = wanted
                    self.link.send("want", NO_TERM, BlobWant(job.blob.digest, chunks), holder)
                try:
                    async with asyncio.timeout(QUIET_S):
                        await assembly.grew.wait()
                    quiet_s = 0.0
                except TimeoutError:
                    quiet_s += QUIET_S
                    pull.silence()
                    if quiet_s >= GIVE_UP_S and pull.turn >= len(job.holders):
                        raise BusError(f"nobody sent the blob {job.blob.digest[:12]}") from None
        finally:
            self.store.later(spool.remove)
            assembly.forget()
