"""The batch that this node offers to its site: which of its items are done.

The owner alone decides what is done: it takes the first completion of an item, whoever leads, and has it on
its disk before it says so. Completions are taken in groups, since each group costs a synced write.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pneumod.core.actions import Deliver
from pneumod.core.leases import LEASE_MS, is_done
from pneumod.core.state import State
from pneumod.messages import Done, Offer, Taken
from pneumod.work import Skill

OFFER_MS = 5_000
GROUP_MS = 200
MAX_GROUP = 64
MAX_ATTEMPTS = 3  # an item that fails so often is done, with the reason


class Attempt(NamedTuple):
    failures: int
    node: int
    at_ms: int


class Owner:
    """This node's batch, if it has one."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.leader: int | None = None
        self.is_open = False  # the master has items
        self.left = _left(state.durable.batch)  # items that are not done
        self.told = False  # the master knows what is done
        self.offer_at_ms = 0
        self.commit_at_ms: int | None = None
        self.group: dict[int, set[int]] = {}  # items taken but not yet persisted, with the nodes that wait
        self.attempts: dict[int, Attempt] = {}

    def deadline_ms(self) -> int | None:
        dues = [self.offer_at_ms if self._offers() else None, self.commit_at_ms]
        return min([due for due in dues if due is not None], default=None)

    def obey(self, leader: int | None, is_open: bool) -> None:
        """Who leads now, and whether that master has items; a new one is told of the batch at once."""
        if leader != self.leader:
            self.offer_at_ms = self.state.now_ms
        self.leader, self.is_open = leader, is_open

    def offer(self, batch: str, skill: Skill, items: int) -> None:
        mine = self.state.durable.batch
        if mine is not None and (mine.batch, mine.skill, mine.items) == (batch, skill, items):
            return  # asked for again, as after a restart: it goes on, or was withdrawn
        self.group, self.attempts, self.commit_at_ms = {}, {}, None
        self.state.remember(batch=Offer(batch, skill, items, b""))
        self.left, self.offer_at_ms = items, self.state.now_ms

    def withdraw(self) -> None:
        """Nobody wants the rest of the batch: the master is told so, and whoever still delivers may forget it."""
        batch = self.state.durable.batch
        if batch is None or batch.withdrawn or self.left == 0:
            return
        self.state.remember(batch=msgspec.structs.replace(self._commit(batch), withdrawn=True))
        self.left = 0

    def hear_done(self, node: int, done: Done) -> None:
        """Take the first completion of an item; only from a node of one's own site."""
        batch = self.state.durable.batch
        if not (self.state.at_home and self.state.same_site(self.state.id, node)):
            return
        if batch is None or not _wants(batch, done):
            self.state.say("taken", Taken(done.batch, done.item), dest=str(node))
            return
        if done.item in self.group:
            self.group[done.item].add(node)
            return
        if done.failed is not None and self._attempts(done.item, node) < MAX_ATTEMPTS:
            self.state.say("taken", Taken(done.batch, done.item), dest=str(node))
            return
        self.state.actions.append(Deliver(done.batch, done.item, done.data, done.failed, node))
        self.group[done.item] = {node}
        if self.commit_at_ms is None:
            self.commit_at_ms = self.state.now_ms + GROUP_MS
        if len(self.group) >= MAX_GROUP:
            self._commit(batch)

    def tick(self) -> None:
        now, batch = self.state.now_ms, self.state.durable.batch
        if batch is None:
            return
        if self.commit_at_ms is not None and now >= self.commit_at_ms:
            self._commit(batch)
        if self._offers() and now >= self.offer_at_ms:
            self.told = True
            self.offer_at_ms = now + OFFER_MS
            self.state.say("offer", self.state.durable.batch, dest=str(self.leader))

    def _offers(self) -> bool:
        """A batch that is done is still offered while the master has items: they may be this one's."""
        there = self.state.connected and self.state.at_home and self.leader is not None
        return there and self.state.durable.batch is not None and (self.left > 0 or self.is_open or not self.told)

    def _attempts(self, item: int, node: int) -> int:
        """How often an item failed, with this time; what a node says again within a lease is one failure."""
        last, now = self.attempts.get(item, Attempt(0, node, -LEASE_MS)), self.state.now_ms
        again = last.node == node and now - last.at_ms < LEASE_MS
        self.attempts[item] = Attempt(last.failures if again else last.failures + 1, node, last.at_ms if again else now)
        return self.attempts[item].failures

    def _commit(self, batch: Offer) -> Offer:
        """Persist what was taken, then let go the nodes that hold it, and tell the master; the batch as it is then."""
        bits = bytearray(batch.done.ljust(-(-batch.items // 8), b"\0"))
        for item in self.group:
            bits[item // 8] |= 1 << item % 8
        batch = msgspec.structs.replace(batch, done=bytes(bits))
        self.state.remember(batch=batch)
        for item in sorted(self.group):
            for node in sorted(self.group[item]):
                self.state.say("taken", Taken(batch.batch, item), dest=str(node))
        self.left -= len(self.group)
        self.told = False
        self.group, self.commit_at_ms, self.offer_at_ms = {}, None, self.state.now_ms
        return batch


def _wants(batch: Offer, done: Done) -> bool:
    """Whether an item's completion is still to come."""
    return (
        batch.batch == done.batch and done.item < batch.items and not batch.withdrawn and not is_done(batch, done.item)
    )


def _left(batch: Offer | None) -> int:
    if batch is None or batch.withdrawn:
        return 0
    return batch.items - int.from_bytes(batch.done, "little").bit_count()
