"""A node's own work: follow the run, train what it is asked to, once, and answer.

The key of the work is (run, round, base model digest). A result that is on the disk is sent again as often
as it is asked for, by whichever master; it is never trained again.
"""

from __future__ import annotations

from pneumod.core.actions import Archive, Keep
from pneumod.core.events import ReceiptMissing
from pneumod.core.jobs import Export, Fetch, Job, Train, Trained
from pneumod.core.state import State, standing
from pneumod.messages import NO_TERM, BlobRef, Report, RoundClosed, RoundOpen, RunSpec, Term, TrainResult

REPORT_MS = 10_000
SPREAD = 4  # nodes that report to a new master in 1 ms; more at once would overflow its queue at the broker
SPREAD_STEP = 7_919  # a prime, so that neighbouring ids are spread too
RETRY_MS = 2_000
RETRY_LIMIT_MS = 60_000


class Trainee:
    """What one node does for whoever leads, itself included."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.leader: int | None = None  # whose term we obey, oneself when leading
        self.reign: tuple[int | None, Term] = (None, NO_TERM)
        self.holders: tuple[int, ...] = ()  # whom to ask for blobs
        self.report_at_ms: int | None = None
        self.retry_at_ms: int | None = None
        self.retry_wait_ms = RETRY_MS
        self.exported: str | None = None  # digest of the last model that was exported
        self.gap: ReceiptMissing | None = None  # in the chain of receipts, of a round that this node missed
        self.early: RoundClosed | None = None  # came before its run's spec: retained messages have no order
        self.rival: RunSpec | None = None  # of another run with the number of ours

    def deadline_ms(self) -> int | None:
        dues = [due for due in (self.report_at_ms if self.leader is not None else None, self.retry_at_ms) if due]
        return min(dues, default=None)

    def obey(self, leader: int | None, holders: tuple[int, ...], live: int) -> None:
        """The master, or its heirs, may have changed; a new reign gets a report at once, thousands a little spread."""
        reign = (leader, self.state.durable.term)
        changed = leader is not None and reign != self.reign
        self.leader, self.reign, before = leader, reign, self.holders
        self.holders = tuple(node for node in (leader, *holders) if node is not None and node != self.state.id)
        if self.holders != before and not changed:
            self.pursue()
        if changed:
            self.report_at_ms = self.state.now_ms + self.state.id * SPREAD_STEP % max(1, live // SPREAD)
            self.retry_at_ms, self.retry_wait_ms = None, RETRY_MS
            self.pursue()

    def tick(self) -> None:
        now = self.state.now_ms
        if self.leader is not None and self.report_at_ms is not None and now >= self.report_at_ms:
            self.report()
        if self.retry_at_ms is not None and now >= self.retry_at_ms:
            self.retry_at_ms = None
            self.pursue()

    def report(self) -> None:
        """Tell the master what one has and knows."""
        self.report_at_ms = self.state.now_ms + REPORT_MS
        counts = self.state.counts
        if self.leader is None or counts is None:
            return
        durable = self.state.durable
        closed = durable.closed
        wanted = {closed.model.digest, closed.checkpoint.digest} if closed else set()
        holds = tuple(sorted(wanted & self.state.held))
        self.state.say("report", Report(self.state.boot, counts, durable.spec, closed, holds), dest=str(self.leader))

    def hear_spec(self, spec: RunSpec) -> None:
        """Take up a later run. Of two runs of one number, which two masters began, the one that is further goes on."""
        durable = self.state.durable
        early = self.early if self.early is not None and self.early.run == spec.run else None
        if durable.spec is not None and spec.number == durable.spec.number and spec.run != durable.spec.run:
            self.rival = spec
            if standing(spec, early) <= standing(durable.spec, durable.closed) and durable.closed is not None:
                return
        elif durable.spec is not None and spec.number <= durable.spec.number:
            if spec.run == durable.spec.run and spec.ended is not None and durable.closed is None:
                self.state.remember(spec=spec)
            return
        opened, result = durable.opened, durable.result
        opened = opened if opened is not None and opened.run == spec.run else None  # it ran ahead of its spec
        result = result if result is not None and result.run == spec.run else None
        self.state.remember(spec=spec, closed=None, opened=opened, result=result)
        if opened is None:
            self._cancel_training()
        if early is not None:
            self.hear_closed(early)

    def adopt(self, report: Report) -> None:
        """Take over what another node knows of the run."""
        if report.spec is not None:
            self.hear_spec(report.spec)
        if report.closed is not None:
            self.hear_closed(report.closed)

    def lose(self, whole: frozenset[str]) -> None:
        """Only these blobs are whole on the disk: fetch the others again."""
        lost = self.state.held - whole
        if lost:
            names = ", ".join(digest[:12] for digest in sorted(lost))
            self.state.log("worker", f"damaged or lost on the disk, fetched again where needed: {names}", "warning")
            self.state.held -= lost
            self.pursue()

    def hear_gap(self, gap: ReceiptMissing) -> None:
        """Fetch a receipt that is missing in the chain; archiving it tells of the one before."""
        self.gap = gap
        self.pursue()

    def hear_open(self, opened: RoundOpen) -> None:
        """Take up a round, or answer again for one that is done."""
        state = self.state
        if state.id not in opened.who:
            return
        if not self._open_still(opened):
            return  # that round is over: the report tells the master
        if opened != state.durable.opened:
            state.remember(opened=opened)
        if self._answered(opened):
            self.answer()
        else:
            self.pursue()

    def hear_closed(self, closed: RoundClosed) -> None:
        """Adopt the state of the run after a round."""
        state = self.state
        durable = state.durable
        if durable.spec is None or closed.number > durable.spec.number:
            self.early = closed
            return
        if closed.run != durable.spec.run:
            self.early = closed if closed.number == durable.spec.number else self.early
            if self.rival is not None and self.rival.run == closed.run:
                self.hear_spec(self.rival)
            return
        if standing(durable.spec, closed) <= standing(durable.spec, durable.closed):
            return
        state.remember(closed=closed)
        if durable.opened is not None and (durable.opened.round <= closed.round or closed.ended is not None):
            self._cancel_training()
        self.pursue()
        self.tidy()

    def pursue(self) -> None:
        """Start whatever is missing now: blobs, then the training, then the export."""
        state = self.state
        closed, opened = state.durable.closed, state.durable.opened
        if closed is not None:
            for blob in closed.blobs:
                self._need(blob)
        if self.gap is not None:
            self._need(self.gap.blob, announced=False)
        if opened is not None and self._open_still(opened) and not self._answered(opened) and self._need(opened.base):
            training = [job for job in state.running if isinstance(job, Train)]
            if not any(job.opened.key == opened.key for job in training):
                self._cancel_training()
                state.start(Train(opened))
        self._export()

    def job_done(self, job: Job, outcome: object) -> None:
        """One of this node's own jobs ended well."""
        state = self.state
        if isinstance(job, Fetch):
            state.held.add(job.blob.digest)
            self.retry_wait_ms = RETRY_MS
            closed = state.durable.closed
            if closed and closed.receipt == job.blob:
                state.actions.append(Archive(job.blob.digest, closed.run, closed.round))
            if self.gap is not None and self.gap.blob == job.blob:
                state.actions.append(Archive(job.blob.digest, self.gap.run, self.gap.round))
                self.gap = None
            self.pursue()
        elif isinstance(job, Train) and isinstance(outcome, Trained):
            self._trained(job.opened, outcome)
        elif isinstance(job, Export):
            self.exported = job.best.model.digest
            self.pursue()

    def job_failed(self, job: Job, why: str) -> None:
        """Try again later, waiting longer each time: the round's deadline ends it."""
        self.state.log("train", f"{type(job).__name__.lower()} failed, trying again: {why}", "warning")
        if isinstance(job, Export):
            self.exported = job.best.model.digest  # the next better model is another attempt
            return
        if isinstance(job, Fetch) and self.gap is not None and self.gap.blob == job.blob:
            self.gap = None  # the next receipt that is archived tells of it again
            return
        if self.retry_at_ms is None:
            self.retry_at_ms = self.state.now_ms + self.retry_wait_ms
            self.retry_wait_ms = min(2 * self.retry_wait_ms, RETRY_LIMIT_MS)

    def answer(self) -> None:
        result = self.state.durable.result
        if result is not None and self.leader is not None:
            self.state.say("result", result, dest=str(self.leader))

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
        self.state.held &= keep
        self.state.actions.append(Keep(frozenset(keep)))

    def _trained(self, opened: RoundOpen, outcome: Trained) -> None:
        state = self.state
        if outcome.update is not None:
            state.held.add(outcome.update.digest)
        self.retry_wait_ms = RETRY_MS
        state.trained_ms += outcome.train_ms
        asked = state.durable.opened
        if asked is None or asked.key != opened.key:
            return
        result = TrainResult(
            opened.run,
            opened.round,
            opened.base.digest,
            opened.terms[-1],
            outcome.scores,
            outcome.update,
            outcome.samples,
            outcome.train_loss,
            outcome.train_ms,
        )
        state.remember(result=result)
        if opened.train:  # said when it is on the disk
            text = f"{opened.run}: round {opened.round} trained on {outcome.samples} images in {outcome.train_ms} ms"
            state.log("train", text)
        self.answer()
        self._export()

    def _answered(self, opened: RoundOpen) -> bool:
        """Whether this node has trained a round, and still has what came of it."""
        result = self.state.durable.result
        if result is None or result.key != opened.key:
            return False
        return result.update is None or result.update.digest in self.state.held

    def _open_still(self, opened: RoundOpen) -> bool:
        spec, closed = self.state.durable.spec, self.state.durable.closed
        if spec is not None and spec.number > opened.number:
            return False
        if closed is None or closed.number < opened.number:
            return True
        return closed.round < opened.round and closed.ended is None

    def _need(self, blob: BlobRef | None, announced: bool = True) -> bool:
        """Whether a blob is here; fetch it if it isn't."""
        if blob is None or blob.digest in self.state.held:
            return True
        fetching = any(isinstance(job, Fetch) and job.blob == blob for job in self.state.running)
        if not fetching and self.holders and self.retry_at_ms is None:
            self.state.start(Fetch(blob, self.holders, announced))
        return False

    def _export(self) -> None:
        """Export the best model, while no training waits for the same child."""
        durable = self.state.durable
        closed, opened = durable.closed, durable.opened
        if durable.spec is None or closed is None or closed.best is None or self.exported == closed.best.model.digest:
            return
        if closed.best.round == 0 and closed.ended is None:
            return  # the untrained model is the best so far
        awaited = opened is not None and self._open_still(opened) and not self._answered(opened)
        over = closed.ended is not None
        busy = any(isinstance(job, Train | Export) for job in self.state.running)
        if (awaited and not over) or busy or not self._need(closed.best.model):
            return
        just_closed = not over and (opened is None or opened.round <= closed.round)
        if just_closed:
            return  # the next round opens in a moment; export while the others still train
        nodes = closed.summary.counted if closed.summary else 0
        images = closed.scored.images if closed.scored else 0
        counts = opened.counts if opened is not None and opened.number == closed.number else None
        self.state.start(Export(durable.spec, closed.best, nodes, images, counts))

    def _cancel_training(self) -> None:
        for job in list(self.state.running):
            if isinstance(job, Train):
                self.state.cancel(job)
