"""The parts of daemons that move the files of work items, on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from msgspec.structs import replace

from pneumod.bus import Incoming
from pneumod.core.events import Connected, Received
from pneumod.core.jobs import Prepare
from pneumod.core.node import Node
from pneumod.desk import Give, Need
from pneumod.messages import Card, Chunk, ParcelWant, Piece
from pneumod.shell.desk import Desk
from pneumod.shell.link import Link
from pneumod.shell.parcels import Parcels
from pneumod.shell.store import Store
from pneumod.work import PIECE_BYTES
from tests.shell.desks import BRING, SITES, Command, command
from tests.shell.parts import Events, node_config, running

NAME = BRING.batch
BIG = random.Random(1).randbytes(40 * PIECE_BYTES + 1000)
HOME = "north"


class Part:
    """The part of a daemon that moves the files of items, and what it heard."""

    def __init__(self, folder: Path, node: int, port: int, broker_site: str | None) -> None:
        config = node_config(folder, node, port)
        (broker,) = config.brokers
        config = replace(config, site=SITES[node], roster=SITES, brokers=(replace(broker, site=broker_site),))
        self.events = Events()
        self.heard: list[Incoming] = []
        self.store = Store(config.state_dir)
        boot, durable, held = self.store.load()
        self.node = Node(node, 0, boot, durable, held, Card("n", "0", 1), Prepare(32), True, SITES)
        self.desk = Desk(self.store, self.node, self.events.emit)
        self.link = Link(config, boot, self._connected, lambda: None, self._received)
        self.parcels = Parcels(self.link, self.desk, self.node.state.same_site)

    def _connected(self, number: int, at_home: bool) -> None:
        self.desk.moved(at_home)
        self.events.emit(Connected(number, at_home))

    def _received(self, incoming: Incoming) -> None:
        node, message = incoming.envelope.node, incoming.envelope.message
        assert node is not None
        self.heard.append(incoming)
        if isinstance(message, Piece):
            self.parcels.hear_piece(node, message)
        elif isinstance(message, ParcelWant):
            self.parcels.hear_want(node, message)
        self.events.emit(Received(incoming.address.kind.name, incoming.envelope))

    def wants(self) -> list[ParcelWant]:
        messages = [incoming.envelope.message for incoming in self.heard]
        return [message for message in messages if isinstance(message, ParcelWant)]


Start = Callable[..., contextlib.AbstractAsyncContextManager[Part]]


@contextlib.asynccontextmanager
async def part_of(folder: Path, node: int, port: int, broker_site: str | None) -> AsyncIterator[Part]:
    part = Part(folder, node, port, broker_site)
    tasks = [asyncio.create_task(one.run()) for one in (part.link, part.parcels, part.desk)]
    async with running(*tasks):
        await part.events.until(Connected)
        yield part
    part.store.close()


@contextlib.asynccontextmanager
async def batch_at(owner: Part) -> AsyncIterator[Command]:
    """A command that has brought its batch to the owner's desk."""
    async with command(owner.store.folder, BRING) as its:
        await its.hear()
        yield its


async def gives(its: Command, *parcels: tuple[int, bytes]) -> None:
    """Answer the next needs, whose order must be this."""
    for item, parcel in parcels:
        assert await its.hear() == Need(item)
        its.say(Give(item, parcel))


MARKER = Chunk("f" * 64, 0, 1, b"")  # goes to all, and comes after what was said before


def contents(folder: Path) -> list[bytes]:
    """Of all files in it."""
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
