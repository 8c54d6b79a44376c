"""A virtual disk: what a node's daemon has written and synced, and what a bad disk or a bad day does to it."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from msgspec import Struct

from pneumod.core.actions import Durable
from pneumod.sim.clock import Span, draw

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
    delivered: dict[tuple[str, int], bytes]


class Disk:
    """The state file and the blobs of one node. A write counts when it is over: it is atomic and synced."""

    __slots__ = ("backup", "blobs", "boot", "clock_skew_s", "delivered", "durable", "random", "receipts", "wear")

    def __init__(self, random: Random, wear: Wear) -> None:
        self.random = random
        self.wear = wear
        self.clock_skew_s = 0
        self.boot = 0  # of the last start; 0: nothing was ever written here
        self.durable = Durable()
        self.blobs: set[str] = set()
        self.receipts: set[str] = set()
        self.delivered: dict[tuple[str, int], bytes] = {}  # what came of the items of this node's batches
        self.backup = Backup(0, self.durable, frozenset(), {})

    def start(self, now_ms: int) -> int:
        """The boot number of this start, written before anything else happens."""
        self.boot = max(self.boot + 1, FIRST_BOOT + self.clock_skew_s + now_ms // 1_000)
        return self.boot

    def write_ms(self) -> int:
        """How long the next write takes."""
        if self.wear.slow and self.random.random() < self.wear.slow:
            return draw(self.random, self.wear.slow_ms)
        return draw(self.random, self.wear.write_ms)

    def archive(self, digest: str) -> None:
        """Copy a receipt to where it stays."""
        if digest in self.blobs:
            self.receipts.add(digest)

    def lose(self) -> None:
        """A new, empty disk."""
        self.boot, self.durable, self.blobs, self.receipts = 0, Durable(), set(), set()
        self.delivered = {}

    def damage_state(self) -> None:
        """The state file can't be read: it is set aside. The number of starts has its own file."""
        self.durable = Durable()

    def rot(self, digest: str) -> None:
        """A blob can't be read any more."""
        self.blobs.discard(digest)

    def back_up(self) -> None:
        self.backup = Backup(self.boot, self.durable, frozenset(self.blobs), dict(self.delivered))

    def restore(self) -> None:
        """The disk is as it was when it was backed up; if it never was, it is empty."""
        self.lose()
        self.boot, self.durable = self.backup.boot, self.backup.durable
        self.blobs, self.delivered = set(self.backup.blobs), dict(self.backup.delivered)
