"""A cluster on one virtual clock: the machines, the broker between them, and what can befall them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core.events import Received
from pneumod.messages import NO_TERM, Envelope, Message
from pneumod.sim.bus import Bus, Topic, Weather
from pneumod.sim.children import Luck
from pneumod.sim.clock import Clock
from pneumod.sim.disk import Wear
from pneumod.sim.machine import Machine
from pneumod.sim.receipts import Named

Observer = Callable[["World", Machine, act.Action], None]
Watcher = Callable[[Machine, ev.Event], None]


class World(Clock):
    """The whole cluster.

    Attributes:
        observers: see every action before it is done, a write when it is over.
        watchers: are told of every event after its step.
        replies: what operators were told, in order.
        crash_chance: after each action of each node.
        crashes: nodes that this killed, for whoever starts them again.
        sites: site by node, as in a roster; empty: no roster.
        foreign: sites that the broker is none of: images of theirs may not travel over it.
        room: work items that a node has in work at one time.
        receipts: every receipt that was ever made, with the one before it.
    """

    def __init__(
        self,
        seed: int,
        node_ids: Iterable[int],
        weather: Weather | None = None,
        slowest: float = 1.0,
        wear: Wear | None = None,
        luck: Luck | None = None,
    ) -> None:
        super().__init__()
        self.random = Random(seed)
        self.bus = Bus(self, self.random, weather or Weather())
        self.observers: list[Observer] = []
        self.watchers: list[Watcher] = []
        self.replies: list[Envelope] = []
        self.crash_chance = 0.0
        self.crashes: list[int] = []
        self.sites: dict[int, str] = {}
        self.foreign: set[str] = set()
        self.room = 0
        self.receipts: Named = {}
        wear, luck = wear or Wear(), luck or Luck()
        self.machines = {
            node: Machine(self, node, place, self.random.uniform(1.0, slowest), wear, luck)
            for place, node in enumerate(sorted(node_ids))
        }

    def start(self, node_id: int) -> None:
        """Start a node's process."""
        self.machines[node_id].start()

    def start_all(self) -> None:
        """Start every process that doesn't run."""
        for machine in self.machines.values():
            machine.start()

    def crash(self, node_id: int, lose_disk: bool = False) -> None:
        """SIGKILL; the broker says the Will."""
        self.machines[node_id].kill()
        if lose_disk:
            self.machines[node_id].disk.lose()

    def freeze(self, node_id: int, for_ms: int) -> None:
        self.machines[node_id].freeze(for_ms)

    def cut(self, node_id: int, for_ms: int) -> None:
        self.machines[node_id].link.cut(for_ms)

    def broker_outage(self, for_ms: int, keep_retained: bool) -> None:
        """The broker dies and comes back, with or without its memory."""
        self.bus.up = False
        self.bus.restart(keep_retained)
        for machine in self.machines.values():
            if machine.reachable:
                machine.link.lose()
        self.after(for_ms, self._broker_back, self.bus.life)

    def ask(self, operator: str, node_id: int, message: Message, kind: str = "request") -> None:
        """An operator sends a request to a node."""
        if operator not in self.bus.sessions:
            self.bus.connect(operator, self._hear_reply)
        self.bus.publish(Topic(operator, kind, str(node_id)), Envelope(operator, NO_TERM, message))

    def is_home(self, node_id: int) -> bool:
        """Whether the broker is one of a node's own site."""
        return node_id in self.sites and self.sites[node_id] not in self.foreign

    def leaders(self) -> list[int]:
        return [m.id for m in self.machines.values() if m.node is not None and m.node.conductor is not None]

    def _broker_back(self, life: int) -> None:
        if life == self.bus.life:
            self.bus.up = True

    def _hear_reply(self, event: Received) -> None:
        if event.kind == "reply":
            self.replies.append(event.envelope)
