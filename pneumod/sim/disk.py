"""A virtual disk: what a node's daemon has written and synced, and what a bad disk or a bad day does to it."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from msgspec import Struct

from pneumod.core.actions import Durable
from pneumod.core.events import ReceiptMissing
from pneumod.sim.clock import Span, draw
from pneumod.sim.receipts import Named, Receipts

FIRST_BOOT = 1_700_000_000  # Unix seconds when the virtual clock starts


class Wear(Struct, frozen=True):
    """How bad the disks are."""

    write_ms: Span = (0, 0)
    slow: float = 0.0  # writes that take seconds
    slow_ms: Span = (1_000, 12_000)


class Backup(NamedTuple):
    boot: int
    durable: Durable
    blobs: frozenset[str]
    receipts: dict[tuple[str, int], str]
    delivered: dict[tuple[str, int], bytes]


class Disk:
    """The state file and the blobs of one node. A write counts when it is over: it is atomic and synced."""

    __slots__ = ("backup", "blobs", "boot", "clock_skew_s", "delivered", "durable", "random", "receipts", "wear")

    def __init__(self, random: Random, wear: Wear, named: Named) -> None:
        self.random = random
        self.wear = wear
        self.clock_skew_s = 0
        self.boot = 0  # of the last start; 0: nothing was ever written here
        self.durable = Durable()
        self.blobs: set[str] = set()
        self.receipts = Receipts(named)
        self.delivered: dict[tuple[str, int], bytes] = {}  # what came of the items of this node's batches
        self.backup = Backup(0, self.durable, frozenset(), {}, {})

    def start(self, now_ms: int) -> int:
        """The boot number of this start, written before anything else happens."""
        self.boot = max(self.boot + 1, FIRST_BOOT + self.clock_skew_s + now_ms // 1_000)
        return self.boot

    def write_ms(self) -> int:
        """How long the next write takes."""
        if self.wear.slow and self.random.random() < self.wear.slow:
            return draw(self.random, self.wear.slow_ms)
        return draw(self.random, self.wear.write_ms)

    def archive(self, digest: str, run: str, round_: int) -> ReceiptMissing | None:
        """Copy a receipt to where it stays; the first that is missing on the way back from it."""
        if digest in self.blobs:
            self.receipts.files[run, round_] = digest
        return self.receipts.gap(digest)

    def missing(self) -> ReceiptMissing | None:
        """The receipt that is missing at a start. The newest is archived first: a crash may have come before that."""
        closed = self.durable.closed
        if closed is None or closed.receipt is None:
            return None
        return self.archive(closed.receipt.digest, closed.run, closed.round)

    def lose(self) -> None:
        """A new, empty disk."""
        self.boot, self.durable, self.blobs, self.delivered = 0, Durable(), set(), {}
        self.receipts.files = {}

    def damage_state(self) -> None:
        """The state file can't be read: it is set aside. The number of starts has its own file."""
        self.durable = Durable()

    def rot(self, digest: str) -> None:
        """A blob can't be read any more."""
        self.blobs.discard(digest)

    def back_up(self) -> None:
        receipts, delivered = dict(self.receipts.files), dict(self.delivered)
        self.backup = Backup(self.boot, self.durable, frozenset(self.blobs), receipts, delivered)

    def restore(self) -> None:
        """The disk is as it was when it was backed up; if it never was, it is empty."""
        self.lose()
        self.boot, self.durable = self.backup.boot, self.backup.durable
        self.blobs, self.delivered = set(self.backup.blobs), dict(self.backup.delivered)
        self.receipts.files = dict(self.backup.receipts)
