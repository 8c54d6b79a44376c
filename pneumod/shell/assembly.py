"""One blob that comes in chunks: what is here, what is missing, whom to ask for it; the bytes go to a file.

A node that fetches several large blobs at a time holds only the chunks that the writer thread hasn't written.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from pneumod.blobs import CHUNK_BYTES

WANT_CHUNKS = 64  # asked for at once, 12 MiB: four fetches at a time fit the broker's queue for one client
MAX_FRESH = 256  # chunks of one blob, 48 MiB, that wait for the writer thread; more are dropped and asked for again
SYNC_BYTES = 16 * 1024 * 1024  # written between two syncs, so that none of them takes long: the state's writes wait


class Assembly:
    """The chunks of one blob that came so far, and how many jobs wait for it.

    Attributes:
        fresh: what came and was not taken yet.
        here: the indices of all that came.
        lock: held by the one job that takes; `done` tells the others that the blob is on the disk.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.size_bytes: int | None = None  # None while nobody asked for the blob
        self.users = 0
        self.fresh: dict[int, bytes] = {}
        self.here: set[int] = set()
        self.grew = asyncio.Event()
        self.lock = asyncio.Lock()
        self.done = False

    def expect(self, size_bytes: int) -> None:
        """The blob has this size: chunks that came before and don't fit it are let go."""
        fresh, self.size_bytes = self.take(), size_bytes
        self.forget()
        for index, data in fresh.items():
            self.add(index, data)

    def add(self, index: int, data: bytes) -> bool:
        """Take a chunk; False if it can't be one of this blob, or too many wait for the disk."""
        if self.size_bytes is not None and len(data) != min(CHUNK_BYTES, self.size_bytes - index * CHUNK_BYTES):
            return False
        if index not in self.here:
            if len(self.fresh) >= MAX_FRESH:
                return False
            self.here.add(index)
            self.fresh[index] = data
            self.grew.set()
        return True

    def take(self) -> dict[int, bytes]:
        """The chunks that came since the last time."""
        fresh, self.fresh = self.fresh, {}
        self.grew.clear()
        return fresh

    def forget(self) -> None:
        """Begin again: what came is no longer on the disk."""
        self.here.clear()
        self.fresh.clear()

    @property
    def whole(self) -> bool:
        """Whether every chunk came and was taken."""
        return len(self.here) == self.count and not self.fresh

    def missing(self) -> Iterator[int]:
        """The indices that didn't come yet, ascending."""
        return (index for index in range(self.count) if index not in self.here)


class Pull:
    """What one fetch asks for. It waits for a blob that is being sent to all, and asks after a silence only."""

    def __init__(self, assembly: Assembly, holders: tuple[int, ...], announced: bool) -> None:
        self.assembly = assembly
        self.holders = holders
        self.turn = -1 if announced else 0  # of the holders; -1: not yet
        self.asked: set[int] = set()

    def next(self) -> tuple[str, tuple[int, ...]] | None:
        """Whom to ask for which chunks now; None while what was asked for is still coming."""
        if self.turn < 0 or not self.holders or self.asked - self.assembly.here:
            return None
        chunks = tuple(islice(self.assembly.missing(), WANT_CHUNKS))
        if not chunks:
            return None
        self.asked = set(chunks)
        return str(self.holders[self.turn % len(self.holders)]), chunks

    def silence(self) -> None:
        """Nothing came for a while: ask the next."""
        self.turn += 1
        self.asked.clear()


class Spool:
    """The file that a blob is put together in. Used in the writer thread only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unsynced_bytes = 0

    def reserve(self, size_bytes: int) -> None:
        """Take the space for the whole of it at once, or the disk fills up midway, when others need it too.

        Raises:
            OSError: there is no room for it, or the disk refuses it.
        """
        with self.path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size_bytes)

    def write(self, chunks: dict[int, bytes]) -> None:
        with self.path.open("r+b") as file:
            for index, data in chunks.items():
                file.seek(index * CHUNK_BYTES)
                file.write(data)
                self._unsynced_bytes += len(data)
            if self._unsynced_bytes >= SYNC_BYTES:
                file.flush()
                os.fsync(file.fileno())
                self._unsynced_bytes = 0

    def remove(self) -> None:
        """Without effect once it was adopted. A disk that refuses even this has told what is wrong before."""
        with suppress(OSError):
            self.path.unlink()
