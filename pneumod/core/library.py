"""The blobs of the run on this node's disk: fetched where they are missing, kept while something names them."""

from __future__ import annotations

from pneumod.core.actions import Archive, Keep
from pneumod.core.events import ReceiptMissing
from pneumod.core.jobs import Export, Fetch
from pneumod.core.retries import Retries
from pneumod.core.state import State
from pneumod.messages import BlobRef


class Library:
    """What one node holds, and whom it asks for the rest."""

    def __init__(self, state: State, retries: Retries) -> None:
        self.state = state
        self.retries = retries
        self.holders: tuple[int, ...] = ()  # whom to ask
        self.gap: ReceiptMissing | None = None  # in the chain of receipts, of a round that this node missed

    def need(self, blob: BlobRef | None, announced: bool = True) -> bool:
        """Whether a blob is here; fetch it if it isn't."""
        if blob is None or blob.digest in self.state.held:
            return True
        fetching = any(isinstance(job, Fetch) and job.blob == blob for job in self.state.running)
        if not fetching and self.holders and self.retries.may(blob.digest):
            self.state.start(Fetch(blob, self.holders, announced))
        return False

    def archive_newest(self) -> None:
        """Keep the newest receipt for good, if it is here; that tells of one that is missing before it."""
        closed = self.state.durable.closed
        if closed is not None and closed.receipt is not None and closed.receipt.digest in self.state.held:
            self.state.actions.append(Archive(closed.receipt.digest, closed.run, closed.round))

    def need_newest(self) -> None:
        """The run's state after its last round, and the receipt that is missing before it."""
        closed = self.state.durable.closed
        for blob in closed.blobs if closed is not None else ():
            self.need(blob)
        gap = self.gap
        if gap is not None and self.need(gap.blob, announced=False):
            self.gap = None
            self.state.actions.append(Archive(gap.blob.digest, gap.run, gap.round))  # tells of the one before it

    def fetched(self, job: Fetch) -> None:
        self.state.held.add(job.blob.digest)
        self.retries.done(job.blob.digest)
        closed = self.state.durable.closed
        if closed is not None and closed.receipt == job.blob:
            self.archive_newest()

    def lose(self, whole: frozenset[str]) -> bool:
        """Only these blobs are on the disk; whether one is gone that was held."""
        lost = self.state.held - whole
        if lost:
            names = ", ".join(digest[:12] for digest in sorted(lost))
            self.state.log("worker", f"damaged or lost on the disk, fetched again where needed: {names}", "warning")
            self.state.held -= lost
        return bool(lost)

    def shareable(self) -> set[str]:
        """The blobs of the run's state, which any node may have; updates are not among them."""
        closed, opened = self.state.durable.closed, self.state.durable.opened
        blobs = list(closed.blobs) if closed else []
        blobs += [closed.best.model] if closed and closed.best else []
        blobs += [opened.base] if opened else []
        return {blob.digest for blob in blobs}

    def tidy(self) -> None:
        """Let go of the blobs that nothing names any more."""
        durable, keep = self.state.durable, self.shareable()
        if durable.result and durable.result.update:
            keep.add(durable.result.update.digest)
        for job in self.state.running:
            keep |= {job.blob.digest} if isinstance(job, Fetch) else set()
            keep |= {job.best.model.digest} if isinstance(job, Export) else set()
        self.state.held &= keep
        self.state.actions.append(Keep(frozenset(keep)))
