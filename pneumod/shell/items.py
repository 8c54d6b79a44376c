"""Work items: each is done by a child of its own, once its files are here."""

from __future__ import annotations

import asyncio
import time

from pneumod.children.protocol import Errand, pack_frame
from pneumod.config import NodeConfig
from pneumod.core.events import Event, JobDone, JobFailed
from pneumod.core.jobs import Job, Work
from pneumod.errors import PneumodError
from pneumod.shell.desk import Desk
from pneumod.shell.parcels import Parcels
from pneumod.shell.worker import Emit, Worker

ROOM = 4  # items that a node has in work: one is done while the files of the next come
IDLE_S = 60.0  # then the child and its decoders end


class Items:
    """Gets the files of the items that the core has pulled, and has them done one after the other."""

    def __init__(self, config: NodeConfig, desk: Desk, parcels: Parcels, emit: Emit) -> None:
        self.desk = desk
        self.parcels = parcels
        self.emit = emit
        self._me = config.node_id
        self._worker = Worker("pneumod.children.items", config.path, "predict", self._ended, IDLE_S)
        self._coming: dict[Work, asyncio.Task[None]] = {}  # their files
        self._parcel_bytes: dict[Job, int] = {}  # of those that the child gets
        self._group = asyncio.TaskGroup()  # a fault in it ends `run`

    async def run(self) -> None:
        """Have items done until cancelled."""
        async with self._group:
            await self._worker.run()

    def start(self, job: Work) -> None:
        task = self._coming[job] = self._group.create_task(self._get(job))
        task.add_done_callback(lambda done: self._got(job, done))

    def cancel(self, job: Work) -> None:
        """Drop an item that waits. One that the child is at goes on: it takes a moment, a new child takes longer."""
        coming = self._coming.get(job)
        if coming is None or not coming.cancel():  # its files are here
            self._worker.cancel(job)

    async def _get(self, job: Work) -> None:
        try:
            head, parcel = await self.parcels.get(job.owner, job.batch, job.item)
        except PneumodError as error:
            self.emit(JobFailed(job, str(error)))
        else:
            self._parcel_bytes[job] = len(parcel)
            self._worker.submit(job, pack_frame(Errand(job, head, parcel)))

    def _got(self, job: Work, task: asyncio.Task[None]) -> None:
        if self._coming.get(job) is task:
            del self._coming[job]
        if task.cancelled():
            self.emit(JobFailed(job, "cancelled"))

    def _ended(self, event: Event) -> None:
        """What the child tells. A command hears what an item of its own node took."""
        match event:
            case JobDone(job=Work(owner=owner, batch=batch, item=item) as job) if owner == self._me:
                ms = (time.monotonic() - self._worker.began_s) * 1000
                self.desk.spent("worked", batch, item, self._parcel_bytes[job], ms)
        if isinstance(event, JobDone | JobFailed):
            self._parcel_bytes.pop(event.job, None)
        self.emit(event)
