"""What the shell's tests are made of: a broker, a wire that can be cut, and a recorder of events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pneumod.broker.embedded import HOST, EmbeddedBroker
from pneumod.bus import Connection, Incoming
from pneumod.config import BrokerConfig, DataConfig, LogConfig, NodeConfig
from pneumod.core.events import Event
from pneumod.demo.cluster import Broker
from pneumod.settings import RunSettings
from tests.integration.mosquitto import MOSQUITTO, Mosquitto

CLUSTER = "lab"
LIMIT_S = 15.0
E = TypeVar("E")


def new_broker(folder: Path) -> Broker:
    """Mosquitto where it is installed, else the embedded broker; not started."""
    folder.mkdir(parents=True, exist_ok=True)
    return Mosquitto(folder) if MOSQUITTO else EmbeddedBroker()


@contextlib.contextmanager
def serving(broker: Broker) -> Iterator[Broker]:
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def node_config(folder: Path, node: int, *ports: int) -> NodeConfig:
    """A node whose state lies in `folder`/state<node>; nothing is read from a file."""
    return NodeConfig(
        folder / f"node{node}.yaml",
        CLUSTER,
        node,
        f"node-{node}",
        "site",
        {},
        tuple(BrokerConfig(HOST, port) for port in ports),
        folder / f"state{node}",
        DataConfig(folder / "images"),
        1,
        RunSettings(),
        LogConfig(),
    )


def connection(port: int, sender: str) -> Connection:
    return Connection(BrokerConfig(HOST, port), CLUSTER, sender)


async def first(connection: Connection, kind: str) -> Incoming:
    """The next message of a kind."""
    async with asyncio.timeout(LIMIT_S):
        async for incoming in connection.receive():
            if incoming.address.kind.name == kind:
                return incoming
    raise AssertionError("the connection ended")


class Events:
    """Takes events, and can be waited for."""

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self._came = asyncio.Event()

    def emit(self, event: Event) -> None:
        self.seen.append(event)
        self._came.set()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.seen if isinstance(event, kind)]

    async def until(self, kind: type[E], count: int = 1) -> list[E]:
        """Wait for so many events of a kind; all of that kind."""
        await self.when(lambda: len(self.of(kind)) >= count)
        return self.of(kind)

    async def when(self, condition: Callable[[], bool]) -> None:
        """Wait for events until `condition` holds."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                self._came.clear()
                await self._came.wait()


class Wire:
    """A TCP relay to a broker, which can be cut as a pulled cable or a killed process would."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._ends: list[asyncio.StreamWriter] = []
        self._relays: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Reset every connection that goes through; new ones are let through."""
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
        self._ends += [writer, far_writer]
        for source, drain in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, drain))
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)

    async def _pump(self, source: asyncio.StreamReader, drain: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                drain.write(data)
                await drain.drain()
        drain.close()


@contextlib.asynccontextmanager
async def wire(target: int) -> AsyncIterator[Wire]:
    one = Wire(target)
    server = await asyncio.start_server(one.relay, HOST, 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        one.cut()


@contextlib.asynccontextmanager
async def running(*parts: asyncio.Task[None]) -> AsyncIterator[None]:
    """Cancel these tasks at the end; one that failed before is told."""
    try:
        yield
    finally:
        for part in parts:
            part.cancel()
        ends = await asyncio.gather(*parts, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
