"""The files of work items on their way over the bus, in pieces, from the batch's owner to the node that does the item.

They hold images: they are in memory only, on both sides, and go to one node. An owner serves the nodes of its own site
by its own roster, and only over a broker of that site; the link refuses them anywhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from zlib import crc32

from pneumod.errors import BusError
from pneumod.logs import component
from pneumod.messages import NO_TERM, ParcelWant, Piece, Taken
from pneumod.shell.desk import Desk, Over
from pneumod.shell.link import Link
from pneumod.shell.patience import look_away
from pneumod.work import PARCEL_BYTES, PIECE_BYTES

WINDOW = 16  # pieces of a parcel that are asked for and still to come, 3 MiB
QUIET_S = 1.0  # without a new piece: ask again
GIVE_UP_S = 30.0  # without a new piece
MAX_PIECES = -(-PARCEL_BYTES // PIECE_BYTES)
MAX_PENDING = 10_000  # pieces that others asked for and didn't get yet
MAX_HEADS = 4  # of batches, kept
MAX_SENDING = 256  # parcels whose sending is measured
IN_FLIGHT = 4  # pieces sent and not yet acknowledged

log = component("worker")

Key = tuple[int, str, int | None]  # owner, batch, item (None: the head)


class Pieces:
    """What came of one parcel so far."""

    def __init__(self) -> None:
        self.count: int | None = None  # known with the first
        self.reading = 0
        self.here: dict[int, bytes] = {}
        self.asked: set[int] = set()
        self.grew = asyncio.Event()

    def add(self, piece: Piece) -> bool:
        """Take a piece; False if it can't be one of this parcel, or is here already.

        The owner may have read the files again, and one may have changed since: then it begins anew.
        """
        if piece.reading != self.reading:
            self.count, self.reading = None, piece.reading
            self.here.clear()
            self.asked.clear()
        self.count = self.count or min(piece.count, MAX_PIECES)
        if piece.count != self.count or piece.index >= piece.count or piece.index in self.here:
            return False
        self.here[piece.index] = piece.data
        self.grew.set()
        return True

    @property
    def whole(self) -> bool:
        return self.count is not None and len(self.here) == self.count

    def next(self) -> tuple[int, ...]:
        """What to ask for now: half a window at a time, so that the next half is asked for while one comes."""
        coming = self.asked - self.here.keys()
        if len(coming) > WINDOW // 2:
            return ()
        missing = (i for i in range(self.count or WINDOW) if i not in self.here and i not in coming)
        wanted = tuple(i for i, _ in zip(missing, range(WINDOW - len(coming)), strict=False))
        self.asked.update(wanted)
        return wanted


class Sent:
    """How far the sending of one parcel to one node is, and what it took."""

    def __init__(self) -> None:
        self.pieces: set[int] = set()
        self.ms = 0.0


class Parcels:
    """Gets the files of items from their owners, and serves those of this node's own batch, while `run` does."""

    def __init__(self, link: Link, desk: Desk, same_site: Callable[[int, int], bool]) -> None:
        self.link = link
        self.desk = desk
        self.same_site = same_site  # by this node's own roster
        self.dropped = 0
        self._me = link.config.node_id
        self._coming: dict[Key, Pieces] = {}
        self._heads: OrderedDict[Key, asyncio.Task[bytes]] = OrderedDict()
        self._pending: set[tuple[int, str, int | None, int]] = set()  # node, batch, item, piece
        self._flight = asyncio.Semaphore(IN_FLIGHT)
        self._flying = 0
        self._sent: OrderedDict[tuple[int, str, int], Sent] = OrderedDict()  # node, batch, item
        self._group = asyncio.TaskGroup()  # of what is served: a fault in it ends `run`

    async def run(self) -> None:
        async with self._group:
            await asyncio.Future()

    async def get(self, owner: int, batch: str, item: int) -> tuple[bytes, bytes]:
        """A batch's head, and the parcel of one of its items.

        Raises:
            BusError: the owner sent nothing for GIVE_UP_S.
            Over: it is this node's own batch, and not on any more.
        """
        if owner == self._me:
            async with self.desk.files(batch, None) as head, self.desk.files(batch, item) as parcel:
                return head, parcel
        parcel = await self._fetch((owner, batch, item))  # first: an owner that has no such batch answers to this only
        return await self._head((owner, batch, None)), parcel

    def hear_piece(self, node: int, piece: Piece) -> None:
        pieces = self._coming.get((node, piece.batch, piece.item)) if self.link.at_home else None
        self.dropped += pieces is None or not pieces.add(piece)

    def hear_want(self, node: int, want: ParcelWant) -> None:
        """Serve a node of this site; who asks for what nobody needs any more is told so."""
        if not (self.link.at_home and self.same_site(self._me, node)):
            self.dropped += 1
        elif self.desk.wants(want.batch, want.item):
            fresh = {(node, want.batch, want.item, index) for index in want.pieces} - self._pending
            if fresh and len(self._pending) + len(fresh) <= MAX_PENDING:
                self._pending |= fresh
                indices = sorted(index for *_, index in fresh)
                serving = self._group.create_task(self._serve(node, want.batch, want.item, indices))
                serving.add_done_callback(lambda _: self._pending.difference_update(fresh))
        else:
            self._refuse(node, want.batch, want.item)

    # ---- for this node's items ----

    async def _head(self, key: Key) -> bytes:
        """The head of another node's batch: fetched once, also for several items at a time."""
        task = self._heads.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._heads[key] = asyncio.create_task(self._fetch(key))
            task.add_done_callback(look_away)
        self._heads.move_to_end(key)
        if len(self._heads) > MAX_HEADS:
            self._heads.popitem(last=False)[1].cancel()
        return await asyncio.shield(task)

    async def _fetch(self, key: Key) -> bytes:
        owner, batch, item = key
        pieces, quiet_s = Pieces(), 0.0
        self._coming[key] = pieces
        try:
            while not pieces.whole:
                if wanted := pieces.next():
                    self.link.send("ask", NO_TERM, ParcelWant(batch, item, wanted), str(owner))
                pieces.grew.clear()
                try:
                    async with asyncio.timeout(QUIET_S):
                        await pieces.grew.wait()
                    quiet_s = 0.0
                except TimeoutError:
                    pieces.asked.clear()
                    quiet_s += QUIET_S
                    if quiet_s >= GIVE_UP_S:
                        raise BusError("the owner sent no files") from None
            return b"".join(pieces.here[index] for index in sorted(pieces.here))
        finally:
            del self._coming[key]

    # ---- for others ----

    async def _serve(self, node: int, batch: str, item: int | None, indices: list[int]) -> None:
        """Send pieces of this node's batch, once the command gave the files."""
        try:
            async with self.desk.files(batch, item) as data:
                count, reading = max(1, -(-len(data) // PIECE_BYTES)), crc32(data)
                for index in [index for index in indices if index < count]:
                    if not self.desk.wants(batch, item):
                        raise Over("somebody else was faster, or the batch is over")
                    part = data[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]
                    ms = await self._send(node, Piece(batch, item, index, count, part, reading))
                    if item is not None:
                        self._measure(node, batch, item, index, count, ms, len(data))
        except Over:
            self._refuse(node, batch, item)
        except BusError as error:
            log.debug("files were not sent whole: %s", error)

    def _refuse(self, node: int, batch: str, item: int | None) -> None:
        """Tell a node to forget an item."""
        if item is not None:
            self.link.send("taken", NO_TERM, Taken(batch, item), str(node))

    async def _send(self, node: int, piece: Piece) -> float:
        """Send a piece; the milliseconds that it took, or its part of those in which several were on their way."""
        async with self._flight:
            self._flying += 1
            flying, began_s = self._flying, time.monotonic()
            try:
                await self.link.publish_bulk("parcel", NO_TERM, piece, str(node))
            finally:
                self._flying -= 1
            return (time.monotonic() - began_s) * 1000 / flying

    def _measure(self, node: int, batch: str, item: int, index: int, count: int, ms: float, parcel_bytes: int) -> None:
        """Tell the command what the sending of a parcel took, once it is whole."""
        sent = self._sent.setdefault((node, batch, item), Sent())
        sent.ms += ms
        sent.pieces.add(index)
        if len(sent.pieces) == count:
            del self._sent[node, batch, item]
            self.desk.spent("sent", batch, item, parcel_bytes, sent.ms)
        elif len(self._sent) > MAX_SENDING:
            self._sent.popitem(last=False)
