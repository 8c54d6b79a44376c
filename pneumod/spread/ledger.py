"""Where each file of a batch stands: open, kept at home, or done and waiting for its turn in the output."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from pneumod.parcel import Answer

Outcome = Answer | str  # of one file; a text says why nothing came of it


class Ledger:
    """Of `count` files, known by their place in the input.

    Attributes:
        next: the file whose turn it is.
        window: files that may be done before their turn, so that memory is bounded.
        alone: nothing more is expected of other nodes.
    """

    def __init__(self, count: int, window: int) -> None:
        self.count = count
        self.window = window
        self.next = 0
        self.alone = False
        self._left = bytearray(b"\1" * count)  # by file: nothing came of it yet
        self._ready: dict[int, Outcome] = {}
        self._home: list[int] = []  # a heap
        self._changed = asyncio.Event()

    @property
    def left(self) -> int:
        """Files of which nothing came yet."""
        return sum(self._left)

    def is_left(self, file: int) -> bool:
        return bool(self._left[file])

    def is_near(self, file: int) -> bool:
        """Whether what comes of a file may be kept until its turn."""
        return file < self.next + self.window

    def put(self, file: int, outcome: Outcome) -> bool:
        """Take what came of a file; False where something came of it before."""
        if not self._left[file]:
            return False
        self._left[file] = 0
        self._ready[file] = outcome
        self.wake()
        return True

    def is_ready(self) -> bool:
        """Whether something came of the file whose turn it is."""
        return self.next in self._ready

    def take(self) -> list[Outcome]:
        """What came of the files whose turn it is, up to the first of which nothing came yet."""
        outcomes = []
        while self.next in self._ready:
            outcomes.append(self._ready.pop(self.next))
            self.next += 1
        self.wake()
        return outcomes

    def keep(self, file: int) -> None:
        """A file is to be done at home."""
        heapq.heappush(self._home, file)
        self.wake()

    def kept(self, most: int) -> list[int]:
        """Files that are to be done at home now; they are handed out once."""
        files: list[int] = []
        while self._home and self.is_near(self._home[0]) and len(files) < most:
            file = heapq.heappop(self._home)
            if self.is_left(file):
                files.append(file)
        return files

    def stay(self) -> None:
        """From now on all is done at home."""
        self.alone = True
        self.wake()

    def wake(self) -> None:
        """Whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()
