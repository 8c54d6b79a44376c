"""The daemon's side of `pneumod.desk`: a command brings a batch, gives the files of its items and is told what came.

What came goes to the disk first and is told from there, so that a command that reads slowly costs no memory, and one
that brings its batch to a daemon that was started again hears all of it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Literal

from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core.leases import is_done
from pneumod.core.node import Node
from pneumod.desk import Accepted, Bring, Came, End, Give, Need, Spent
from pneumod.errors import PneumodError, WireError
from pneumod.logs import component
from pneumod.shell.command import Command, receive
from pneumod.shell.patience import look_away
from pneumod.shell.store import Store
from pneumod.work import PARCEL_BYTES

RETURN_S = 30.0  # a batch from before the start waits so long for its command
LOST_S = 20.0  # without a broker: nothing is spread any more
LOOK_S = 1.0
TURN_S = 2.0  # for the end of the batch before
CACHE_BYTES = 2 * PARCEL_BYTES  # of files that are being sent, or were: they are asked for in several parts

log = component("worker")


class Over(PneumodError):
    """The batch is not on any more, or the item is done."""


class Desk:
    """One batch at a time, on behalf of the command that brought it.

    Attributes:
        batch: whose results are kept; its command may still be on its way back.
        done: its items that came.
    """

    def __init__(self, store: Store, node: Node, feed: Callable[[ev.Event], None]) -> None:
        self.store = store
        self.node = node
        self.feed = feed
        self.batch: str | None = None
        self.done: set[int] = set()
        self._turn = asyncio.Lock()  # of a command
        self._command: Command | None = None
        self._head: bytes | None = None
        self._parcels: dict[int, bytes] = {}  # that are used, and the last that were
        self._wanted: dict[int | None, asyncio.Future[bytes]] = {}  # None: the head
        self._users = Counter[int | None]()
        self._freed = asyncio.Event()  # one of them has what it wanted
        self._at_home: bool | None = None  # whether the broker is of this site; None: there is none
        self._since_s = time.monotonic()  # that is so
        self._trouble: str | None = None  # why the batch can't go on
        self._changed = asyncio.Event()  # one of these three
        self._grew = asyncio.Event()  # the results

    # ---- for the daemon ----

    async def open(self) -> None:
        """Take up the batch that the state knows, before anything else happens; what is left of others goes."""
        offer = self.node.state.durable.batch
        if offer is None or offer.withdrawn:
            await self.store.in_writer(self.store.results.end)
            return
        self.batch = offer.batch
        self.done |= await self.store.in_writer(partial(self.store.results.begin, offer.batch, False))
        if any(is_done(offer, item) and item not in self.done for item in range(offer.items)):
            await self._close()  # the file is lost: nobody can be told what came

    async def run(self) -> None:
        """Serve commands until cancelled. A batch outlives that: its command may bring it to the next daemon."""
        async with asyncio.TaskGroup() as group:
            group.create_task(receive(self.store.folder, self.serve))
            await asyncio.sleep(RETURN_S)
            if self.batch is not None and self._command is None:
                log.info("nobody came for the batch %s: it is withdrawn", self.batch)
                await self._close()

    def moved(self, at_home: bool | None) -> None:
        """The daemon is on a broker, of this site or not; with None, on none any more."""
        self._at_home, self._since_s = at_home, time.monotonic()
        self._changed.set()

    async def deliver(self, came: act.Deliver) -> None:
        """Keep what came of an item; it is on the disk with the next state."""
        if came.batch != self.batch or came.item in self.done:
            return
        self.done.add(came.item)
        self._parcels.pop(came.item, None)
        self._refuse(came.item)
        try:
            await self.store.in_writer(partial(self._keep, Came(came.item, came.data, came.node, came.failed)))
            self._grew.set()
        except PneumodError as error:  # a batch may fill the disk: that is its end, not the node's
            self._trouble = str(error)
            self._changed.set()

    # ---- for whoever needs an item's files ----

    def wants(self, batch: str, item: int | None) -> bool:
        """Whether the item (None: anything of the batch) is still to be done."""
        return batch == self.batch and item not in self.done

    @asynccontextmanager
    async def files(self, batch: str, item: int | None) -> AsyncIterator[bytes]:
        """The parcel of an item, or the head of the batch, as soon as the command gives it; in memory while used.

        Raises:
            Over: it is not wanted, or no longer.
        """
        self._users[item] += 1
        try:
            yield await self._files(batch, item)
        finally:
            self._users[item] -= 1
            if not self._users[item]:
                del self._users[item]
            self._freed.set()

    def spent(self, how: Literal["sent", "worked"], batch: str, item: int, parcel_bytes: int, ms: float) -> None:
        """Tell the command what an item cost this machine."""
        if self._command is not None and batch == self.batch:
            self._command.send(Spent(how, item, parcel_bytes, ms))

    # ---- for commands ----

    async def serve(self, command: Command) -> None:
        """One connection, until it ends."""
        why: str | None = None
        try:
            why = await self._in_turn(command, await command.brings())
        except WireError as error:
            log.warning("a command at the desk sent what has no place there (%s): closed", error)
        except (OSError, asyncio.IncompleteReadError):
            log.debug("a command left the desk")
        except PneumodError as error:  # of the disk: the batch's end, not the node's
            why = str(error)
        finally:
            await command.close(why)

    async def _in_turn(self, command: Command, bring: Bring) -> str | None:
        """Have a batch done, after the one before; why it was refused, or ended from this side."""
        try:
            async with asyncio.timeout(TURN_S):
                await self._turn.acquire()
        except TimeoutError:
            return "this node has a batch of another command"
        self._command = command
        try:
            return await self._work(command, bring)
        finally:
            self._command = None
            self._turn.release()

    async def _work(self, command: Command, bring: Bring) -> str | None:
        if (why := self._objection() or await self._take(bring)) is not None:
            return why
        log.info("a command brought the batch %s: %s, %d items", bring.batch, bring.skill, bring.items)
        me, state = self.node.state.id, self.node.state
        command.send(Accepted(me, tuple(sorted(n for n in {me, *state.sites} if state.same_site(me, n)))))
        self._give(None, bring.head)
        for item in list(self._wanted):
            self._need(item)
        self.feed(ev.Offered(bring.batch, bring.skill, bring.items))
        tasks = [asyncio.create_task(part) for part in (self._hear(command), self._tell(command), self._object())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()
        return next(filter(None, [task.result() for task in done]), None)

    async def _take(self, bring: Bring) -> str | None:
        """Begin a batch, or go on with it; why not, if not."""
        mine = self.node.state.durable.batch
        if mine is None or (mine.batch, mine.skill, mine.items) != (bring.batch, bring.skill, bring.items):
            await self._close()
            await self.store.in_writer(partial(self.store.results.begin, bring.batch, True))
            self.batch = bring.batch
        elif self.batch != bring.batch:
            return "this batch is over: what is left of it needs a name of its own"
        return None

    async def _close(self) -> None:
        """The batch is over, and nothing of it is kept."""
        if self.batch is not None:
            self.batch = self._head = self._trouble = None
            self.done.clear()
            self._parcels.clear()
            for item in list(self._wanted):
                self._refuse(item)
            self.feed(ev.Withdrawn())
            await self.store.in_writer(self.store.results.end)

    # ---- while a batch is on: the first of these that ends is its end ----

    async def _hear(self, command: Command) -> None:
        """Take files, until the command has enough."""
        while not isinstance(frame := await command.read(), End):
            if not isinstance(frame, Give):
                raise WireError(type(frame).__name__)
            self._give(frame.item, frame.parcel)
            while sum(len(data) for item, data in self._parcels.items() if self._users[item]) >= CACHE_BYTES:
                self._freed.clear()
                await self._freed.wait()

    async def _tell(self, command: Command) -> None:
        """Tell what came, from the first item on."""
        start = 0
        while True:
            self._grew.clear()
            frames, start = await self.store.in_writer(partial(self.store.results.read, start))
            if frames:
                await command.tell(frames)
            else:
                await self._grew.wait()

    async def _object(self) -> str:
        """Wait until the batch can't be spread any more; why."""
        while (why := self._objection()) is None:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
        return why

    def _objection(self) -> str | None:
        if self._at_home is False:
            return "the broker in use is not marked as one of this site (brokers: site)"
        if self._at_home is None and time.monotonic() - self._since_s >= LOST_S:
            return "this node is on no broker"
        return self._trouble

    # ---- files ----

    async def _files(self, batch: str, item: int | None) -> bytes:
        if not self.wants(batch, item):
            raise Over("the batch is over, or the item is done")
        data = self._head if item is None else self._parcels.get(item)
        if data is not None:
            return data
        if item not in self._wanted:
            self._wanted[item] = asyncio.get_running_loop().create_future()
            self._wanted[item].add_done_callback(look_away)
            self._need(item)
        return await asyncio.shield(self._wanted[item])

    def _need(self, item: int | None) -> None:
        """Ask the command for an item's files, where it is here; it has given the head already."""
        if item is not None and self._command is not None:
            self._command.send(Need(item))

    def _give(self, item: int | None, data: bytes) -> None:
        """Files, or the head, for those who wait. What nobody asked for is let go."""
        future = self._wanted.pop(item, None)
        if future is not None:
            future.set_result(data)
        if item is None:
            self._head = data
        elif future is not None:
            self._parcels[item] = data
            for old in [old for old in self._parcels if not self._users[old]]:
                if sum(map(len, self._parcels.values())) > CACHE_BYTES:
                    del self._parcels[old]

    def _refuse(self, item: int | None) -> None:
        if (future := self._wanted.pop(item, None)) is not None:
            future.set_exception(Over("the batch is over, or the item is done"))

    def _keep(self, came: Came) -> None:
        self.store.look()
        self.store.results.append(came)
