"""Virtual children: jobs that take a drawn time and make blobs whose names follow from what went in."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from pneumod.core import events as ev
from pneumod.core import jobs as j
from pneumod.messages import BlobRef, ClassCounts, Scores
from pneumod.sim.clock import Span, draw

if TYPE_CHECKING:
    from pneumod.sim.machine import Machine

MODEL_BYTES = 400_000
PROGRESS_MS = 2_000  # a child that trains tells how far it is
JOB_MS: dict[type[j.Job], Span] = {
    j.Prepare: (50, 400),
    j.Initialise: (500, 2_000),
    j.Train: (2_000, 8_000),
    j.Check: (5, 30),
    j.Close: (20, 200),
    j.Export: (200, 900),
    j.Work: (20, 400),
}
QUIET_MS: dict[type[j.Job], int] = {  # a child that sends nothing for so long hangs, and is ended, as in the shell
    j.Prepare: 120_000,
    j.Train: 120_000,
    j.Check: 120_000,
    j.Close: 300_000,
    j.Initialise: 300_000,
    j.Export: 600_000,
    j.Work: 120_000,
}
START_MS = 180_000  # more for the first job of a child
DIED, HUNG = "the child died (-9)", "the child hung"


class Luck(Struct, frozen=True):
    """How often the children fail."""

    dies: float = 0.0
    hangs: float = 0.0


def blob(*parts: object) -> BlobRef:
    """A blob named by what it was made of."""
    return BlobRef(blake2b(repr(parts).encode(), digest_size=32).hexdigest(), MODEL_BYTES)


def counts_of(node: int) -> ClassCounts:
    return ClassCounts(40 + node % 7, 60, 10, 15)


def outcome_of(job: j.Job, node: int) -> j.Outcome | str:
    """What a job comes to on this node, or why it fails. Same input, same output, as the real ones."""
    match job:
        case j.Prepare():
            return j.Prepared(counts_of(node), 0)
        case j.Initialise(spec=spec):
            return j.Initialised(blob("model", spec.run, 0), blob("checkpoint", spec.run, 0), (20, 20))
        case j.Train(opened=opened):
            update = blob("update", opened.key, node) if opened.train else None
            return j.Trained(_scores(opened.round, node), update, counts_of(node).train, 0.5, 1_000)
        case j.Check(node=of, update=update, opened=opened):
            good = update == blob("update", opened.key, of)
            return j.Checked() if good else "the update has another base"
        case j.Close(opened=opened, previous=previous, contributions=contributions):
            counted = tuple(c for c in contributions if c.update is not None)
            model = blob("model", opened.key, counted) if counted else previous.model
            receipt = blob("receipt", opened.key, contributions, previous.receipt)
            return j.Closed(model, blob("checkpoint", model, job.best, receipt), receipt, (20, 20))
        case j.Export(best=best):
            return j.Exported(best.model.digest)
        case j.Fetch():
            return j.Fetched()
        case j.Work(owner=owner, batch=batch, item=item):
            return j.Worked(f"{owner} {batch} {item}".encode())


def made_by(outcome: j.Outcome) -> list[BlobRef]:
    """The blobs that a job leaves on the disk."""
    match outcome:
        case j.Initialised(model=model, checkpoint=checkpoint):
            return [model, checkpoint]
        case j.Closed(model=model, checkpoint=checkpoint, receipt=receipt):
            return [model, checkpoint, receipt]
        case j.Trained(update=update) if update is not None:
            return [update]
    return []


def named_by(job: j.Close) -> ev.ReceiptMissing | None:
    """The receipt before the one that a job writes, as that one says."""
    before = job.previous.receipt
    return ev.ReceiptMissing(before, job.opened.run, job.previous.round) if before is not None else None


def read_by(job: j.Job) -> list[BlobRef]:
    """The blobs that a job reads from the disk."""
    match job:
        case j.Train(opened=opened):
            return [opened.base]
        case j.Check(update=update, opened=opened):
            return [update, opened.base]
        case j.Close(previous=previous, contributions=contributions):
            return [previous.model, previous.checkpoint, *(c.update for c in contributions if c.update is not None)]
        case j.Export(best=best):
            return [best.model]
    return []


class Child:
    """One child process of a machine, as its daemon serves it: one job after the other."""

    __slots__ = ("current", "luck", "machine", "number", "random", "started", "took_ms", "waiting")

    def __init__(self, machine: Machine, random: Random, luck: Luck) -> None:
        self.machine = machine
        self.random = random
        self.luck = luck
        self.waiting: deque[j.Job] = deque()
        self.started = False  # the process runs: its first job has begun
        self.current: j.Job | None = None
        self.number = 0  # of the current job
        self.took_ms = 0  # that it takes

    def submit(self, job: j.Job) -> None:
        self.waiting.append(job)
        self._next()

    def cancel(self, job: j.Job) -> None:
        """Drop a job that waits; kill the child for one that trains. Any other runs to its end."""
        machine = self.machine
        if job in self.waiting:
            self.waiting.remove(job)
            machine.clock.after(0, machine.fail_in, machine.life, job, "cancelled")
        elif job == self.current and isinstance(job, j.Train):
            self.started = False
            machine.clock.after(0, self._end, self.number, "cancelled")

    def kill(self) -> None:
        """The daemon is dead; so are its children."""
        self.waiting.clear()
        self.current, self.started = None, False
        self.number += 1

    def _next(self) -> None:
        if self.current is None and self.waiting:
            self._begin(self.waiting.popleft())

    def _begin(self, job: j.Job) -> None:
        self.current = job
        self.number += 1
        machine, why = self.machine, ""
        took_ms = int(draw(self.random, JOB_MS[type(job)]) * machine.slowness)
        chance = self.random.random() if self.luck.dies or self.luck.hangs else 1.0
        started, self.started = self.started, True
        if chance < self.luck.dies:
            took_ms, why = took_ms // 2, DIED
        elif chance < self.luck.dies + self.luck.hangs:
            took_ms, why = QUIET_MS[type(job)] + (0 if started else START_MS), HUNG
        elif isinstance(job, j.Train):
            parts = max(4, took_ms // PROGRESS_MS)
            for part in range(1, parts):
                machine.clock.after(took_ms * part // parts, self._progress, self.number, part / parts)
        self.took_ms = took_ms
        machine.clock.after(took_ms, self._end, self.number, why)

    def _progress(self, number: int, fraction: float) -> None:
        if number == self.number and self.current is not None:
            self.machine.feed(ev.JobProgress(self.current, "training", fraction, 100.0))

    def _end(self, number: int, why: str) -> None:
        """The current job is over; one that misses a blob fails."""
        job, machine = self.current, self.machine
        if number != self.number or job is None:
            return
        self.current = None
        broken = why in (DIED, HUNG)  # the job itself may be good
        self.started = self.started and not broken
        missing = [blob.digest[:12] for blob in read_by(job) if blob.digest not in machine.disk.blobs]
        outcome = why or (f"no blob {missing[0]}" if missing else outcome_of(job, machine.id))
        if isinstance(outcome, str):
            machine.fail(job, outcome, again=broken)
        else:
            if isinstance(outcome, j.Trained):
                outcome = msgspec.structs.replace(outcome, train_ms=self.took_ms)
            machine.disk.blobs |= {made.digest for made in made_by(outcome)}
            if isinstance(job, j.Close) and isinstance(outcome, j.Closed):
                machine.world.receipts[outcome.receipt.digest] = named_by(job)
            machine.feed(ev.JobDone(job, outcome))
        if number == self.number:
            self._next()


def _scores(round_: int, node: int) -> Scores:
    """Logits that separate the classes better with each round."""
    gap = min(300, 20 * round_)
    return Scores(((500 - gap // 2 + node % 5, 10),), ((500 + gap // 2 - node % 5, 15),), 1.0 / round_)
