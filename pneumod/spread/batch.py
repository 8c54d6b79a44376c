"""Files that are spread over the site, and what comes of them, in the order of the files.

The nodes of the site, this machine's own among them, ask for items and answer in any order. What can't travel, what
failed elsewhere, and all the rest where spreading comes to an end, is done at home, by this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from stat import S_ISREG

from pneumod.spread.counter import Away
from pneumod.spread.ledger import Ledger, Outcome
from pneumod.spread.leg import Leg, Task
from pneumod.spread.plan import MOST_SCORED, TRAVEL_BYTES, most_files, plan
from pneumod.spread.tally import HOME, Tally
from pneumod.work import MAX_ITEMS

WINDOW_BYTES = 64 * 1024 * 1024  # of answers that wait for their turn
HOME_FILES = 64  # that are taken together to be done at home
PART_FILES = 8  # of them that are given out together


class Batch:
    """Files on their way through the site.

    Attributes:
        tally: who did how much.
    """

    def __init__(self, paths: Sequence[Path], task: Task, nodes: int, desk: Path, say: Callable[[str], None]) -> None:
        """
        Args:
            nodes: of the site, this one among them.
            desk: the socket of this node's daemon.
            say: is told why the rest is done at home, where it is, and why a node could not do its part.
        """
        self.paths, self.task, self.nodes, self.desk, self.say = paths, task, nodes, desk, say
        self.tally = Tally()
        self.ledger = Ledger(len(paths), max(WINDOW_BYTES // (task.pixels + 1024), 2 * MOST_SCORED))
        sizes = [_size(path) for path in paths]
        self.items = plan(sizes, max(nodes, 1), most_files(task.pixels))
        for file, size in enumerate(sizes):
            if not 0 <= size <= TRAVEL_BYTES:
                self.ledger.keep(file)

    def outcomes(self) -> Generator[Outcome]:
        """What came of each file, in their order. Closing it withdraws the batch."""
        with asyncio.Runner() as runner, ThreadPoolExecutor(1, "home") as home:
            parts = self._parts(home)
            try:
                while part := runner.run(_next(parts)):
                    yield from part
            finally:
                self.task.stop()  # a decoder that hangs holds its thread
                runner.run(parts.aclose())

    async def _parts(self, home: ThreadPoolExecutor) -> AsyncGenerator[list[Outcome]]:
        """The outcomes, as many at one time as there are."""
        work = [asyncio.create_task(self._spread()), asyncio.create_task(self._stay(home))]
        for task in work:
            task.add_done_callback(lambda _: self.ledger.wake())
        try:
            while self.ledger.next < self.ledger.count:
                await self.ledger.until(lambda: self.ledger.is_ready() or any(map(_failed, work)))
                for task in filter(_failed, work):
                    task.result()
                yield self.ledger.take()
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _spread(self) -> None:
        """Offer the items, as many at one time as a batch may have."""
        try:
            if self.paths and self.nodes < 2:
                raise Away("the roster names no other node of this site")
            for first in range(0, len(self.items), MAX_ITEMS):
                leg = Leg(self.ledger, self.paths, self.task, self.items[first : first + MAX_ITEMS], self.say)
                await leg.run(self.desk, self.tally)
        except Away as error:
            self.say(f"{error}; {self.ledger.left:,} of {self.ledger.count:,} images are done here")
        self.ledger.stay()

    async def _stay(self, home: ThreadPoolExecutor) -> None:
        """Do what is to be done at home: first what comes up, then all that is left."""
        files: list[int] = []

        def due() -> bool:
            files[:] = self.ledger.kept(HOME_FILES)
            return bool(files) or self.ledger.alone

        while True:
            await self.ledger.until(due)
            if not files:
                break
            await self._do(home, files)
        await self._do(home, [file for file in range(self.ledger.count) if self.ledger.is_left(file)])

    async def _do(self, home: ThreadPoolExecutor, files: Sequence[int]) -> None:
        """Do files at home, no faster than their outcomes are taken."""
        loop = asyncio.get_running_loop()
        outcomes = self.task.home(self.paths[file] for file in files)
        for start in range(0, len(files), PART_FILES):
            part = files[start : start + PART_FILES]
            await self.ledger.until(partial(self.ledger.is_near, part[0]))
            done = await loop.run_in_executor(home, list, islice(outcomes, len(part)))
            for file, outcome in zip(part, done, strict=True):
                self.ledger.put(file, outcome)
            self.tally.add(HOME, len(part))


async def _next(parts: AsyncGenerator[list[Outcome]]) -> list[Outcome]:
    return await anext(parts, [])


def _failed(part: asyncio.Task[None]) -> bool:
    return part.done() and not part.cancelled() and part.exception() is not None


def _size(path: Path) -> int:
    """In bytes; -1 where it is no file that can be read."""
    try:
        status = path.stat()
    except OSError:
        return -1
    return status.st_size if S_ISREG(status.st_mode) else -1
