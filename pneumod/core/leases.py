"""The master's leases: which node does which item of which batch.

Nothing here is kept over a takeover: owners offer again and nodes tell what they hold, so that a new master
knows within a moment. A lease that isn't renewed ends, and its item is granted again.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import NamedTuple

from pneumod.core.membership import Members
from pneumod.core.state import State
from pneumod.messages import Grant, Offer, Pull
from pneumod.work import MAX_HELD

LEASE_MS = 10_000
OWNER_LOST_MS = 30_000  # a batch whose owner is gone for so long is forgotten; the owner offers again
MAX_BATCHES = 256  # one an owner


class Lease(NamedTuple):
    node: int
    until_ms: int


class Batch:
    """One owner's items."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.free = [item for item in range(offer.items) if not is_done(offer, item)]  # a heap; may hold leased items
        self.leases: dict[int, Lease] = {}
        heapify(self.free)

    def update(self, offer: Offer) -> None:
        self.offer = offer
        for item in [item for item in self.leases if is_done(offer, item)]:
            del self.leases[item]

    @property
    def is_open(self) -> bool:
        """Whether an item is free."""
        while self.free and (self.free[0] in self.leases or is_done(self.offer, self.free[0])):
            heappop(self.free)
        return bool(self.free)

    def take(self, room: int) -> list[int]:
        """Up to `room` items that nobody has, lowest first."""
        items: list[int] = []
        while len(items) < room and self.is_open:
            items.append(heappop(self.free))
        return items

    def release(self, item: int) -> None:
        del self.leases[item]
        heappush(self.free, item)


class Leases:
    """All batches that are offered to this master."""

    def __init__(self, state: State, members: Members) -> None:
        self.state = state
        self.members = members
        self.batches: dict[int, Batch] = {}  # by owner

    @property
    def is_open(self) -> bool:
        """Whether there is something to pull."""
        return any(batch.is_open for batch in self.batches.values())

    def hear(self, node: int, message: Offer | Pull, settled: bool) -> None:
        if isinstance(message, Offer):
            self._offered(node, message)
        else:
            self._pulled(node, message, settled)

    def lost(self, node: int) -> None:
        """A node is gone: its items are free at once."""
        for batch in self.batches.values():
            for item in [item for item, lease in batch.leases.items() if lease.node == node]:
                batch.release(item)

    def tick(self) -> None:
        """End the leases that nobody renewed, and forget the batches of owners that are gone."""
        for owner in [o for o in self.batches if self.members.lost_ms(o) >= OWNER_LOST_MS]:
            del self.batches[owner]
        for batch in self.batches.values():
            for item in [item for item, lease in batch.leases.items() if lease.until_ms <= self.state.now_ms]:
                batch.release(item)

    def _offered(self, owner: int, offer: Offer) -> None:
        known = self.batches.get(owner)
        if all(is_done(offer, item) for item in range(offer.items)):
            self.batches.pop(owner, None)
        elif known is not None and known.offer.batch == offer.batch:
            known.update(offer)
        elif known is not None or len(self.batches) < MAX_BATCHES:
            self.batches[owner] = Batch(offer)

    def _pulled(self, node: int, pull: Pull, settled: bool) -> None:
        """Renew what the node holds; once all had time to tell that, grant what it has room for, of its own site."""
        until_ms = self.state.now_ms + LEASE_MS
        for owner, name, item in pull.held:
            batch = self.batches.get(owner)
            if batch is None or batch.offer.batch != name or item >= batch.offer.items or is_done(batch.offer, item):
                continue
            if item not in batch.leases or batch.leases[item].node == node:
                batch.leases[item] = Lease(node, until_ms)
        room = min(pull.room, MAX_HELD - len(pull.held)) if settled else 0
        for owner in sorted(self.batches):
            batch = self.batches[owner]
            if not self.state.same_site(node, owner) or batch.offer.skill not in pull.skills:
                continue
            items = batch.take(room)
            if items:
                room -= len(items)
                batch.leases |= {item: Lease(node, until_ms) for item in items}
                grant = Grant(owner, batch.offer.batch, batch.offer.skill, tuple(items), LEASE_MS)
                self.state.say("grant", grant, dest=str(node))


def is_done(offer: Offer, item: int) -> bool:
    """Whether the owner has an item's completion."""
    byte = item // 8
    return byte < len(offer.done) and bool(offer.done[byte] >> item % 8 & 1)
