"""A command at a daemon's desk, and a desk without the rest of its daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec.structs import replace

from pneumod import desk, parcel
from pneumod.core import events as ev
from pneumod.core.actions import Deliver, Persist
from pneumod.core.jobs import Prepare
from pneumod.core.node import Node
from pneumod.desk import Bring, Came, Frame
from pneumod.messages import Card
from pneumod.parcel import Head, Parcel
from pneumod.settings import Preparation
from pneumod.shell.desk import Desk
from pneumod.shell.store import Store
from tests.shell.parts import LIMIT_S, Events, running

HEAD = parcel.pack(Head(Preparation(32)))
BRING = Bring("batch-1", "preprocess", 8, HEAD)
SITES = {1: "north", 2: "north", 3: "south"}


def files(item: int) -> bytes:
    """The parcel of an item; no two are alike."""
    return parcel.pack(Parcel((b"picture %d" % item, bytes(item))))


def came(item: int, batch: str = BRING.batch, node: int = 2) -> Deliver:
    return Deliver(batch, item, b"what came of %d" % item, None, node)


class Command:
    """One connection to a desk."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, *frames: Frame) -> None:
        for frame in frames:
            self.writer.write(desk.pack_frame(frame))

    async def hear(self) -> Frame:
        async with asyncio.timeout(LIMIT_S):
            (size,) = desk.HEADER.unpack(await self.reader.readexactly(desk.HEADER.size))
            return desk.unpack_frame(await self.reader.readexactly(size))

    async def hears(self, count: int) -> list[Frame]:
        return [await self.hear() for _ in range(count)]

    async def items(self, count: int) -> list[int]:
        """The items of the next frames, which are all Came."""
        frames = await self.hears(count)
        assert all(isinstance(frame, Came) for frame in frames), frames
        return [frame.item for frame in frames if isinstance(frame, Came)]

    async def gone(self) -> bool:
        """Whether the daemon ends the connection, having said nothing more."""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(LIMIT_S):
                return await self.reader.read() == b""
        return True


@contextlib.asynccontextmanager
async def command(state_dir: Path, *frames: Frame) -> AsyncIterator[Command]:
    """A connection that has said these frames."""
    place = os.open(state_dir, os.O_PATH)
    reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{place}/{desk.SOCKET}")
    os.close(place)
    try:
        one = Command(reader, writer)
        one.say(*frames)
        yield one
    finally:
        writer.close()


class Front:
    """The desk of node 1, with its store and its core, which is on a broker of its site; nothing else of a daemon."""

    def __init__(self, state_dir: Path) -> None:
        self.fed = Events()
        self.store = Store(state_dir)
        boot, durable, held = self.store.load()
        self.node = Node(1, 0, boot, durable, held, Card("one", "0", 1), Prepare(32), True, SITES)
        self.desk = Desk(self.store, self.node, self._feed)
        self.desk.moved(True)
        self.part = asyncio.create_task(self.desk.run())
        self._persists: list[Persist] = []

    def _feed(self, event: ev.Event) -> None:
        self._persists += [one for one in self.node.step(event, 1_000_000) if isinstance(one, Persist)]
        self.fed.emit(event)

    async def files(self, batch: str, item: int | None) -> bytes:
        async with self.desk.files(batch, item) as data:
            return data

    async def count(self, *items: int) -> None:
        """Deliver items, and have the state say that they are done, as the core does."""
        await self.persist()
        for item in items:
            await self.desk.deliver(came(item))
        offer = self.node.state.durable.batch
        assert offer is not None
        bits = int.from_bytes(offer.done, "little") | sum(1 << item for item in items)
        self.node.state.durable = replace(
            self.node.state.durable, batch=replace(offer, done=bits.to_bytes(-(-offer.items // 8), "little"))
        )
        await self.store.persist(self.node.state.durable)

    async def dies(self) -> None:
        """The daemon's end, while its command is there."""
        self.part.cancel()
        await asyncio.wait({self.part})

    async def persist(self) -> None:
        """Write what the core wanted written."""
        while self._persists:
            await self.store.persist(self._persists.pop(0).durable)


@contextlib.asynccontextmanager
async def front(state_dir: Path) -> AsyncIterator[Front]:
    """A desk that is open, until the end of its daemon."""
    one = Front(state_dir)
    await one.desk.open()
    async with running(one.part):
        await asyncio.to_thread(_wait_for, state_dir / desk.SOCKET)
        yield one
    await one.persist()
    one.store.close()


def _wait_for(path: Path) -> None:
    for _ in range(int(LIMIT_S * 100)):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"no {path}")
