"""The slow work of a node: who does each job, and how its end is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from pneumod.config import NodeConfig
from pneumod.core import events as ev
from pneumod.core.jobs import Check, Close, Fetch, Job, Prepare, Work
from pneumod.core.node import Node
from pneumod.shell.desk import Desk
from pneumod.shell.items import Items
from pneumod.shell.link import Link
from pneumod.shell.parcels import Parcels
from pneumod.shell.store import Store
from pneumod.shell.transfers import Transfers
from pneumod.shell.worker import Worker


class Jobs:
    """Three children, each with its own queue, and the transfers of blobs. `trainer` names the child that trains."""

    def __init__(
        self, config: NodeConfig, trainer: str, link: Link, store: Store, node: Node, feed: Callable[[ev.Event], None]
    ) -> None:
        self.store = store
        self.node = node
        self.feed = feed
        self.desk = Desk(store, node, feed)
        self.parcels = Parcels(link, self.desk, node.state.same_site)
        self.transfers = Transfers(link, store, self.tell, self._may_have, lambda: self._ends.put_nowait(None))
        self.trainer = Worker(trainer, config.path, "train", self.tell)
        self.light = Worker("pneumod.children.light", config.path, "preprocess", self.tell)
        self.items = Items(config, self.desk, self.parcels, self.tell)
        self._ends: asyncio.Queue[ev.JobDone | ev.JobFailed | None] = asyncio.Queue()  # at most one of each job

    @property
    def dropped(self) -> int:
        """Messages that meant nothing here."""
        return self.transfers.dropped + self.parcels.dropped

    def parts(self) -> list[Coroutine[None, None, None]]:
        """What runs as long as the node; the transfers first: what acts may start a fetch."""
        parts = [self.transfers.run(), self.parcels.run(), self.items.run(), self.desk.run()]
        return [*parts, self.trainer.run(), self.light.run(), self.tell_ends()]

    def start(self, job: Job) -> None:
        match job:
            case Fetch():
                self.transfers.fetch(job)
            case Work():
                self.items.start(job)
            case _:
                self._child_for(job).submit(job)

    def cancel(self, job: Job) -> None:
        match job:
            case Fetch():
                self.transfers.cancel(job)
            case Work():
                self.items.cancel(job)
            case _:
                self._child_for(job).cancel(job)

    def _child_for(self, job: Job) -> Worker:
        return self.light if isinstance(job, Prepare | Check | Close) else self.trainer

    def tell(self, event: ev.Event) -> None:
        """What a job tells on its way is fed at once, its end in its turn."""
        if isinstance(event, ev.JobDone | ev.JobFailed):
            self._ends.put_nowait(event)
        else:
            self.feed(event)

    async def tell_ends(self) -> None:
        """Feed the ends of jobs in their order; before a failure, and for None, what is left on the disk.

        A job that failed may have met a damaged blob, or a full disk. A full disk ends the daemon at once: it can
        neither lead nor answer, and others can. No end overtakes another: the core would take it for that of an
        equal job, which it has cancelled; and a look can't miss the blob of a job that was done before. Work items
        have no blobs.
        """
        while True:
            event = await self._ends.get()
            if event is None or (isinstance(event, ev.JobFailed) and self._may_tell_of_disk(event.job)):
                self.feed(ev.BlobsFound(await self.store.in_writer(self.store.look)))
            if event is not None:
                self.feed(event)

    def _may_tell_of_disk(self, job: Job) -> bool:
        return not isinstance(job, Work) and job not in self.node.state.cancelled

    def _may_have(self, sender: str, digest: str) -> bool:
        """An update is served to the master only, the blobs of the run's state and receipts to any node."""
        result = self.node.state.durable.result
        if result is not None and result.update is not None and result.update.digest == digest:
            return sender == str(self.node.leader)
        return sender.isdigit() and (digest in self.node.trainee.library.shareable() or digest in self.store.receipts)
