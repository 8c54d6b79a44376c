"""The daemon of one node: whatever happens becomes one event for the core; its actions run in order.

        bus, children, timer, signals ──> feed(event) ──> Node.step ──> one queue ──> disk, bus, children

`feed` is the only way in. One task runs the queue, so that a Persist is on the disk before what follows
it; only heartbeats overtake, since a slow disk must not look like a dead node, and the cleared beacon of a
master whose disk is slow, which says nothing that has to be on the disk first. (It is queued too: what waits
there from before may hold a last beacon.)
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import assert_never

import msgspec

from pneumod import __version__
from pneumod.bus import Incoming
from pneumod.config import NodeConfig, roster_place
from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core.jobs import Prepare
from pneumod.core.node import Node
from pneumod.errors import PneumodError
from pneumod.logs import component
from pneumod.messages import NO_TERM, BlobWant, Card, Chunk, Gone, ParcelWant, Piece
from pneumod.shell.items import room
from pneumod.shell.jobs import Jobs
from pneumod.shell.link import Link
from pneumod.shell.patience import ends_within, look_away
from pneumod.shell.store import Store
from pneumod.work import Skill

TRAINER = "pneumod.children.trainer"
SKILLS: tuple[Skill, ...] = ("preprocess", "predict")  # every node can: it needs no TensorFlow
MAX_ACTIONS = 100_000  # waiting to be done
DISK_SLOW_S = 3.0
VITALS_S = 1.0
DRAIN_S = 1.0  # for what was said last
STOP_S = 2.5  # for the parts and their children
EXIT_S = 4.5  # a clean stop takes no longer, whatever hangs: the disk, a thread, the log

log = component("worker")


class Daemon:
    """One running node. `trainer` names the module of the child that trains; benchmarks have one that only pretends."""

    def __init__(self, config: NodeConfig, trainer: str = TRAINER) -> None:
        self.config = config
        self.store = Store(config.state_dir, config.cluster)
        boot, durable, held = self.store.load()
        cores = os.cpu_count() or 1
        card = Card(config.name, __version__, cores)
        self.node = Node(
            config.node_id,
            roster_place(config),
            boot,
            durable,
            held,
            card,
            Prepare(*msgspec.structs.astuple(config.run.preparation)),
            config.data.share_counts,
            config.roster,
            SKILLS,
            room(config),
        )
        self.link = Link(config, boot, self._connected, self._disconnected, self._received)
        self.link.led = durable.term.node == config.node_id
        self.jobs = Jobs(config, trainer, self.link, self.store, self.node, self.feed)
        self._actions: asyncio.Queue[act.Action] = asyncio.Queue()
        self._halted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._due_ms = 0  # of the timer

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT, then stop cleanly.

        Raises:
            PneumodError: the state directory can't be written any more.
        """
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop)
        log.info("node %d (%s) of cluster %s starts", self.config.node_id, self.config.name, self.config.cluster)
        await self.jobs.desk.open()
        self.feed(self.store.missing or ev.Tick())
        parts = [*self.jobs.parts(), self._act(), self.link.run(), self._vitals()]
        tasks: set[asyncio.Future[None]] = {asyncio.create_task(part) for part in parts}
        for task in tasks:
            task.add_done_callback(look_away)  # the first failure is told; a full disk may meet several parts
        done, _ = await asyncio.wait({self._halted, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks - done:
            task.cancel()
        self._halted.cancel()  # nothing is fed any more, where a part ended the daemon
        await asyncio.wait(tasks, timeout=STOP_S)
        self.store.close()
        for ended in done:
            ended.result()  # raises what ended it
        log.info("stopped")

    def _stop(self) -> None:
        """The operator's signal. What hangs can't be waited for: a thread in a write to a dead disk never ends."""
        self.feed(ev.Stopping())
        limit = threading.Timer(EXIT_S, os._exit, [1])
        limit.daemon = True
        limit.start()

    def feed(self, event: ev.Event) -> None:
        """The one way in: step the core, queue its actions, arm the timer.

        What fails in here ends the daemon, also when a timer or a signal called.
        """
        if self._halted.done():
            return
        try:
            self._step(event)
        except Exception as error:
            self._halted.set_exception(error)

    def _step(self, event: ev.Event) -> None:
        for action in self.node.step(event, _now_ms()):
            if isinstance(action, act.Publish) and action.kind == "beat":
                self.link.send(action.kind, action.term, action.message)
                continue
            if isinstance(event, ev.DiskSlow) and _clears_beacon(action):
                self.link.send("beacon", NO_TERM, None)  # it steps down: the first heir needn't wait for the disk
            assert self._actions.qsize() < MAX_ACTIONS, "the actions pile up"
            self._actions.put_nowait(action)
        self._arm(self.node.deadline_ms())

    def _arm(self, due_ms: int) -> None:
        """Have a Tick when it is due. Most events leave that time as it is."""
        if self._timer is not None:
            if due_ms == self._due_ms:
                return
            self._timer.cancel()
        self._due_ms = due_ms
        delay_s = max((due_ms - _now_ms()) / 1000, 0.001)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.feed(ev.Tick())

    async def _act(self) -> None:
        while True:
            await self._do(await self._actions.get())

    async def _do(self, action: act.Action) -> None:
        match action:
            case act.Persist(durable=durable):
                await self._persist(durable)
            case act.Publish(kind=kind, term=term, message=message, dest=dest, correlation=correlation):
                self.link.send(kind, term, message, dest, correlation)
            case act.Broadcast(digest=digest):
                self.jobs.transfers.broadcast(digest)
            case act.Start(job=job):
                self.jobs.start(job)
            case act.Cancel(job=job):
                self.jobs.cancel(job)
            case act.Watch(on=on):
                self.link.watch(on)
            case act.Keep(digests=digests):
                await self.store.keep(digests)
            case act.Archive(digest=digest, run=run, round=round_):
                if missing := await self.store.archive(digest, run, round_):
                    self.feed(missing)
            case act.Log(component=name, level=level, text=text):
                getattr(component(name), level)(text)
            case act.Deliver():
                await self.jobs.desk.deliver(action)
            case act.Halt():
                await self.link.drain(DRAIN_S)
                if not self._halted.done():
                    self._halted.set_result(None)
            case _:
                assert_never(action)

    async def _persist(self, durable: act.Durable) -> None:
        """Write the state; a write that takes long is told to the core while it still runs."""
        started_s = time.monotonic()
        writing = asyncio.ensure_future(self.store.persist(durable))
        writing.add_done_callback(look_away)  # a daemon that stops doesn't wait for it
        if not await ends_within(writing, DISK_SLOW_S):
            self.feed(ev.DiskSlow(round((time.monotonic() - started_s) * 1000)))  # first: the log is on that disk too
            log.warning("the disk of %s is slow", self.config.state_dir)
        await writing

    def _connected(self, number: int, at_home: bool) -> None:
        self.jobs.desk.moved(at_home)
        self.feed(ev.Connected(number, at_home))

    def _disconnected(self) -> None:
        self.jobs.desk.moved(None)
        self.feed(ev.Disconnected())

    def _received(self, incoming: Incoming) -> None:
        """Blobs and the files of work items go to those who move them, between nodes only; all else is the core's."""
        message, node = incoming.envelope.message, incoming.envelope.node
        transfers, parcels = self.jobs.transfers, self.jobs.parcels
        match message:
            case BlobWant():
                transfers.hear_want(incoming.envelope.sender, message)
            case Chunk():
                own = message.digest in self.node.state.held  # one's own broadcast, come back
                if node is not None and not own:  # operators have no blobs
                    transfers.hear_chunk(message)
            case Piece() if node is not None:
                parcels.hear_piece(node, message)
            case ParcelWant() if node is not None:
                parcels.hear_want(node, message)
            case _:
                if isinstance(message, Gone):
                    transfers.forget(incoming.envelope.sender)
                kind = incoming.address.kind.name
                self.feed(ev.Received(kind, incoming.envelope, incoming.retained, incoming.correlation))

    async def _vitals(self) -> None:
        cores = os.cpu_count() or 1
        while True:
            sent, received, dropped = self.link.totals()
            self.feed(ev.Vitals(os.getloadavg()[0] / cores, sent, received, dropped + self.jobs.dropped))
            await asyncio.sleep(VITALS_S)


def _clears_beacon(action: act.Action) -> bool:
    return isinstance(action, act.Publish) and action.kind == "beacon" and action.message is None


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def run_daemon(config: NodeConfig, trainer: str = TRAINER) -> None:
    """Run the node of `config` until it is stopped.

    Raises:
        PneumodError: the state directory is in use or can't be written.
    """

    async def main() -> None:
        try:
            await Daemon(config, trainer).run()
        except* PneumodError as group:
            raise group.exceptions[0] from None

    asyncio.run(main())
