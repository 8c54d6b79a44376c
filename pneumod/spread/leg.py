"""One batch at the daemon's desk: the parcels that it asks for, and what came of them."""

from __future__ import annotations

import asyncio
import heapq
import time
import uuid
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

from pneumod import parcel
from pneumod.desk import Bring, Came, Give, Need, Refused, Spent
from pneumod.errors import DataError, WireError
from pneumod.images.read import read_file
from pneumod.images.travel import for_travel
from pneumod.parcel import Answers, Head, Parcel
from pneumod.spread.counter import Away, Counter
from pneumod.spread.ledger import Ledger, Outcome
from pneumod.spread.plan import TRAVEL_BYTES
from pneumod.spread.tally import Tally
from pneumod.spread.worth import Cost, worth
from pneumod.work import Skill

STALL_S = 30  # without an answer from any node; then the rest is done at home
PATIENCE_S = 2.0  # with an item that all wait for
READERS = 4  # parcels that are read at one time
MEASURED = 64  # items whose cost is kept


class Task(NamedTuple):
    """What is to be done with each file."""

    skill: Skill
    head: Head
    pixels: int  # bytes of pixels that come of a file; 0: a probability comes of it
    home: Callable[[Iterable[Path]], Iterator[Outcome]]  # the same by this process, in the order of the files
    stop: Callable[[], None] = lambda: None  # called from another thread, has `home` end soon

    def is_done(self, outcome: Outcome) -> bool:
        """Whether this is an answer, of the right kind. A reason why there is none must be this machine's own."""
        if isinstance(outcome, str):
            return False
        return len(outcome.pixels or b"") == self.pixels and (self.pixels > 0 or outcome.probability is not None)


class Leg:
    """Up to MAX_ITEMS items that are offered together; each is the ascending places of its files."""

    def __init__(
        self,
        ledger: Ledger,
        paths: Sequence[Path],
        task: Task,
        items: Sequence[tuple[int, ...]],
        say: Callable[[str], None],
    ) -> None:
        """
        Args:
            say: is told why a node could not do an item, once a node.
        """
        self.ledger, self.paths, self.task, self.items, self.say = ledger, paths, task, items, say
        self.open = set(range(len(items)))
        self._needs: list[int] = []  # items that are asked for, a heap
        self._came = False  # something did, since the last look
        self._unable: set[int] = set()  # nodes of which that was told
        self._read_ms: dict[int, float] = {}  # by item, what its parcel cost this process
        self._costs: dict[str, deque[Cost]] = {how: deque(maxlen=MEASURED) for how in ("sent", "worked")}

    async def run(self, desk: Path, tally: Tally) -> None:
        """Have the items done; what wasn't is kept at home.

        Raises:
            Away: the daemon takes no batch, no node answers, or sending doesn't pay; the text says which.
        """
        head = parcel.pack(self.task.head)
        counter = Counter(desk, Bring(uuid.uuid4().hex, self.task.skill, len(self.items), head))
        over = self.ledger.until(lambda: not self.open)
        givers = [self._give(counter) for _ in range(READERS)]
        work = [over, self._talk(counter, tally), self._stall(), self._unblock(), *givers]
        parts = [asyncio.create_task(part) for part in work]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            counter.end()
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _talk(self, counter: Counter, tally: Tally) -> None:
        async with aclosing(counter.frames()) as frames:
            async for frame in frames:
                match frame:
                    case Refused():
                        raise Away(frame.why)
                    case Need() if frame.item < len(self.items) and frame.item not in self._needs:
                        heapq.heappush(self._needs, frame.item)
                        self.ledger.wake()
                    case Came() if frame.item in self.open:
                        self._take(frame, tally)
                    case Spent() if frame.item < len(self.items):
                        self._weigh(frame, tally)

    async def _give(self, counter: Counter) -> None:
        """Read the files that are asked for, the first ones first."""
        while True:
            await self.ledger.until(lambda: bool(self._needs) and self._is_near(self._needs[0]))
            item = heapq.heappop(self._needs)
            paths = [self.paths[file] for file in self.items[item]]
            data, self._read_ms[item] = await asyncio.to_thread(_timed, paths)
            await counter.say(Give(item, data))

    async def _unblock(self) -> None:
        """Keep the item at home whose turn it is, where it is not done and others wait for that.

        Nodes that hold items whose turn is too far away may have no room for the one that all wait for.
        """
        while True:
            await self.ledger.until(lambda: self._blocks() in self.open)
            item = self._blocks()
            await asyncio.sleep(PATIENCE_S)
            if item in self.open and item == self._blocks():
                self._end(item)

    def _blocks(self) -> int:
        """The item that others wait for; -1: they wait for none."""
        if not self._needs or self._is_near(self._needs[0]) or self.ledger.is_ready():
            return -1
        return bisect_left(self.items, (self.ledger.next + 1,)) - 1

    async def _stall(self) -> None:
        """Seconds are counted by their ticks: while the output's reader stops this process, none passes."""
        quiet_s = 0
        while quiet_s < STALL_S:
            await asyncio.sleep(1)
            quiet_s = 0 if self._came else quiet_s + 1
            self._came = False
        raise Away(f"no node answered for {STALL_S} s")

    def _is_near(self, item: int) -> bool:
        return self.ledger.is_near(self.items[item][0])

    def _take(self, came: Came, tally: Tally) -> None:
        """The first that came of an item."""
        self._came = True
        if came.failed is not None and came.node not in self._unable:
            self._unable.add(came.node)
            why = "".join(char if char.isprintable() else "?" for char in came.failed)
            self.say(f"node {came.node} could not do its part: {why}; what it leaves is done here")
        files = self.items[came.item]
        fresh = 0
        for file, outcome in zip(files, _outcomes(came, len(files)), strict=False):
            if self.task.is_done(outcome):
                fresh += self.ledger.put(file, outcome)
        tally.add(came.node, fresh)
        self._end(came.item)

    def _end(self, item: int) -> None:
        """Nothing more is expected of an item: what is left of it is done at home."""
        self.open.discard(item)
        for file in self.items[item]:
            if self.ledger.is_left(file):
                self.ledger.keep(file)
        self.ledger.wake()

    def _weigh(self, spent: Spent, tally: Tally) -> None:
        read_ms = self._read_ms.get(spent.item, 0.0) if spent.how == "sent" else 0.0
        self._costs[spent.how].append(Cost(len(self.items[spent.item]), spent.parcel_bytes, spent.ms + read_ms))
        tally.worth = worth(self._costs["sent"], self._costs["worked"])
        if tally.worth is not None and not tally.worth.pays:
            raise Away(f"sending doesn't pay: {tally.worth}")


def read_parcel(paths: Sequence[Path]) -> bytes:
    """The files, each without what names a patient; empty where one can't be read, or must not travel."""
    files, room = [], TRAVEL_BYTES
    for path in paths:
        files.append(_read(path, room))
        room -= len(files[-1])
    return parcel.pack(Parcel(tuple(files)))


def _timed(paths: Sequence[Path]) -> tuple[bytes, float]:
    """`read_parcel`, and the milliseconds of a core that it took: those can't be worked in."""
    start_s = time.thread_time()
    return read_parcel(paths), 1000 * (time.thread_time() - start_s)


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        data = read_file(path, most_bytes + 1)  # it may have grown since it was planned
        travelling = for_travel(data) if len(data) <= most_bytes else b""
    except DataError:
        return b""
    return travelling if len(travelling) <= most_bytes else b""


def _outcomes(came: Came, count: int) -> Sequence[Outcome]:
    """What came of each file of an item; nothing where it failed, or can't be understood."""
    if came.failed is not None:
        return ()
    try:
        outcomes = parcel.unpack(came.data, Answers).files
    except WireError:
        return ()
    return outcomes if len(outcomes) == count else ()
