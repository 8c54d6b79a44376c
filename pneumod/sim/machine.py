"""One machine: the daemon of a node as the shell runs it, on a virtual disk, bus and children.

As in the shell, an event steps the core at once, and its actions go through one ordered queue that waits for
the disk. Only beats overtake.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core.jobs import Check, Close, Fetch, Job, Prepare, Work
from pneumod.core.node import Node
from pneumod.messages import Card
from pneumod.sim.children import Child, Luck
from pneumod.sim.clock import Clock
from pneumod.sim.disk import Disk, Wear
from pneumod.sim.link import Link
from pneumod.sim.transfers import Transfers
from pneumod.work import Skill

if TYPE_CHECKING:
    from pneumod.sim.world import World

DISK_SLOW_MS = 3_000
PREPARE = Prepare(96)
FOR_THE_DISK = (act.Persist, act.Keep, act.Archive, act.Deliver)
SKILLS: tuple[Skill, ...] = ("preprocess", "predict")


class Machine:
    """One machine: the disk survives a crash, the rest doesn't."""

    def __init__(self, world: World, node_id: int, place: int, slowness: float, wear: Wear, luck: Luck) -> None:
        self.world = world
        self.clock: Clock = world
        self.id = node_id
        self.sender = str(node_id)
        self.place = place
        self.slowness = slowness
        self.disk = Disk(world.random, wear, world.receipts)
        self.trainer = Child(self, world.random, luck)
        self.light = Child(self, world.random, luck)
        self.transfers = Transfers(self)
        self.node: Node | None = None  # None: the process doesn't run
        self.life = 0  # starts of the process: what an earlier one left on the clock doesn't reach this one
        self.link = Link(self)
        self.frozen_until_ms = 0
        self.waiting: deque[ev.Event] = deque()  # for a frozen process
        self.actions: deque[act.Action] = deque()
        self.writing: act.Action | None = None
        self.timer_ms = -1

    @property
    def up(self) -> bool:
        return self.node is not None

    @property
    def reachable(self) -> bool:
        """Whether a message would come through to the running process now."""
        return self.link.session is not None and self.link.session.stalled_ms is None

    @property
    def steady_ms(self) -> int:
        """For how long messages have come through to the running process without a stop."""
        session = self.link.session
        return self.clock.now_ms - session.since_ms if session is not None and session.stalled_ms is None else 0

    @property
    def durable(self) -> act.Durable:
        return self.disk.durable

    @property
    def blobs(self) -> set[str]:
        return self.disk.blobs

    # ---- the process ----

    def start(self) -> None:
        """The process starts: it reads its disk and connects."""
        if self.up:
            return
        self.life += 1
        boot, card = self.disk.start(self.clock.now_ms), Card(f"node {self.id}", "sim", 1)
        held, sites = frozenset(self.disk.blobs), self.world.sites
        self.node = Node(
            self.id, self.place, boot, self.disk.durable, held, card, PREPARE,
            sites=sites, skills=SKILLS, room=self.world.room,
        )  # fmt: skip
        self.link.number, self.timer_ms = 0, -1
        self.step(self.disk.missing() or ev.Tick())
        self.link.connect_later()

    def kill(self) -> None:
        """SIGKILL. A write under way is over or was never begun; the connection ends before the eyes of the broker."""
        if isinstance(self.writing, act.Persist) and self.world.random.random() < 0.5:
            self._finish(self.writing)
        self.node = None
        self.life += 1
        self.writing = None
        self.frozen_until_ms = 0
        self.waiting.clear()
        self.actions.clear()
        self.transfers.fetching.clear()
        self.trainer.kill()
        self.light.kill()
        self.link.drop()

    def feed(self, event: ev.Event) -> None:
        """The one way in."""
        if self.node is None:
            return
        if self.clock.now_ms < self.frozen_until_ms:
            self.waiting.append(event)
        else:
            self.step(event)

    def feed_in(self, life: int, event: ev.Event) -> None:
        """Something that this life of the process has set going."""
        if life == self.life:
            self.feed(event)

    def fail(self, job: Job, why: str, again: bool = False) -> None:
        """A job that failed may have met a damaged blob: the daemon looks at what is left."""
        life = self.life
        self.feed(ev.BlobsFound(frozenset(self.disk.blobs)))
        self.feed_in(life, ev.JobFailed(job, why, again))

    def fail_in(self, life: int, job: Job, why: str) -> None:
        """A job of this life of the process was dropped."""
        if life == self.life:
            self.fail(job, why)

    def step(self, event: ev.Event) -> None:
        node = self.node
        assert node is not None
        for action in node.step(event, self.clock.now_ms):
            if isinstance(action, act.Publish) and action.kind == "beat":
                self.link.send(action)
            else:
                self.actions.append(action)
        if self.actions and self.writing is None:
            self._work_off()
        if self.node is node:
            self._arm()
            for watcher in self.world.watchers:
                watcher(self, event)

    def _arm(self) -> None:
        assert self.node is not None
        now_ms = self.clock.now_ms
        due_ms = max(self.node.deadline_ms(), now_ms + 1)
        if not now_ms < self.timer_ms <= due_ms:
            self.timer_ms = due_ms
            self.clock.at(due_ms, self._ring, self.life, due_ms)

    def _ring(self, life: int, due_ms: int) -> None:
        if life != self.life or due_ms != self.timer_ms or self.node is None or due_ms < self.frozen_until_ms:
            return
        if self.node.deadline_ms() > due_ms:
            self._arm()  # it was put off meanwhile
        else:
            self.step(ev.Tick())

    # ---- its actions ----

    def _work_off(self) -> None:
        while self.actions and self.writing is None:
            action = self.actions.popleft()
            wait_ms = self.disk.write_ms() if isinstance(action, FOR_THE_DISK) else 0
            if wait_ms:
                self.writing = action
                self.clock.after(wait_ms, self._written, self.life, action)
                if isinstance(action, act.Persist) and wait_ms > DISK_SLOW_MS:
                    self.clock.after(DISK_SLOW_MS, self.feed_in, self.life, ev.DiskSlow(DISK_SLOW_MS))
                return
            self._end(action)

    def _written(self, life: int, action: act.Action) -> None:
        if life != self.life:
            return
        if self.clock.now_ms < self.frozen_until_ms:
            self.clock.at(self.frozen_until_ms, self._written, life, action)
            return
        self.writing = None
        self._end(action)
        self._work_off()

    def _end(self, action: act.Action) -> None:
        """Do an action; the process may die behind each."""
        self._finish(action)
        if self.world.crash_chance and self.world.random.random() < self.world.crash_chance:
            self.world.crashes.append(self.id)
            self.kill()

    def _finish(self, action: act.Action) -> None:
        """Do an action; one for the disk is over by now."""
        for observer in self.world.observers:
            observer(self.world, self, action)
        match action:
            case act.Publish():
                self.link.send(action)
            case act.Persist(durable=durable):
                self.disk.durable = durable
            case act.Start(job=Fetch() as job):
                self.transfers.fetch(job)
            case act.Start(job=job):
                self._child_for(job).submit(job)
            case act.Cancel(job=Fetch() as job):
                self.transfers.cancel(job)
            case act.Cancel(job=job):
                self._child_for(job).cancel(job)
            case act.Watch(on=on):
                self.link.watch(on)
            case act.Keep(digests=digests):
                self.disk.blobs &= digests
            case act.Archive(digest=digest, run=run, round=round_):
                if (missing := self.disk.archive(digest, run, round_)) is not None:
                    self.clock.after(0, self.feed_in, self.life, missing)
            case act.Deliver(batch=batch, item=item, data=data):
                self.disk.delivered[batch, item] = data
            case act.Halt():
                self.link.drop(clean=True)
                self.kill()

    def _child_for(self, job: Job) -> Child:
        """As the shell's; work on images will be the light child's, once the shell has some."""
        return self.light if isinstance(job, Prepare | Check | Close | Work) else self.trainer

    # ---- sleep ----

    def freeze(self, for_ms: int) -> None:
        """SIGSTOP, then SIGCONT: what comes meanwhile waits."""
        if self.up:
            self.frozen_until_ms = max(self.frozen_until_ms, self.clock.now_ms + for_ms)
            self.link.stall()
            self.clock.after(for_ms, self.wake)

    def wake(self) -> None:
        """A freeze or a silence may be over: what waited comes and the clock is seen, in either order."""
        if self.node is None or self.clock.now_ms < self.frozen_until_ms:
            return
        late = self.world.random.random() < 0.5
        if not late:
            self.step(ev.Tick())
        while self.waiting:
            self.feed(self.waiting.popleft())
        self.link.resume()
        if late:
            self.feed(ev.Tick())
