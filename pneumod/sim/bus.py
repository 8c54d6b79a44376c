"""A virtual MQTT broker: retained messages, Wills, QoS 0 loss, QoS 1 duplicates, outages.

Messages of one sender to one receiver keep their order, as a broker keeps it; between senders anything goes.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from msgspec import Struct

from pneumod.core.events import Received
from pneumod.messages import Envelope
from pneumod.topics import KINDS

Deliver = Callable[[int, str, Received], None]  # at_ms, receiver, event


class Weather(Struct, frozen=True):
    """How bad the network is."""

    delay_ms: tuple[int, int] = (1, 20)
    loss: float = 0.0  # of QoS 0
    duplicates: float = 0.0  # of QoS 1


class Topic(NamedTuple):
    sender: str
    kind: str
    dest: str | None


class Bus:
    """The broker. Who is connected subscribes to what a node does; beats go only to who watches them."""

    def __init__(self, random: Random, weather: Weather, deliver: Deliver) -> None:
        self.random = random
        self.weather = weather
        self.deliver = deliver
        self.up = True
        self.connected: dict[str, None] = {}
        self.watching: dict[str, None] = {}
        self.retained: dict[Topic, Envelope] = {}
        self.wills: dict[str, Envelope] = {}
        self.last_ms: dict[tuple[str, str], int] = {}  # of the newest delivery from a sender to a receiver
        self.messages = 0

    def connect(self, now_ms: int, client: str, will: Envelope) -> None:
        """Connect and subscribe; the retained messages come."""
        self.connected[client] = None
        self.wills[client] = will
        for topic, envelope in list(self.retained.items()):
            if topic.dest in (None, client) and topic.kind != "card":
                self._send(now_ms, client, topic.kind, envelope, retained=True)

    def disconnect(self, now_ms: int, client: str, clean: bool) -> None:
        """A connection ends; the broker says the Will unless it ended cleanly."""
        self.connected.pop(client, None)
        self.watching.pop(client, None)
        will = self.wills.pop(client, None)
        if will is not None and not clean and self.up:
            self.publish(now_ms, Topic(client, "gone", None), will)

    def watch(self, now_ms: int, client: str, on: bool) -> None:
        if on:
            self.watching[client] = None
        else:
            self.watching.pop(client, None)

    def publish(self, now_ms: int, topic: Topic, envelope: Envelope, correlation: bytes = b"") -> None:
        kind = KINDS[topic.kind]
        if kind.retain and envelope.message is None:
            self.retained.pop(topic, None)
        elif kind.retain:
            self.retained[topic] = envelope
        if topic.dest is not None:
            receivers = [topic.dest] if topic.dest in self.connected else []
        else:
            receivers = list(self._subscribers(topic.kind))
        for receiver in receivers:
            if kind.qos == 0 and self.random.random() < self.weather.loss:
                continue
            self._send(now_ms, receiver, topic.kind, envelope, False, correlation)
            if kind.qos == 1 and self.weather.duplicates and self.random.random() < self.weather.duplicates:
                self._send(now_ms, receiver, topic.kind, envelope, False, correlation)

    def restart(self, keep_retained: bool) -> list[str]:
        """The broker comes back with or without its memory; whom it had to drop."""
        dropped = list(self.connected)
        self.connected.clear()
        self.watching.clear()
        self.wills.clear()
        if not keep_retained:
            self.retained.clear()
        return dropped

    def _subscribers(self, kind: str) -> dict[str, None]:
        """Beats are for masters, cards for operators; the rest is for all."""
        return {"beat": self.watching, "card": {}}.get(kind, self.connected)

    def _send(
        self, now_ms: int, receiver: str, kind: str, envelope: Envelope, retained: bool, correlation: bytes = b""
    ) -> None:
        self.messages += 1
        pair = (envelope.sender, receiver)
        at_ms = max(now_ms + self.random.randint(*self.weather.delay_ms), self.last_ms.get(pair, 0))
        self.last_ms[pair] = at_ms
        self.deliver(at_ms, receiver, Received(kind, envelope, retained, correlation))
