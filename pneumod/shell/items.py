"""Work items: each is done by one of a few children, once its files are here."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from pneumod.children.protocol import Errand, item_children, pack_frame
from pneumod.config import NodeConfig
from pneumod.core.events import Event, JobDone, JobFailed
from pneumod.core.jobs import Job, Work
from pneumod.errors import PneumodError
from pneumod.shell.desk import Desk
from pneumod.shell.parcels import Parcels
from pneumod.shell.worker import Emit, Worker

ROOM = 2  # items in work for each child: one is done while the files of the next come
IDLE_S = 60.0  # then the child and its decoders end


def room(config: NodeConfig) -> int:
    """Items that a node may have in work."""
    children, _ = item_children(config.threads)
    return ROOM * children


class Given(NamedTuple):
    """An item whose files are here."""

    worker: Worker
    parcel_bytes: int


class Items:
    """Gets the files of the items that the core has pulled, and has them done."""

    def __init__(self, config: NodeConfig, desk: Desk, parcels: Parcels, emit: Emit) -> None:
        self.desk = desk
        self.parcels = parcels
        self.emit = emit
        self._me = config.node_id
        children, _ = item_children(config.threads)
        module = "pneumod.children.items"
        self._workers = [Worker(module, config.path, "predict", self._ended, IDLE_S) for _ in range(children)]
        self._coming: dict[Work, asyncio.Task[None]] = {}  # their files
        self._given: dict[Job, Given] = {}
        self._group = asyncio.TaskGroup()  # a fault in it ends `run`

    async def run(self) -> None:
        """Have items done until cancelled."""
        async with self._group:
            for worker in self._workers:
                self._group.create_task(worker.run())

    def start(self, job: Work) -> None:
        task = self._coming[job] = self._group.create_task(self._get(job))
        task.add_done_callback(lambda done: self._got(job, done))

    def cancel(self, job: Work) -> None:
        """Drop an item that waits. One that the child is at goes on: it takes a moment, a new child takes longer."""
        coming = self._coming.get(job)
        if (coming is None or not coming.cancel()) and job in self._given:
            self._given[job].worker.cancel(job)

    async def _get(self, job: Work) -> None:
        try:
            head, parcel = await self.parcels.get(job.owner, job.batch, job.item)
        except PneumodError as error:
            self.emit(JobFailed(job, str(error)))
        else:
            worker = min(self._workers, key=lambda worker: worker.load)
            self._given[job] = Given(worker, len(parcel))
            worker.submit(job, pack_frame(Errand(job, head, parcel)))

    def _got(self, job: Work, task: asyncio.Task[None]) -> None:
        if self._coming.get(job) is task:
            del self._coming[job]
        if task.cancelled():
            self.emit(JobFailed(job, "cancelled"))

    def _ended(self, event: Event) -> None:
        """What a child tells. A command hears what an item of its own node took."""
        if isinstance(event, JobDone | JobFailed):
            given = self._given.pop(event.job, None)
            match event:
                case JobDone(job=Work(owner=self._me, batch=batch, item=item)) if given is not None:
                    ms = (time.monotonic() - given.worker.began_s) * 1000
                    self.desk.spent("worked", batch, item, given.parcel_bytes, ms)
        self.emit(event)
