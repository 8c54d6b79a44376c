"""The daemon's link to the bus: a control and a bulk connection that come and go together, for ever."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

from pneumod.bus import Connection, Incoming
from pneumod.config import BrokerConfig, NodeConfig
from pneumod.errors import BusError
from pneumod.logs import component
from pneumod.messages import Gone, Message, Term

CONTROL = ["gone", "beacon", "spec", "open", "closed", "reopen", "report", "result", "want", "request"]
BULK = ["chunk", "piece"]
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0

log = component("broker")


class Link:
    """Connects, and connects again; tells of it and of every valid message."""

    def __init__(
        self,
        config: NodeConfig,
        boot: int,
        connected: Callable[[int], None],
        disconnected: Callable[[], None],
        received: Callable[[Incoming], None],
    ) -> None:
        self.config = config
        self.boot = boot
        self.connected = connected
        self.disconnected = disconnected
        self.received = received
        self.number = 0  # of the connection
        self.sent_bytes = self.received_bytes = 0  # of the connections before the current ones
        self.dropped: Counter[str] = Counter()
        self._control: Connection | None = None
        self._bulk: Connection | None = None
        self._subscribing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Stay connected until cancelled; the first broker of the config that answers is used."""
        wait_s, complained = FIRST_WAIT_S, False
        while True:
            for broker in self.config.brokers:
                had_one = False
                try:
                    await self._session(broker)
                except* BusError as group:
                    error, had_one = group.exceptions[0], self._control is not None
                    if had_one:
                        wait_s, complained = FIRST_WAIT_S, False
                    if not complained:
                        log.warning("%s; trying again until it answers", error)
                        complained = True
                finally:
                    self._forget()
                if had_one:
                    break  # the first that answers, again: the other nodes may still be there
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # so that a returning broker isn't stormed
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def send(self, kind: str, term: Term, message: Message | None, dest: str | None = None, tag: bytes = b"") -> None:
        """Publish on the control connection; dropped where there is none, since the core hears of that."""
        if self._control is not None:
            self._control.send(kind, term, message, dest, tag)

    async def publish_bulk(self, kind: str, term: Term, message: Message, dest: str | None) -> None:
        """Publish on the bulk connection and wait for the acknowledgement.

        Raises:
            BusError: not connected, or not acknowledged.
        """
        if self._bulk is None:
            raise BusError("not connected")
        await self._bulk.publish(kind, term, message, dest)

    def watch(self, on: bool) -> None:
        """Hear everyone's heartbeats, or no longer. Nothing waits for the broker's answer."""
        if self._control is not None:
            task = asyncio.get_running_loop().create_task(self._watch(self._control, on))
            self._subscribing.add(task)
            task.add_done_callback(self._subscribing.discard)

    async def drain(self, limit_s: float) -> None:
        """Wait until what was sent is acknowledged."""
        if self._control is not None:
            await self._control.drain(limit_s)

    def totals(self) -> tuple[int, int, int]:
        """Bytes sent, bytes received and messages dropped since the start."""
        sent, received, dropped = self.sent_bytes, self.received_bytes, sum(self.dropped.values())
        for connection in (self._control, self._bulk):
            if connection is not None:
                sent += connection.sent_bytes
                received += connection.received_bytes
                dropped += sum(connection.dropped.values())
        return sent, received, dropped

    async def _session(self, broker: BrokerConfig) -> None:
        config, me = self.config, str(self.config.node_id)
        number = self.number + 1
        will = Gone(self.boot, number)
        async with (
            Connection(broker, config.cluster, me, "bulk") as bulk,
            Connection(broker, config.cluster, me, "control", will) as control,
        ):
            await bulk.subscribe(BULK)
            await control.subscribe(CONTROL)
            self.number, self._control, self._bulk = number, control, bulk
            log.info("connected to the broker at %s:%d", broker.host, broker.port)
            self.connected(number)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(control))
                group.create_task(self._read(bulk))

    async def _watch(self, control: Connection, on: bool) -> None:
        """Try until it holds or the connection has changed: a master that hears no beats leads nobody."""
        while control is self._control:
            try:
                await (control.subscribe(["beat"]) if on else control.unsubscribe(["beat"]))
                return
            except BusError as error:
                log.warning("%s", error)
                await asyncio.sleep(FIRST_WAIT_S)

    async def _read(self, connection: Connection) -> None:
        async for incoming in connection.receive():
            self.received(incoming)
        raise BusError("the connection was closed")

    def _forget(self) -> None:
        """Keep the counters of connections that ended, and tell the core."""
        if self._control is None:
            return
        for connection in (self._control, self._bulk):
            if connection is not None:
                self.sent_bytes += connection.sent_bytes
                self.received_bytes += connection.received_bytes
                self.dropped.update(connection.dropped)
        self._control = self._bulk = None
        self.disconnected()
