"""The master's leases: which node does which item of which batch.

Nothing here is kept over a takeover: owners offer again and nodes tell what they hold, so that a new master
knows within a moment. A lease that isn't renewed ends, and its item is granted again.
"""

from __future__ import annotations

from collections import OrderedDict

from pneumod.core.membership import Members
from pneumod.core.state import State
from pneumod.messages import Grant, Offer, Pull
from pneumod.work import MAX_HELD

LEASE_MS = 10_000
QUIET_MS = 1_500  # a new master grants nothing for so long: who holds items pulls each second
OWNER_LOST_MS = 30_000  # a batch whose owner is gone for so long is forgotten; the owner offers again
MAX_BATCHES = 256  # one an owner

Key = tuple[int, str, int]  # owner, batch, item


class Batch:
    """One owner's items: each is done, leased or free."""

    def __init__(self, offer: Offer, boot: int) -> None:
        self.offer = offer
        self.boot = boot  # of the owner
        self.leased: dict[int, int] = {}  # item -> node
        self.free = OrderedDict.fromkeys(item for item in range(offer.items) if not is_done(offer, item))

    def continues(self, offer: Offer, boot: int) -> bool:
        """Whether an offer is this batch, further or as it was before; an owner that lost its disk starts anew."""
        mine = self.offer
        same = (mine.batch, mine.skill, mine.items) == (offer.batch, offer.skill, offer.items)
        return same and (boot == self.boot or _bits(mine) & ~_bits(offer) == 0)

    @property
    def is_open(self) -> bool:
        """Whether an item is free."""
        while self.free and is_done(self.offer, next(iter(self.free))):
            self.free.popitem(last=False)
        return bool(self.free)

    def lease(self, item: int, node: int) -> None:
        self.free.pop(item, None)
        self.leased[item] = node

    def release(self, item: int) -> None:
        """A lease ended; what is not done is granted next."""
        del self.leased[item]
        if not is_done(self.offer, item):
            self.free[item] = None
            self.free.move_to_end(item, last=False)


class Leases:
    """All batches that are offered to this master."""

    def __init__(self, state: State, members: Members) -> None:
        self.state = state
        self.members = members
        self.grants_from_ms = state.now_ms + QUIET_MS
        self.batches: dict[int, Batch] = {}  # by owner
        self.over: dict[int, tuple[str, int]] = {}  # by owner: its last batch that was done, and its boot then
        self.until_ms: dict[int, dict[Key, int]] = {}  # by node; also of batches that are not yet offered
        self.served = -1  # the owner that was granted last: the next ones come first

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
        for key in list(self.until_ms.get(node, {})):
            self._end(node, key)

    def tick(self) -> None:
        """End the leases that nobody renewed, and forget the batches of owners that are gone."""
        for owner in [o for o in self.batches if self.members.lost_ms(o) >= OWNER_LOST_MS]:
            self._forget(owner)
        for node, leases in list(self.until_ms.items()):
            for key in [key for key, until_ms in leases.items() if until_ms <= self.state.now_ms]:
                self._end(node, key)

    def _offered(self, owner: int, offer: Offer) -> None:
        known, boot = self.batches.get(owner), self.members.boot(owner)
        if self.over.get(owner) == (offer.batch, boot):
            return  # an old one that comes late
        if offer.withdrawn or _bits(offer).bit_count() >= offer.items:
            self._forget(owner)
            self.over[owner] = (offer.batch, boot)
        elif known is not None and known.continues(offer, boot):
            if _bits(known.offer) & ~_bits(offer):
                return  # an old one that comes late
            known.offer, known.boot = offer, boot
            for item in [item for item in known.leased if is_done(offer, item)]:
                self._end(known.leased[item], (owner, offer.batch, item))
        elif known is not None or len(self.batches) < MAX_BATCHES:
            if known is not None and known.offer.batch != offer.batch:
                self._forget(owner)
            batch = self.batches[owner] = Batch(offer, boot)
            for node, leases in self.until_ms.items():  # who holds items of it has told so before
                for _, _, item in [key for key in leases if key[:2] == (owner, offer.batch)]:
                    if item in batch.free:
                        batch.lease(item, node)

    def _pulled(self, node: int, pull: Pull, settled: bool) -> None:
        """Renew what the node holds; once all had time to tell that, grant what it has room for, of its own site."""
        until_ms = self.state.now_ms + LEASE_MS
        leases = self.until_ms.setdefault(node, {})
        for key in pull.held:
            owner, name, item = key
            batch = self.batches.get(owner)
            if not self.state.same_site(node, owner) or (len(leases) >= MAX_HELD and key not in leases):
                continue
            if batch is not None and batch.offer.batch == name:
                if item >= batch.offer.items or is_done(batch.offer, item):
                    continue
                if item in batch.free:
                    batch.lease(item, node)
            leases[key] = until_ms  # also beside another's lease: then it is the next
        coming = sum(self._is_leased(key, node) for key in leases.keys() - set(pull.held))  # not yet known to the node
        knows = settled and self.state.now_ms >= self.grants_from_ms
        room = min(pull.room, MAX_HELD - len(pull.held)) - coming if knows else 0
        owners = sorted(self.batches)
        for owner in [o for o in owners if o > self.served] + [o for o in owners if o <= self.served]:
            batch = self.batches[owner]
            if room > 0 and self.state.same_site(node, owner) and batch.offer.skill in pull.skills:
                room -= self._grant(node, owner, batch, room)
        if not leases:
            del self.until_ms[node]

    def _grant(self, node: int, owner: int, batch: Batch, room: int) -> int:
        """Lease up to `room` free items to a node; how many."""
        items: list[int] = []
        while len(items) < room and batch.is_open:
            items.append(next(iter(batch.free)))
            batch.lease(items[-1], node)
            self.until_ms[node][owner, batch.offer.batch, items[-1]] = self.state.now_ms + LEASE_MS
        if items:
            self.served = owner
            grant = Grant(owner, batch.offer.batch, batch.offer.skill, tuple(items), LEASE_MS)
            self.state.say("grant", grant, dest=str(node))
        return len(items)

    def _forget(self, owner: int) -> None:
        """A batch is over, or another one takes its place."""
        batch = self.batches.pop(owner, None)
        if batch is None:
            return
        for item, node in batch.leased.items():
            leases = self.until_ms[node]
            del leases[owner, batch.offer.batch, item]
            if not leases:
                del self.until_ms[node]

    def _end(self, node: int, key: Key) -> None:
        """Forget one lease of a node."""
        leases, batch = self.until_ms[node], self.batches.get(key[0])
        del leases[key]
        if not leases:
            del self.until_ms[node]
        if batch is None or not self._is_leased(key, node):
            return
        batch.release(key[2])
        others = [other for other, its in self.until_ms.items() if key in its]
        if others and key[2] in batch.free:
            batch.lease(key[2], min(others))  # it was granted twice, before its first holder was heard

    def _is_leased(self, key: Key, node: int) -> bool:
        batch = self.batches.get(key[0])
        return batch is not None and batch.offer.batch == key[1] and batch.leased.get(key[2]) == node


def is_done(offer: Offer, item: int) -> bool:
    """Whether the owner has an item's completion."""
    byte = item // 8
    return byte < len(offer.done) and bool(offer.done[byte] >> item % 8 & 1)


def _bits(offer: Offer) -> int:
    """The items that are done, as the bits of a number."""
    return int.from_bytes(offer.done, "little") & ((1 << offer.items) - 1)
