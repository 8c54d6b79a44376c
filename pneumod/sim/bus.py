"""A virtual MQTT broker, with what matters of the real one.

Theory of operation. A message of one sender keeps its place behind that sender's earlier ones on the same
topic; between topics it may overtake when the weather says so. QoS 0 may get lost. QoS 1 may come twice, the
second time also after later messages. A session whose client doesn't read (frozen, or cut off in silence)
keeps up to `queue_limit` messages of QoS 1 and drops what comes then, as Mosquitto does. After one and a half
keepalives the broker gives such a client up and says its Will; until then it doesn't know.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from msgspec import Struct

from pneumod.core.events import Received
from pneumod.messages import Envelope
from pneumod.sim.clock import Clock, Span, draw
from pneumod.topics import KINDS

QUEUE_LIMIT = 1_000  # of QoS 1 a client: Mosquitto's default


class Weather(Struct, frozen=True):
    """How bad the network is."""

    delay_ms: Span = (1, 20)
    loss: float = 0.0  # of QoS 0
    duplicates: float = 0.0  # of QoS 1
    reorder: float = 0.0  # messages held up, while those on other topics overtake them
    reorder_ms: Span = (50, 1_500)
    keepalive_ms: int = 0  # 0: a silent client is never given up
    queue_limit: int = QUEUE_LIMIT


class Topic(NamedTuple):
    sender: str
    kind: str
    dest: str | None


class Session:
    """One connection of a client."""

    __slots__ = ("client", "inbox", "last_ms", "life", "open", "outbox", "receive", "since_ms", "stalled_ms", "will")

    def __init__(
        self, client: str, receive: Callable[[Received], None], will: Envelope | None, life: int, now_ms: int
    ) -> None:
        self.client = client
        self.since_ms = now_ms  # messages pass without a stop
        self.receive = receive
        self.will = will
        self.life = life  # of the broker
        self.open = True  # by the broker's knowledge
        self.stalled_ms: int | None = None  # since when nothing passes
        self.inbox: deque[tuple[Received, int]] = deque()  # that wait for a client that doesn't read, with their expiry
        self.outbox: deque[tuple[Topic, Envelope, bytes]] = deque()  # that a client cut off in silence has said
        self.last_ms: dict[tuple[str, str], int] = {}  # arrival of the newest message of a sender (and kind)


class Bus:
    """The broker. Everyone hears what a node subscribes to; beats go only to who watches them."""

    def __init__(self, clock: Clock, random: Random, weather: Weather) -> None:
        self.clock = clock
        self.random = random
        self.weather = weather
        self.up = True
        self.life = 0  # restarts so far
        self.sessions: dict[str, Session] = {}  # the newest one of each client
        self.watching: dict[str, Session] = {}  # that hear the beats
        self.retained: dict[Topic, tuple[Envelope, int | None]] = {}  # with the moment when it expires
        self.published: Counter[str] = Counter()  # by kind
        self.delivered: Counter[str] = Counter()
        self.overflowed = 0
        self.observers: list[Callable[[Topic, Envelope], None]] = []  # see every message that is published

    def connect(self, client: str, receive: Callable[[Received], None], will: Envelope | None = None) -> Session:
        """Connect and subscribe; the retained messages come. An older session of the client lives on by itself."""
        session = self.sessions[client] = Session(client, receive, will, self.life, self.clock.now_ms)
        for topic, (envelope, expires_ms) in list(self.retained.items()):
            if expires_ms is not None and self.clock.now_ms >= expires_ms:
                del self.retained[topic]
            elif topic.kind != "card":
                self._send(session, Received(topic.kind, envelope, True))
        return session

    def close(self, session: Session, clean: bool = False) -> None:
        """A connection ends and the broker sees it; it says the Will unless it ended cleanly."""
        if not self.knows(session):
            return
        session.open = False
        self.watch(session, False)
        if self.sessions.get(session.client) is session:
            del self.sessions[session.client]
        if session.will is not None and not clean and self.up:
            self.publish(Topic(session.client, "gone", None), session.will)

    def knows(self, session: Session) -> bool:
        """Whether a connection still stands on the broker's side."""
        return session.open and session.life == self.life

    def leave(self, session: Session) -> None:
        """The client gives its connection up, and the broker doesn't see it: it waits for the keepalive."""
        session.receive = _nobody
        self.watch(session, False)

    def watch(self, session: Session, on: bool) -> None:
        """Subscribe to everyone's beats, or no longer."""
        if on and self.knows(session):
            self.watching[session.client] = session
        elif self.watching.get(session.client) is session:
            del self.watching[session.client]

    def stall(self, session: Session) -> None:
        """Nothing passes any more, in either direction."""
        if session.stalled_ms is None:
            session.stalled_ms = self.clock.now_ms
            if self.weather.keepalive_ms:
                self.clock.after(self.weather.keepalive_ms * 3 // 2, self._give_up, session, session.stalled_ms)

    def resume(self, session: Session) -> None:
        """What waited passes, as far as the broker still has the session and the messages haven't expired."""
        if session.stalled_ms is None:
            return
        session.stalled_ms, session.since_ms = None, self.clock.now_ms
        while session.outbox and self.knows(session):
            self.publish(*session.outbox.popleft())
        while session.inbox and session.stalled_ms is None:
            event, expires_ms = session.inbox.popleft()
            if self.clock.now_ms < expires_ms:
                session.receive(event)

    def say(self, session: Session, topic: Topic, envelope: Envelope, correlation: bytes = b"") -> None:
        """A client publishes."""
        if session.stalled_ms is None:
            self.publish(topic, envelope, correlation)
        elif KINDS[topic.kind].qos and len(session.outbox) < QUEUE_LIMIT:
            session.outbox.append((topic, envelope, correlation))

    def publish(self, topic: Topic, envelope: Envelope, correlation: bytes = b"") -> None:
        kind = KINDS[topic.kind]
        self.published[topic.kind] += 1
        for observer in self.observers:
            observer(topic, envelope)
        if kind.retain and envelope.message is None:
            self.retained.pop(topic, None)
        elif kind.retain:
            expires_ms = None if kind.expiry_s is None else self.clock.now_ms + 1_000 * kind.expiry_s
            self.retained[topic] = (envelope, expires_ms)
        event = Received(topic.kind, envelope, False, correlation)
        if topic.dest is not None:
            session = self.sessions.get(topic.dest)
            if session is not None:
                self._route(session, event, kind.qos)
        elif topic.kind == "beat":
            for session in self.watching.values():
                self._route(session, event, kind.qos)
        elif topic.kind != "card":  # cards are for operators
            for session in self.sessions.values():
                self._route(session, event, kind.qos)

    def restart(self, keep_retained: bool) -> None:
        """The broker comes back with or without its memory; all connections are gone, and no Will is said."""
        self.life += 1
        self.sessions.clear()
        self.watching.clear()
        if not keep_retained:
            self.retained.clear()

    def _route(self, session: Session, event: Received, qos: int) -> None:
        weather = self.weather
        if qos == 0:
            if not weather.loss or self.random.random() >= weather.loss:
                self._send(session, event)
            return
        self._send(session, event)
        if weather.duplicates and self.random.random() < weather.duplicates:
            late_ms = draw(self.random, weather.reorder_ms) if self.random.random() < 0.5 else 0
            self.clock.after(late_ms + draw(self.random, weather.delay_ms), self._arrive, session, event)

    def _send(self, session: Session, event: Received) -> None:
        weather, sender = self.weather, event.envelope.sender
        self.delivered[event.kind] += 1
        at_ms = self.clock.now_ms + draw(self.random, weather.delay_ms)
        order = (sender, "")
        if weather.reorder:
            order = (sender, event.kind)
            if self.random.random() < weather.reorder:
                at_ms += draw(self.random, weather.reorder_ms)
        last_ms = session.last_ms.get(order, 0)
        session.last_ms[order] = at_ms = max(at_ms, last_ms)
        self.clock.at(at_ms, self._arrive, session, event)

    def _arrive(self, session: Session, event: Received) -> None:
        if not self.knows(session):
            return
        if session.stalled_ms is None:
            session.receive(event)
        elif KINDS[event.kind].qos:
            if len(session.inbox) < self.weather.queue_limit:
                expiry_s = KINDS[event.kind].expiry_s or 10**9
                session.inbox.append((event, self.clock.now_ms + 1_000 * expiry_s))
            else:
                self.overflowed += 1

    def _give_up(self, session: Session, stalled_ms: int) -> None:
        if session.stalled_ms == stalled_ms:
            self.close(session)


def _nobody(_: Received) -> None:
    """The client has given this connection up."""
