"""One machine's way to the broker: it connects, loses the connection, sees or doesn't see that, connects again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.messages import NO_TERM, Envelope, Gone
from pneumod.sim.bus import Session, Topic
from pneumod.sim.clock import Span, draw
from pneumod.topics import KINDS

if TYPE_CHECKING:
    from pneumod.sim.machine import Machine

RECONNECT_MS: Span = (200, 2_000)


class Link:
    """The connection of one machine; none while `session` is None."""

    __slots__ = ("at_home", "bus", "cut_until_ms", "machine", "number", "session")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.bus = machine.world.bus
        self.session: Session | None = None
        self.at_home = False  # the broker of the last connection is one of this machine's site
        self.number = 0  # of the connection, since the process started
        self.cut_until_ms = 0  # no way to the broker before

    def send(self, said: act.Publish) -> None:
        if self.session is not None and (self.at_home or not KINDS[said.kind].images):
            sender = self.machine.sender
            envelope = Envelope(sender, said.term, said.message)
            self.bus.say(self.session, Topic(sender, said.kind, said.dest), envelope, said.correlation)

    def watch(self, on: bool) -> None:
        if self.session is not None:
            self.bus.watch(self.session, on)

    def cut(self, for_ms: int) -> None:
        """The way to the broker is gone for a while, and both sides see it."""
        self._close_way(for_ms)
        if self.session is not None and self.session.stalled_ms is None:
            self.bus.close(self.session)
            self.lose()

    def silence(self, for_ms: int) -> None:
        """The way to the broker is gone for a while, and neither side sees it before its keepalive has passed."""
        self._close_way(for_ms)
        self.stall()

    def stall(self) -> None:
        """Nothing passes any more; a process that runs gives up after one or two keepalives."""
        if self.session is None:
            return
        self.bus.stall(self.session)
        keepalive_ms = self.bus.weather.keepalive_ms
        if keepalive_ms:
            wait_ms = draw(self.machine.world.random, (keepalive_ms, 2 * keepalive_ms))
            self.machine.clock.after(wait_ms, self._miss, self.session, self.session.stalled_ms)

    def resume(self) -> None:
        """What waited passes, unless the way is still cut; a connection that the broker has given up is lost."""
        if self.session is not None and self.machine.clock.now_ms >= self.cut_until_ms:
            self.bus.resume(self.session)
            if self.session is not None and not self.bus.knows(self.session):
                self.lose()

    def lose(self) -> None:
        """This side sees that the connection is gone."""
        if self.session is not None:
            self.bus.leave(self.session)
            self.session = None
            self.machine.feed(ev.Disconnected())
            self.connect_later()

    def drop(self, clean: bool = False) -> None:
        """The process ends; the broker sees it where the way is open."""
        session, self.session = self.session, None
        if session is None:
            return
        if self.machine.clock.now_ms < self.cut_until_ms:
            self.bus.leave(session)
        else:
            self.bus.close(session, clean)

    def connect_later(self) -> None:
        self.machine.clock.after(draw(self.machine.world.random, RECONNECT_MS), self._connect, self.machine.life)

    def _connect(self, life: int) -> None:
        machine = self.machine
        if life != machine.life or machine.node is None or self.session is not None:
            return
        if not self.bus.up or machine.clock.now_ms < max(self.cut_until_ms, machine.frozen_until_ms):
            self.connect_later()
            return
        self.number += 1
        gone = Envelope(machine.sender, NO_TERM, Gone(machine.disk.boot, self.number))
        self.session = self.bus.connect(machine.sender, machine.feed, gone)
        self.at_home = machine.world.is_home(machine.id)
        machine.step(ev.Connected(self.number, self.at_home))
        batch = machine.durable.batch
        if batch is not None and not self.at_home:  # the rest of it is done by whoever brought it
            machine.feed(ev.Withdrawn())

    def _close_way(self, for_ms: int) -> None:
        now_ms = self.machine.clock.now_ms
        self.cut_until_ms = max(self.cut_until_ms, now_ms + for_ms)
        self.machine.clock.after(for_ms, self.machine.wake)

    def _miss(self, session: Session, stalled_ms: int) -> None:
        """The keepalive has passed without an answer."""
        stalled = session is self.session and session.stalled_ms == stalled_ms
        if stalled and self.machine.clock.now_ms >= self.machine.frozen_until_ms:
            self.lose()
