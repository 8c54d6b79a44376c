"""One MQTT 5 connection that speaks our messages: validated on the way in, within the limits on the way out.

Everyone on the bus uses it: the daemon (twice, for control and for bulk), the operators' commands, the
dashboard. Nothing here reconnects; whoever owns the connection does.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import socket
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiomqtt
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from pneumod import wire
from pneumod.config import BrokerConfig
from pneumod.errors import BusError, WireError
from pneumod.messages import NO_TERM, Envelope, Gone, Message, Term
from pneumod.topics import KINDS, MAX_PACKET_BYTES, Address, Kind, Topics

CONNECT_TIMEOUT_S = 5.0
ACK_TIMEOUT_S = 10.0
MAX_QUEUED_BYTES = 64 * 1024 * 1024  # messages that came and were not yet taken; more are dropped and counted
MAX_UNACKNOWLEDGED = 1_000  # QoS 1 messages on their way; more are dropped and counted
MAX_BULK = 100  # of them of a bulk kind, 20 MB
SIGNS_OF_LIFE = ("beat", "beacon", "gone")  # few, and never dropped: others would take this node for dead
HEADER_BYTES = 1_024  # of a packet, besides topic and payload: a safe upper bound

logger = logging.getLogger("pneumod.broker")


class Incoming(NamedTuple):
    """A message that passed validation."""

    address: Address
    envelope: Envelope
    retained: bool
    correlation: bytes


class Connection:
    """A connection of `sender` to one broker, as an async context manager.

    Attributes:
        sent_bytes, received_bytes: payloads since the connection was made.
        dropped: messages refused here, by reason: invalid ones, oversize ones, ones the broker refused.
    """

    def __init__(
        self, broker: BrokerConfig, cluster: str, sender: str, purpose: str = "watch", will: Gone | None = None
    ) -> None:
        self.broker = broker
        self.sender = sender
        self.topics = Topics(cluster)
        self.sent_bytes = self.received_bytes = 0
        self.dropped: Counter[str] = Counter()
        self.max_packet_bytes = MAX_PACKET_BYTES
        self._identifier = f"{sender}-{purpose}-{secrets.token_hex(4)}"  # fresh: nobody takes over another's session
        self._will = will
        self._sending: set[asyncio.Task[None]] = set()
        self._came: deque[mqtt.MQTTMessage] = deque()  # and was not yet taken
        self._came_bytes = 0
        self._wake = asyncio.Event()  # something came, or the connection is lost
        self._unacknowledged: set[asyncio.Timeout] = set()  # publishes that wait for the broker
        self._client: aiomqtt.Client | None = None

    async def __aenter__(self) -> Self:
        broker, will = self.broker, None
        if self._will is not None:
            payload = wire.encode(self.sender, NO_TERM, self._will)
            will = aiomqtt.Will(self.topics.topic(self.sender, "gone"), payload, qos=1)
        client = aiomqtt.Client(
            broker.host,
            broker.port,
            identifier=self._identifier,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=will,
            clean_start=True,
            keepalive=broker.keepalive_s,
            timeout=CONNECT_TIMEOUT_S,
            tls_context=_tls_context(broker),
            logger=logging.getLogger("pneumod.mqtt"),
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # else a second small message waits 40 ms
        )
        client.pending_calls_threshold = MAX_UNACKNOWLEDGED
        self._hook(client)
        try:
            await client.__aenter__()
        except (aiomqtt.MqttError, OSError, UnicodeError) as error:  # UnicodeError: no such host name is possible
            self._lost(client._disconnected)
            raise BusError(f"no broker at {broker.host}:{broker.port}: {error}") from error
        client._disconnected.add_done_callback(self._lost)
        self._client = client
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        for task in self._sending:
            task.cancel()
        self._give_up_publishes()
        if client is not None:
            try:
                await client.__aexit__(None, None, None)
            except aiomqtt.MqttError as problem:
                logger.debug("leaving the broker: %s", problem)

    async def subscribe(self, kinds: list[str]) -> None:
        """Subscribe to these kinds from everyone, directed ones only where they are for us, bulk not from ourselves.

        Raises:
            BusError: the broker refused, or the connection is lost.
        """
        assert self._client is not None
        filters = [
            (topic, SubscribeOptions(qos, noLocal=KINDS[kind].bulk))
            for kind, (topic, qos) in zip(kinds, self.topics.filters(self.sender, kinds), strict=True)
        ]
        try:
            codes: Any = await self._client.subscribe(filters)
        except aiomqtt.MqttError as error:
            raise BusError(f"can't subscribe: {error}") from error
        refused = [kind for kind, code in zip(kinds, codes, strict=True) if code.is_failure]
        if refused:
            raise BusError(f"the broker refuses {self.sender} a subscription to {', '.join(refused)}")

    async def unsubscribe(self, kinds: list[str]) -> None:
        assert self._client is not None
        try:
            await self._client.unsubscribe([topic for topic, _ in self.topics.filters(self.sender, kinds)])
        except aiomqtt.MqttError as error:
            raise BusError(f"can't unsubscribe: {error}") from error

    def send(self, kind: str, term: Term, message: Message | None, dest: str | None = None, tag: bytes = b"") -> None:
        """Publish without waiting for the acknowledgement; messages keep their order. Failures are counted."""
        limit = MAX_BULK if KINDS[kind].bulk else MAX_UNACKNOWLEDGED
        if len(self._sending) >= limit and kind not in SIGNS_OF_LIFE:
            self.dropped["too many unacknowledged"] += 1
            return
        task = asyncio.get_running_loop().create_task(self._send(kind, term, message, dest, tag))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def drain(self, limit_s: float) -> None:
        """Wait until everything that was sent is acknowledged, at most `limit_s`."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=limit_s)

    async def publish(
        self, kind: str, term: Term, message: Message | None, dest: str | None = None, tag: bytes = b""
    ) -> None:
        """Publish and wait for the broker's acknowledgement (QoS 1).

        Raises:
            BusError: too large for the broker, no acknowledgement in time, or the connection is lost.
        """
        if self._client is None:
            raise BusError("not connected")
        payload = b"" if message is None else wire.encode(self.sender, term, message)
        topic = self.topics.topic(self.sender, kind, dest)
        packet_bytes = len(payload) + len(topic) + HEADER_BYTES
        if len(payload) > KINDS[kind].limit_bytes or packet_bytes > self.max_packet_bytes:
            raise BusError(f"a {kind} of {len(payload)} bytes is over the limit")
        properties = _properties(KINDS[kind], tag)
        self.sent_bytes += len(payload)
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S) as limit:
                self._unacknowledged.add(limit)
                await self._client.publish(
                    topic, payload, KINDS[kind].qos, KINDS[kind].retain, properties, timeout=math.inf
                )
        except (aiomqtt.MqttError, TimeoutError) as error:
            raise BusError(f"a {kind} was not acknowledged: {error}") from error
        finally:
            self._unacknowledged.discard(limit)

    async def receive(self) -> AsyncIterator[Incoming]:
        """Messages as they come; invalid ones are dropped and counted.

        Raises:
            BusError: the connection is lost.
        """
        assert self._client is not None
        lost = self._client._disconnected
        while True:
            self._wake.clear()
            while self._came:
                message = self._came.popleft()
                self._came_bytes -= len(message.payload) + HEADER_BYTES
                self.received_bytes += len(message.payload)
                try:
                    address = self.topics.parse(message.topic)
                    envelope = wire.decode(address, bytes(message.payload))
                except WireError as error:
                    self.dropped[str(error).partition(":")[0]] += 1  # the rest may quote the sender: no bound to it
                    continue
                yield Incoming(address, envelope, message.retain, getattr(message.properties, "CorrelationData", b""))
            if lost.done():
                why = lost.exception() or "closed"
                raise BusError(f"the connection to {self.broker.host}:{self.broker.port} is lost: {why}")
            await self._wake.wait()

    def _take(self, client: Any, userdata: Any, message: mqtt.MQTTMessage) -> None:
        """Called by paho for each message. (aiomqtt's own queue costs a task a message.)"""
        if self._came_bytes > MAX_QUEUED_BYTES:
            self.dropped["too many came"] += 1
            return
        self._came_bytes += len(message.payload) + HEADER_BYTES
        self._came.append(message)
        self._wake.set()

    def _lost(self, connected: asyncio.Future[None]) -> None:
        """The connection has ended."""
        if connected.done() and not connected.cancelled():
            connected.exception()  # asyncio complains of one that nobody looked at
        self._wake.set()
        self._give_up_publishes()

    def _give_up_publishes(self) -> None:
        """What waits for an acknowledgement gets none any more."""
        for limit in self._unacknowledged:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())

    async def _send(self, kind: str, term: Term, message: Message | None, dest: str | None, tag: bytes) -> None:
        try:
            await self.publish(kind, term, message, dest, tag)
        except BusError as error:
            self.dropped["not sent"] += 1
            logger.debug("%s", error)

    def _hook(self, client: aiomqtt.Client) -> None:
        """Take the messages, the CONNACK's maximum packet and the reason code of a refused publish from paho itself."""
        paho = client._client
        connected, published = paho.on_connect, paho.on_publish
        assert connected is not None and published is not None

        def on_connect(client: Any, userdata: Any, flags: Any, code: Any, properties: Any) -> None:
            limit = getattr(properties, "MaximumPacketSize", MAX_PACKET_BYTES)
            self.max_packet_bytes = min(MAX_PACKET_BYTES, limit)
            connected(client, userdata, flags, code, properties)  # type: ignore[call-arg]

        def on_publish(client: Any, userdata: Any, mid: int, code: Any, properties: Any) -> None:
            if code.is_failure:
                self.dropped["refused by the broker"] += 1
                logger.warning("the broker refused a message of %s: %s", self.sender, code)
            published(client, userdata, mid, code, properties)  # type: ignore[call-arg]

        paho.on_connect, paho.on_publish, paho.on_message = on_connect, on_publish, self._take


def _properties(kind: Kind, tag: bytes) -> Properties | None:
    if kind.expiry_s is None and not tag:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if kind.expiry_s is not None:
        properties.MessageExpiryInterval = kind.expiry_s
    if tag:
        properties.CorrelationData = tag
    return properties


def _tls_context(broker: BrokerConfig) -> ssl.SSLContext | None:
    if broker.tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=str(broker.tls.ca))
        context.load_cert_chain(str(broker.tls.certificate), str(broker.tls.key))
    except (OSError, ssl.SSLError) as error:
        raise BusError(f"the certificates for {broker.host}:{broker.port} can't be used: {error}") from error
    return context
