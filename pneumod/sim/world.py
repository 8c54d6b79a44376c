"""A cluster on one virtual clock: machines with a disk, a link to the bus, children and the real core."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random

from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core.jobs import Check, Close, Export, Fetch, Initialise, Job, Prepare, Train
from pneumod.core.node import Node
from pneumod.messages import NO_TERM, Card, Envelope, Gone, Message
from pneumod.sim.bus import Bus, Topic, Weather
from pneumod.sim.children import made_by, outcome_of

JOB_MS: dict[type, tuple[int, int]] = {
    Prepare: (50, 400),
    Initialise: (500, 2_000),
    Train: (2_000, 8_000),
    Check: (5, 30),
    Close: (20, 200),
    Export: (200, 900),
    Fetch: (20, 300),
}
FETCH_TIMEOUT_MS = 3_000
RECONNECT_MS = (200, 2_000)


class Machine:
    """One machine: what survives a crash (the disk) and what doesn't."""

    def __init__(self, node_id: int, slowness: float) -> None:
        self.id = node_id
        self.sender = str(node_id)
        self.slowness = slowness
        self.durable = act.Durable()
        self.blobs: set[str] = set()
        self.boot = 0
        self.connection = 0
        self.node: Node | None = None  # None: the process doesn't run
        self.connected = False
        self.cut_until_ms = 0  # no way to the broker before
        self.frozen_until_ms = 0
        self.waiting: deque[ev.Event] = deque()  # events of a frozen process
        self.timer_ms = -1
        self.jobs: dict[Job, int] = {}  # running, with the life they belong to

    @property
    def up(self) -> bool:
        return self.node is not None


Observer = Callable[["World", Machine, act.Action], None]


class World:
    """The whole cluster. `observers` see every action before it is done."""

    def __init__(self, seed: int, node_ids: list[int], weather: Weather | None = None, slowest: float = 1.0) -> None:
        self.random = Random(seed)
        self.now_ms = 0
        self.bus = Bus(self.random, weather or Weather(), self._deliver)
        self.machines = {n: Machine(n, self.random.uniform(1.0, slowest)) for n in node_ids}
        self.observers: list[Observer] = []
        self.replies: list[Envelope] = []
        self.crash_chance = 0.0  # between two actions of a step
        self.crashes: list[int] = []  # nodes that crashed in the middle of a step, for whoever starts them again
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0

    def at(self, at_ms: int, call: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (max(at_ms, self.now_ms), self._sequence, call))

    def run(self, until_ms: int) -> None:
        while self._queue and self._queue[0][0] <= until_ms:
            self.now_ms, _, call = heapq.heappop(self._queue)
            call()
        self.now_ms = until_ms

    def run_until(self, condition: Callable[[], bool], limit_ms: int) -> bool:
        """Run in steps of 100 ms until a condition holds; whether it did."""
        end_ms = self.now_ms + limit_ms
        while self.now_ms < end_ms:
            if condition():
                return True
            self.run(self.now_ms + 100)
        return condition()

    def start(self, node_id: int) -> None:
        """Start a node's process: it reads its disk and connects."""
        machine = self.machines[node_id]
        if machine.up:
            return
        machine.boot += 1
        card = Card(f"node {node_id}", "sim", 1)
        place = sorted(self.machines).index(node_id)
        machine.node = Node(node_id, place, machine.boot, machine.durable, frozenset(machine.blobs), card, 96)
        machine.timer_ms = -1
        self._step(machine, ev.Tick())
        self._connect_later(machine)

    def crash(self, node_id: int, lose_disk: bool = False) -> None:
        """SIGKILL; the broker says the Will."""
        machine = self.machines[node_id]
        machine.node = None
        machine.waiting.clear()
        machine.jobs.clear()
        machine.frozen_until_ms = 0
        if lose_disk:
            machine.durable, machine.blobs, machine.boot = act.Durable(), set(), machine.boot + 1_000
        self._drop_link(machine)

    def freeze(self, node_id: int, for_ms: int) -> None:
        """SIGSTOP, then SIGCONT: its events wait."""
        self.machines[node_id].frozen_until_ms = self.now_ms + for_ms
        self.at(self.now_ms + for_ms, lambda: self._thaw(self.machines[node_id]))

    def cut(self, node_id: int, for_ms: int) -> None:
        """The way to the broker is gone for a while."""
        machine = self.machines[node_id]
        machine.cut_until_ms = self.now_ms + for_ms
        self._lose_link(machine)

    def broker_outage(self, for_ms: int, keep_retained: bool) -> None:
        self.bus.up = False
        for machine in self.machines.values():
            self._lose_link(machine)
        self.bus.restart(keep_retained)
        self.at(self.now_ms + for_ms, lambda: setattr(self.bus, "up", True))

    def ask(self, operator: str, node_id: int, message: Message) -> None:
        """An operator sends a request to a node."""
        self.bus.connected[operator] = None
        self.bus.publish(self.now_ms, Topic(operator, "request", str(node_id)), Envelope(operator, NO_TERM, message))

    def leaders(self) -> list[int]:
        return [m.id for m in self.machines.values() if m.node is not None and m.node.conductor is not None]

    def _connect_later(self, machine: Machine) -> None:
        boot = machine.boot
        self.at(self.now_ms + self.random.randint(*RECONNECT_MS), lambda: self._connect(machine, boot))

    def _connect(self, machine: Machine, boot: int) -> None:
        if machine.node is None or machine.connected or machine.boot != boot:
            return
        if not self.bus.up or self.now_ms < machine.cut_until_ms or self.now_ms < machine.frozen_until_ms:
            self._connect_later(machine)
            return
        machine.connection += 1
        machine.connected = True
        gone = Gone(machine.boot, machine.connection)
        self.bus.connect(self.now_ms, machine.sender, Envelope(machine.sender, NO_TERM, gone))
        self._step(machine, ev.Connected(machine.connection))

    def _drop_link(self, machine: Machine, clean: bool = False) -> None:
        if machine.connected:
            machine.connected = False
            self.bus.disconnect(self.now_ms, machine.sender, clean)

    def _lose_link(self, machine: Machine) -> None:
        if machine.connected:
            self._drop_link(machine)
            self._event(machine, ev.Disconnected())
            if machine.up:
                self._connect_later(machine)

    def _deliver(self, at_ms: int, receiver: str, event: ev.Received) -> None:
        if not receiver.isdigit():
            self.at(at_ms, lambda: self.replies.append(event.envelope))
            return
        machine = self.machines[int(receiver)]
        boot, connection = machine.boot, machine.connection

        def arrive() -> None:
            if machine.connected and (machine.boot, machine.connection) == (boot, connection):
                self._event(machine, event)

        self.at(at_ms, arrive)

    def _event(self, machine: Machine, event: ev.Event) -> None:
        if machine.node is None:
            return
        if self.now_ms < machine.frozen_until_ms:
            machine.waiting.append(event)
        else:
            self._step(machine, event)

    def _thaw(self, machine: Machine) -> None:
        if machine.node is None or self.now_ms < machine.frozen_until_ms:
            return
        self._step(machine, ev.Tick())
        while machine.waiting and machine.node is not None:
            self._step(machine, machine.waiting.popleft())

    def _step(self, machine: Machine, event: ev.Event) -> None:
        node = machine.node
        assert node is not None
        for action in node.step(event, self.now_ms):
            for observer in self.observers:
                observer(self, machine, action)
            self._do(machine, action)
            if self.crash_chance and self.random.random() < self.crash_chance:
                self.crash(machine.id)
                self.crashes.append(machine.id)
            if machine.node is None:
                return
        self._arm(machine, node)

    def _arm(self, machine: Machine, node: Node) -> None:
        due_ms = max(node.deadline_ms(), self.now_ms + 1)
        if machine.timer_ms > self.now_ms and machine.timer_ms <= due_ms:
            return
        machine.timer_ms = due_ms
        boot = machine.boot

        def ring() -> None:
            if machine.boot == boot and machine.timer_ms == due_ms:
                self._event(machine, ev.Tick())

        self.at(due_ms, ring)

    def _do(self, machine: Machine, action: act.Action) -> None:
        match action:
            case act.Persist(durable=durable):
                machine.durable = durable
            case act.Publish(kind=kind, term=term, message=message, dest=dest, correlation=correlation):
                if machine.connected:
                    topic = Topic(machine.sender, kind, dest)
                    self.bus.publish(self.now_ms, topic, Envelope(machine.sender, term, message), correlation)
            case act.Watch(on=on):
                if machine.connected:
                    self.bus.watch(self.now_ms, machine.sender, on)
            case act.Start(job=job):
                self._start_job(machine, job)
            case act.Cancel(job=job):
                if machine.jobs.pop(job, None) is not None:
                    self.at(self.now_ms, lambda: self._event(machine, ev.JobFailed(job, "cancelled")))
            case act.Keep(digests=digests):
                machine.blobs &= digests
            case act.Halt():
                machine.node = None
                self._drop_link(machine, clean=True)

    def _start_job(self, machine: Machine, job: Job) -> None:
        token = machine.jobs[job] = self._sequence
        low, high = JOB_MS[type(job)]
        took_ms = int(self.random.randint(low, high) * machine.slowness)
        source = self._holder(job) if isinstance(job, Fetch) else None
        if isinstance(job, Fetch) and source is None:
            took_ms = FETCH_TIMEOUT_MS

        def end() -> None:
            if machine.node is None or machine.jobs.get(job) != token:
                return
            if self.now_ms < machine.frozen_until_ms:
                self.at(machine.frozen_until_ms + 1, end)
                return
            del machine.jobs[job]
            self._end_job(machine, job)

        self.at(self.now_ms + took_ms, end)

    def _end_job(self, machine: Machine, job: Job) -> None:
        outcome = outcome_of(job, machine.id)
        if isinstance(job, Fetch):
            if self._holder(job) is None or not machine.connected:
                self._event(machine, ev.JobFailed(job, "nobody sent it"))
                return
            machine.blobs.add(job.blob.digest)
        if isinstance(outcome, str):
            self._event(machine, ev.JobFailed(job, outcome))
            return
        machine.blobs |= {made.digest for made in made_by(outcome)}
        self._event(machine, ev.JobDone(job, outcome))

    def _holder(self, job: Fetch) -> int | None:
        for node_id in job.holders:
            holder = self.machines.get(node_id)
            if holder is not None and holder.connected and job.blob.digest in holder.blobs:
                return node_id
        return None
