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
from pneumod.core.jobs import Check, Close, Fetch, Job, Prepare, Work
from pneumod.core.node import Node
from pneumod.errors import PneumodError
from pneumod.logs import component
from pneumod.messages import NO_TERM, BlobWant, Card, Chunk, Gone
from pneumod.shell.link import Link
from pneumod.shell.patience import ends_within, look_away
from pneumod.shell.store import Store
from pneumod.shell.transfers import Transfers
from pneumod.shell.worker import Worker

TRAINER = "pneumod.children.trainer"
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
        )
        self.link = Link(config, boot, self._connected, self._disconnected, self._received)
        self.link.led = durable.term.node == config.node_id
        self.transfers = Transfers(
            self.link, self.store, self._from_job, self._may_have, lambda: self._ends.put_nowait(None)
        )
        self.trainer = Worker(trainer, config.path, "train", self._from_job)
        self.light = Worker("pneumod.children.light", config.path, "preprocess", self._from_job)
        self._actions: asyncio.Queue[act.Action] = asyncio.Queue()
        self._halted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._due_ms = 0  # of the timer
        self._ends: asyncio.Queue[ev.JobDone | ev.JobFailed | None] = asyncio.Queue()  # at most one of each job

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT, then stop cleanly.

        Raises:
            PneumodError: the state directory can't be written any more.
        """
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop)
        log.info("node %d (%s) of cluster %s starts", self.config.node_id, self.config.name, self.config.cluster)
        self.feed(self.store.missing or ev.Tick())
        parts = [self.transfers.run(), self._act(), self._tell_ends(), self.link.run(), self._vitals()]
        parts += [self.trainer.run(), self.light.run()]  # the transfers first: what acts may start a fetch
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
                self.transfers.broadcast(digest)
            case act.Start(job=job):
                self._start(job)
            case act.Cancel(job=job):
                self._cancel(job)
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
                raise AssertionError("no batch was offered: this node has no skills yet, and offers none")
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

    def _start(self, job: Job) -> None:
        if isinstance(job, Fetch):
            self.transfers.fetch(job)
        else:
            self._child_for(job).submit(job)

    def _cancel(self, job: Job) -> None:
        if isinstance(job, Fetch):
            self.transfers.cancel(job)
        else:
            self._child_for(job).cancel(job)

    def _child_for(self, job: Job) -> Worker:
        return self.light if isinstance(job, Prepare | Check | Close | Work) else self.trainer

    def _from_job(self, event: ev.Event) -> None:
        """What a job tells on its way is fed at once, its end in its turn."""
        if isinstance(event, ev.JobDone | ev.JobFailed):
            self._ends.put_nowait(event)
        else:
            self.feed(event)

    async def _tell_ends(self) -> None:
        """Feed the ends of jobs in their order; before a failure, and for None, what is left on the disk.

        A job that failed may have met a damaged blob, or a full disk. A full disk ends the daemon at once: it can
        neither lead nor answer, and others can. No end overtakes another: the core would take it for that of an
        equal job, which it has cancelled; and a look can't miss the blob of a job that was done before.
        """
        while True:
            event = await self._ends.get()
            if event is None or (isinstance(event, ev.JobFailed) and event.job not in self.node.state.cancelled):
                self.feed(ev.BlobsFound(await self.store.in_writer(self.store.look)))
            if event is not None:
                self.feed(event)

    def _connected(self, number: int) -> None:
        self.feed(ev.Connected(number))

    def _disconnected(self) -> None:
        self.feed(ev.Disconnected())

    def _received(self, incoming: Incoming) -> None:
        """Blob traffic goes to the transfers; all else is the core's."""
        message, kind = incoming.envelope.message, incoming.address.kind.name
        if isinstance(message, Chunk):
            own = message.digest in self.node.state.held  # one's own broadcast, come back
            if incoming.envelope.node is not None and not own:  # operators have no blobs
                self.transfers.hear_chunk(message)
        elif isinstance(message, BlobWant):
            self.transfers.hear_want(incoming.envelope.sender, message)
        else:
            if isinstance(message, Gone):
                self.transfers.forget(incoming.envelope.sender)
            self.feed(ev.Received(kind, incoming.envelope, incoming.retained, incoming.correlation))

    def _may_have(self, sender: str, digest: str) -> bool:
        """An update is served to the master only, the blobs of the run's state and receipts to any node."""
        result = self.node.state.durable.result
        if result is not None and result.update is not None and result.update.digest == digest:
            return sender == str(self.node.leader)
        return sender.isdigit() and (digest in self.node.trainee.library.shareable() or digest in self.store.receipts)

    async def _vitals(self) -> None:
        cores = os.cpu_count() or 1
        while True:
            sent, received, dropped = self.link.totals()
            self.feed(ev.Vitals(os.getloadavg()[0] / cores, sent, received, dropped + self.transfers.dropped))
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
