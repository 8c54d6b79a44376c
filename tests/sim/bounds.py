"""Judges of what piles up, of leased work, and of how a history ends."""

from __future__ import annotations

from typing import NamedTuple

from pneumod.core import actions as act
from pneumod.core.invariants import check
from pneumod.core.jobs import Work
from pneumod.messages import Envelope, Grant, Offer, Pull, Term
from pneumod.sim.bus import Topic
from pneumod.sim.machine import Machine
from pneumod.sim.world import World
from pneumod.topics import KINDS
from pneumod.work import MAX_HELD
from tests.sim.checkers import Violation

MAX_ACTIONS = 400  # that wait for a disk, and as many again for each node of the cluster
MAX_BLOBS = 10  # a run's state, its best model, the base, one's own update and what is being fetched
MAX_JOBS = 40  # of one's own; cancelled ones wait behind a child that hangs
LEASE_MS = 10_000  # of an item, from when its holder last told of it
OFFER_MS = 5_000  # an owner tells its master so often what is done
QUEUED_WRITES = 2  # that a grant stands behind, between its decision and its sending
MAX_REASONS = 10  # for refused messages


def is_done(batch: Offer, item: int) -> bool:
    """Whether an item's bit is set."""
    place, bit = divmod(item, 8)
    return place < len(batch.done) and bool(batch.done[place] >> bit & 1)


class Bounds:
    """Memory and queues of every node and of the broker; looked at every few seconds."""

    def __init__(self, world: World) -> None:
        self.world = world

    def forget(self, node: int) -> None:
        """A lost disk doesn't matter here."""

    def see(self, world: World, machine: Machine, action: act.Action) -> None:
        if isinstance(action, act.Keep | act.Persist):
            self._look_at(machine)

    def look(self) -> None:
        for machine in self.world.machines.values():
            if machine.up:
                self._look_at(machine)
                assert machine.node is not None
                check(machine.node)
        for session in self.world.bus.sessions.values():
            if len(session.inbox) > self.world.bus.weather.queue_limit:
                raise Violation(f"the broker keeps {len(session.inbox)} messages for {session.client}")

    def _look_at(self, machine: Machine) -> None:
        node, count = machine.node, len(self.world.machines)
        if node is None:
            return
        state, conductor, puller = node.state, node.conductor, node.crew.puller
        sizes = {
            "actions": (len(machine.actions), MAX_ACTIONS * (1 + count)),
            "jobs": (len(state.running) + len(state.cancelled), MAX_JOBS + 4 * count + self.world.room),
            "blobs held": (len(state.held), MAX_BLOBS + 2 * count),
            "blobs on the disk": (len(machine.blobs), 2 * MAX_BLOBS + 3 * count),
            "told progress": (len(state.progress), len(state.running) + len(state.cancelled)),
            "reasons": (len(node.dropped), MAX_REASONS),
            "items in work": (sum(held.done is None for held in puller.held.values()), self.world.room),
            "leased items": (len(puller.held), MAX_HELD),
            "members": (len(conductor.members.members) if conductor else 0, count),
            "batches": (len(conductor.leases.batches) if conductor else 0, count),
        }
        for what, (size, limit) in sizes.items():
            if size > limit:
                raise Violation(f"node {machine.id}: {size} {what}, {limit} are the limit")


class Told(NamedTuple):
    """Which master a node has told that it holds an item, and when."""

    term: Term
    first_ms: int  # of an unbroken lease
    last_ms: int  # a slow disk may hold up what it says, and its lease runs out


class Items:
    """Every item of a batch is done once, by a node of its owner's site."""

    def __init__(self, world: World) -> None:
        weather = world.bus.weather
        self.way_ms = weather.delay_ms[1] + (weather.reorder_ms[1] if weather.reorder else 0)  # of a message, at most
        self.queue_ms = QUEUED_WRITES * max(m.disk.wear.write_ms[1] for m in world.machines.values())
        self.done: dict[int, Offer] = {}  # by owner, as of its disk
        self.done_ms: dict[tuple[int, str, int], int] = {}  # owner, batch, item
        self.told: dict[tuple[int, int, str, int], Told] = {}  # by node, owner, batch, item
        self.world = world
        world.bus.observers.append(self.hear)

    def hear(self, topic: Topic, envelope: Envelope) -> None:
        """What may hold parts of images goes to a node of its sender's site, over a broker of that site."""
        if not KINDS[topic.kind].images:
            return
        sites, sender, receiver = self.world.sites, int(topic.sender), int(topic.dest or -1)
        if sites.get(sender, sender) != sites.get(receiver, receiver):
            raise Violation(f"a {topic.kind} of node {sender} leaves its site for node {receiver}")
        if sites.get(sender) in self.world.foreign:
            raise Violation(f"a {topic.kind} of node {sender} travels over a broker of another site")

    def forget(self, node: int) -> None:
        self.done.pop(node, None)
        self.done_ms = {one: at_ms for one, at_ms in self.done_ms.items() if one[0] != node}

    def see(self, world: World, machine: Machine, action: act.Action) -> None:
        match action:
            case act.Persist(durable=durable) if durable.batch is not None:
                self._persist(machine, durable.batch)
            case act.Deliver(batch=batch, item=item):
                known = self.done.get(machine.id)
                if known is not None and known.batch == batch and is_done(known, item):
                    raise Violation(f"item {item} of node {machine.id} is done twice")
            case act.Start(job=Work(owner=owner, batch=batch, item=item)):
                if owner != machine.id and world.sites.get(owner, owner) != world.sites.get(machine.id, machine.id):
                    raise Violation(f"an item of node {owner} leaves its site for node {machine.id}")
            case act.Publish(message=Pull() as pull, term=term):
                for owner, batch, item in pull.held:
                    key = (machine.id, owner, batch, item)
                    told = self.told.get(key)
                    first_ms = world.now_ms
                    if told is not None and told.term == term and self._leases(told):
                        first_ms = told.first_ms
                    self.told[key] = Told(term, first_ms, world.now_ms)
            case act.Publish(message=Grant() as grant, dest=dest, term=term):
                self._grant(grant, int(dest or -1), term)

    def unfinished(self) -> str | None:
        for machine in self.world.machines.values():
            batch = machine.durable.batch
            if batch is None or batch.withdrawn:
                continue
            if not all(is_done(batch, item) for item in range(batch.items)):
                return f"items of node {machine.id} are not done"
        return None

    def _leases(self, told: Told) -> bool:
        """Whether the lease of who told this can't have run out since."""
        return self.world.now_ms - told.last_ms < LEASE_MS - self.way_ms

    def _persist(self, machine: Machine, batch: Offer) -> None:
        before = self.done.get(machine.id)
        if before is not None and before.batch != batch.batch:
            before = None
        for item in range(batch.items):
            was, now = before is not None and is_done(before, item), is_done(batch, item)
            if was and not now:
                raise Violation(f"item {item} of node {machine.id} was done, and isn't any more")
            if now and not was and (batch.batch, item) not in machine.disk.delivered:
                raise Violation(f"item {item} of node {machine.id} is called done, and nothing came of it")
            if now and not was:
                self.done_ms[machine.id, batch.batch, item] = self.world.now_ms
        self.done[machine.id] = batch

    def _grant(self, grant: Grant, receiver: int, granting: Term) -> None:
        """Nobody else may hold these items, of those whose word must have come to the master."""
        now_ms, owner = self.world.now_ms, self.world.machines[grant.owner]
        for item in grant.items:
            done_ms = self.done_ms.get((grant.owner, grant.batch, item), now_ms)
            if self.way_ms + OFFER_MS < now_ms - done_ms < owner.steady_ms and owner.durable.term == granting:
                raise Violation(f"item {item} of node {grant.owner} is granted, and was done long ago")
        for machine in self.world.machines.values():
            if machine.id == receiver or machine.node is None:
                continue
            for item in grant.items:
                told = self.told.get((machine.id, grant.owner, grant.batch, item))
                held = (grant.owner, grant.batch, item) in machine.node.crew.puller.held
                if not held or told is None or told.term != granting or not self._leases(told):
                    continue
                if self.way_ms + self.queue_ms < now_ms - told.first_ms < machine.steady_ms:
                    raise Violation(f"item {item} of node {grant.owner} is granted twice")
