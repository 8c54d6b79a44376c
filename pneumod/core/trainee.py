"""A node's own work: follow the run, train what it is asked to, once, and answer.

The key of the work is (run, round, base model digest). A result that is on the disk is sent again as often
as it is asked for, by whichever master; it is never trained again.
"""

from __future__ import annotations

from collections import Counter

from pneumod.core.events import ReceiptMissing
from pneumod.core.jobs import Export, Fetch, Job, Train, Trained
from pneumod.core.library import Library
from pneumod.core.retries import Retries
from pneumod.core.state import State, standing
from pneumod.messages import NO_TERM, Report, RoundClosed, RoundOpen, RunSpec, Scores, Term, TrainResult

REPORT_MS = 10_000
SPREAD = 4  # nodes that report to a new master in 1 ms; more at once would overflow its queue at the broker
SPREAD_STEP = 7_919  # a prime, so that neighbouring ids are spread too
MAX_FAILURES = 3  # of one training; then the master is told, and tries go on


class Trainee:
    """What one node does for whoever leads, itself included."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.leader: int | None = None  # whose term we obey, oneself when leading
        self.reign: tuple[int | None, Term] = (None, NO_TERM)
        self.report_at_ms: int | None = None
        self.retries = Retries(state)
        self.library = Library(state, self.retries)
        self.failures: Counter[tuple[str, int, str]] = Counter()  # of the training that is asked for, by its key
        self.exported: str | None = None  # digest of the last model that was exported
        self.early: RoundClosed | None = None  # came before its run's spec: retained messages have no order
        self.rival: RunSpec | None = None  # of another run with the number of ours

    def deadline_ms(self) -> int | None:
        report_at_ms = self.report_at_ms if self.leader is not None else None
        return min([due for due in (report_at_ms, self.retries.deadline_ms()) if due is not None], default=None)

    def obey(self, leader: int | None, holders: tuple[int, ...], live: int) -> None:
        """The master, or its heirs, may have changed; a new reign gets a report at once, thousands a little spread."""
        reign = (leader, self.state.durable.term)
        changed = leader is not None and reign != self.reign
        self.leader, self.reign, before = leader, reign, self.library.holders
        self.library.holders = tuple(node for node in (leader, *holders) if node not in (None, self.state.id))
        if self.library.holders != before and not changed:
            self.pursue()
        if changed:
            self.report_at_ms = self.state.now_ms + self.state.id * SPREAD_STEP % max(1, live // SPREAD)
            self.retries.clear()
            self.pursue()

    def tick(self) -> None:
        now = self.state.now_ms
        if self.leader is not None and self.report_at_ms is not None and now >= self.report_at_ms:
            self.report()
        if self.retries.due():
            self.pursue()

    def report(self) -> None:
        """Tell the master what one has and knows."""
        self.report_at_ms = self.state.now_ms + REPORT_MS
        if self.leader is None:
            return
        durable = self.state.durable
        closed = durable.closed
        wanted = {closed.model.digest, closed.checkpoint.digest} if closed else set()
        holds = tuple(sorted(wanted & self.state.held))
        self.state.say(
            "report", Report(self.state.boot, self.state.counts, durable.spec, closed, holds), dest=str(self.leader)
        )

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
        """Take over what another node knows of the run; who has its blobs is found anew."""
        self.library.holders = ()
        if report.spec is not None:
            self.hear_spec(report.spec)
        if report.closed is not None:
            self.hear_closed(report.closed)

    def hear_gap(self, gap: ReceiptMissing) -> None:
        """Fetch a receipt that is missing in the chain."""
        self.library.gap = gap
        self.pursue()

    def lose(self, whole: frozenset[str]) -> None:
        """Only these blobs are whole on the disk."""
        if self.library.lose(whole):
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
        self.library.archive_newest()
        if durable.opened is not None and (durable.opened.round <= closed.round or closed.ended is not None):
            self._cancel_training()
        self.pursue()
        self.library.tidy()

    def pursue(self) -> None:
        """Start whatever is missing now: blobs, then the training, then the export."""
        state = self.state
        self.library.need_newest()
        opened = state.durable.opened
        if opened is not None and self._open_still(opened) and not self._answered(opened):
            training = [job for job in state.running if isinstance(job, Train)]
            begun = any(job.opened.key == opened.key for job in training)
            if self.library.need(opened.base) and not begun and self.retries.may(opened.key):
                self._cancel_training()
                self.state.log("train", f"{opened.run}: round {opened.round} begins")
                state.start(Train(opened))
        self._export()

    def job_done(self, job: Job, outcome: object) -> None:
        """One of this node's own jobs ended well."""
        if isinstance(job, Fetch):
            self.library.fetched(job)
            self.pursue()
        elif isinstance(job, Train) and isinstance(outcome, Trained):
            self._trained(job.opened, outcome)
        elif isinstance(job, Export):
            self.exported = job.best.model.digest
            self.pursue()

    def job_failed(self, job: Job, why: str, again: bool) -> None:
        """Try again later, waiting longer each time; an export only where its child is to blame."""
        self.state.log("train", f"{type(job).__name__.lower()} failed: {why}", "warning")
        if isinstance(job, Fetch):
            self.retries.failed(job.blob.digest)
        elif isinstance(job, Export) and again:
            self.retries.failed(job.best)
        elif isinstance(job, Export):
            self.exported = job.best.model.digest  # the next better model is another attempt
        elif isinstance(job, Train):
            self.retries.failed(job.opened.key)
            self._confess(job.opened, again)

    def answer(self) -> None:
        result = self.state.durable.result
        if result is not None and self.leader is not None:
            self.state.say("result", result, dest=str(self.leader))

    def _trained(self, opened: RoundOpen, outcome: Trained) -> None:
        state = self.state
        if outcome.update is not None:
            state.held.add(outcome.update.digest)
        self.retries.done(opened.key)
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

    def _confess(self, opened: RoundOpen, again: bool) -> None:
        """Tell the master of a training that fails again and again, so that nobody waits for it in the dark."""
        self.failures = Counter({opened.key: self.failures[opened.key] + 1})
        if self.failures[opened.key] < MAX_FAILURES or self.leader is None:
            return
        why = "its training child dies or hangs" if again else "its training fails; its log says why"
        failed = TrainResult(
            opened.run, opened.round, opened.base.digest, opened.terms[-1], Scores(), None, 0, None, 0, failed=why
        )
        self.state.say("result", failed, dest=str(self.leader))

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
        if (awaited and not over) or busy or not self.retries.may(closed.best):
            return
        if not self.library.need(closed.best.model):
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
