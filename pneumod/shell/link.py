"""The daemon's link to the bus: a control and a bulk connection that come and go together, for ever.

Theory of operation. The config lists brokers in order of preference, the same for every node, and a cluster is
where its nodes meet: on one of them. Every node decides alone, by three rules:

    wait      A broker that was lost, and at a start the first, is tried alone for GRACE_S: after a short restart
              everybody is on it again.
    go on     Then all are tried in their order, until one answers. If the first stays away, all find the second.
    return    On a lesser broker a node probes the better ones by a connection of its own. One that stands for
              STEADY_S is taken; the nodes notice that within PROBE_S of each other.

Nodes that decide differently (one can't reach the first broker, or was too late) are apart until the first answers
them all again: `min_nodes` keeps the smaller part from training, and where they meet the higher term wins.

A connection that this side ends says what its Will would have: the broker gives out a Will only of one that is lost.
A master that connects again says so of the connection before, which the broker may not have missed yet. A daemon
that hears its own id under another boot (a Will, a clean stop, a beacon, or, as master, a beat) knows that another
one uses it, on whichever machine a copied configuration has put it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

from pneumod.bus import Connection, Incoming
from pneumod.config import BrokerConfig, NodeConfig
from pneumod.errors import BusError
from pneumod.logs import component
from pneumod.messages import NO_TERM, Beacon, Beat, Gone, Message, Term
from pneumod.topics import KINDS

CONTROL = [
    "gone", "beacon", "spec", "open", "closed", "reopen", "report", "result", "want", "request", "stop",
    "offer", "pull", "grant", "taken", "ask",
]  # fmt: skip
BULK = ["chunk", "piece", "done", "parcel"]
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
GRACE_S = 10.0  # a restart of a broker takes less
PROBE_S = 2.0
STEADY_S = 10.0
LEAVE_S = 1.0  # to say so
TWIN_S = 60.0  # between two complaints
OLD_BOOT_S = 30.0  # what is heard of this node's earlier boots after its start

log = component("broker")


class _Better(Exception):
    """A broker further up in the list stands again."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


class Link:
    """Connects, and connects again; tells of it and of every valid message."""

    def __init__(
        self,
        config: NodeConfig,
        boot: int,
        connected: Callable[[int, bool], None],
        disconnected: Callable[[], None],
        received: Callable[[Incoming], None],
    ) -> None:
        self.config = config
        self.boot = boot
        self.connected = connected
        self.disconnected = disconnected
        self.received = received
        self.number = 0  # of the connection
        self.at_home = False  # it is with a broker of this node's site: images may travel over it
        self.led = False  # under the last connection, or when this node last ran
        self.sent_bytes = self.received_bytes = 0  # of the connections before the current ones
        self.dropped: Counter[str] = Counter()
        self._control: Connection | None = None
        self._bulk: Connection | None = None
        self._watching = False  # whether everyone's heartbeats are wanted
        self._watch_changed = asyncio.Event()
        self._place = 0  # of the broker to be on, in the config's list
        self._alone_until_s = 0.0  # no other one is tried until then
        self._said_gone = False
        self._started_s = time.monotonic()
        self._twin_told_s = -TWIN_S

    async def run(self) -> None:
        """Stay connected until cancelled."""
        self._stay(0)
        wait_s, complained = FIRST_WAIT_S, set[int]()
        while True:
            alone = time.monotonic() < self._alone_until_s
            for place in [self._place] if alone else range(len(self.config.brokers)):
                number = self.number
                problem = await self._until_it_ends(place)
                had_one = self.number > number
                if had_one:
                    wait_s, complained = FIRST_WAIT_S, set()
                if problem is not None and place not in complained:
                    log.warning("%s; trying again until it answers", problem)
                    complained.add(place)
                if had_one:
                    break  # wait for this one, or go to a better one
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # so that a returning broker isn't stormed
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def send(self, kind: str, term: Term, message: Message | None, dest: str | None = None, tag: bytes = b"") -> None:
        """Publish without waiting; dropped where there is no connection, since the core hears of that.

        So is what may hold parts of images, where it waited while the node went to a broker of another site.
        """
        connection = self._bulk if KINDS[kind].bulk else self._control
        if connection is not None and (self.at_home or not KINDS[kind].images):
            connection.send(kind, term, message, dest, tag)
            self._said_gone |= kind == "gone"

    async def publish_bulk(self, kind: str, term: Term, message: Message, dest: str | None) -> None:
        """Publish on the bulk connection and wait for the acknowledgement.

        Raises:
            BusError: not connected, not acknowledged, or it may hold parts of images and the broker isn't of this site.
        """
        if self._bulk is None:
            raise BusError("not connected")
        if KINDS[kind].images and not self.at_home:
            raise BusError("the broker is not of this site")
        await self._bulk.publish(kind, term, message, dest)

    def watch(self, on: bool) -> None:
        """Hear everyone's heartbeats, or no longer, on this connection. Nothing waits for the broker's answer."""
        self.led |= on
        self._watching = on
        self._watch_changed.set()

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

    def _stay(self, place: int) -> None:
        """Wait for this broker before any other is tried."""
        self._place, self._alone_until_s = place, time.monotonic() + GRACE_S

    async def _until_it_ends(self, place: int) -> BusError | None:
        """Be on a broker; why that ended, None where a better one answers."""
        problem: BusError | None = None
        number = self.number
        try:
            await self._session(place)
        except* _Better as group:
            place = min(better.place for better in group.exceptions if isinstance(better, _Better))
        except* BusError as group:
            problem = next(error for error in group.exceptions if isinstance(error, BusError))
        finally:
            self._forget()
            if self.number > number:
                self._stay(place)
        return problem

    async def _session(self, place: int) -> None:
        config, broker, me = self.config, self.config.brokers[place], str(self.config.node_id)
        number = self.number + 1
        will = Gone(self.boot, number)
        async with (
            Connection(broker, config.cluster, me, "bulk") as bulk,
            Connection(broker, config.cluster, me, "control", will) as control,
        ):
            await bulk.subscribe(BULK)
            await control.subscribe(CONTROL)
            self.number, self._control, self._bulk = number, control, bulk
            self.at_home = broker.site == config.site
            log.info("connected to the broker at %s:%d", broker.host, broker.port)
            self._said_gone = self._watching = False
            self._watch_changed.clear()
            if self.led:  # its last connection may be half open: let nobody wait for that master
                control.send("gone", NO_TERM, Gone(self.boot, number - 1))
                self.led = False
            self.connected(number, self.at_home)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read(control))
                    group.create_task(self._read(bulk))
                    group.create_task(self._seek_better(place))
                    group.create_task(self._keep_watch(control))
            finally:
                await self._leave(control, will)

    async def _leave(self, control: Connection, will: Gone) -> None:
        if self._said_gone:
            return
        try:
            async with asyncio.timeout(LEAVE_S):
                await control.publish("gone", NO_TERM, will)
        except (BusError, TimeoutError) as error:
            log.debug("leaving without a word: %s", error)  # lost: the Will speaks

    async def _seek_better(self, place: int) -> None:
        """On a lesser broker: end the session when one further up in the list stands again."""
        while place:
            await asyncio.sleep(PROBE_S * random.uniform(0.5, 1.0))
            for better in range(place):
                if await self._stands(self.config.brokers[better]):
                    raise _Better(better)

    async def _stands(self, broker: BrokerConfig) -> bool:
        """Whether a connection to a broker is of use, and holds for STEADY_S."""
        try:
            async with Connection(broker, self.config.cluster, str(self.config.node_id), "probe") as probe:
                await probe.subscribe([*CONTROL, *BULK])
                async with asyncio.timeout(STEADY_S):
                    async for _ in probe.receive():
                        pass
        except BusError:
            return False
        except TimeoutError:
            log.info("the broker at %s:%d answers again: going back to it", broker.host, broker.port)
            return True
        return False

    async def _keep_watch(self, control: Connection) -> None:
        """Subscribe as was wanted last, and try until it holds: a master that hears no beats leads nobody."""
        while True:
            await self._watch_changed.wait()
            self._watch_changed.clear()
            try:
                await (control.subscribe(["beat"]) if self._watching else control.unsubscribe(["beat"]))
            except BusError as error:
                log.warning("%s", error)
                self._watch_changed.set()
                await asyncio.sleep(FIRST_WAIT_S)

    async def _read(self, connection: Connection) -> None:
        async for incoming in connection.receive():
            if incoming.envelope.node == self.config.node_id:
                self._look_for_twin(incoming)
            self.received(incoming)
        raise BusError("the connection was closed")

    def _look_for_twin(self, incoming: Incoming) -> None:
        """Complain when another daemon speaks under this node's id."""
        message, now_s = incoming.envelope.message, time.monotonic()
        if isinstance(message, Gone | Beat):
            boot = message.boot
        elif isinstance(message, Beacon) and not incoming.retained:
            boot = incoming.envelope.term.boot
        else:
            return
        own = boot == self.boot or (boot < self.boot and now_s - self._started_s < OLD_BOOT_S)
        if not own and now_s - self._twin_told_s >= TWIN_S:
            self._twin_told_s = now_s
            log.error(
                "another daemon uses node id %d in cluster %s: stop it, or give it an id of its own (node.id)",
                self.config.node_id,
                self.config.cluster,
            )

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
        self.at_home = False
        self.disconnected()
